"""What an exchange costs without a gateway, by body, mode, TLS and tracing. Run: python -m bench.published.direct

Servers are bound to processor 0 and the load to processor 1; the variants take turns within each round, in another
order in each, after two short turns of each that do not count. An exchange is what Envoy sends for one request: a dozen
header fields, then the body in messages of 16 KB (FULL_DUPLEX_STREAMED) or one message (BUFFERED). Kinds of bodies are
those of bench/harness/body_kinds.py; 0 bytes is a request without a body.

The load is h2load: four connections of 16 streams, one connection of four from 1 MB on, two from 20 MB on. A turn has
the same number of exchanges in each round and of each variant, but for grpcio a fifth of them. Each
server's answer to the very exchange is read and checked before: the model in both headers, the body brought back octet
for octet. While it is timed all exchanges must succeed, and the octets of their answers be as many as checked answers
have (of bodies over 256 KiB, whose pieces depend on timing, at least the body's). With tracing the load is our own
(bench/harness/ext_proc_load.py), since h2load sends constant fields: a traceparent and an x-request-id of its own in
each stream, and every answer is compared.

Figures: the server's processor time by exchange ("cpu"), which is what counts, as the other processor is the load's;
and exchanges per second ("rate"), where h2load may be what limits at the smallest bodies. Our two transports; a peer
(bench.harness.peer) takes part in the cases that it answers rightly. "uv" is the build that runs this program: the
compiled one by `make bench`, and then "uv, interpreted" is measured beside it.

Growth with streams, connections and sizes: bench.parts.growth.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from bbr import built
from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.rpc.messages import frame
from bench.harness import body_kinds, machine, messages, peer, workload
from bench.harness.ext_proc_load import Load, pool
from bench.harness.figures import Row, Target, Variant, compare, heading, save
from bench.harness.processes import INTERPRET, INTERPRETED

ROUNDS: Final = 5
QUICK_ROUNDS: Final = 2
TRACES: Final = 5_000

FDS: Final = "FULL_DUPLEX_STREAMED"
BUFFERED: Final = "BUFFERED"

# Body bytes -> how many times cheaper uv must be than grpcio, and should be.
SPEED: Final = {1_000: (10, 20), 10_000: (7, 12), 100_000: (2.5, 4)}
TRACED_LIMIT: Final = 1.25

# Exchanges of a turn, by the least bytes of their bodies: some 0.2 s of the compiled build's, so that the set-up of the
# connections is less than a hundredth of it. grpcio, which takes up to sixteen times as long, does a fifth of them.
_COUNTS: Final = {20_000_000: 8, 1_000_000: 120, 100_000: 1_000, 10_000: 6_000, 0: 10_000}
_GRPCIO_PART: Final = 5
_LEAST_COUNT: Final = 4


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        family: the table to which it belongs.
        bytes: of the body.
        kind: of the body (bench/harness/body_kinds.py).
        mode: in which the gateway sends it.
        quick: it is one of the few of --quick.
    """

    family: str
    bytes: int
    kind: str = "chat"
    mode: str = FDS
    tls: bool = False
    tracing: bool = False
    quick: bool = False

    @property
    def name(self) -> str:
        """Return what it is called in the table."""
        if not self.bytes:
            return "no body"
        size = f"{self.bytes / 1e6:g} MB" if self.bytes >= 1_000_000 else f"{self.bytes / 1e3:g} KB"
        marks = (self.kind, "" if self.mode == FDS else self.mode, "TLS" * self.tls, "traced" * self.tracing)
        return " ".join([size, *filter(None, marks)])

    @property
    def facts(self) -> dict[str, str | int]:
        """Return by what a reader finds its figures."""
        how = {"tls": int(self.tls), "tracing": int(self.tracing)}
        return {"family": self.family, "kind": self.kind, "bytes": self.bytes, "mode": self.mode, **how}

    def count(self, server: str) -> int:
        """Return the exchanges of a turn of a server."""
        found = next(count for least, count in _COUNTS.items() if self.bytes >= least)
        return max(_LEAST_COUNT, found // (_GRPCIO_PART if server == "grpcio" else 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Return the load's connections, and streams on each."""
        return (4, 16) if self.bytes < 1_000_000 else (1, 4) if self.bytes < 20_000_000 else (1, 2)


CASES: Final = (
    Case("size", 0),
    Case("size", 1_000, quick=True),
    Case("size", 10_000, quick=True),
    Case("size", 100_000, quick=True),
    Case("size", 1_000_000),
    Case("size", 20_000_000),
    *(Case("kind", 100_000, kind) for kind in body_kinds.KINDS),
    *(Case("mode", size, mode=BUFFERED, quick=size == 1_000) for size in (1_000, 10_000, 100_000, 1_000_000)),
    *(Case("tls", size, tls=True) for size in SPEED),
    *(Case("tracing", size, tracing=True) for size in SPEED),
)


def exchange(case: Case) -> list[bytes]:
    """Return the messages of one exchange."""
    body = body_kinds.body(case.kind, case.bytes) if case.bytes else body_kinds.Body(b"", {})
    mode = BodyMode[case.mode]
    fields = {**workload.HEADERS, **body.fields, "content-length": str(len(body.octets))}
    if not case.bytes:
        fields = {name: value for name, value in fields.items() if not name.startswith("content-")}
        fields[":method"] = "GET"
        return [messages.request_headers(fields, end_of_stream=True, mode=mode)]
    size = workload.PIECE_BYTES if case.mode == FDS else len(body.octets)
    pieces = [body.octets[start : start + size] for start in range(0, len(body.octets), size)]
    sent = [messages.request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces]
    return [messages.request_headers(fields, mode=mode), *sent]


def check(case: Case, sent: Sequence[bytes], answers: Sequence[bytes]) -> bytes:
    """Return the octets of an exchange's answer on the wire.

    Raises:
        AssertionError: it is not what the case needs; says what came.
    """
    parsed = [messages.parse(answer) for answer in answers]
    told = [each.WhichOneof("response") for each in parsed]
    if not case.bytes:
        assert told == ["request_headers"], told
        set_ = messages.set_headers(parsed[0].request_headers.response.header_mutation)
        assert not any(name.lower().startswith("x-gateway") for name in set_), set_
        return frame(answers)
    if case.mode == FDS:
        return workload.check(sent, answers)
    assert told == ["request_headers", "request_body"], told
    routed = parsed[1].request_body.response
    assert workload.routed(routed.header_mutation), parsed[1]
    changed = routed.body_mutation.body
    assert changed in (b"", ProcessingRequest.FromString(sent[1]).request_body.body), "the body is changed"
    return frame(answers)


@dataclass
class Server:
    """A running ext_proc server.

    Attributes:
        name: of the variant.
        certificate: by which to verify the server.
        unverified: it speaks TLS, and its certificate names nobody.
    """

    name: str
    port: int
    pid: int
    certificate: Path | None = None
    unverified: bool = False

    def answer(self, case: Case, sent: Sequence[bytes]) -> bytes:
        """Return the checked answer to an exchange.

        Raises:
            AssertionError: it is not right.
            grpc.RpcError: there is none.
        """
        if self.unverified:
            return check(case, sent, machine.ask_unverified(self.port, sent))
        return check(case, sent, machine.ask(self.port, sent, self.certificate))


# What one turn of so many exchanges gives: microseconds of processor time by exchange, exchanges per second.
Turn = Callable[[int], tuple[float, float]]


def by_h2load(server: Server, case: Case, sent: Sequence[bytes], data: Path) -> Turn:
    """Return what measures a turn under h2load; each answer must be as long as the checked one."""
    answer = server.answer(case, sent)
    exact = case.bytes <= workload.LONG_BYTES or case.mode == BUFFERED
    least = len(answer) if exact else case.bytes

    def turn(count: int) -> tuple[float, float]:
        before = machine.cpu_seconds(server.pid)
        connections, streams = case.shape
        done = machine.h2load(server.port, data, count, min(connections, count), streams, tls=case.tls)
        spent = machine.cpu_seconds(server.pid) - before
        assert done.data_bytes == count * least if exact else done.data_bytes >= count * least, (done, count, least)
        return spent / count * 1e6, done.rate

    return turn


def by_load(server: Server, load: Load) -> Turn:
    """Return what measures a turn under our own load."""

    def turn(count: int) -> tuple[float, float]:
        before = machine.cpu_seconds(server.pid)
        rate = load.run(count)
        return (machine.cpu_seconds(server.pid) - before) / count * 1e6, rate

    return turn


def alternate(turns: dict[str, Turn], counts: Mapping[str, int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return each variant's figures for `rounds` rounds; a quarter of a turn goes before, and does not count."""
    for name, turn in turns.items():
        turn(max(_LEAST_COUNT, counts[name] // 4))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    names = list(turns)
    for index in range(rounds):
        first = index % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(turns[name](counts[name]))
    return found


def answering(servers: Iterable[Server], case: Case, sent: Sequence[bytes]) -> list[Server]:
    """Return the servers that answer a case rightly, of each name the first; ours must. Say who does not, and why."""
    found: dict[str, Server] = {}
    missed: dict[str, str] = {}
    for server in servers:
        if server.name in found:
            continue
        try:
            server.answer(case, sent)
        except (AssertionError, grpc.RpcError) as error:
            if server.name in (*machine.TRANSPORTS, INTERPRETED):
                raise
            missed[server.name] = error.code().name if isinstance(error, grpc.RpcError) else "another answer"
        else:
            found[server.name] = server
    for name in missed.keys() - found.keys():
        print(f"{case.name}: without {name}: {missed[name]}", flush=True)
    return list(found.values())


def measure(servers: Sequence[Server], case: Case, rounds: int) -> list[Row]:
    """Measure a case on all servers that answer it; print and return its rows."""
    sent = exchange(case)
    taking = answering(servers, case, sent)
    with ExitStack() as stack:
        if case.tracing:
            turns = _traced(stack, taking, case)
        else:
            data = stack.enter_context(call_file(sent))
            turns = {server.name: by_h2load(server, case, sent, data) for server in taking}
        found = alternate(turns, {name: case.count(name) for name in turns}, rounds)
    rows = []
    for at, (metric, unit) in enumerate({"cpu": "us / exchange", "rate": "exchanges / s"}.items()):
        if metric == "rate" and case.tracing:
            continue  # our own load is what limits it
        figures = {name: [each[at] for each in turns] for name, turns in found.items()}
        variants = [_variant(name, case, metric) for name in figures]
        rows += compare(f"{case.name}, {metric}", unit, variants, figures, {**case.facts, "metric": metric})
    return rows


def _traced(stack: ExitStack, taking: Sequence[Server], case: Case) -> dict[str, Turn]:
    """Return the turns with fresh header fields, and uv's with constant ones."""
    fresh, constant = pool(case.bytes, TRACES), pool(case.bytes)
    turns = {}
    for server in taking:
        answer = server.answer(case, fresh.sent)
        turns[server.name] = by_load(server, stack.enter_context(Load(server.port, 4, 16, fresh, answer)))
        if server.name == "uv":
            load = stack.enter_context(Load(server.port, 4, 16, constant, answer))
            turns["uv, constant headers"] = by_load(server, load)
    return turns


def _variant(name: str, case: Case, metric: str) -> Variant:
    """Return what a variant is compared with, and how it should come out."""
    if metric != "cpu":
        return Variant(name)
    if name == "uv" and case.tracing:
        return Variant(name, "uv, constant headers", target=Target(TRACED_LIMIT))
    if name == "uv":
        bound, aim = SPEED.get(case.bytes, (0, 0)) if case.family == "size" else (0, 0)
        target = Target(bound, at_least=True, aim=aim) if bound else None
        return Variant(name, "grpcio", times_cheaper=True, target=target)
    return Variant(name) if name in ("grpcio", "uv, constant headers") else Variant(name, "uv")


@contextmanager
def call_file(sent: Sequence[bytes]) -> Iterator[Path]:
    """Give a file with the octets of one exchange's call, as h2load wants them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "call")
        path.write_bytes(frame(sent))
        yield path


@contextmanager
def servers(tls: bool) -> Iterator[list[Server]]:
    """Run both transports, in plaintext or over TLS; and uv interpreted beside the compiled one."""
    with ExitStack() as stack:
        files = stack.enter_context(machine.certificate()) if tls else None
        found = []
        for name in reversed(machine.TRANSPORTS):
            router = stack.enter_context(machine.router(name, *machine.tls_flags(files)))
            found.append(Server(name, router.port, router.pid, files[0] if files else None))
        if built.COMPILED:
            router = stack.enter_context(machine.router("uv", *machine.tls_flags(files), environment=INTERPRET))
            found.append(Server(INTERPRETED, router.port, router.pid, files[0] if files else None))
        yield found


def run(cases: Sequence[Case], peers: Sequence[peer.Peer], rounds: int) -> list[Row]:
    """Measure cases; those over TLS on routers of their own."""
    rows: list[Row] = []
    for tls in (False, True):
        wanted = [case for case in cases if case.tls is tls]
        if not wanted:
            continue
        with servers(tls) as ours:
            others = [Server(each.name, each.port, each.pid, unverified=tls) for each in peers if each.tls is tls]
            for case in wanted:
                rows += measure([*ours, *others], case, rounds)
    return rows


def main() -> int:
    """Measure, print medians with their spread, and say which targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"that count ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--quick", action="store_true", help="a few of the cases, in half a minute")
    parser.add_argument("--cases", default="", metavar="TEXT", help="those with TEXT in their names, e.g. '100 KB'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    peer.add_arguments(parser)
    given = parser.parse_args()
    wanted = [case for case in CASES if given.cases in case.name and (case.quick or not given.quick)]
    if not wanted:
        parser.error(f"--cases {given.cases!r}: no case has this in its name: {', '.join(case.name for case in CASES)}")
    machine.require("h2load", "taskset", "openssl")
    peers = peer.peers(parser, given)
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    print(heading())
    rows = run(wanted, peers, rounds)
    if given.json:
        save(given.json, rows, {**vars(given), "rounds": rounds}, (frame(exchange(case)) for case in wanted))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
