"""Flow control (RFC 9113, section 5.2 and 6.9), one direction of one stream or connection at a time.

Receiving: the peer may send what it was given credit for. Credit goes back when the bytes are let go of, in batches of
half the window or more, so that a busy stream costs one WINDOW_UPDATE per batch rather than one per frame.

Sending: we may send what the peer gave. A stream's window can become negative when the peer lowers
INITIAL_WINDOW_SIZE; nothing is sent until it is positive again.
"""

from bbr.http2.frames import MAX_WINDOW
from bbr.native import mypyc_attr


@mypyc_attr(free_list_len=1)
class ReceiveWindow:
    """Credit that the peer holds, and credit that we have yet to give back.

    At all times: available + unsent + held by the application = size.

    Args:
        size: in bytes.
        batch_bytes: as many are let go of before the peer hears of it, half the window by default. A smaller batch
            costs more frames; a larger one lets the peer's credit run out while ours is on its way.

    Attributes:
        size: what the peer was given at the beginning, and by `widen`.
        available: what the peer may still send.
        unsent: let go of, and not yet announced by a WINDOW_UPDATE.
    """

    __slots__ = ("_batch_bytes", "available", "size", "unsent")

    def __init__(self, size: int, batch_bytes: int | None = None) -> None:
        self.size = size
        self.available = size
        self.unsent = 0
        self._batch_bytes = (size + 1) // 2 if batch_bytes is None else batch_bytes

    def take(self, octets: int) -> bool:
        """Count bytes that the peer sent; False if it had no credit for them, and nothing is counted then."""
        # Beyond its credit is an error (section 6.9.1): without this check no limit on memory would hold.
        if octets > self.available:
            return False
        self.available -= octets
        return True

    def pass_on(self, octets: int) -> int:
        """Count bytes that the peer sent and let go of them at once; return the increment as `release` does.

        -1 if the peer had no credit for them, and nothing is counted then.
        """
        if octets > self.available:
            return -1
        # As `take` and `release` do, without calls: this is on the way of every DATA frame.
        unsent = self.unsent + octets
        if unsent * 2 < self.size:
            self.unsent = unsent
            self.available -= octets
            return 0
        self.unsent = 0
        self.available += unsent - octets
        return unsent

    def release(self, octets: int) -> int:
        """Let go of bytes; return the increment to announce now, or 0 to wait for more."""
        self.unsent += octets
        if self.unsent < self._batch_bytes:
            return 0
        increment, self.unsent = self.unsent, 0
        self.available += increment
        return increment

    def widen(self, size: int) -> int:
        """Make the window larger, with batches of half of it; return the increment that this is to announce."""
        increment = size - self.size
        self.size = size
        self.available += increment
        self._batch_bytes = (size + 1) // 2
        return increment


@mypyc_attr(free_list_len=1)
class SendWindow:
    """Credit that we hold.

    Attributes:
        available: bytes that we may send; not more than zero means none.
    """

    __slots__ = ("available",)

    def __init__(self, size: int) -> None:
        self.available = size

    def add(self, increment: int) -> bool:
        """Take credit, or with a negative increment lose some; False if that exceeds 2^31-1, and nothing changes."""
        # Only the upper end is an error; the window may be negative (sections 6.9.1 and 6.9.2).
        if self.available + increment > MAX_WINDOW:
            return False
        self.available += increment
        return True
