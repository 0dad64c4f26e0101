"""How fast a body comes.

Pure. Times are seconds of the clock that an exchange is given.
"""

from typing import Final

# A rate is looked at over so long, at least: TCP stops for a second or two after a loss, and a mobile line for more.
_LATELY_SECONDS: Final = 5.0


class Progress:
    """The progress of one body, whose first bytes have come.

    Args:
        now: when they came.
    """

    __slots__ = ("_due_at", "_due_from", "_from", "_known_rate", "_noted", "_since", "_size")

    def __init__(self, now: float) -> None:
        self._size = 0
        self._noted = now
        # Since when, and from which size on, the rate is looked at; and what it was before that.
        self._since, self._from = now, 0
        self._known_rate: float | None = None
        # When the span began in which something is due, and at which size.
        self._due_at, self._due_from = now, 0

    def note(self, size: int, now: float) -> None:
        """Take note of what has come by now."""
        if now - self._since >= _LATELY_SECONDS:
            self._known_rate = (self._size - self._from) / (now - self._since)
            self._since, self._from = now, self._size
        self._size = size
        self._noted = now

    def is_known(self, now: float) -> bool:
        """Whether it has come for long enough to tell its rate."""
        return self._known_rate is not None or now - self._since >= _LATELY_SECONDS

    def rate(self, now: float) -> float:
        """Return how many bytes came in a second, lately; 0 for one that stands still."""
        if now - self._noted >= _LATELY_SECONDS:
            return 0.0
        took = now - self._since
        if took < _LATELY_SECONDS and self._known_rate is not None:
            return self._known_rate
        return (self._size - self._from) / max(took, 1.0)

    def is_behind(self, bytes_per_second: int, seconds: float, now: float) -> bool:
        """Tell whether a span of so many seconds is over and has brought less than is due; if not, the next begins."""
        if now - self._due_at < seconds:
            return False
        if self._size - self._due_from < bytes_per_second * seconds:
            return True
        self._due_at, self._due_from = now, self._size
        return False

    def seconds_left(self, bytes_per_second: int, seconds: float, now: float) -> float | None:
        """Return for how long what is due in this span may yet stay away; None if it has come."""
        if self._size - self._due_from >= bytes_per_second * seconds:
            return None
        return max(self._due_at + seconds - now, 0.0)
