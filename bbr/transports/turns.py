"""Gives turns to connections whose work takes longer than one callback of the event loop may take."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Protocol

# A turn of the event loop lets connections work, half a millisecond at a time, until this is over: a millisecond at
# most, for which other requests wait.
WORK_SECONDS: Final = 0.0005

# While a connection reads a lot at a time, its exchanges work on bodies in one of so many turns.
IN_FLOOD: Final = 8


class Flood:
    """Tells whether exchanges let a turn pass, for what still lies in their connection's socket.

    Whatever stands behind a flood of bodies there waits for all of it, be it a small request. Bodies that wait for
    their turn get no credit meanwhile, so a flood has an end.
    """

    __slots__ = ("_passed",)

    def __init__(self) -> None:
        self._passed = 0  # modulo IN_FLOOD

    def passes(self, more_may_come: bool) -> bool:
        """Tell whether they let this turn pass; never if no more may come."""
        self._passed = (self._passed + 1) % IN_FLOOD if more_may_come else 0
        return self._passed != 0


class Worker(Protocol):
    """What has turns.

    Attributes:
        scheduled: it waits for one.
        put_off: set by `work`: the next one is not to be in the same turn of the event loop.
        worked_at: when it had the last one, or began to be.
    """

    scheduled: bool
    put_off: bool
    worked_at: float

    def work(self) -> bool:
        """Do a bit; True if there is more."""


class Moments:
    """Does steps of work for a moment in each turn of the event loop, while some wait; whatever else has come is next.

    Args:
        clock: in seconds.
        work_seconds: how long a moment is; the step that exceeds it is the last.
        step: does one step, begun at the time that it is given; returns whether the moment has another one.
        rest: called at the end of a moment; returns whether there are steps for the next turn of the event loop.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        work_seconds: float,
        step: Callable[[float], bool],
        rest: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._work_seconds = work_seconds
        self._step = step
        self._rest = rest
        self._awake = False  # a moment runs, or will in the next turn: there are never two in one

    def wake(self) -> None:
        """Have a moment in the next turn of the event loop; nothing new during a moment, which looks by itself."""
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        now = self._clock()
        until = now + self._work_seconds
        try:
            while self._step(now):
                now = self._clock()
                if now >= until:
                    break
        finally:  # an error that ends one step must not end all others
            self._awake = self._rest()
            if self._awake:
                asyncio.get_running_loop().call_soon(self._run)


class Turns:
    """Lets workers work, one after another, for a moment in each turn of the event loop.

    Whose last turn was longest ago goes first. So a peer with a small request, which did not find the time to be served
    at once, does not wait for all that always have something to do.

    Args:
        clock: in seconds.
        work_seconds: how long a moment is.
    """

    def __init__(self, clock: Callable[[], float], work_seconds: float = WORK_SECONDS) -> None:
        self._moments = Moments(clock, work_seconds, self._work_on_one, self._rest)
        self._busy: list[tuple[float, int, Worker]] = []  # a heap
        self._put_off: list[Worker] = []
        self._number = 0  # of all that were put there, so that workers are not compared

    def schedule(self, worker: Worker) -> None:
        """Let a worker have its turn; one that waits for it already keeps its place."""
        if not worker.scheduled:
            worker.scheduled = True
            self._add(worker)
            self._moments.wake()

    def _add(self, worker: Worker) -> None:
        self._number += 1
        heappush(self._busy, (worker.worked_at, self._number, worker))

    def _rest(self) -> bool:
        """Take back who was put off; return whether anybody waits."""
        put_off, self._put_off = self._put_off, []
        for worker in put_off:
            self._add(worker)
        return bool(self._busy)

    def _work_on_one(self, now: float) -> bool:
        _, _, worker = heappop(self._busy)
        worker.worked_at = now
        more = False
        try:
            more = worker.work()
        finally:
            if more and worker.put_off:
                self._put_off.append(worker)
            elif more:
                self._add(worker)
            else:
                worker.scheduled = False
        return bool(self._busy)
