"""What bench.published.gateway measures: the list of its cells, the bodies, and percentiles of latencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.harness import body_kinds

Kind = Literal["chat", "chat, model first", "gzip"]
Mode = Literal["FULL_DUPLEX_STREAMED", "BUFFERED"]

FDS: Final = "FULL_DUPLEX_STREAMED"
BUFFERED: Final = "BUFFERED"

PERCENTS: Final = (50.0, 90.0, 99.0, 99.9)

# A percentile is given where at least so many values lie beyond it.
_BEYOND: Final = 2


@dataclass(frozen=True)
class Cell:
    """One thing to measure with each variant.

    Attributes:
        bytes: of the body; of kind gzip, before it was compressed.
        concurrency: requests at a time in a closed loop; 0 for an open one.
        rate: requests that are due in each second of an open loop; 0 for a closed one.
        mode: in which ext_proc servers get the body.
        kind: of body.
        seconds: that one turn of one variant takes.
        quick: it is one of the few of --quick.
    """

    bytes: int
    concurrency: int = 0
    rate: int = 0
    mode: Mode = FDS
    kind: Kind = "chat"
    seconds: float = 0.3
    quick: bool = False

    @property
    def loop(self) -> str:
        """Return "open" or "closed"."""
        return "open" if self.rate else "closed"

    @property
    def name(self) -> str:
        """Return what it is called in the table."""
        size = f"{self.bytes // 1_000:,} KB" if self.bytes < 1_000_000 else f"{self.bytes // 1_000_000} MB"
        load = f"{self.rate:,}/s" if self.rate else f"x {self.concurrency:,}"
        kind = "" if self.kind == "chat" else f" {self.kind}"
        return f"{self.loop} {size}{kind} {load} {'FDS' if self.mode == FDS else self.mode}"

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Return by what a reader finds its figures."""
        load = {"rate": self.rate} if self.rate else {"concurrency": self.concurrency}
        return {"loop": self.loop, **load, "kind": self.kind, "bytes": self.bytes, "mode": self.mode}


# One turn is long enough for several round trips of all connections. Where a variant answers 1,000 requests a second,
# five rounds give the 2,000 that p99.9 needs in turns of 0.4 s.
CELLS: Final = (
    Cell(1_000, concurrency=1, seconds=0.5, quick=True),
    Cell(1_000, concurrency=8),
    Cell(1_000, concurrency=32, quick=True),
    Cell(1_000, concurrency=128, seconds=0.4),
    Cell(1_000, concurrency=512, seconds=1.0),
    Cell(1_000, concurrency=1_024, seconds=1.6),
    Cell(10_000, concurrency=1),
    Cell(10_000, concurrency=32),
    Cell(100_000, concurrency=1),
    Cell(100_000, concurrency=32, quick=True),
    Cell(1_000_000, concurrency=1),
    Cell(1_000_000, concurrency=32, seconds=0.8),
    Cell(1_000, concurrency=1, mode=BUFFERED),
    Cell(1_000, concurrency=32, mode=BUFFERED, quick=True),
    Cell(100_000, concurrency=1, mode=BUFFERED),
    Cell(100_000, concurrency=32, mode=BUFFERED),
    Cell(1_000_000, concurrency=1, mode=BUFFERED),
    Cell(1_000_000, concurrency=32, mode=BUFFERED, seconds=0.8),
    Cell(100_000, concurrency=1, kind="chat, model first"),
    Cell(100_000, concurrency=32, kind="chat, model first"),
    Cell(100_000, concurrency=32, kind="gzip"),
    Cell(1_000, rate=100, seconds=0.5),
    Cell(1_000, rate=500, seconds=0.5, quick=True),
    Cell(1_000, rate=1_000, seconds=0.4),
    Cell(1_000, rate=1_500),
    Cell(10_000, rate=500),
    Cell(100_000, rate=200),
    Cell(1_000_000, rate=25, seconds=2.0),
    Cell(1_000, rate=500, mode=BUFFERED),
    Cell(100_000, rate=200, mode=BUFFERED),
)


def chosen(cells: Sequence[Cell], text: str, *, quick: bool) -> list[Cell]:
    """Return the cells whose name has `text` in it; with `quick` those few alone."""
    return [cell for cell in cells if text in cell.name and (cell.quick or not quick)]


def body(cell: Cell) -> bytes:
    """Return what is sent (bench/harness/body_kinds.py)."""
    return body_kinds.body(cell.kind, cell.bytes).octets


def percentiles(rounds: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[float, list[float]]]:
    """Return each variant's percentiles of what the rounds gave, by PERCENTS.

    One figure for each round where every round of every variant has values enough. Else, and for 99.9 always, one
    figure of all rounds together; none for a variant that has too few even so (2,000 for 99.9, 200 for 99).
    """
    found: dict[str, dict[float, list[float]]] = {name: {} for name in rounds}
    least = min(len(took) for each in rounds.values() for took in each)
    for percent in PERCENTS:
        needed = _needed(percent)
        for name, each in rounds.items():
            pooled = [one for took in each for one in took]
            if least >= needed and percent != PERCENTS[-1]:
                found[name][percent] = [percentile(took, percent) for took in each]
            elif len(pooled) >= needed:
                found[name][percent] = [percentile(pooled, percent)]
    return found


def _needed(percent: float) -> int:
    return round(_BEYOND * 100 / (100 - percent))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of 100 lie below (nearest rank)."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
