"""The frames of the connection itself: SETTINGS, PING and GOAWAY. Also PUSH_PROMISE, which no client may send."""

from typing import Final

from bbr.http2 import budgets, faults, frames
from bbr.http2.budgets import Budgets
from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder
from bbr.http2.frames import ErrorCode, Flag, FrameType
from bbr.http2.sender import Sender
from bbr.http2.settings import DEFAULT_WINDOW_BYTES, Settings, read_peer_settings
from bbr.http2.stream_table import StreamTable

# Of the PING behind a GOAWAY: it is answered when the GOAWAY has been read.
_AWAY: Final = b"bbr-away"


class Control:
    """Both sides' settings, and the connection's announced end.

    Attributes:
        unacknowledged: SETTINGS of ours that the peer has not acknowledged.
        refusing: new streams are refused: the connection goes away.
        goaway_read: the peer has read our GOAWAY, and opens no more streams; what it had opened before has come.
    """

    def __init__(
        self, settings: Settings, streams: StreamTable, sender: Sender, budgets: Budgets, decoder: FieldDecoder
    ) -> None:
        self.unacknowledged = 1
        self.refusing = False
        self.goaway_read = False
        self._settings = settings
        self._streams = streams
        self._sender = sender
        self._budgets = budgets
        self._decoder = decoder
        self._last_id: int | None = None  # of the GOAWAY sent last
        # The server's preface: SETTINGS must be the first frame that we send (section 3.4). It need not wait for the
        # client's.
        sender.control(frames.settings(settings.wire()))
        if settings.connection_window_bytes > DEFAULT_WINDOW_BYTES:
            # The connection's window is no setting: it grows by WINDOW_UPDATE alone (section 6.9.2).
            sender.control(frames.window_update(0, settings.connection_window_bytes - DEFAULT_WINDOW_BYTES))

    def receive(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take one of these frames.

        Raises:
            ConnectionFault: it ends the connection.
        """
        # A client cannot push (section 8.4). First, because this frame alone belongs on a stream.
        if frame_type == FrameType.PUSH_PROMISE:
            raise ConnectionFault(faults.PUSH_PROMISE)
        if stream_id:
            raise ConnectionFault(faults.CONNECTION_FRAME_ON_STREAM)
        if frame_type == FrameType.SETTINGS:
            self._take_settings(flags, payload)
        elif frame_type == FrameType.PING:
            self._ping(flags, payload)
        elif len(payload) < 8:
            raise ConnectionFault(faults.GOAWAY_SIZE)
        else:
            self._budgets.pay()  # GOAWAY: running streams finish, and the peer closes (section 6.8)

    def shut_down(self, *, refuse: bool) -> None:
        """Announce the connection's end (section 6.8): first without refusing anything, then refusing new streams."""
        # 2^31-1 announces the end and refuses nothing: requests may be under way that we have not seen. The second
        # GOAWAY names the real last id (section 6.8).
        last = self._streams.highest_id if refuse else frames.MAX_STREAM_ID
        if self._last_id is None or last < self._last_id:
            self._last_id = last
            # PING is answered in order, so its ACK shows that the peer has read the GOAWAY: one round trip, as section
            # 6.8 asks to wait, and no guess of its length.
            self._sender.control(frames.goaway(last, ErrorCode.NO_ERROR) + (b"" if refuse else frames.ping(_AWAY)))
        # A later call without `refuse` takes nothing back: the last id may not rise again (section 6.8).
        self.refusing = self.refusing or refuse

    def fail(self, code: ErrorCode, reason: str) -> None:
        """Send the GOAWAY of a fault; its last id is never higher than that of one before it (section 6.8)."""
        highest = self._streams.highest_id
        last = highest if self._last_id is None else min(highest, self._last_id)
        # The debug data names our reason and holds nothing of the client's: peers log it (section 6.8).
        self._sender.control(frames.goaway(last, code, reason.encode()))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        # Settings flood (CVE-2019-9515): each one makes us send an ACK, and can change every stream.
        self._budgets.pay()
        if flags & Flag.ACK:
            # An ACK with a payload is a connection error FRAME_SIZE_ERROR (section 6.5).
            if payload:
                raise ConnectionFault(faults.SETTINGS_SIZE)
            # One that we did not ask for changes nothing, and costs like any empty frame.
            if self.unacknowledged:
                self.unacknowledged -= 1
                # Only now does the peer's encoder keep to our table size (section 6.5.3); blocks before it may use
                # 4,096.
                self._decoder.settings_acknowledged()
            return
        sender = self._sender
        window, sender.max_frame_size = read_peer_settings(payload, sender.initial_window, sender.max_frame_size)
        # At once, and before any DATA that the new window lets go: the peer reads frames after the ACK under its new
        # values (section 6.5.3).
        self._answer(frames.SETTINGS_ACK)
        self._change_initial_window(window)

    def _change_initial_window(self, window: int) -> None:
        """Change the send window of every stream by the difference (section 6.9.2)."""
        difference = window - self._sender.initial_window
        if not difference:
            return
        # Work for each open stream: eight bytes of a peer's must not cost a millisecond for nothing.
        self._budgets.pay(len(self._streams.open) * budgets.CONTROL_PER_STREAM)
        self._sender.initial_window = window
        for stream in self._streams.open.values():
            # A window may become negative (section 6.9.2), but none may exceed 2^31-1: then the setting is wrong, and
            # not one stream.
            if not stream.send_window.add(difference):
                raise ConnectionFault(faults.INITIAL_WINDOW_OVERFLOW)
            self._sender.wake(stream)
        self._streams.flush()

    def _ping(self, flags: int, payload: bytes) -> None:
        # A connection error: PING belongs to no stream that could be reset instead (section 6.7).
        if len(payload) != 8:
            raise ConnectionFault(faults.PING_SIZE)
        self._budgets.pay()
        if not flags & Flag.ACK:
            self._answer(frames.ping_ack(payload))
        elif payload == _AWAY and self._last_id is not None:
            # An unsolicited ACK with these bytes is no proof before we have sent a GOAWAY.
            self.goaway_read = True

    def _answer(self, frame: bytes) -> None:
        """Send what the peer made us send, unless it does not read that (CVE-2019-9512, -9515)."""
        self._sender.answer(frame)
        # The budget limits how often the peer asks; this limit holds for a peer that asks slowly and never reads.
        if self._sender.control_frames > self._settings.max_queued_control_frames:
            raise ConnectionFault(faults.UNREAD_CONTROL_FRAMES)
