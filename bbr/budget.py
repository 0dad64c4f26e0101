"""A token bucket: work costs tokens, and time or useful bytes give them back.

It has no clock. The caller passes the time in seconds of any monotonic clock.
"""


class Budget:
    """A token bucket.

    Attributes:
        capacity: tokens when full, as at the beginning.
        tokens: tokens now; never negative, never above the capacity.
    """

    __slots__ = ("_refilled", "capacity", "per_second", "tokens")

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self.tokens = capacity
        self._refilled = now

    def spend(self, tokens: float, now: float) -> bool:
        """Take tokens; False if there are too few, and none is taken then."""
        if now > self._refilled:
            self.tokens = min(self.capacity, self.tokens + (now - self._refilled) * self.per_second)
            self._refilled = now
        if tokens > self.tokens:
            return False
        self.tokens -= tokens
        return True

    def earn(self, tokens: float) -> None:
        """Give tokens back for useful work, up to the capacity."""
        tokens += self.tokens
        self.tokens = tokens if tokens < self.capacity else self.capacity  # on every answer's way: min() is a call
