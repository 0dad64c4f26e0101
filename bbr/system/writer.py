"""Writes lines to a descriptor whose reader may have stopped, without waiting for it.

A full pipe blocks its writer. In a process with one event loop this would stop all service. Other processes may share
the descriptor, so its mode (O_NONBLOCK) stays as it is.
"""

import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final

# So long readers are waited for, in so long a time: one that has stopped, and one that takes a little now and then.
PATIENCE_SECONDS: Final = 0.1
IMPATIENT_SECONDS: Final = 10.0


class UnblockedWriter:
    """Writes whole lines, or raises.

    Args:
        descriptor: of a pipe, a file, a terminal or a socket.
        clock: seconds that only go forward.
    """

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._patience = 0.0  # that is left until then
        self._patient_from = float("-inf")
        self._torn = False  # the last line was not written to its end

    def write(self, line: bytes) -> None:
        """Write a line with its line feed; one that is cut off is followed by a line feed before the next.

        Raises:
            BlockingIOError: the reader did not take it, or not all of it.
            OSError: there is no reader, or no room.
        """
        if self._torn:
            line = b"\n" + line
        position = 0
        try:
            while position < len(line):
                self._await_room()
                # So much fits into a pipe that has room at all.
                position += os.write(self._descriptor, line[position : position + select.PIPE_BUF])
        finally:
            if position:
                self._torn = position < len(line)

    def _await_room(self) -> None:
        if self._poll.poll(0):
            return
        began = self._clock()
        if began >= self._patient_from:
            self._patience, self._patient_from = PATIENCE_SECONDS, began + IMPATIENT_SECONDS
        if self._patience > 0:
            has_room = self._poll.poll(self._patience * 1000)
            self._patience -= self._clock() - began
            if has_room:
                return
            self._patience = 0.0  # whatever the clock says
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
