"""Where the processor time of an exchange goes, by stage, in microseconds. Run: python -m bench.parts.profile

The octets of many exchanges are rendered beforehand and driven through the layers one upon the other: the frame
reader alone, HTTP/2 with canned answers, gRPC with a handler that answers from a can, and all of it. A layer's cost is
what it adds; medians of alternating rounds. The parts of an exchange are timed alone. With --server the same exchanges
by h2load against a router: what is left over is the event loop and the kernel.

--shape: `h2load` sends HEADERS and DATA that ends the stream; `envoy` one DATA frame for each message, and resets the
stream after the answer. --streams: exchanges in each read. --trace: a fresh traceparent and x-request-id in each.
--functions N: cProfile's list of the costliest functions (which makes small functions look dearer than they are).
"""

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies, request_body
from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived
from bbr.http2.reader import FrameReader
from bbr.http2.settings import Settings
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.reading import name as model
from bbr.reading.head import read_head
from bbr.rpc import calls
from bbr.rpc.calls import Handler
from bbr.rpc.connection import RpcConnection
from bbr.rpc.messages import MessageReader, frame
from bbr.rpc.running import Services
from bbr.rpc.status import OK, Status
from bench.harness import h2_frames, machine, workload
from bench.harness.conversation import said
from bench.harness.grpc_client import PROCESS

EXCHANGES = 2_000
ROUTING = (workload.MODEL, workload.MODEL, None)
CONNECTION_WINDOW_BYTES = 1 << 30

# What uvloop reads at a time.
READ_BYTES = 256 << 10


@dataclass(frozen=True)
class Wire:
    """What one connection receives.

    Attributes:
        opening: all up to and including a first, empty call, which shrinks the field table.
        reads: the exchanges' octets, up to `per_read` exchanges in each, and at most READ_BYTES.
        endings: what comes after the answers of a read; b"" for nothing.
        count: exchanges in all.
        sent: the messages of one exchange.
        answers: its answers.
    """

    opening: bytes
    reads: list[bytes]
    endings: list[bytes]
    count: int
    sent: list[bytes]
    answers: list[bytes]

    def each(self) -> Iterator[tuple[bytes, bytes]]:
        """Give reads and endings; a read is copied first, so that it is in the cache as what the kernel brings is."""
        for read, ending in zip(self.reads, self.endings, strict=True):
            yield bytes(bytearray(read)), ending


def wire(size: int, per_read: int, shape: str, *, traced: bool) -> Wire:
    """Render about EXCHANGES exchanges."""
    count = max(1, EXCHANGES // per_read) * per_read
    if size > 10_000:
        count = max(1, count * 10_000 // size // per_read) * per_read
    made = list(workload.traces(count)) if traced else [{}] * count
    first, blocks = workload.field_blocks(made)
    opening = (
        h2_frames.PREFACE + h2_frames.settings((h2_frames.INITIAL_WINDOW_SIZE, (1 << 31) - 1)) + h2_frames.SETTINGS_ACK
    )
    opening += h2_frames.window_update(0, (1 << 31) - 1 - 65_535) + h2_frames.headers(1, first, end=True)
    reads, endings = [], []
    sent = workload.exchange(size)
    octets, ending = bytearray(), bytearray()
    for number, (trace, block) in enumerate(zip(made, blocks, strict=True)):
        stream = 2 * number + 3
        octets += h2_frames.headers(stream, block)
        if traced:
            sent = workload.exchange(size, trace)
        parts = [frame([each]) for each in sent] if shape == "envoy" else [frame(sent)]
        pieces = [piece for part in parts for piece in h2_frames.cut(part, 16_384)]
        for index, piece in enumerate(pieces):
            octets += h2_frames.data(stream, piece, end=shape == "h2load" and index == len(pieces) - 1)
        if shape == "envoy":
            ending += h2_frames.rst_stream(stream, h2_frames.NO_ERROR)
        if (number + 1) % per_read == 0:
            cut = h2_frames.cut(bytes(octets), READ_BYTES)
            reads += cut
            endings += [b""] * (len(cut) - 1) + [bytes(ending)]
            octets.clear()
            ending.clear()
    whole = Exchange(Policy(Replies()), Registry())
    answers = [answer for message in sent for answer in said(whole, message)]
    workload.check(sent, answers)
    return Wire(opening, reads, endings, count, sent, answers)


class Canned:
    """A handler that answers its last message, and reads none."""

    patience_seconds: float | None = None
    pending = False
    held_bytes = 0

    def __init__(self, count: int, answers: list[bytes]) -> None:
        self._left = count
        self._answers = answers
        self.end: Status | None = None

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Count, and answer the last."""
        self._left -= 1
        return () if self._left else self._answers

    def work(self) -> Sequence[bytes]:
        """Never asked."""
        return ()

    def expect(self, size: int) -> Sequence[bytes]:
        """Let it come."""
        return ()

    def give_up(self) -> Sequence[bytes]:
        """Never asked."""
        return ()

    def expire(self) -> Sequence[bytes]:
        """Never asked."""
        return ()

    def over(self) -> None:
        """Hold nothing."""

    def finish(self) -> Status:
        """All is answered."""
        return OK


def settings() -> Settings:
    """Return settings under which no WINDOW_UPDATE is due and no stream is refused within a round."""
    return Settings(max_concurrent_streams=1 << 20, connection_window_bytes=CONNECTION_WINDOW_BYTES)


def run_frames(octets: Wire) -> dict[str, float]:
    """Cut reads into frames."""
    reader = FrameReader()
    list(reader.feed(octets.opening))
    spent = 0.0
    for read, ending in octets.each():
        begun = time.perf_counter()
        for _ in reader.feed(read):
            pass
        if ending:
            for _ in reader.feed(ending):
                pass
        spent += time.perf_counter() - begun
    return {"frames": spent}


def run_http2(octets: Wire) -> dict[str, float]:
    """Receive, and answer from a can, as bbr.rpc does; what the answers cost is timed apart."""
    connection = Connection(settings(), 0.0)
    connection.receive(octets.opening, 0.0)
    connection.take_output()
    data = frame(octets.answers)
    trailers = calls.trailers(OK, alone=False)
    half_closes = not any(octets.endings)
    last = len(octets.sent) if not half_closes else 0
    seen: dict[int, int] = {}
    receiving = sending = output = 0.0
    clock = time.perf_counter
    for read, ending in octets.each():
        begun = clock()
        events = connection.receive(read, 0.0)
        received = clock()
        for event in events:
            if isinstance(event, DataReceived):
                stream_id = event.stream_id
                if half_closes and not event.end_stream:
                    continue
                if not half_closes:
                    seen[stream_id] = count = seen.get(stream_id, 0) + 1
                    if count < last:
                        continue
                connection.send_headers(stream_id, calls.HEADERS)
                connection.send_data(stream_id, data)
                if half_closes:
                    connection.send_headers(stream_id, trailers, end_stream=True)
        sent = clock()
        connection.take_output()
        taken = clock()
        if ending:
            connection.receive(ending, 0.0)
        receiving += received - begun + clock() - taken
        sending += sent - received
        output += taken - sent
    assert len(connection.streams) <= 1, "an exchange is not over"
    return {"http2 receive": receiving, "http2 send": sending, "output": output}


def run_rpc(octets: Wire, new_handler: Callable[[], Handler], name: str) -> dict[str, float]:
    """Run calls."""
    services = Services({PROCESS.encode(): lambda call: new_handler()}, 1 << 30, _raise)
    connection = RpcConnection(settings(), services, 0.0)
    connection.receive(octets.opening, 0.0)
    connection.take_output()
    receiving = output = 0.0
    clock = time.perf_counter
    for read, ending in octets.each():
        begun = clock()
        connection.receive(read, 0.0)
        received = clock()
        connection.take_output()
        taken = clock()
        if ending:
            connection.receive(ending, 0.0)
        receiving += received - begun + clock() - taken
        output += taken - received
    assert not connection.calls, "an exchange is not over"
    assert not connection.fault, connection.fault
    return {name: receiving, f"{name} output": output}


def _raise(error: Exception) -> None:
    raise error


def alone(octets: Wire, policy: Policy, registry: Registry) -> dict[str, Callable[[], object]]:
    """Return the parts of an exchange, each to be timed alone."""
    sent = octets.sent
    bodies = [ProcessingRequest.FromString(message).request_body.body for message in sent[1:]]
    head = ProcessingRequest.FromString(sent[0]).request_headers.headers
    whole = b"".join(bodies)
    replies = policy.replies
    data = frame(sent)

    def messages() -> None:
        reader = MessageReader(1 << 30)
        reader.feed(data)

    def exchange() -> None:
        running = Exchange(policy, registry)
        for message in sent:
            running.receive(message)
        running.finish()

    return {
        "exchange, alone": exchange,
        "  decode the messages": lambda: [ProcessingRequest.FromString(message) for message in sent],
        "  read the head": lambda: read_head(head),
        "  read the model": lambda: model.model_at_once(whole, 256),
        "  replies": lambda: (
            replies.route((workload.MODEL, workload.MODEL, None)),
            request_body(whole, end_of_stream=True),
        ),
        "message reader, alone": messages,
        "message frame, alone": lambda: frame(octets.answers),
    }


def once(call: Callable[[], object], number: int) -> float:
    """Return the time of `number` calls, in seconds."""
    begun = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - begun


def measure(octets: Wire, rounds: int) -> dict[str, float]:
    """Return the median microseconds of each part."""
    policy, registry = Policy(Replies()), Registry()
    parts = alone(octets, policy, registry)
    found: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        seconds = run_frames(octets) | run_http2(octets)
        seconds |= run_rpc(octets, lambda: Canned(len(octets.sent), octets.answers), "rpc, canned")
        seconds |= run_rpc(octets, lambda: Exchange(policy, registry), "all")
        seconds |= {name: once(call, octets.count) for name, call in parts.items()}
        for name, value in seconds.items():
            found.setdefault(name, []).append(value / octets.count * 1e6)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def report(us: dict[str, float]) -> None:
    """Print the stages."""
    http2 = us["http2 receive"] + us["http2 send"]
    rows = {
        "http2 receive": us["http2 receive"],
        "  cut into frames": us["frames"],
        "  their meaning": us["http2 receive"] - us["frames"],
        "rpc": us["rpc, canned"] - http2,
        "exchange": us["all"] - us["rpc, canned"],
        "http2 send": us["http2 send"],
        "output": us["all output"],
        "in all": us["all"] + us["all output"],
    }
    for name, value in rows.items():
        print(f"{name:<26} {value:>8.2f}")
    print()
    names = [name for name in us if name.endswith("alone") or name.startswith("  ")]
    for name in names:
        print(f"{name:<26} {us[name]:>8.2f}")
    rest = us["exchange, alone"] - sum(value for name, value in us.items() if name.startswith("  "))
    print(f"{'  the rest of it':<26} {rest:>8.2f}")


def against_server(size: int, in_all: float, connections: int, streams: int, rounds: int) -> None:
    """Print what a router costs under h2load."""
    machine.require("h2load", "taskset")
    requests = max(200, 20_000_000 // max(size, 1_000))
    with tempfile.TemporaryDirectory() as scratch, machine.router("uv") as router:
        sent = workload.exchange(size)
        machine.answer(router, sent)
        data = Path(scratch, "body")
        data.write_bytes(frame(sent))
        machine.h2load(router.port, data, 500, connections, streams)
        rows = []
        for _ in range(rounds):
            ticks, calls_before = machine.ticks(router.pid), machine.system_calls(router.pid)
            before = machine.cpu_seconds(router.pid)
            machine.h2load(router.port, data, requests, connections, streams)
            each = (machine.cpu_seconds(router.pid) - before) / requests * 1e6
            reads, writes = machine.system_calls(router.pid)
            rows.append(
                (
                    each,
                    each * machine.system_share(router.pid, ticks),
                    (reads - calls_before[0]) / requests,
                    (writes - calls_before[1]) / requests,
                )
            )
    total, kernel, reads_each, writes_each = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"\na router under h2load, {connections} connections x {streams} streams, per exchange")
    print(f"{'in all':<26} {total:>8.2f}   {reads_each:.3f} reads, {writes_each:.3f} writes")
    print(f"{'  our code, as above':<26} {in_all:>8.2f}")
    print(f"{'  the kernel':<26} {kernel:>8.2f}")
    print(f"{'  event loop, the rest':<26} {total - in_all - kernel:>8.2f}")


def functions(octets: Wire, count: int) -> None:
    """Print cProfile's list."""
    policy, registry = Policy(Replies()), Registry()
    profiler = cProfile.Profile()
    profiler.enable()
    run_rpc(octets, lambda: Exchange(policy, registry), "all")
    profiler.disable()
    print()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(count)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000, help="body bytes (1000)")
    parser.add_argument("--shape", choices=("h2load", "envoy"), default="h2load")
    parser.add_argument("--streams", type=int, default=16, help="exchanges in each read (16)")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--functions", type=int, default=0, metavar="N")
    given = parser.parse_args()
    octets = wire(given.size, given.streams, given.shape, traced=given.trace)
    us = measure(octets, given.rounds)
    traced = ", traced" if given.trace else ""
    print(f"microseconds per exchange: {given.size} bytes, {given.streams} per read, shape {given.shape}{traced}")
    report(us)
    if given.server:
        against_server(given.size, us["all"] + us["all output"], 4, given.streams, given.rounds)
    if given.functions:
        functions(octets, given.functions)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
