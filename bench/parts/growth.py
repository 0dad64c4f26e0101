"""How an exchange's processor time grows with streams, connections and bodies. Run: python -m bench.parts.growth

The router is bound to processor 0 and the load, our own (bench.harness.ext_proc_load), which compares each answer, to
processor 1; the variants take turns within each round.

--streams      10, 100, 1,000 streams on one connection
--connections  100, 1,000 connections of one stream each
--sizes        100 KB to 8 MB: by byte, not by exchange
"""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.harness import machine
from bench.harness.ext_proc_load import Load, Pool, pool
from bench.harness.figures import Row, Target, Variant, alternate, heading, save
from bench.harness.processes import Bbr

STREAMS_LIMIT: Final = 1.25
CONNECTIONS_LIMIT: Final = 1.35
BYTES_LIMIT: Final = 1.25

EXCHANGE: Final = "us / exchange"


def exchanges(size: int) -> int:
    """Return how many exchanges take about half a second."""
    return max(20, int(0.5 / (40e-6 + size * 3e-9)))


def by_load(load: Load, router: Bbr, count: int) -> Callable[[], float]:
    """Return what measures microseconds per exchange."""

    def measure() -> float:
        before = machine.cpu_seconds(router.pid)
        load.run(count)
        return (machine.cpu_seconds(router.pid) - before) / count * 1e6

    return measure


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
    with machine.router("uv") as router, ExitStack() as loads:
        variants = {}
        for name, (made, connections, streams, count) in shapes.items():
            answer = machine.answer(router, made.sent)
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
    defaults = {
        "streams": [10, 100, 1_000],
        "connections": [100, 1_000],
        "sizes": [100_000, 1_000_000, 4_000_000, 8_000_000],
    }
    measures = {"streams": streams, "connections": connections, "sizes": sizes}
    for name, counts in defaults.items():
        parser.add_argument(f"--{name}", type=numbers, nargs="?", const=counts, metavar="N,N")
    given = parser.parse_args()
    asked = {name: getattr(given, name) for name in defaults if getattr(given, name)}
    machine.require("taskset")
    machine.raise_file_limit()
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    rows: list[Row] = []
    for name, counts in (asked or defaults).items():
        rows += measures[name](counts, given.rounds)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
