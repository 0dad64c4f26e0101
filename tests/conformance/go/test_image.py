"""Started as the Go routers' charts start their image, on a cluster with their ConfigMaps: nothing else changes."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListResponse
from bench.harness.background import Background
from bench.harness.fake_kubernetes import FakeKubernetes
from bench.harness.grpc_client import PROCESS
from bench.harness.messages import parse, request_body
from bench.harness.processes import DEADLINE_SECONDS, Bbr, bbr, serving
from tests.conformance.go.test_routers import (
    H1_BODY,
    H5_BODY,
    H7_BODY,
    in_order,
    stream,
    their_stream,
    theirs_in_body,
    words,
)
from tests.support.reference import choose_transports

TOKEN = "a-scrapers"  # noqa: S105 (of a fake cluster)
V1_4 = ["--streaming", "--v=3", "--plugin", 'default-bbr:default-bbr:{"name":"default","fields":["model"]}']
V1_5 = ["--streaming", "--v=3", "--tracing=false"]
FIELD = 'body-field-to-header:model:{"fieldName":"model","headerName":"X-Model"}'


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    choose_transports(metafunc, "pod")


@pytest.fixture
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give the variables of a pod whose cluster has the hermetic tests' ConfigMap."""
    with Background() as background:
        fake = FakeKubernetes()
        background.run(fake.start())
        fake.put("qwen", data={"baseModel": "qwen", "adapters": "- sql-lora-sheddable\n- foo\n- 1\n"})
        fake.tokens[TOKEN] = ("scraper", True)
        yield {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBECONFIG": str(fake.kubeconfig(tmp_path)),
            "NAMESPACE": "default",
            "BBR_TRANSPORT": request.param,
            "OTEL_SERVICE_NAME": "bbr",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        }
        background.run(fake.stop())


def talk(process: Bbr, sent: list[bytes]) -> list[ProcessingResponse]:
    """Return the answers to an exchange, over TLS, with whatever certificate there is."""
    assert process.wait_for("the model table is complete: 1 base model and 3 adapters from the ConfigMaps of namespace")
    certificate = ssl.get_server_certificate(("127.0.0.1", process.port)).encode()
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(
        f"127.0.0.1:{process.port}", grpc.ssl_channel_credentials(certificate), options
    ) as channel:
        return [parse(reply) for reply in channel.stream_stream(PROCESS)(iter(sent), timeout=DEADLINE_SECONDS)]


def notes(process: Bbr) -> list[str]:
    """Return what was said of the command line."""
    return [
        line.partition(" bbr.commands.serve: ")[2]
        for line in process.stderr.splitlines()
        if " bbr.commands.serve: " in line
    ]


STARTED = (
    "started without a command, as the Go routers are: this is `bbr serve`; without --models the model table comes "
    "from the cluster's ConfigMaps (--kubernetes); /metrics needs a token that the cluster allows "
    "(--metrics-endpoint-auth)"
)
STAND_IN = "--plugin: type default-bbr stands for the two default plugins; its parameters are unread"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(V1_4, [STARTED, STAND_IN]), (V1_5, [STARTED])],
    ids=["v1.4", "v1.5"],
)
def test_a_charts_arguments(pod: dict[str, str], arguments: list[str], told: list[str]) -> None:
    with serving(*arguments, image=pod) as process:
        headers, body = talk(process, stream(H5_BODY))
        assert words(headers) == "request_headers clear X-Gateway-Base-Model-Name=qwen X-Gateway-Model-Name=foo"
        assert words(body) == "request_body streamed 64 end"
        assert notes(process) == told
        assert process.stop() == 0
        assert "Traceback" not in process.stderr


CONFIGURATION = """\
apiVersion: llm-d.ai/v1alpha1
kind: PayloadProcessorConfig
plugins:
- type: body-field-to-header
  parameters: {fieldName: model, headerName: X-Model}
- type: base-model-to-header
profiles:
- name: default
  plugins:
    request: [{pluginRef: body-field-to-header}, {pluginRef: base-model-to-header}]
"""


def payload_processor(file: Path) -> list[str]:
    """Return the arguments that the chart of llm-d's payload processor gives its image."""
    return ["--config-file", str(file), "--v=3", "--tracing=false"]


def test_the_payload_processors_arguments(pod: dict[str, str], tmp_path: Path) -> None:
    (file := tmp_path / "custom-ipp-config.yaml").write_text(CONFIGURATION, "utf-8")
    with serving(*payload_processor(file), image=pod) as process:
        headers, body = talk(process, stream(H5_BODY))
        mutation = headers.request_headers.response.header_mutation
        assert [option.header.key for option in mutation.set_headers] == ["X-Model", "X-Gateway-Base-Model-Name"]
        assert words(body) == "request_body streamed 64 end"  # full duplex, although the mode is not told
        assert notes(process) == [
            STARTED,
            "--config-file: sets --model-header=X-Model",
            "--config-file: sets --base-model-header=X-Gateway-Base-Model-Name",
        ]
        assert process.stop() == 0


def test_a_guard_that_is_not_here_fails_the_start_by_name(pod: dict[str, str], tmp_path: Path) -> None:
    guarded = CONFIGURATION.replace("profiles:", "- {type: headers-guard, name: mine}\nprofiles:")
    (file := tmp_path / "custom-ipp-config.yaml").write_text(guarded, "utf-8")
    with bbr(*payload_processor(file), image=pod) as process:
        assert process.wait() == 2
        assert process.stderr == (
            f"bbr serve: --config-file {str(file)!r}: line 7: plugin 'mine' is of the type 'headers-guard', which this "
            "router does not have; known: body-field-to-header, base-model-to-header, single-profile-picker.\n"
        )


@pytest.mark.grpcio
def test_with_their_answers(pod: dict[str, str]) -> None:
    with serving(*V1_5, "--compat=gie", image=pod) as process:
        assert [in_order(answer) for answer in talk(process, stream(H5_BODY))] == their_stream(H5_BODY, "foo", "qwen")
        warning = "--compat=gie: a client's own routing headers are kept: "
        assert warning + "a client that names no model picks its own pool" in process.stderr
        assert process.stop() == 0


def test_unary_is_their_default(pod: dict[str, str]) -> None:
    with serving("--compat=gie", image=pod) as process:
        (answer,) = talk(process, [request_body(H1_BODY, end_of_stream=True)])
        assert in_order(answer) == theirs_in_body("qwen", "qwen")
        assert process.stop() == 0


def test_plugins_of_their_own_choice(pod: dict[str, str]) -> None:
    with serving("--streaming", "--plugin", FIELD, image=pod) as process:
        headers, _ = talk(process, stream(H5_BODY))
        mutation = headers.request_headers.response.header_mutation
        assert [option.header.key for option in mutation.set_headers] == ["X-Model"]
        unset = ["X-Gateway-Model-Name", "X-Gateway-Base-Model-Name"]
        assert mutation.remove_headers[:3] == [*unset, "x-gateway-destination-endpoint"]
        assert process.stop() == 0


def test_what_nobody_knows_is_warned_of(pod: dict[str, str]) -> None:
    arguments = ["--streaming", "--refresh-prometheus-metrics-interval=5s", "--zap-devel", "--enable-pprof", "now"]
    with serving(*arguments, image=pod) as process:
        assert words(talk(process, stream(H5_BODY))[1]) == "request_body streamed 64 end"
        assert notes(process)[1:] == [
            "--refresh-prometheus-metrics-interval: unknown flag: ignored",
            "--zap-devel: has no effect: --log-level and --log-format say what is logged, and how",
            "--enable-pprof: has no effect: there is no pprof in a Python process",
            "argument 5 is not a flag: ignored, as in the Go routers",
        ]
        assert process.stderr.count(" WARNING bbr.commands.serve: ") == 2
        assert process.stop() == 0


def scrape(port: int, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as reply:  # noqa: S310 (http)
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("compat", ["none", "gie"])
def test_u9_metrics_are_theirs_and_guarded(pod: dict[str, str], compat: str) -> None:
    with serving(*V1_5, f"--compat={compat}", image=pod, admin=True) as process:
        for octets in (H5_BODY, H7_BODY, b'{"model":""}'):
            assert talk(process, stream(octets))
        assert scrape(process.admin_port) == (401, "A bearer token is needed.\n")
        status, text = scrape(process.admin_port, TOKEN)
        assert status == 200
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = [sample for sample in samples if sample.name.startswith("bbr_plugin_duration_seconds")]
        labels = {"extension_point", "plugin_type", "plugin_name"}
        assert all(sample.labels.keys() - {"le"} == labels for sample in found)
        bounds = [float(sample.labels["le"]) for sample in found if "le" in sample.labels]
        assert bounds == [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, float("inf")]
        counts = {sample.name: sample.value for sample in samples}
        assert counts["bbr_plugin_duration_seconds_count"] == 3
        assert counts["bbr_body_field_not_found_total"] == 1
        assert counts["bbr_body_field_empty_total"] == 1
        assert counts["bbr_success_total"] == (2 if compat == "none" else 3)  # an empty model is refused by default
        assert process.stop() == 0


def test_an_unknown_plugin_fails_the_start_by_name(pod: dict[str, str]) -> None:
    with bbr("--streaming", "--plugin", "guardrail:mine", image=pod) as process:
        assert process.wait() == 2
        known = "known: body-field-to-header, base-model-to-header"
        assert process.stderr == f"bbr serve: --plugin: 'guardrail:mine' is of an unknown type; {known}.\n"


def test_health_is_theirs_and_watch_besides(pod: dict[str, str]) -> None:
    with serving(*V1_5, "--compat=ipp", image=pod) as process:
        assert process.wait_for("the model table is complete")
        serves = HealthCheckResponse(status=HealthCheckResponse.SERVING)
        with grpc.insecure_channel(f"127.0.0.1:{process.health_port}") as channel:
            for service in ("", "envoy.service.ext_proc.v3.ExternalProcessor", "anything"):
                asked = HealthCheckRequest(service=service).SerializeToString()
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                assert HealthCheckResponse.FromString(check(asked, timeout=DEADLINE_SECONDS)) == serves
            found = channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=DEADLINE_SECONDS)
            assert HealthListResponse.FromString(found).statuses == {
                "envoy.service.ext_proc.v3.ExternalProcessor": serves
            }
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=DEADLINE_SECONDS)
            assert HealthCheckResponse.FromString(next(watch)) == serves
            watch.cancel()
        assert process.stop() == 0
