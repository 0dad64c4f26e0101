"""Turns for connections that have more to do than one callback of the event loop may take."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

# A turn of the event loop lets connections work, half a millisecond at a time, until this is over: a millisecond at
# most, for which other requests wait.
WORK_SECONDS: Final = 0.0005


class Worker(Protocol):
    """What has turns."""

    scheduled: bool

    def work(self) -> bool:
        """Do a bit; True if there is more."""


class Turns:
    """Lets workers work, one after another, for a moment in each turn of the event loop.

    Args:
        clock: in seconds.
        work_seconds: how long a moment is.
    """

    def __init__(self, clock: Callable[[], float], work_seconds: float = WORK_SECONDS) -> None:
        self._clock = clock
        self._work_seconds = work_seconds
        self._busy: deque[Worker] = deque()

    def schedule(self, worker: Worker) -> None:
        """Let a worker have its turn; one that waits for it already keeps its place."""
        if not worker.scheduled:
            worker.scheduled = True
            self._busy.append(worker)
            if len(self._busy) == 1:
                asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Let them work for a moment; then whatever else has come gets its turn."""
        until = self._clock() + self._work_seconds
        try:
            while self._busy:
                self._work_on_one()
                if self._clock() >= until:
                    break
        finally:  # an error that ends one worker's turn must not end those of all
            if self._busy:
                asyncio.get_running_loop().call_soon(self._work)

    def _work_on_one(self) -> None:
        worker = self._busy.popleft()
        more = False
        try:
            more = worker.work()
        finally:
            if more:
                self._busy.append(worker)
            else:
                worker.scheduled = False
