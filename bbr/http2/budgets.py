"""What a peer may make us do for nothing: tokens that work costs, and time or useful octets give back.

No clock inside: time is an argument, in seconds of whatever monotonic clock the owner has.
"""

from typing import Final

from bbr.http2 import frames

# Precedents: hyperium 1,024 resets of ours, golang 10,000 control frames, nghttp2 and Envoy 1,000 unread ones.
FAULTS: Final = 1000.0  # streams that we reset for a fault of the peer's
FAULTS_PER_SECOND: Final = 10.0
CONTROL: Final = 2000.0  # frames that carry nothing: PING, SETTINGS, PRIORITY, unknown, empty, surplus WINDOW_UPDATE
CONTROL_PER_SECOND: Final = 500.0
CANCELS: Final = 5000.0  # streams that the peer resets before they are answered
CANCELS_PER_SECOND: Final = 5000.0
# A connection that has never had an answer owes its first one within this many cancelled requests.
CANCELS_WITHOUT_ANSWER: Final = 1000
# DATA of fewer octets costs. The smallest ext_proc message in its gRPC frame has ten: a gateway whose client trickles a
# body must not lose its connection for it.
SMALL_DATA_BYTES: Final = 8
# A change of INITIAL_WINDOW_SIZE is work for each open stream.
CONTROL_PER_STREAM: Final = 0.05
# What DATA of ours may bring in turn: WINDOW_UPDATEs for the stream and the connection, a PING to measure the path.
CONTROL_PER_REQUEST: Final = 4.0
CONTROL_PER_SEND: Final = 2.0
CONTROL_PER_OCTET: Final = 2.0 / frames.MIN_MAX_FRAME_SIZE


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
