"""A span for each request, by OpenTelemetry's SDK. Needs `body-based-router[otel]`.

This is the only file that imports opentelemetry.

Only `--tracing` loads it. What is sent where, and of which requests, is the business of the OTEL_* environment, which
the SDK reads itself. Spans are made when an exchange is over; a thread of the SDK's encodes and sends them.
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

# How long the end of the process may wait for the last spans to be sent.
FLUSH_SECONDS: Final = 2.0

# How long the thread that encodes may keep the event loop from going on: half of it on the average, and 5 ms is
# Python's own. A span takes some 50 us to encode, and there may be 512 of them in a row.
SWITCH_SECONDS: Final = 0.0005

_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_PACKAGES: Final = {
    "otlp_proto_grpc": "'body-based-router[otel]'",
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
}

# What exporters are made with. gRPC begins a call again at once that a collector's GOAWAY refuses, and without end: its
# memory grows by 100 MB a second. The SDK tries again by itself, after a pause.
_OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {
    "otlp_proto_grpc": {"channel_options": (("grpc.enable_retries", 0),)}
}

# A traceparent whose trace nobody samples: what every sampler that asks its parent first says no to.
_NOT_SAMPLED: Final = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")

# As ext_proc spells them.
_BODY_MODES: Final[Mapping[int, str]] = {mode.value: mode.name for mode in BodyMode}

# Looked up once: to look up a member of an enum takes long.
_FAULT: Final = Outcome.FAULT
_ROUTED: Final = Outcome.ROUTED


class TracingError(Exception):
    """Spans can't be sent as the environment wants it; the message names the variable."""


class Tracing:
    """Makes the spans, and has them sent."""

    def __init__(self, provider: TracerProvider, exporters: Mapping[str, SpanExporter]) -> None:
        """Begin to trace.

        Args:
            provider: with the sampler.
            exporters: name -> where the spans go.
        """
        self._provider = provider
        self._exporters = exporters
        self._complaints = _Complaints()
        for exporter in exporters.values():
            provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer(TRACER_NAME, __version__)
        # The samplers that the environment can name take a parent's word if they are based on it.
        self._heeds_parents = isinstance(provider.sampler, ParentBased)
        self._extract = TraceContextTextMapPropagator().extract
        self._complaints.listen()

    def __str__(self) -> str:
        """Say where the spans go, for the log."""
        service = str(self._provider.resource.attributes["service.name"])
        sampler = self._provider.sampler.get_description()
        return f"traces go to {', '.join(self._exporters)} as those of {service}, sampled by {sampler}"

    def ended(self, exchange: Exchange) -> None:
        """Make the span of an exchange that is over, if its trace is sampled.

        Its parent is the gateway's span for its call to us; without one, whatever the request itself names.
        """
        traceparent, field = observed.traced(exchange)
        if self._heeds_parents and _NOT_SAMPLED.fullmatch(traceparent):
            return  # as the SDK would find too, at ten times the cost
        carrier = {}
        if traceparent:
            state = field("tracestate")
            # What stands for bytes that are no ASCII would look like a good value, and so may what was cut off. W3C
            # Trace Context, section 3.3.1.5, asks for 512 bytes of it.
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
        """Send what has not been sent, for at most FLUSH_SECONDS, and stop.

        Blocks: nothing may be served any more.
        """
        flush = threading.Thread(target=self._provider.shutdown, name="the last spans", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)
        self._complaints.ignore()
        if flush.is_alive():
            log.warning("the last spans could not be sent within %g s", FLUSH_SECONDS)
            for exporter in self._exporters.values():
                exporter.shutdown()  # ends what its thread still tries


def open_tracing() -> Tracing | None:
    """Begin to trace as the OTEL_* environment says; None if it says that nothing is to be traced.

    Raises:
        TracingError: an exporter is not known or not installed, or a variable has no usable value.
    """
    _Complaints().listen()  # at once: a variable that can't be used may be quoted, and hold a credential
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
    except Exception as error:  # whatever a variable's value makes of the SDK's code
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
    """Return when the request ceased to wait for the router, in seconds of `observed.clock`.

    Gateways may keep a stream open until the response has ended, which is no time of ours.
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
    """Return the SDK's names of what OTEL_TRACES_EXPORTER asks for; OTLP if it is not set."""
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
    """Writes what OpenTelemetry has to complain of, at most a line every ten seconds.

    A collector that is away makes it say so with each batch, and a full queue with each span.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._rare: RareLog | None = RareLog(log, logging.WARNING)

    def listen(self) -> None:
        """Take all that OpenTelemetry logs."""
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self]
        logger.propagate = False
        # Its lines are about what clients sent, and quote it.
        logging.getLogger("opentelemetry.trace").setLevel(logging.CRITICAL)

    def ignore(self) -> None:
        """Write nothing more."""
        self._rare = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        if self._rare is None:
            return
        # Others than these may quote what is nobody's business: the headers for a collector, say.
        ours = record.name.startswith(("opentelemetry.sdk.", "opentelemetry.exporter."))
        words = record.getMessage() if ours else str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            words += f" ({type(error).__name__})"
        self._rare.write(time.monotonic(), "OpenTelemetry: %s", words)
