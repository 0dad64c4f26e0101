"""What tracing costs an exchange, in microseconds of processor time. Run: python -m bench.micro.tracing

Medians of alternating rounds. "off" is what the server asks in any case; all else is added to an exchange. "encode" is
what the thread of the SDK's takes for each span, in the same process and under the same lock (Python's). Last, for how
long that thread keeps another one waiting that has slept, as an event loop does.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, ParentBasedTraceIdRatio

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.http2.fields import FieldDecoder
from bbr.models.registry import Registry
from bbr.telemetry import observed
from bbr.telemetry.tracing import SWITCH_SECONDS, Tracing
from bbr.transports import uv
from bench.harness import messages
from bench.micro.fields import blocks

ROUNDS = 9
CALLS = 2_000
SLEEPS = 500
SLEEP_SECONDS = 0.0002

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
# As many fields as a request has behind a gateway.
FIELDS = [*messages.JSON_POST.items(), *((f"x-field-{number}", "value") for number in range(12))]


class Nowhere(SpanExporter):
    """Takes spans, and keeps the last of them."""

    last: ReadableSpan | None = None

    def export(self, spans: "tuple[ReadableSpan, ...]") -> SpanExportResult:
        """Let go of spans."""
        self.last = spans[-1]
        return SpanExportResult.SUCCESS


def exchange(traceparent: str) -> Exchange:
    """Return an exchange that is over."""
    found = Exchange(Policy(Replies()), Registry(), observed.clock)
    fields = [*FIELDS, ("traceparent", traceparent)] if traceparent else FIELDS
    found.receive(messages.request_headers(fields, mode=BodyMode.FULL_DUPLEX_STREAMED))
    found.receive(messages.request_body(b'{"model": "sql-lora"}', end_of_stream=True))
    return found


def of_call(flags: bytes) -> Exchange:
    """Return one whose gateway has named its span in the headers of its call, Huffman coded as Envoy sends them."""
    decoder = FieldDecoder(0, 8192, 128)
    decoder.settings_acknowledged()
    *_, section = [decoder.decode(block) for block in blocks(9, fresh=True)]
    value = section.get(b"traceparent") or b""
    assert value.endswith(b"-01")
    found = exchange("")
    found.call_field = lambda name: uv._field(section, name).replace("-01", f"-{flags.decode()}")
    return found


def waits(span: ReadableSpan, interval: float) -> list[float]:
    """Return how much too late a thread went on after sleeping, in milliseconds, while another one encodes spans."""
    over = threading.Event()

    def encode() -> None:
        while not over.is_set():
            encode_spans([span] * 512).SerializeToString()

    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    thread = threading.Thread(target=encode)
    thread.start()
    late = []
    for _ in range(SLEEPS):
        begun = time.perf_counter()
        time.sleep(SLEEP_SECONDS)
        late.append((time.perf_counter() - begun - SLEEP_SECONDS) * 1e3)
    over.set()
    thread.join()
    sys.setswitchinterval(before)
    return late


def main() -> None:
    """Time all cases, alternating."""
    nowhere = Nowhere()
    always = Tracing(TracerProvider(DEFAULT_ON, shutdown_on_exit=False), {"nowhere": nowhere})
    never = Tracing(TracerProvider(ParentBasedTraceIdRatio(0.0), shutdown_on_exit=False), {"nowhere": nowhere})
    off: Tracing | None = None

    def ask(over: Exchange) -> None:
        if off is not None:
            off.ended(over)

    cases: dict[str, tuple[Callable[[Exchange], None], Exchange]] = {
        "off": (ask, exchange("")),
        "the request's parent is not sampled": (always.ended, exchange(f"{TRACE}00")),
        "the call's parent is not sampled": (always.ended, of_call(b"00")),
        "no parent, ratio 0": (never.ended, exchange("")),
        "the request's parent is sampled": (always.ended, exchange(f"{TRACE}01")),
        "the call's parent is sampled": (always.ended, of_call(b"01")),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (call, over) in cases.items():
            begun = time.thread_time()
            for _ in range(CALLS):
                call(over)
            times[name].append((time.thread_time() - begun) / CALLS * 1e6)
    always.close()
    never.close()
    assert nowhere.last is not None
    times["encode"] = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        encode_spans([nowhere.last] * 512).SerializeToString()
        times["encode"].append((time.thread_time() - begun) / 512 * 1e6)
    for name, each in times.items():
        print(f"{name:36} {statistics.median(each):7.2f} us")
    for interval in (SWITCH_SECONDS, sys.getswitchinterval()):
        late = statistics.median(waits(nowhere.last, interval))
        print(f"waiting, switch interval of {interval * 1e3:3.1f} ms   {late:7.2f} ms")


if __name__ == "__main__":
    main()
