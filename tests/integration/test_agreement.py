"""Metrics, logs, traces and the status page tell the same of the same requests, and what the clients saw."""

import json
import random
import urllib.request
from collections import Counter
from typing import NamedTuple

import grpc
import pytest
from prometheus_client import parser

from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import serving
from tests.support.collector import Collector

# Each kind in each mode some twenty times, by grpcio ten times: what is compared is the same code.
REQUESTS = {"uv": 320, "grpcio": 160}
MODELS = "models: [{name: qwen, adapters: [sql-lora]}, {name: phi}]\naliases: {best: phi}\n"


class Told(NamedTuple):
    """What one of them tells of a request."""

    outcome: str
    reason: str
    model: str | None
    base_model: str | None


# A body, and what comes of it.
KINDS = (
    (b'{"model": "qwen"}', Told("routed", "", "qwen", "qwen")),
    (b'{"prompt": "hi", "model": "sql-lora"}', Told("routed", "", "sql-lora", "qwen")),
    (b'{"model": "best"}', Told("routed", "", "best", "phi")),
    (b'{"model": "nobody"}', Told("refused", "model-not-found", "nobody", None)),
    (b'{"model": 7}', Told("refused", "model-not-string", None, None)),
    (b"{}", Told("no-model", "", None, None)),
    (b'{"model": "qwen"', Told("refused", "invalid-json", None, None)),
    (None, Told("no-body", "", None, None)),
)


class Run(NamedTuple):
    """A run: request id -> what was wanted, and what client, log and trace told; and the counts of metrics and page."""

    wanted: dict[str, Told]
    log: dict[str, Told]
    traces: dict[str, Told]
    metrics: Counter[tuple[str, str]]
    reasons: Counter[tuple[str, str]]
    page: dict[str, object]


def exchange(process, request_id, trace, body, mode):
    """Make a request, and compare what the gateway is told with what came of it."""
    fields = [("x-request-id", request_id), ("traceparent", f"00-{trace}-{'1' * 16}-01")]
    head = messages.request_headers([*messages.JSON_POST.items(), *fields], mode=mode, end_of_stream=body is None)
    sent = [head] if body is None else [head, messages.request_body(body, end_of_stream=True)]
    return [ProcessingResponse.FromString(answer) for answer in process(iter(sent))]


def model_header(answers):
    """Return what a gateway was told to set; "refused" for an error."""
    for answer in answers:
        if answer.HasField("immediate_response"):
            return "refused"
        common = answer.request_headers.response if answer.HasField("request_headers") else answer.request_body.response
        for option in common.header_mutation.set_headers:
            if option.header.key.lower() == "x-gateway-base-model-name":
                return option.header.raw_value.decode()
    return None


def fetch(url):
    with urllib.request.urlopen(url, timeout=90) as answer:  # noqa: S310 (loopback)
        return answer.read().decode()


def counted(url, name, *labels):
    samples = (sample for family in parser.text_string_to_metric_families(fetch(url)) for sample in family.samples)
    found = Counter()
    for sample in samples:
        if sample.name == name:
            found[tuple(sample.labels[label] for label in labels)] += int(sample.value)
    return found


@pytest.fixture(scope="module", params=["uv", "grpcio"])
def run(request, tmp_path_factory):
    """Make the requests, and ask all four."""
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text(MODELS)
    flags = [f"--transport={request.param}", f"--models={models}", "--tracing"]
    flags += ["--log-format=json", "--access-log=all", "--access-log-rate=0"]
    chance = random.Random(1)
    count = REQUESTS[request.param]
    wanted = {}
    with pytest.MonkeyPatch.context() as patch, Collector() as collector:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", str(2 * max(REQUESTS.values())))
        with serving(*flags, admin=True) as process:
            with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                call = channel.stream_stream(PROCESS)
                for number in range(count):
                    body, told = chance.choice(KINDS)
                    trace = f"{number + 1:032x}"
                    mode = chance.choice([BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED])
                    answers = exchange(call, str(number), trace, body, mode)
                    assert model_header(answers) == ("refused" if told.outcome == "refused" else told.base_model)
                    wanted[str(number)] = told
            url = f"http://127.0.0.1:{process.admin_port}"
            metrics = counted(f"{url}/metrics", "bbr_requests_total", "outcome", "base_model")
            reasons = counted(f"{url}/metrics", "bbr_request_reasons_total", "outcome", "reason")
            page = json.loads(fetch(f"{url}/status.json"))
            assert process.stop() == 0  # which sends the last spans
            lines = [json.loads(line) for line in process.stderr.splitlines()]
        spans = {int(each.parent.partition("-")[0], 16) - 1: each.attributes for each in collector.spans}
    log = {
        line["request_id"]: Told(line["outcome"], line.get("reason", ""), line.get("model"), line.get("base_model"))
        for line in lines
        if "request_id" in line
    }
    traces = {
        str(number): Told(
            found["bbr.outcome"],
            found.get("bbr.reason", ""),
            found.get("gen_ai.request.model"),
            found.get("bbr.base_model"),
        )
        for number, found in spans.items()
    }
    return Run(wanted, log, traces, metrics, reasons, page)


def test_the_log_tells_of_each_request_what_came_of_it(run):
    assert run.log
    assert run.log == run.wanted


def test_a_span_tells_of_each_request_what_came_of_it(run):
    assert run.traces
    assert run.traces == run.wanted


def test_the_metrics_count_what_came_of_them(run):
    by_model = Counter((told.outcome, told.base_model or "") for told in run.wanted.values())
    assert run.metrics == by_model
    assert run.reasons == Counter((told.outcome, told.reason) for told in run.wanted.values() if told.reason)


def test_the_page_counts_what_came_of_them(run):
    page = run.page
    by_model = Counter(told.base_model or "" for told in run.wanted.values())
    assert {row["base_model"]: row["requests"] for row in page["models"]["rows"]} == by_model
    errors = sum(told.outcome == "refused" for told in run.wanted.values())
    assert sum(row["errors"] for row in page["models"]["rows"]) == errors
    told = Counter((each.outcome, each.reason) for each in run.wanted.values() if each.reason)
    assert {(row["outcome"], row["reason"]): row["requests"] for row in page["reasons"]["rows"]} == told
    unknown = sum(each.reason == "model-not-found" for each in run.wanted.values())
    assert [(row["name"], row["times"]) for row in page["unknown_models"]["rows"]] == [("nobody", unknown)]
