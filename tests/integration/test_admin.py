import asyncio
import contextlib
import json
import urllib.error
import urllib.request

import grpc
import pytest
from prometheus_client import parser

from bbr.exchange.policy import BodyMode
from bench.harness import messages
from bench.harness.fake_kubernetes import FakeKubernetes
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import bbr, serving
from tests.support.loops import in_loop

BODIES = {
    b'{"model": "qwen"}': ("routed", "qwen"),
    b'{"model": "sql-lora"}': ("routed", "qwen"),
    b'{"model": "made-up"}': ("refused", ""),
    b"{}": ("no-model", ""),
}


@pytest.fixture(scope="module")
def router(request, tmp_path_factory):
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text("models: [{name: qwen, adapters: [sql-lora]}]\n")
    with serving(f"--transport={request.param}", f"--models={models}", admin=True) as process:
        yield process, f"http://127.0.0.1:{process.admin_port}"


def get(url):
    with urllib.request.urlopen(url, timeout=90) as answer:  # noqa: S310 (loopback)
        return answer.read().decode()


def requests(url):
    families = parser.text_string_to_metric_families(get(f"{url}/metrics"))
    samples = [sample for family in families for sample in family.samples if sample.name == "bbr_requests_total"]
    return {(sample.labels["outcome"], sample.labels["base_model"]): sample.value for sample in samples}


def exchange(port, body):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(PROCESS)(
            iter(
                (
                    messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED),
                    messages.request_body(body, end_of_stream=True),
                )
            )
        )
        assert list(call)
        assert call.code() == grpc.StatusCode.OK


@pytest.mark.grpcio
def test_what_is_counted_is_what_came_of_the_requests(router):
    process, url = router
    before = requests(url)
    for body in BODIES:
        exchange(process.port, body)
    wanted = dict(before)
    for key in BODIES.values():
        wanted[key] = wanted.get(key, 0) + 1
    assert requests(url) == wanted


def test_the_status_page_counts_what_the_metrics_count(router):
    process, url = router
    for body in BODIES:
        exchange(process.port, body)
    status, counted = json.loads(get(f"{url}/status.json")), requests(url)
    assert status["requests"]["requests"] == sum(counted.values()) >= len(BODIES)
    assert {row["base_model"]: row["requests"] for row in status["models"]["rows"]} == {
        name: sum(number for (_, base_model), number in counted.items() if base_model == name) for name in ("qwen", "")
    }
    assert status["requests"]["errors"] == counted["refused", ""]
    assert "sql-lora" in get(f"{url}/?q=lora")


def test_health_table_and_settings(router):
    process, url = router
    assert get(f"{url}/healthz") == "ok\n"
    assert get(f"{url}/readyz") == "ready\n"
    assert {each["name"] for each in json.loads(get(f"{url}/debug/models"))["models"]} == {"qwen", "sql-lora"}
    assert json.loads(get(f"{url}/debug/config"))["settings"]["grpc_port"] == process.port
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{url}/nope")


def test_a_port_that_is_taken_ends_the_start(router):
    _, url = router
    port = url.rpartition(":")[2]
    with bbr(f"--metrics-port={port}") as process:
        assert process.wait() == 1
        assert f"--metrics-port: can't listen on 127.0.0.1:{port}" in process.stderr


@in_loop
async def test_metrics_for_those_alone_whom_the_cluster_allows(tmp_path):
    async with FakeKubernetes() as cluster:
        cluster.tokens = {"good": ("prometheus", True), "poor": ("somebody", False)}
        flags = [f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--metrics-endpoint-auth"]

        def ask():
            with serving("--kubernetes", *flags, admin=True) as process:
                url, statuses = f"http://127.0.0.1:{process.admin_port}", {}
                for token in ("good", "poor", "forged", ""):
                    request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {token}"})  # noqa: S310 (loopback)
                    try:
                        with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310
                            statuses[token] = answer.status
                    except urllib.error.HTTPError as error:
                        statuses[token] = error.code
                        error.close()
                shown = []
                for path in ("/", "/status.json", "/debug/models", "/debug/config"):
                    with contextlib.suppress(urllib.error.HTTPError):
                        shown.append(get(f"{url}{path}"))
                assert shown == []
                return statuses, get(f"{url}/healthz")

        statuses, health = await asyncio.to_thread(ask)
        assert statuses == {"good": 200, "poor": 403, "forged": 401, "": 401}
        assert health == "ok\n"
        assert {each.headers["authorization"] for each in cluster.requests} == {"bearer secret"}


def test_counts_by_the_conventions_for_generative_ai(tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: qwen, adapters: [sql-lora]}]\n")
    with serving("--genai-metrics", f"--models={models}", admin=True) as process:
        for _ in range(2):
            exchange(process.port, b'{"model": "sql-lora"}')
        families = parser.text_string_to_metric_families(get(f"http://127.0.0.1:{process.admin_port}/metrics"))
        (sample,) = [each for family in families for each in family.samples if each.name == "bbr_gen_ai_requests_total"]
    assert (sample.labels["gen_ai_operation_name"], sample.labels["gen_ai_request_model"]) == ("chat", "sql-lora")
    assert sample.value == 2
