import logging
import os
import sys
import threading
import time

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, StatusCode

from bbr import __version__
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.listing import ModelsList
from bbr.telemetry import observed, tracing
from bbr.telemetry.tracing import Tracing, TracingError, open_tracing
from bench.harness import messages
from bench.harness.model_tables import merged
from tests.support.canaries import CANARY, planted

TABLE, _ = merged([BaseModel("qwen", ("sql-lora",))])
DUPLEX = BodyMode.FULL_DUPLEX_STREAMED
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Start without any OTEL_* variable, and leave loggers and interpreter as they were."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    logger, interval = logging.getLogger("opentelemetry"), sys.getswitchinterval()
    before = logger.handlers, logger.propagate
    yield
    for thread in threading.enumerate():
        if thread.name == "the last spans" or thread.name.startswith("OtelBatch"):
            thread.join(60)
    logger.handlers, logger.propagate = before
    logging.getLogger("opentelemetry.trace").setLevel(logging.NOTSET)
    sys.setswitchinterval(interval)


def exchange(body=b'{"model": "sql-lora"}', headers=(), *, mode=DUPLEX, ended=True, **policy):
    """Return an exchange that has got its request."""
    found = Exchange(Policy(Replies(), **policy), TABLE, observed.clock)
    fields = [*messages.JSON_POST.items(), *headers]
    found.receive(messages.request_headers(fields, mode=mode, end_of_stream=body is None))
    if body is not None and ended:
        found.receive(messages.request_body(body, end_of_stream=True))
        while found.pending:
            found.work()
    if ended:
        found.over()
    return found


def spans(*exchanges, sampler=DEFAULT_ON):
    """Return the spans that the exchanges have left."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler, Resource({"service.name": "test"}), shutdown_on_exit=False)
    traced = Tracing(provider, {"memory": memory})
    for each in exchanges:
        traced.ended(each)
    traced.close()
    return memory.get_finished_spans()


def span(*arguments, **options):
    (found,) = spans(exchange(*arguments, **options))
    return found


def test_a_routed_request():
    found = span(headers=[("traceparent", SAMPLED), ("tracestate", "vendor=value,other=1")])
    assert (found.name, found.kind) == ("gateway.request", SpanKind.SERVER)
    assert (found.instrumentation_scope.name, found.instrumentation_scope.version) == ("bbr", __version__)
    assert found.status.status_code is StatusCode.UNSET
    assert (f"{found.context.trace_id:032x}", f"{found.parent.span_id:016x}") == (TRACE, PARENT)
    assert found.parent.is_remote
    assert found.context.trace_state.to_header() == "vendor=value,other=1"
    told = dict(found.attributes)
    assert 0 < told.pop("bbr.busy_seconds") < 10
    assert told == {
        "url.path": "/v1/chat/completions",
        "http.request.body.size": 21,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "sql-lora",
        "bbr.base_model": "qwen",
        "bbr.body_mode": "FULL_DUPLEX_STREAMED",
        "bbr.outcome": "routed",
        "bbr.early": False,
    }


ATTRIBUTES = [
    pytest.param(
        exchange(b'{"model": "nope"}'),
        {"gen_ai.request.model": "nope", "bbr.outcome": "refused", "bbr.reason": "model-not-found"}
        | {"http.response.status_code": 404},
        {"bbr.base_model", "error.type"},
        id="an unknown model",
    ),
    pytest.param(
        exchange(None, mode=BodyMode.BUFFERED),
        {"bbr.outcome": "no-body", "bbr.body_mode": "BUFFERED", "http.request.body.size": 0},
        {"gen_ai.request.model", "bbr.base_model", "bbr.reason", "http.response.status_code"},
        id="no body",
    ),
    pytest.param(
        exchange(mode=77),
        {"bbr.body_mode": "77", "bbr.reason": "body-mode-unknown", "error.type": "body-mode-unknown"}
        | {"http.response.status_code": 500},
        {"gen_ai.request.model"},
        id="a mode of the future",
    ),
    pytest.param(
        Exchange(Policy(Replies()), TABLE, observed.clock),
        {"bbr.outcome": "pending", "url.path": ""},
        {"bbr.body_mode", "gen_ai.request.model"},
        id="a stream without a message",
    ),
    pytest.param(
        exchange(None, [(":method", "GET")], models_list=ModelsList()), {"bbr.outcome": "no-body"}, (), id="a GET"
    ),
]


@pytest.mark.parametrize(("ended", "told", "untold"), ATTRIBUTES)
def test_attributes(ended, told, untold):
    (found,) = spans(ended)
    assert {name: found.attributes.get(name) for name in told} == told
    assert found.attributes.keys().isdisjoint(untold)


def test_an_answer_of_the_routers_own():
    asked = Exchange(Policy(Replies(), models_list=ModelsList()), TABLE, observed.clock)
    asked.receive(messages.request_headers({":method": "GET", ":path": "/v1/models"}, mode=DUPLEX, end_of_stream=True))
    (found,) = spans(asked)
    assert (found.attributes["bbr.outcome"], found.attributes["http.response.status_code"]) == ("answered", 200)
    assert found.status.status_code is StatusCode.UNSET


def broken():
    """Return an exchange whose gateway has sent its headers twice."""
    found = exchange(ended=False)
    found.receive(messages.request_headers())
    return found


STATUSES = [
    pytest.param(exchange(b"{"), StatusCode.UNSET, None, id="a client's fault"),
    pytest.param(exchange(b"{}"), StatusCode.UNSET, None, id="no model"),
    pytest.param(exchange(ended=False), StatusCode.UNSET, None, id="a client that went away"),
    pytest.param(broken(), StatusCode.ERROR, "headers-twice", id="a gateway's fault"),
    pytest.param(exchange(mode=9), StatusCode.ERROR, "body-mode-unknown", id="a 500"),
]


@pytest.mark.parametrize(("ended", "status", "kind"), STATUSES)
def test_status(ended, status, kind):
    (found,) = spans(ended)
    assert (found.status.status_code, found.attributes.get("error.type")) == (status, kind)


PATHS = {
    "/v1/chat/completions?key=secret": "/v1/chat/completions",
    "/v1/chat#secret": "/v1/chat",
    "/v1/chat;secret": "/v1/chat",
    "/v1/chat%3Fsecret": "/v1/chat",
    "http://user:secret@host/v1": "",
    "/" + "x" * 5000: "/" + "x" * 255,
    "/\u00e9": "/\\xc3\\xa9",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_tells_no_secret(path):
    asked = Exchange(Policy(Replies()), TABLE, observed.clock)
    asked.receive(messages.request_headers({":path": path}, mode=DUPLEX, end_of_stream=True))
    (found,) = spans(asked)
    assert found.attributes["url.path"] == PATHS[path]


def test_times_are_those_of_the_wall(monkeypatch):
    clock = iter((100.0, 100.5, 101.0, 103.0, 107.0))
    monkeypatch.setattr(observed, "clock", lambda: next(clock))
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    asked = Exchange(Policy(Replies()), TABLE, observed.clock)  # at 100
    asked.receive(messages.request_headers(mode=DUPLEX, end_of_stream=True))  # decided at 101
    memory = InMemorySpanExporter()
    traced = Tracing(TracerProvider(ALWAYS_ON, shutdown_on_exit=False), {"memory": memory})
    traced.ended(asked)  # at 103: the gateway may have kept its stream open for the response
    asked.times.decided = None
    traced.ended(asked)  # at 107
    traced.close()
    now = 1_700_000_000_000_000_000
    times = [(found.start_time - now, found.end_time - now) for found in memory.get_finished_spans()]
    assert times == [(-3_000_000_000, -2_000_000_000), (-7_000_000_000, 0)]


def early(end):
    """Return an exchange whose long body ends so, and was routed before."""
    found = Exchange(Policy(Replies(), stream_threshold_bytes=1000), TABLE, observed.clock)
    found.receive(messages.request_headers([*messages.JSON_POST.items()], mode=DUPLEX))
    for piece in (b'{"model": "qwen", "prompt": "' + b"x" * 5000, end):
        found.receive(messages.request_body(piece, end_of_stream=piece is end))
        while found.pending:
            found.work()
    found.over()
    return found


def test_a_fault_behind_an_early_route_ends_the_span():
    asked, routed = early(b'"}]'), early(b'"}')
    assert (asked.verdict.early, str(asked.verdict.outcome)) == (True, "refused")
    assert (routed.verdict.early, str(routed.verdict.outcome)) == (True, "routed")
    (found,) = spans(asked)
    (other,) = spans(routed)
    assert (found.end_time - found.start_time) * 1e-9 > asked.times.decided - asked.times.began
    assert (other.end_time - other.start_time) * 1e-9 == pytest.approx(
        routed.times.decided - routed.times.began, abs=1e-6
    )


def test_no_span_holds_a_secret():
    ended = []
    for sent in planted():
        asked = Exchange(Policy(Replies(), stream_threshold_bytes=1000), TABLE, observed.clock)
        for message in sent:
            asked.receive(message)
            while asked.pending:
                asked.work()
        ended.append(asked)
    found = spans(*ended)
    assert len(found) == len(ended)
    assert [each.to_json() for each in found if CANARY in each.to_json()] == []


OURS, THEIRS = f"00-{'1' * 32}-{'2' * 16}-01", f"00-{'3' * 32}-{'4' * 16}-01"
CALLS = [
    pytest.param({"traceparent": OURS, "tracestate": "a=1"}, "1" * 32, "a=1", id="the call's own"),
    pytest.param({"traceparent": OURS}, "1" * 32, "", id="the call's own without a state"),
    pytest.param({}, "3" * 32, "b=2", id="the request's, if the call has none"),
]


@pytest.mark.parametrize(("fields", "trace", "state"), CALLS)
def test_the_gateways_span_is_the_parent(fields, trace, state):
    asked = exchange(headers=[("traceparent", THEIRS), ("tracestate", "b=2")])
    asked.call = {name.encode(): value.encode() for name, value in fields.items()}
    (found,) = spans(asked)
    assert f"{found.context.trace_id:032x}" == trace
    assert found.context.trace_state.to_header() == state


def test_a_gateway_that_does_not_sample_is_heeded():
    asked = exchange(headers=[("traceparent", THEIRS)])
    asked.call = {b"traceparent": NOT_SAMPLED.encode()}
    assert spans(asked) == ()


@pytest.mark.parametrize("state", ["a=" + "é" * 10, "a=" + "1" * 60_000, "a=" + "é" * 30_000])
def test_a_state_that_is_long_or_no_ascii_is_left_out(state):
    found = span(headers=[("traceparent", SAMPLED), ("tracestate", state)])
    assert found.context.trace_state.to_header() == ""


GARBAGE = [
    "",
    "00",
    f"00-{TRACE}-{PARENT}",
    f"00-{TRACE}-{PARENT}-01-more",
    f"00-{TRACE}-{PARENT}-0",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"00-{TRACE[:-1]}g-{PARENT}-00",
    f"00-{'0' * 32}-{PARENT}-00",
    f"00-{TRACE}-{'0' * 16}-00",
    f"ff-{TRACE}-{PARENT}-01",
    "\u00e9" * 55,
    "x" * 100_000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: repr(text[:60]))
def test_garbage_is_no_parent(garbage, caplog):
    found = span(headers=[("traceparent", garbage), ("tracestate", "vendor=value")])
    assert found.parent is None
    assert f"{found.context.trace_id:032x}" != TRACE
    assert len(found.context.trace_state) == 0
    assert caplog.text == ""


@pytest.mark.parametrize("garbage", ["a", "a=\u00e9", "=", ",", "a=1,a=2", "x" * 100_000], ids=lambda text: text[:9])
def test_a_bad_tracestate_is_left_out_and_not_logged(garbage, caplog):
    found = span(headers=[("traceparent", SAMPLED), ("tracestate", garbage)])
    assert f"{found.parent.span_id:016x}" == PARENT
    assert len(found.context.trace_state) == 0
    assert caplog.text == ""


def test_a_later_version_of_traceparent():
    found = span(headers=[("traceparent", f"01-{TRACE}-{PARENT}-01-more")])
    assert f"{found.parent.span_id:016x}" == PARENT


HIGH = f"00-{'f' * 32}-{PARENT}-00"
SAMPLERS = [
    # sampler, spans for: no parent, a sampled one, one that is not, one that is not and has a high trace id
    pytest.param(DEFAULT_ON, (1, 1, 0, 0), id="parentbased_always_on"),
    pytest.param(DEFAULT_OFF, (0, 1, 0, 0), id="parentbased_always_off"),
    pytest.param(ALWAYS_ON, (1, 1, 1, 1), id="always_on"),
    pytest.param(ParentBasedTraceIdRatio(0.0), (0, 1, 0, 0), id="parentbased_traceidratio 0"),
    pytest.param(ParentBasedTraceIdRatio(1.0), (1, 1, 0, 0), id="parentbased_traceidratio 1"),
    pytest.param(TraceIdRatioBased(0.0), (0, 0, 0, 0), id="traceidratio 0"),
    pytest.param(TraceIdRatioBased(0.999999), (1, 1, 1, 0), id="traceidratio"),
]


@pytest.mark.parametrize(("sampler", "counts"), SAMPLERS)
def test_samplers(sampler, counts):
    parents = ("", SAMPLED, NOT_SAMPLED, HIGH)
    found = [len(spans(exchange(headers=[("traceparent", each)]), sampler=sampler)) for each in parents]
    assert tuple(found) == counts


def test_a_trace_that_its_parent_does_not_sample_costs_no_span(monkeypatch):
    traced = Tracing(TracerProvider(DEFAULT_ON, shutdown_on_exit=False), {"memory": InMemorySpanExporter()})
    monkeypatch.setattr(traced, "_extract", None)  # whatever asks the SDK fails
    traced.ended(exchange(headers=[("traceparent", NOT_SAMPLED)]))
    with pytest.raises(TypeError):
        traced.ended(exchange(headers=[("traceparent", SAMPLED)]))
    traced.close()


class Stuck(SpanExporter):
    """An exporter that does not come back until it is told to stop, as one does whose collector is away."""

    def __init__(self, logger="opentelemetry.exporter.test"):
        self.ended = threading.Event()
        self.logger = logging.getLogger(logger)

    def export(self, spans):
        for _ in range(3):
            self.logger.warning("Transient error %s encountered while exporting", "UNAVAILABLE")
        self.ended.wait(60)
        return SpanExportResult.FAILURE

    def shutdown(self):
        self.ended.set()
        self.logger.warning("Exporter already shutdown, ignoring call")


def test_the_end_waits_for_no_collector_that_is_away(monkeypatch, caplog):
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.2)
    stuck = Stuck()
    traced = Tracing(TracerProvider(ALWAYS_ON, shutdown_on_exit=False), {"stuck": stuck})
    traced.ended(exchange())
    begun = time.monotonic()
    traced.close()
    assert 0.2 <= time.monotonic() - begun < 20
    assert stuck.ended.is_set()
    assert caplog.messages == [
        "OpenTelemetry: Transient error UNAVAILABLE encountered while exporting",
        "the last spans could not be sent within 0.2 s",
    ]


def test_complaints_are_rare_and_tell_no_secret(caplog):
    traced = Tracing(TracerProvider(ALWAYS_ON, shutdown_on_exit=False), {"memory": InMemorySpanExporter()})
    logging.getLogger("opentelemetry.trace.span").warning("a client's %s", "secret")
    logging.getLogger("opentelemetry.util.re").warning("Header format invalid: %s", "authorization=secret")
    for _ in range(1000):
        logging.getLogger("opentelemetry.sdk._shared_internal").warning("Queue full")
    assert caplog.messages == ["OpenTelemetry: Header format invalid: %s"]
    traced.close()


def test_an_error_of_an_exporter_is_told_by_its_name(caplog):
    class Failing(SpanExporter):
        def export(self, spans):
            raise ZeroDivisionError("secret")

    traced = Tracing(TracerProvider(ALWAYS_ON, shutdown_on_exit=False), {"failing": Failing()})
    traced.ended(exchange())
    traced.close()
    assert caplog.messages == ["OpenTelemetry: Exception while exporting Span. (ZeroDivisionError)"]


def opened(monkeypatch, **variables):
    """Return what the environment makes of tracing, and end it."""
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    found = open_tracing()
    if found is not None:
        found.close()
    return found


def test_by_default_otlp_over_grpc_as_bbr(monkeypatch):
    found = str(opened(monkeypatch))
    assert found.startswith(
        "traces go to otlp_proto_grpc as those of bbr, sampled by ParentBased{root:AlwaysOnSampler,"
    )


NAMES = [
    pytest.param({}, "bbr", __version__, id="default"),
    pytest.param({"SERVICE_NAME": "router"}, "router", __version__, id="its variable"),
    pytest.param(
        {"RESOURCE_ATTRIBUTES": "service.name=ours,service.version=7"}, "ours", "7", id="the resource's variable"
    ),
]


@pytest.mark.parametrize(("variables", "name", "version"), NAMES)
def test_the_service(monkeypatch, variables, name, version):
    for variable, value in variables.items():
        monkeypatch.setenv(f"OTEL_{variable}", value)
    found = tracing._resource().attributes
    assert (found["service.name"], found["service.version"]) == (name, version)


NOTHING = [
    pytest.param({"SDK_DISABLED": "true"}, id="disabled"),
    pytest.param({"SDK_DISABLED": "TRUE", "TRACES_EXPORTER": "nope"}, id="disabled, in capitals"),
    pytest.param({"TRACES_EXPORTER": "none"}, id="no exporter"),
    pytest.param({"TRACES_SAMPLER": "always_off"}, id="always off"),
]


@pytest.mark.parametrize("variables", NOTHING)
def test_nothing_to_trace(monkeypatch, variables):
    assert opened(monkeypatch, **variables) is None


def test_two_exporters_to_a_console(monkeypatch, capsys):
    found = opened(monkeypatch, TRACES_EXPORTER="console, otlp", EXPORTER_OTLP_PROTOCOL="grpc")
    assert str(found).startswith("traces go to console, otlp_proto_grpc as")


WRONG = [
    pytest.param(
        {"TRACES_EXPORTER": "zipkin"},
        "OTEL_TRACES_EXPORTER: 'zipkin' is not one of console, none, otlp, otlp_proto_grpc",
        id="an unknown exporter",
    ),
    pytest.param(
        {"TRACES_EXPORTER": "otlp_proto_http"},
        "OTEL_TRACES_EXPORTER: otlp_proto_http is not installed: pip install opentelemetry-exporter-otlp-proto-http",
        id="the exporter over HTTP",
    ),
    pytest.param(
        {"EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        "OTEL_TRACES_EXPORTER: otlp_proto_http is not installed: pip install opentelemetry-exporter-otlp-proto-http",
        id="the protocol HTTP",
    ),
    pytest.param(
        {"EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' is not one of grpc, http/protobuf",
        id="an unknown protocol",
    ),
    pytest.param(
        {"EXPORTER_OTLP_TIMEOUT": "soon"},
        "the OTEL_* environment can't be used: ValueError: could not convert string to float: 'soon'",
        id="a bad timeout",
    ),
    pytest.param(
        {"BSP_MAX_QUEUE_SIZE": "0"},
        "the OTEL_* environment can't be used: ValueError: max_queue_size must be a positive integer.",
        id="a bad queue",
    ),
]


@pytest.mark.parametrize(("variables", "sentence"), WRONG)
def test_an_environment_that_can_not_be_used(monkeypatch, variables, sentence):
    before = sys.getswitchinterval()
    with pytest.raises(TracingError) as caught:
        opened(monkeypatch, **variables)
    assert str(caught.value) == sentence
    assert sys.getswitchinterval() == before


def test_a_credential_that_can_not_be_used_is_not_told(monkeypatch, caplog):
    opened(monkeypatch, EXPORTER_OTLP_HEADERS="authorization secret\u00e9")
    (line,) = caplog.messages
    assert line.startswith("OpenTelemetry: Header format invalid!")
    assert "secret" not in line


def test_a_sampler_that_is_not_known_is_told(monkeypatch, caplog):
    opened(monkeypatch, TRACES_SAMPLER="nope")
    assert caplog.messages == ["OpenTelemetry: Couldn't recognize sampler nope."]


def test_an_exporter_that_is_none(monkeypatch):
    class Entry:
        name = "odd"

        def load(self):
            return dict

    monkeypatch.setattr(tracing, "entry_points", lambda **_: [Entry()])
    with pytest.raises(TracingError, match="'odd' is not one of none, odd, otlp"):
        opened(monkeypatch, TRACES_EXPORTER="odd")


def test_the_thread_that_encodes_may_not_keep_the_loop_for_long(monkeypatch):
    opened(monkeypatch)
    assert sys.getswitchinterval() == pytest.approx(tracing.SWITCH_SECONDS)


def test_grpc_does_not_begin_again_what_a_collector_refuses(monkeypatch):
    """It does so at once and for ever if the collector sends GOAWAY, and its memory grows by 100 MB a second."""
    made = []

    class Collector(InMemorySpanExporter):
        def __init__(self, **options):
            super().__init__()
            made.append(options)

    class Entry:
        name = "otlp_proto_grpc"

        def load(self):
            return Collector

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(tracing, "entry_points", lambda **_: [Entry()])
    open_tracing().close()
    assert made == [{"channel_options": (("grpc.enable_retries", 0),)}]
