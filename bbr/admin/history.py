"""The last hour: what was counted for the busiest base models, ten seconds at a time, in bounded memory.

It is fed by bbr.admin.window, which looks at the counts every ten seconds: no request pays for it. A series holds four
numbers for each of 360 slots, 7 KB. There are at most 101 of them, so all of it takes less than 0.8 MB.

For a picture the slots are put together to at most 60 columns, whose width grows with the time that there is to show:
10 s in the first ten minutes, a minute in the end.

Pure: no clock.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

SLOTS: Final = 360
MAX_MODELS: Final = 100
COLUMNS: Final = 60

# Slots of a column.
_WIDTHS: Final = (1, 2, 3, 6)


class Counted(Protocol):
    """What a slot has for a base model; see bbr.admin.window.Counts."""

    @property
    def requests(self) -> int:
        """All of them."""

    @property
    def errors(self) -> int:
        """Those that failed."""

    @property
    def durations(self) -> tuple[int, ...]:
        """How many fell into each bucket of DURATION_BOUNDS."""


class Curve(NamedTuple):
    """A base model's columns, from the oldest to the latest.

    Attributes:
        requests: in each column.
        errors: those of them that failed.
        p50: the number of the bucket of DURATION_BOUNDS in which the median lies; None without a decision. It is that
            of the column's worst slot.
        p99: the same of the 99th percentile.
    """

    requests: tuple[int, ...]
    errors: tuple[int, ...]
    p50: tuple[int | None, ...]
    p99: tuple[int | None, ...]


class _Series:
    """The slots of a base model. A quantile is kept as the number of its bucket and 1, so that 0 is none."""

    __slots__ = ("errors", "p50", "p99", "requests", "total")

    def __init__(self, slots: int) -> None:
        self.requests = array("Q", bytes(8 * slots))
        self.errors = array("Q", bytes(8 * slots))
        self.p50 = bytearray(slots)
        self.p99 = bytearray(slots)
        self.total = 0

    def put(self, at: int, counts: Counted) -> None:
        self.total += counts.requests - self.requests[at]
        self.requests[at] = counts.requests
        self.errors[at] = counts.errors
        self.p50[at] = _bucket(counts.durations, 0.5)
        self.p99[at] = _bucket(counts.durations, 0.99)

    def clear(self, at: int) -> None:
        self.total -= self.requests[at]
        self.requests[at] = self.errors[at] = self.p50[at] = self.p99[at] = 0


class History:
    """The last hour of the busiest base models, and of all requests together.

    Args:
        max_models: base models with a series. When more have had requests, those with the most in the hour keep theirs.
        slots: how many slots there are.
    """

    def __init__(self, max_models: int = MAX_MODELS, slots: int = SLOTS) -> None:
        self._max_models = max_models
        self._slots = slots
        self._seconds = array("d", bytes(8 * slots))
        self._every = _Series(slots)
        self._series: dict[str, _Series] = {}
        self._least = 0
        self._done = 0

    def begin(self, seconds: float) -> None:
        """Begin a slot, which nobody sees before its end.

        Args:
            seconds: how long it was.
        """
        at = self._done % self._slots
        self._seconds[at] = seconds
        self._every.clear(at)
        for name in [name for name, series in self._series.items() if self._cleared(series, at) == 0]:
            del self._series[name]
        self._look_for_the_least()

    def add(self, name: str, counts: Counted) -> None:
        """Put a base model's counts into the slot."""
        series = self._series.get(name)
        if series is None:
            if len(self._series) >= self._max_models:
                if counts.requests <= self._least:
                    return
                del self._series[min(self._series, key=lambda each: self._series[each].total)]
            series = self._series[name] = _Series(self._slots)
            series.put(self._done % self._slots, counts)
            self._look_for_the_least()
        else:
            series.put(self._done % self._slots, counts)

    def end(self, every: Counted) -> None:
        """End the slot with the counts of all requests together."""
        self._every.put(self._done % self._slots, every)
        self._done += 1

    def _cleared(self, series: _Series, at: int) -> int:
        series.clear(at)
        return series.total

    def _look_for_the_least(self) -> None:
        full = len(self._series) >= self._max_models
        self._least = min((series.total for series in self._series.values()), default=0) if full else 0

    def seconds(self) -> tuple[float, ...]:
        """Return how long each column is, from the oldest to the latest, which may still grow."""
        return tuple(sum(self._seconds[at] for at in column) for column in self._columns())

    def every(self) -> Curve:
        """Return the columns of all requests together."""
        return self._curve(self._every)

    def of(self, name: str) -> Curve | None:
        """Return a base model's columns; None if it has had no requests, or is not among the busiest."""
        series = self._series.get(name)
        return None if series is None else self._curve(series)

    def _curve(self, series: _Series) -> Curve:
        columns = self._columns()
        return Curve(
            tuple(sum(series.requests[at] for at in column) for column in columns),
            tuple(sum(series.errors[at] for at in column) for column in columns),
            tuple(_worst(series.p50, column) for column in columns),
            tuple(_worst(series.p99, column) for column in columns),
        )

    def _columns(self) -> list[list[int]]:
        """Return the slots of each column. Each begins at a multiple of the width, so that it stays what it is."""
        known = min(self._done, self._slots)
        width = next((each for each in _WIDTHS if known <= each * COLUMNS), _WIDTHS[-1])
        first = -(-(self._done - known) // width) * width
        return [
            [number % self._slots for number in range(begin, min(begin + width, self._done))]
            for begin in range(first, self._done, width)
        ]


def _worst(buckets: Sequence[int], column: Iterable[int]) -> int | None:
    worst = max(map(buckets.__getitem__, column))
    return worst - 1 if worst else None


def _bucket(durations: Sequence[int], share: float) -> int:
    """Return the number of the bucket in which a quantile lies, and 1; 0 without any value."""
    wanted, seen = share * sum(durations), 0
    for number, count in enumerate(durations, 1):
        seen += count
        if count and seen >= wanted:
            return number
    return 0
