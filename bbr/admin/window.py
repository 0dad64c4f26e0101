"""What was counted in the last minute: the difference between the counts now and those of a minute ago.

No request does any work for this. The counts are read every ten seconds, in small steps.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from bbr.admin.history import History
from bbr.exchange.verdict import Outcome
from bbr.models.steps import Steps
from bbr.system.steps import in_turns
from bbr.telemetry.metrics import BUSY_BOUNDS, DURATION_BOUNDS, Histogram, Metrics, ModelCounts
from bbr.telemetry.observed import clock

SLOT_SECONDS: Final = 10.0
# Besides the one that is open: the last minute is the last 60 to 70 seconds.
_SLOTS: Final = 6

# Half a millisecond's if all of them have changed.
_MODELS_A_STEP: Final = 50
_NAMES_A_STEP: Final = 1000

# What a client's name counts under: an adapter, or an alias with the model that it stood for.
Name = str | tuple[str, str]
N = TypeVar("N", bound=Name)

_NO_DURATIONS: Final = (0,) * (len(DURATION_BOUNDS) + 1)


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of requests, as it was at one moment, or between two.

    Attributes:
        requests: all of them.
        errors: those that were refused, or whose gateway broke the protocol.
        durations: how many fell into each bucket of DURATION_BOUNDS.
    """

    requests: int = 0
    errors: int = 0
    durations: tuple[int, ...] = _NO_DURATIONS

    @classmethod
    def of(cls, model: ModelCounts) -> "Counts":
        """Return a base model's counts as they are now."""
        outcomes = model.outcomes
        errors = outcomes.get(Outcome.REFUSED, 0) + outcomes.get(Outcome.FAULT, 0)
        return cls(sum(outcomes.values()), errors, tuple(model.duration.buckets))

    def __add__(self, other: "Counts") -> "Counts":
        """Return both together."""
        durations = tuple(map(int.__add__, self.durations, other.durations))
        return Counts(self.requests + other.requests, self.errors + other.errors, durations)

    def __sub__(self, earlier: "Counts") -> "Counts":
        """Return what came since then."""
        durations = tuple(map(int.__sub__, self.durations, earlier.durations))
        return Counts(self.requests - earlier.requests, self.errors - earlier.errors, durations)

    def quantile(self, share: float) -> float | None:
        """Return an upper bound for a quantile of the durations, as Histogram does."""
        return _quantile(DURATION_BOUNDS, self.durations, share)


NOTHING: Final = Counts()


@dataclass(slots=True)
class _Slot:
    """What was counted from one look to the next: in all, and of the base models that had any requests."""

    began: float
    every: Counts = NOTHING
    models: dict[str, Counts] = field(default_factory=dict)
    busy: tuple[int, ...] = ()
    names: dict[Name, int] = field(default_factory=dict)


class Window:
    """The counts of the last minute.

    Until the first minute is over they are those since the start.

    Attributes:
        history: gets each slot as well.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._slots: deque[_Slot] = deque()
        self._opened = clock()
        self._seen: dict[str, Counts] = {}
        self._every_seen = NOTHING
        self._busy_seen: tuple[int, ...] = (0,) * (len(BUSY_BOUNDS) + 1)
        self._names_seen: dict[Name, int] = {}
        self.history = History()

    async def follow(self) -> None:
        """Look at the counts from now on, until cancelled."""
        while True:
            await asyncio.sleep(SLOT_SECONDS)
            await in_turns(self.sliding(clock()))

    def sliding(self, now: float) -> Steps[None]:
        """Begin a new slot, and let go of the oldest.

        Whoever reads between two steps finds each request once: in the slot, or in what has come since.
        """
        slot = _Slot(self._opened)
        self._slots.append(slot)
        if len(self._slots) > _SLOTS:
            self._slots.popleft()
        self._opened = now
        self.history.begin(max(now - slot.began, 0.0))
        busy = tuple(self._metrics.busy.buckets)
        slot.busy = tuple(map(int.__sub__, busy, self._busy_seen))
        self._busy_seen = busy
        for number, name in enumerate([*self._metrics.models], 1):  # pairs would take ten times as long to copy
            found, seen = Counts.of(self._metrics.models[name]), self._seen.get(name, NOTHING)
            if found.requests != seen.requests:
                fresh = slot.models[name] = found - seen
                self._seen[name] = found
                slot.every += fresh
                self._every_seen += fresh
                self.history.add(name, fresh)
            if number % _MODELS_A_STEP == 0:
                yield
        self.history.end(slot.every)
        yield from self._sliding_names(slot, self._metrics.adapters)
        yield from self._sliding_names(slot, self._metrics.aliases)

    def _sliding_names(self, slot: _Slot, counted: Mapping[N, int]) -> Steps[None]:
        for number, name in enumerate([*counted], 1):
            found = counted[name]
            fresh = found - self._names_seen.get(name, 0)
            if fresh:
                slot.names[name] = fresh
                self._names_seen[name] = found
            if number % _NAMES_A_STEP == 0:
                yield

    def seconds(self, now: float) -> float:
        """Return how long the window is; at least a second, so that a rate is one from the first request on."""
        began = self._slots[0].began if self._slots else self._opened
        return max(now - began, 1.0)

    def every(self, now: Counts) -> Counts:
        """Return what was counted in the window, whatever the base model.

        Args:
            now: the counts of all together, as they are.
        """
        return sum((slot.every for slot in self._slots), now - self._every_seen)

    def of(self, name: str, now: Counts) -> Counts:
        """Return what was counted for a base model in the window.

        Args:
            now: its counts as they are.
        """
        fresh = now - self._seen.get(name, NOTHING)
        return sum((slot.models[name] for slot in self._slots if name in slot.models), fresh)

    def requests(self, name: str, now: int) -> int:
        """Return the number of its requests alone, in a tenth of the time."""
        fresh = now - self._seen.get(name, NOTHING).requests
        return fresh + sum(slot.models[name].requests for slot in self._slots if name in slot.models)

    def latest_seconds(self, now: float) -> float:
        """Return what `latest` counts over: one to two slots, at least a second."""
        began = self._slots[-1].began if self._slots else self._opened
        return max(now - began, 1.0)

    def latest(self, name: str, now: int) -> int:
        """Return the number of a base model's requests in the last one to two slots.

        Args:
            now: the number of its requests as it is.
        """
        fresh = now - self._seen.get(name, NOTHING).requests
        return fresh + (self._slots[-1].models.get(name, NOTHING).requests if self._slots else 0)

    def named(self, name: Name, now: int) -> int:
        """Return how many requests the window has for an adapter's name, or an alias and the model that it stood for.

        Args:
            now: the number of them as it is.
        """
        fresh = now - self._names_seen.get(name, 0)
        return fresh + sum(slot.names.get(name, 0) for slot in self._slots)

    def busy_quantile(self, share: float) -> float | None:
        """Return an upper bound for a quantile of what the router itself took."""
        found = tuple(map(int.__sub__, self._metrics.busy.buckets, self._busy_seen))
        for slot in self._slots:
            found = tuple(map(int.__add__, found, slot.busy))
        return _quantile(BUSY_BOUNDS, found, share)


def _quantile(bounds: Sequence[float], buckets: Sequence[int], share: float) -> float | None:
    histogram = Histogram(bounds)
    histogram.buckets[:] = buckets
    return histogram.quantile(share)
