"""A span for each request, by OpenTelemetry's SDK. Needs `body-based-router[otel]`.

This is the only file that imports opentelemetry.

Only `--tracing` loads it. The SDK itself reads the OTEL_* variables, which say where spans go and which requests are
sampled. A span is made when its exchange has ended. A thread of the SDK encodes and sends the spans.
"""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bbr import __version__
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode
from bbr.exchange.request import SHOWN_BYTES
from bbr.exchange.verdict import Outcome
from bbr.telemetry import genai, observed
from bbr.telemetry.access_log import shown_path
from bbr.telemetry.allowance import RareLog

log = logging.getLogger(__name__)

SPAN_NAME: Final = "gateway.request"  # as the Go routers have it
TRACER_NAME: Final = "bbr"
SERVICE_NAME: Final = "bbr"

# How long the process waits for the last spans to be sent before it ends.
FLUSH_SECONDS: Final = 2.0

# How long the encoding thread may hold the interpreter while the event loop waits for it. On average the loop waits
# half of this. Python's default is 5 ms. A span takes about 50 us to encode, and up to 512 are encoded in a row.
SWITCH_SECONDS: Final = 0.0005

_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_PACKAGES: Final = {
    "otlp_proto_grpc": "'body-based-router[otel]'",
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
}

# Exporter -> arguments for its constructor. gRPC's own retries are off: it repeats a call that a collector's GOAWAY
# refuses at once and without end, and its memory grows by 100 MB a second. The SDK itself retries after a pause.
_OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {
    "otlp_proto_grpc": {"channel_options": (("grpc.enable_retries", 0),)}
}

# A traceparent without the sampled flag. Every sampler that follows the parent's decision drops its trace.
_NOT_SAMPLED: Final = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")

# Body mode -> its name in ext_proc.
_BODY_MODES: Final[Mapping[int, str]] = {mode.value: mode.name for mode in BodyMode}

# Looked up once: to look up a member of an enum takes long.
_FAULT: Final = Outcome.FAULT
_ROUTED: Final = Outcome.ROUTED


class TracingError(Exception):
    """The OTEL_* variables cannot be used; the message names the variable."""


class Tracing:
    """Makes the spans of exchanges, and gives them to the SDK, which sends them."""

    def __init__(self, provider: TracerProvider, exporters: Mapping[str, SpanExporter]) -> None:
        """Begin to trace.

        Args:
            provider: has the sampler and the resource.
            exporters: name -> exporter. Each gets all spans.
        """
        self._provider = provider
        self._exporters = exporters
        self._complaints = _Complaints()
        for exporter in exporters.values():
            provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer(TRACER_NAME, __version__)
        # Of the samplers that OTEL_TRACES_SAMPLER can name, those of this class follow the parent's decision.
        self._heeds_parents = isinstance(provider.sampler, ParentBased)
        self._extract = TraceContextTextMapPropagator().extract
        self._complaints.listen()

    def __str__(self) -> str:
        """Say where the spans go, for the log."""
        service = str(self._provider.resource.attributes["service.name"])
        sampler = self._provider.sampler.get_description()
        return f"traces go to {', '.join(self._exporters)} as those of {service}, sampled by {sampler}"

    def ended(self, exchange: Exchange) -> None:
        """Make the span of an exchange that has ended, if its trace is sampled.

        Its parent is the gateway's span for the call to the router, or else the span that the request's own traceparent
        names.
        """
        traceparent, field = observed.traced(exchange)
        if self._heeds_parents and _NOT_SAMPLED.fullmatch(traceparent):
            return  # the SDK would decide the same, at ten times the cost
        carrier = {}
        if traceparent:
            state = field("tracestate")
            # A value with escapes for non-ASCII bytes, or one that was cut off, could look valid, so it is dropped. W3C
            # Trace Context, section 3.3.1.5, asks implementations to pass on at least 512 bytes.
            usable = "\\x" not in state and len(state) < SHOWN_BYTES
            carrier = {"traceparent": traceparent, "tracestate": state if usable else ""}
        wall, now = time.time_ns(), observed.clock()
        span = self._tracer.start_span(
            SPAN_NAME,
            self._extract(carrier),
            SpanKind.SERVER,
            start_time=wall - _nanoseconds(now - exchange.times.began),
        )
        if not span.is_recording():
            return
        span.set_attributes(attributes(exchange))
        verdict = exchange.verdict
        if verdict.status >= 500 or verdict.outcome is _FAULT:
            span.set_attribute("error.type", verdict.reason)
            span.set_status(StatusCode.ERROR)
        span.end(wall - _nanoseconds(now - _end(exchange, now)))

    def close(self) -> None:
        """Send the remaining spans, for at most FLUSH_SECONDS, and stop.

        It blocks, so the server must have stopped.
        """
        flush = threading.Thread(target=self._provider.shutdown, name="the last spans", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)
        self._complaints.ignore()
        if flush.is_alive():
            log.warning("the last spans could not be sent within %g s", FLUSH_SECONDS)
            for exporter in self._exporters.values():
                exporter.shutdown()  # ends the attempts of its thread


def open_tracing() -> Tracing | None:
    """Begin to trace as the OTEL_* variables say; None if they turn tracing off.

    Raises:
        TracingError: an exporter is unknown or not installed, or a variable has an unusable value.
    """
    _Complaints().listen()  # first of all: the SDK may log an unusable variable, which may have a credential
    try:
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if disabled or provider.sampler is ALWAYS_OFF:
            return None
        exporters = {name: _exporter(name) for name in _exporter_names()}
        if not exporters:
            return None
        tracing = Tracing(provider, exporters)
    except TracingError:
        raise
    except Exception as error:  # the SDK's code may raise anything for a variable's value
        raise TracingError(f"the OTEL_* environment can't be used: {type(error).__name__}: {error}") from error
    sys.setswitchinterval(SWITCH_SECONDS)
    return tracing


def attributes(exchange: Exchange) -> dict[str, str | int | float | bool]:
    """Return the attributes of a request's span: by OpenTelemetry's semantic conventions, or else as `bbr.*`."""
    verdict = exchange.verdict
    found: dict[str, str | int | float | bool] = {
        **genai.attributes(exchange),
        "url.path": shown_path(exchange.request_field(":path")),
        "http.request.body.size": verdict.body_bytes,
        "bbr.outcome": verdict.outcome.value,
        "bbr.early": verdict.early,
        "bbr.busy_seconds": exchange.times.busy_seconds,
    }
    mode = exchange.body_mode
    if mode is not None:
        found["bbr.body_mode"] = _BODY_MODES.get(mode) or str(mode)
    if verdict.route is not None and verdict.route.model != verdict.model:
        found["bbr.routed_model"] = verdict.route.model
    if verdict.scope:
        found["bbr.scope"] = verdict.scope
    if verdict.base_model is not None:
        found["bbr.base_model"] = verdict.base_model
    if verdict.reason:
        found["bbr.reason"] = verdict.reason
    if verdict.status:
        found["http.response.status_code"] = verdict.status
    return found


def _end(exchange: Exchange, now: float) -> float:
    """Return when the request no longer waited for the router, in seconds of `observed.clock`.

    Gateways may keep a stream open until the response has ended. That time is not the router's.
    """
    verdict = exchange.verdict
    decided = exchange.times.decided
    if decided is None or (verdict.early and verdict.outcome is not _ROUTED):
        return now  # a fault in the rest of a body that was routed ends the stream
    return decided


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _resource() -> Resource:
    ours = {"service.name": SERVICE_NAME, "service.version": __version__}
    given = OTELResourceDetector().detect().attributes  # by the environment
    return Resource.create({name: value for name, value in ours.items() if name not in given})


def _exporter_names() -> list[str]:
    """Return the SDK's names of the exporters in OTEL_TRACES_EXPORTER; OTLP if it is not set, none for `none`."""
    names = [name.strip() for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    if names == ["none"]:
        return []
    return [_otlp() if name == "otlp" else name for name in names]


def _otlp() -> str:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable, "").strip()
        if protocol:
            if protocol not in _PROTOCOLS:
                raise TracingError(f"{variable}: {protocol!r} is not one of {', '.join(_PROTOCOLS)}")
            return _PROTOCOLS[protocol]
    return _PROTOCOLS["grpc"]


def _exporter(name: str) -> SpanExporter:
    group = "opentelemetry_traces_exporter"
    for found in entry_points(group=group, name=name):
        exporter = found.load()(**_OPTIONS.get(name, {}))
        if isinstance(exporter, SpanExporter):
            return exporter
    if name in _PACKAGES:
        raise TracingError(f"OTEL_TRACES_EXPORTER: {name} is not installed: pip install {_PACKAGES[name]}")
    known = sorted({"otlp", "none", *(each.name for each in entry_points(group=group))})
    raise TracingError(f"OTEL_TRACES_EXPORTER: {name!r} is not one of {', '.join(known)}")


class _Complaints(logging.Handler):
    """Writes OpenTelemetry's warnings and errors to our log, at most one line in ten seconds.

    Without the limit there would be a line for each batch that a collector does not take, and for each span that the
    full queue drops.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._rare: RareLog | None = RareLog(log, logging.WARNING)

    def listen(self) -> None:
        """Take all that OpenTelemetry logs."""
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self]
        logger.propagate = False
        # This logger quotes what clients sent.
        logging.getLogger("opentelemetry.trace").setLevel(logging.CRITICAL)

    def ignore(self) -> None:
        """Write nothing more."""
        self._rare = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        if self._rare is None:
            return
        # Other loggers may quote secrets, such as a collector's headers. Of their lines only the template is written.
        ours = record.name.startswith(("opentelemetry.sdk.", "opentelemetry.exporter."))
        words = record.getMessage() if ours else str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            words += f" ({type(error).__name__})"
        self._rare.write(time.monotonic(), "OpenTelemetry: %s", words)
