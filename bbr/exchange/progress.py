"""How fast a body arrives. Pure. Times are in seconds of the clock that an exchange gets."""

from typing import Final

# A rate is looked at over so long, at least: TCP stops for a second or two after a loss, and a mobile line for more.
_LATELY_SECONDS: Final = 5.0


class Progress:
    """The progress of one body, whose first bytes have come.

    The body says how many have come whenever it asks: to note that here for each of its messages would cost more than
    to hold them.

    Args:
        now: when they came.

    Attributes:
        look_at: nothing changes by `note` before.
    """

    __slots__ = ("_due_at", "_due_from", "_from", "_known_rate", "_since", "look_at")

    def __init__(self, now: float) -> None:
        # Since when, and from which size on, the rate is looked at; and what it was before that.
        self._since, self._from = now, 0
        self._known_rate: float | None = None
        # When the span began in which something is due, and at which size.
        self._due_at, self._due_from = now, 0
        self.look_at = now

    def note(self, size: int, bytes_per_second: int, seconds: float, now: float) -> bool:
        """Take note of what has come by now; False if a span of so many seconds is over and has brought too little."""
        if now - self._since >= _LATELY_SECONDS:
            self._known_rate = (size - self._from) / (now - self._since)
            self._since, self._from = now, size
        if now - self._due_at >= seconds:
            if size - self._due_from < bytes_per_second * seconds:
                return False
            self._due_at, self._due_from = now, size
        self.look_at = min(self._since + _LATELY_SECONDS, self._due_at + seconds)
        return True

    def is_known(self, now: float) -> bool:
        """Whether it has come for long enough to tell its rate."""
        return self._known_rate is not None or now - self._since >= _LATELY_SECONDS

    def rate(self, size: int, heard: float, now: float) -> float:
        """Return how many bytes came in a second, lately; 0 for one that stands still.

        Args:
            size: what has come.
            heard: when the last of it came.
            now: the time.
        """
        if now - heard >= _LATELY_SECONDS:
            return 0.0
        took = now - self._since
        if took < _LATELY_SECONDS and self._known_rate is not None:
            return self._known_rate
        return (size - self._from) / max(took, 1.0)

    def seconds_left(self, size: int, bytes_per_second: int, seconds: float, now: float) -> float | None:
        """Return for how long what is due in this span may yet stay away; None if it has come."""
        if size - self._due_from >= bytes_per_second * seconds:
            return None
        return max(self._due_at + seconds - now, 0.0)
