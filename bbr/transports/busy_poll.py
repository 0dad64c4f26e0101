"""Keeps an event loop awake for a while after an event.

A processor that sleeps between two requests wakes up slowly and with cold caches. On a virtual machine a single request
waits mostly for that. Who has a processor to spare can keep it busy instead.
"""

import asyncio
from collections.abc import Callable


class BusyPoll:
    """Let the running event loop look for news without waiting, until nothing has come for so many seconds.

    Args:
        seconds: see above.
        clock: finer than the loop's: uvloop's counts in milliseconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0
        self._awake = False

    def touch(self) -> None:
        """Note that something has come."""
        self._until = self._clock() + self._seconds
        if not self._awake:
            self._awake = True
            self._poll()

    def _poll(self) -> None:
        if self._clock() < self._until:
            asyncio.get_running_loop().call_soon(self._poll)  # a loop with something to call does not wait for events
        else:
            self._awake = False
