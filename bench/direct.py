"""Processor time of an exchange by transport, without a gateway. Run: python -m bench.direct

Router on processor 0, load on processor 1, the variants in turn within each round. One exchange is a full-duplex
request with a chat body in messages of 16 KB, the model last, and a dozen header fields; the first answer of each
router is read and checked. The figure is the router's processor time by exchange, so that what else the machine does
matters little.

--speed        uv against grpcio by body size, h2load as the load (this is the default)
--tracing      a traceparent and an x-request-id of its own in each stream, against constant headers; by our own load
               (bench.load), which compares each answer; beside it h2load with the same constant headers
--tls          uv over TLS against plaintext
--streams      10, 100, 1,000 streams on one connection
--connections  100, 1,000 connections of one stream each
--sizes        100 KB to 8 MB: by byte, not by exchange
--all          all of these
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bbr.rpc.messages import frame
from bench import rig, workload
from bench.figures import Row, Target, Variant, alternate, heading, save
from bench.load import Load, Pool, pool
from tests.support.processes import Bbr

CONNECTIONS, STREAMS = 4, 16
TRACES: Final = 5_000

# Body bytes -> how many times cheaper uv must be, and should be.
SPEED: Final = {1_000: (10, 20), 10_000: (7, 12), 100_000: (2.5, 4)}
TRACING: Final = (1_000, 10_000, 100_000)
TRACED_LIMIT: Final = 1.25
STREAMS_LIMIT: Final = 1.25
CONNECTIONS_LIMIT: Final = 1.35
BYTES_LIMIT: Final = 1.25

EXCHANGE: Final = "us / exchange"


def exchanges(size: int, transport: str = "uv") -> int:
    """Return how many exchanges take the transport about half a second."""
    seconds = 40e-6 + size * 3e-9 if transport == "uv" else 500e-6 + size * 6e-9
    return max(20, int(0.5 / seconds))


def by_h2load(router: Bbr, data: Path, count: int, *, tls: bool = False) -> Callable[[], float]:
    """Return what measures microseconds per exchange under h2load."""

    def measure() -> float:
        before = rig.cpu_seconds(router.pid)
        rig.h2load(router.port, data, count, CONNECTIONS, STREAMS, tls=tls)
        return (rig.cpu_seconds(router.pid) - before) / count * 1e6

    return measure


def by_load(load: Load, router: Bbr, count: int) -> Callable[[], float]:
    """Return what measures microseconds per exchange under our own load."""

    def measure() -> float:
        before = rig.cpu_seconds(router.pid)
        load.run(count)
        return (rig.cpu_seconds(router.pid) - before) / count * 1e6

    return measure


@contextmanager
def body_file(size: int) -> Iterator[Path]:
    """Give a file with the octets of one exchange's call, as h2load wants them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, str(size))
        path.write_bytes(frame(workload.exchange(size)))
        yield path


def speed(rounds: int) -> list[Row]:
    """uv against grpcio."""
    rows = []
    with rig.router("uv") as uv, rig.router("grpcio") as grpcio:
        for size, (bound, aim) in SPEED.items():
            with body_file(size) as data:
                answers = {rig.answer(router, workload.exchange(size)) for router in (uv, grpcio)}
                assert len(answers) == 1, "the transports answer differently"
                target = Target(bound, at_least=True, aim=aim)
                variants = {
                    Variant("grpcio"): by_h2load(grpcio, data, exchanges(size, "grpcio")),
                    Variant("uv", "grpcio", times_cheaper=True, target=target): by_h2load(uv, data, exchanges(size)),
                }
                rows += alternate(f"{size:,} bytes", EXCHANGE, variants, rounds)
    return rows


def tracing(rounds: int) -> list[Row]:
    """Fresh headers in each stream, against the same in all."""
    rows = []
    with rig.router("uv") as router:
        for size in TRACING:
            count = exchanges(size)
            constant, traced = pool(size), pool(size, TRACES)
            answer = rig.answer(router, constant.sent)
            with (
                body_file(size) as data,
                Load(router.port, CONNECTIONS, STREAMS, constant, answer) as plainly,
                Load(router.port, CONNECTIONS, STREAMS, traced, answer) as freshly,
            ):
                variants = {
                    Variant("constant"): by_load(plainly, router, count),
                    Variant("by h2load", "constant"): by_h2load(router, data, count),
                    Variant("traced", "constant", target=Target(TRACED_LIMIT)): by_load(freshly, router, count),
                }
                rows += alternate(f"tracing, {size:,} bytes", EXCHANGE, variants, rounds)
    return rows


def tls(rounds: int) -> list[Row]:
    """TLS against plaintext."""
    rows = []
    with (
        rig.certificate() as files,
        rig.router("uv") as plain,
        rig.router("uv", *rig.tls_flags(files)) as secure,
    ):
        for size in SPEED:
            with body_file(size) as data:
                rig.answer(plain, workload.exchange(size))
                rig.answer(secure, workload.exchange(size), files[0])
                count = exchanges(size)
                variants = {
                    Variant("plaintext"): by_h2load(plain, data, count),
                    Variant("TLS", "plaintext"): by_h2load(secure, data, count, tls=True),
                }
                rows += alternate(f"TLS, {size:,} bytes", EXCHANGE, variants, rounds)
    return rows


def growth(case: str, unit: str, shapes: dict[str, tuple[Pool, int, int, int]], limit: float, rounds: int) -> list[Row]:
    """Compare loads with the first of them.

    Args:
        case: its name.
        unit: of the figures: by exchange, or by 1,000 bytes of body.
        shapes: name -> exchanges, connections, streams on each, and how many exchanges.
        limit: what the others may cost at most, as a multiple of the first.
        rounds: that count.
    """
    first = next(iter(shapes))
    with rig.router("uv") as router, ExitStack() as loads:
        variants = {}
        for name, (made, connections, streams, count) in shapes.items():
            answer = rig.answer(router, made.sent)
            load = loads.enter_context(Load(router.port, connections, streams, made, answer))
            measure = by_load(load, router, count)
            if unit != EXCHANGE:
                measure = by_thousand_bytes(measure, len(made.requests[0].tail))
            against = first if name != first else ""
            variants[Variant(name, against, target=Target(limit) if against else None)] = measure
        return alternate(case, unit, variants, rounds)


def by_thousand_bytes(measure: Callable[[], float], size: int) -> Callable[[], float]:
    """Return what measures for 1,000 bytes of body."""
    return lambda: measure() / size * 1_000


def streams(counts: list[int], rounds: int) -> list[Row]:
    """More streams on one connection."""
    made = pool(1_000)
    shapes = {f"{count:,}": (made, 1, count, exchanges(1_000)) for count in counts}
    return growth("streams on a connection, 1 KB", EXCHANGE, shapes, STREAMS_LIMIT, rounds)


def connections(counts: list[int], rounds: int) -> list[Row]:
    """More connections of one stream each."""
    made = pool(1_000)
    shapes = {f"{count:,}": (made, count, 1, exchanges(1_000)) for count in counts}
    return growth("connections of one stream, 1 KB", EXCHANGE, shapes, CONNECTIONS_LIMIT, rounds)


def sizes(counts: list[int], rounds: int) -> list[Row]:
    """Larger bodies."""
    shapes = {f"{size:,} bytes": (pool(size), 1, 4, exchanges(size)) for size in counts}
    return growth("body bytes, 4 streams", "us / 1,000 bytes", shapes, BYTES_LIMIT, rounds)


def numbers(text: str) -> list[int]:
    """Read numbers separated by commas."""
    return [int(each) for each in text.split(",")]


def main() -> int:
    """Measure, print medians with their spread, and say which targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    for name in ("speed", "tracing", "tls", "all"):
        parser.add_argument(f"--{name}", action="store_true")
    defaults = {
        "streams": [10, 100, 1_000],
        "connections": [100, 1_000],
        "sizes": [100_000, 1_000_000, 4_000_000, 8_000_000],
    }
    for name, counts in defaults.items():
        parser.add_argument(f"--{name}", type=numbers, nargs="?", const=counts, metavar="N,N")
    given = parser.parse_args()
    if given.all:
        given.speed = given.tracing = given.tls = True
        for name, counts in defaults.items():
            setattr(given, name, getattr(given, name) or counts)
    if not (given.tracing or given.tls or given.streams or given.connections or given.sizes):
        given.speed = True
    rig.require("h2load", "taskset", *(["openssl"] if given.tls else []))
    os.sched_setaffinity(0, {rig.LOAD_CPU})
    print(heading())
    rows = []
    if given.speed:
        rows += speed(given.rounds)
    if given.tracing:
        rows += tracing(given.rounds)
    if given.tls:
        rows += tls(given.rounds)
    if given.streams:
        rows += streams(given.streams, given.rounds)
    if given.connections:
        rows += connections(given.connections, given.rounds)
    if given.sizes:
        rows += sizes(given.sizes, given.rounds)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
