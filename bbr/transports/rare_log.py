"""Log lines that a peer can cause as often as it likes."""

import logging
from typing import Final

_SECONDS: Final = 10.0


class RareLog:
    """Write at most one line every ten seconds, and say in it how many were left out.

    Attributes:
        total: how often there was something to say.
    """

    def __init__(self, log: logging.Logger, level: int) -> None:
        self.total = 0
        self._log = log
        self._level = level
        self._next = 0.0
        self._left_out = 0

    def write(self, now: float, message: str, *arguments: object) -> None:
        """Write a line, or count it; `now` is in seconds of a monotonic clock."""
        self.total += 1
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + _SECONDS
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._left_out = 0
        self._log.log(self._level, message + "%s", *arguments, more)
