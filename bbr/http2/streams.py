"""One open stream: both directions' state, and what waits to be sent on it."""

from collections import deque
from typing import Final

from bbr.http2 import frames
from bbr.http2.windows import ReceiveWindow, SendWindow
from bbr.native import mypyc_attr

# Looked up once: to look up a module's name takes long.
_FRAME_BYTES: Final = frames.MIN_MAX_FRAME_SIZE


@mypyc_attr(free_list_len=1)
class Stream:
    """A stream between its request's HEADERS and its end or reset (RFC 9113, section 5.1: open or half-closed).

    A stream that is in a connection's StreamTable is not closed; whichever side is done says so here.

    Attributes:
        id: odd.
        remote_closed: the peer has sent END_STREAM.
        local_closed: we have sent END_STREAM.
        receive_window: the peer's credit.
        send_window: ours.
        expected_bytes: what is left of the announced content-length; None if it was not announced.
        queue: None, or DATA payloads and at the end perhaps a trailer block, waiting for credit.
        queued_bytes: their DATA bytes.
        queue_ends: END_STREAM goes with the last of them.
        trailers: the block that ends the stream after the queue.
        withheld_bytes: credit that the peer gets when the queue is short again, and the owner wants more.
        paused: the owner wants no more for the time being.
        stalled_at: when what waits was last seen to make progress, in seconds; None while nothing waits.
        stalled_bytes: how much waited then, and how much has come to it since.
        answered: some DATA has left; a reset after that is normal (Envoy resets every ext_proc stream).
    """

    # A connection may have 1,000 of these: without slots each would hold a dict as well.
    __slots__ = (
        "answered",
        "expected_bytes",
        "id",
        "local_closed",
        "paused",
        "queue",
        "queue_ends",
        "queued_bytes",
        "receive_window",
        "remote_closed",
        "send_window",
        "stalled_at",
        "stalled_bytes",
        "trailers",
        "withheld_bytes",
    )

    def __init__(self, stream_id: int, receive_bytes: int, send_bytes: int, expected_bytes: int | None) -> None:
        self.id = stream_id
        self.remote_closed = False
        self.local_closed = False
        # Late, when credit for one frame is left: a request that fits into its window costs no WINDOW_UPDATE.
        self.receive_window = ReceiveWindow(receive_bytes, receive_bytes - _FRAME_BYTES)
        self.send_window = SendWindow(send_bytes)
        self.expected_bytes = expected_bytes
        # Views, not copies: an answer that waits is in memory once, however it is cut into frames.
        self.queue: deque[memoryview] | None = None  # most streams never have one
        self.queued_bytes = 0
        self.queue_ends = False
        self.trailers: bytes | None = None
        self.withheld_bytes = 0
        self.paused = False
        self.stalled_at: float | None = None
        self.stalled_bytes = 0
        self.answered = False
