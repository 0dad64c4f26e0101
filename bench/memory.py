"""What connections, streams and a million exchanges leave in the router's memory. Run: python -m bench.memory

Resident set of a fresh router for each figure, uv and grpcio side by side:

- an idle connection: after its handshake, and after one exchange; over TLS with --tls
- 1,000 open streams that have sent their request headers
- growth over many exchanges on one connection, each with a traceparent and an x-request-id of its own: from the first
  tenth to the end. grpcio does a tenth of them, since it takes fifteen times as long for one.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench import rig
from bench.figures import Row, Target, Variant, alternate, heading, save
from bench.load import Load, pool
from tests.support.processes import Bbr

CONNECTIONS: Final = 2_000
# grpcio cancels calls when 1,000 wait to be taken up.
CONNECTION_BATCH: Final = 500
STREAMS: Final = 900
# The router takes no more than 1,000 on each connection.
STREAM_CONNECTIONS: Final = 5
STREAM_BATCH: Final = 50
SIZE: Final = 1_000
TRACES: Final = 20_000

IDLE_LIMIT: Final = Target(64)
# "Flat": the allocator's grain, and nothing that grows with the exchanges.
GROWTH_LIMIT: Final = Target(512)


def resident_kib(pid: int) -> int:
    """Return a process's resident set in KiB."""
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith("VmRSS:"):
            return int(text.split()[1])
    raise AssertionError(f"process {pid} has no resident set")


def load(router: Bbr, connections: int, certificate: Path | None, *, traced: int = 0) -> Load:
    """Connect, with exchanges of one stream at a time."""
    made = pool(SIZE, traced)
    answer = rig.answer(router, made.sent, certificate)
    return Load(router.port, connections, 1, made, answer, certificate)


def idle(transport: str, used: bool, certificate: tuple[Path, Path] | None = None) -> float:
    """Return KiB by idle connection, with one exchange done if `used`."""
    with ExitStack() as stack:
        chain = certificate[0] if certificate else None
        router = stack.enter_context(rig.router(transport, *rig.tls_flags(certificate)))
        with load(router, 10, chain) as first:
            first.run(1_000)
        before = resident_kib(router.pid)
        for _ in range(CONNECTIONS // CONNECTION_BATCH):
            many = stack.enter_context(load(router, CONNECTION_BATCH, chain))
            if used:
                many.run(CONNECTION_BATCH)
                many.settle()
        return (resident_kib(router.pid) - before) / CONNECTIONS


def open_streams(transport: str) -> float:
    """Return KiB by 1,000 open streams."""
    with rig.router(transport) as router, load(router, STREAM_CONNECTIONS, None) as many:
        many.run(1_000)
        before = resident_kib(router.pid)
        for _ in range(STREAMS // STREAM_BATCH):
            many.settle(hold=STREAM_BATCH)
            many.run(STREAM_CONNECTIONS)  # what was taken up before these is taken up now
        return (resident_kib(router.pid) - before) / (STREAMS * STREAM_CONNECTIONS) * 1_000


def growth(transport: str, exchanges: int) -> float:
    """Return KiB that the last nine tenths of so many exchanges on one connection have added."""
    with rig.router(transport) as router, load(router, 1, None, traced=TRACES) as one:
        one.streams = 16
        one.run(exchanges // 10)
        before = resident_kib(router.pid)
        one.run(exchanges - exchanges // 10)
        return resident_kib(router.pid) - before


def both(measure: Callable[[str], float], limit: Target | None = None) -> dict[Variant, Callable[[], float]]:
    """Return the transports as variants; the limit is uv's."""
    return {Variant("grpcio"): partial(measure, "grpcio"), Variant("uv", "grpcio", limit=limit): partial(measure, "uv")}


def main() -> int:
    """Measure, print, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exchanges", type=int, default=1_000_000, help="on one connection (1000000; 0: leave out)")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    rig.require("taskset", *(["openssl"] if given.tls else []))
    os.sched_setaffinity(0, {rig.LOAD_CPU})
    print(heading())
    rows: list[Row] = []

    def table(case: str, unit: str, variants: dict[Variant, Callable[[], float]]) -> None:
        rows.extend(alternate(case, unit, variants, given.rounds, warm=0))

    table("an idle connection", "KiB", both(partial(idle, used=False), IDLE_LIMIT))
    table("the same after an exchange", "KiB", both(partial(idle, used=True), IDLE_LIMIT))
    if given.tls:
        with rig.certificate() as files:
            table("idle over TLS, after an exchange", "KiB", {Variant("uv"): partial(idle, "uv", True, files)})
    table("1,000 open streams", "KiB", both(open_streams))
    if given.exchanges:
        variants = {
            Variant("grpcio, a tenth"): lambda: growth("grpcio", given.exchanges // 10),
            Variant("uv", limit=GROWTH_LIMIT): lambda: growth("uv", given.exchanges),
        }
        rows += alternate(f"growth over {given.exchanges:,} exchanges", "KiB", variants, 1, warm=0)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
