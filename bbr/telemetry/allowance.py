"""Bounds on log lines that a peer can cause as often as it likes."""

import logging
from typing import Final

_SECONDS: Final = 10.0


class Allowance:
    """So many lines in so many seconds, and a count of those that are more.

    Pure: time is an argument, in seconds of any one clock.

    Attributes:
        left_out: how many were too many since `take_left_out` was last called.
    """

    __slots__ = ("_lines", "_open", "_seconds", "_until", "left_out")

    def __init__(self, lines: int, seconds: float) -> None:
        self.left_out = 0
        self._lines = lines
        self._seconds = seconds
        self._open = 0
        self._until = float("-inf")

    def take(self, now: float) -> bool:
        """Tell whether a line may be written now, and count it."""
        if now >= self._until:
            self._until = now + self._seconds
            self._open = self._lines
        if not self._open:
            self.left_out += 1
            return False
        self._open -= 1
        return True

    def take_left_out(self) -> int:
        """Return how many lines were left out, and count from 0 again."""
        found, self.left_out = self.left_out, 0
        return found


class RareLog:
    """Writes at most one line every ten seconds, and says in it how many were left out.

    Attributes:
        total: how often there was something to say.
    """

    def __init__(self, log: logging.Logger, level: int) -> None:
        self.total = 0
        self._log = log
        self._level = level
        self._allowance = Allowance(1, _SECONDS)

    def write(self, now: float, message: str, *arguments: object) -> None:
        """Write a line, or count it; `now` is in seconds of a monotonic clock."""
        self.total += 1
        if self._allowance.take(now):
            self._log.log(self._level, message + "%s", *arguments, more(self._allowance.take_left_out()))


def more(left_out: int) -> str:
    """Return what is said at a line's end of the lines like it that were left out."""
    return f" ({left_out} more since the last such line)" if left_out else ""
