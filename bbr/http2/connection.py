"""The server side of one HTTP/2 connection (RFC 9113), without I/O.

    events = connection.receive(octets, now)    # never raises on what a peer sends
    ... connection.send_headers(...), send_data(...), send_trailers(...), reset(...)
    transport.write(connection.take_output())
    if connection.closed: transport.close()

A peer's fault ends a stream (RST_STREAM) or the connection (GOAWAY, then `closed`); each has a named reason.
"""

import itertools
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from bbr.http2 import budgets, frames
from bbr.http2.budgets import Budget
from bbr.http2.events import (
    ConnectionFailed,
    DataReceived,
    Event,
    RequestReceived,
    StreamReset,
    TrailersReceived,
)
from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder, FieldSection
from bbr.http2.frames import ErrorCode, Flag, FrameType
from bbr.http2.reader import Frame, FrameReader, Wait, unpad
from bbr.http2.sender import ENTRY_BYTES, Sender
from bbr.http2.settings import DEFAULT_WINDOW_BYTES, Settings, read_peer_settings
from bbr.http2.streams import Stream
from bbr.http2.windows import ReceiveWindow

# The octets of a PING of ours; one may be under way at a time.
_KEEPALIVE: Final = frames.ping(b"bbr-ping")
# Of the PING behind a GOAWAY: it is answered when the GOAWAY has been read.
_AWAY: Final = b"bbr-away"


class Connection:
    """See the module.

    Attributes:
        closed: nothing more will be received or sent but the output already there.
        more: there may be frames that have come and were not looked at.
        goaway_read: the peer has read our GOAWAY, and opens no more streams; what it had opened before has come.
        streams: open streams by id.
    """

    def __init__(self, settings: Settings, now: float) -> None:
        self.closed = self.more = False
        self.goaway_read = False
        self.streams: dict[int, Stream] = {}
        self._settings = settings
        self._started = now
        self._now = now  # when octets last came
        self._asked_at: float | None = None  # when a PING of ours left that nothing has answered yet
        self._sender = Sender()
        self._decoder = FieldDecoder(settings.header_table_size, settings.max_field_section_bytes, settings.max_fields)
        self._window = ReceiveWindow(settings.connection_window_bytes)
        self._events: list[Event] = []
        self._reader = FrameReader()
        self._frames: Iterator[Frame] = iter(())
        self._unfinished = Wait()
        self._first_frame = True
        # A field block in progress: stream id, END_STREAM, self-dependency, fragments.
        self._block: tuple[int, bool, bool, list[bytes]] | None = None
        self._highest_id = 0
        self._opened = 0
        self._last_id: int | None = None  # of the GOAWAY sent last
        self._refusing = False
        self._unacknowledged = 1
        self._reset_ids: OrderedDict[int, None] = OrderedDict()  # by us, lately: frames may still be under way
        self._faults = Budget(budgets.FAULTS, budgets.FAULTS_PER_SECOND, now)
        self._control = Budget(budgets.CONTROL, budgets.CONTROL_PER_SECOND, now)
        self._cancels = Budget(budgets.CANCELS, budgets.CANCELS_PER_SECOND, now)
        self._cancelled = 0
        self._answered = False
        self._crowded = False  # a stream was called stuck, for all that waits on the connection
        self._unstuck: list[int] = []
        self._sender.control(frames.settings(settings.wire()))
        if settings.connection_window_bytes > DEFAULT_WINDOW_BYTES:
            self._sender.control(frames.window_update(0, settings.connection_window_bytes - DEFAULT_WINDOW_BYTES))

    # What the owner calls.

    def receive(self, octets: bytes, now: float, most: int = sys.maxsize) -> list[Event]:
        """Take octets from the peer at `now`, in seconds of a monotonic clock; return what they mean, in order.

        After `most` frames it stops; while there is `more`, call it again, without octets.
        """
        self._now = now
        self._asked_at = None
        if not self.closed:
            try:
                self._take_frames(octets, most)
            except ConnectionFault as fault:
                self._fail(fault.code, fault.reason)
        events, self._events = self._events, []
        return events

    def expire(self, now: float) -> list[Event]:
        """End what is overdue; call it about once a second.

        A connection fails whose preface, SETTINGS acknowledgement or rest of a frame does not come, or that is dead; a
        stream is reset whose answer the peer does not take.
        """
        waited = now - self._started
        if not self.closed and not self._reader.preface_received and waited > self._settings.preface_seconds:
            self._fail(ErrorCode.PROTOCOL_ERROR, "preface-timeout")
        if not self.closed and self._unacknowledged and waited > self._settings.settings_seconds:
            self._fail(ErrorCode.SETTINGS_TIMEOUT, "settings-timeout")
        unfinished = self._unfinished.seconds(self._block or self._reader.unfinished, now)
        if not self.closed and unfinished > self._settings.frame_seconds:
            self._fail(ErrorCode.PROTOCOL_ERROR, "frame-timeout")
        if not self.closed:
            self._keep_alive(now)
        if not self.closed and self._sender.queued:
            self._expire_stalled(now)
        events, self._events = self._events, []
        return events

    def fail(self, code: ErrorCode, reason: str) -> list[Event]:
        """End the connection for a fault of its owner's, with GOAWAY: nothing more is received."""
        if not self.closed:
            self._fail(code, reason)
        events, self._events = self._events, []
        return events

    def _keep_alive(self, now: float) -> None:
        """Ask a silent peer whether it is there, and fail the connection if it does not answer."""
        if self._asked_at is None:
            if now - self._now > self._settings.keepalive_seconds:
                self._asked_at = now
                self._sender.control(_KEEPALIVE)
        elif now - self._asked_at > self._settings.keepalive_timeout_seconds:
            self._fail(ErrorCode.NO_ERROR, "keepalive-timeout")

    def _expire_stalled(self, now: float) -> None:
        """Reset the streams whose answers do not get away, or fail the connection if none does."""
        overdue = self._sender.stalled(now, self._settings.stall_seconds, self._settings.min_progress_bytes)
        # Of the streams on which something waits, all: then it is not one client that is slow.
        if overdue and len(overdue) == len(self._sender.queued) and self._sender.window.available <= 0:
            self._fail(ErrorCode.FLOW_CONTROL_ERROR, "connection-stalled")
            return
        for stream in overdue:
            self._drop(stream, ErrorCode.CANCEL, "stream-stalled")

    def take_output(self) -> bytes:
        """Return the octets to send, and forget them."""
        return self._sender.take()

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool = False) -> None:
        """Send a response's field block (see `fields.encode`), or its trailers. On a closed stream it is nothing."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._answered = self._answered or end_stream
            self._sender.headers(stream, block, end_stream=end_stream)
            self._close_if_done(stream)

    def send_data(self, stream_id: int, octets: bytes, *, end_stream: bool = False) -> None:
        """Send DATA as credit allows; the rest waits. On a closed stream it is nothing."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._answered = True
            self._control.earn(budgets.CONTROL_PER_SEND + len(octets) * budgets.CONTROL_PER_OCTET)
            self._sender.data(stream, octets, end_stream=end_stream)
            if self._sender.queued_bytes > self._settings.max_connection_queued_bytes and stream.queue:
                self._drop(stream, ErrorCode.ENHANCE_YOUR_CALM, "queued-bytes")
            else:
                self._close_if_done(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream with RST_STREAM. On a closed stream it is nothing."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._send_reset(stream_id, code)
            self._remove(stream)

    def pause(self, stream_id: int) -> None:
        """Give a stream's peer no more credit: its owner is busy with what has come. On a closed stream it is nothing.

        The connection's credit goes back all the same: other streams must not wait for this one.
        """
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.paused = True

    def resume(self, stream_id: int) -> None:
        """Give a paused stream's peer the credit that was withheld."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.paused:
            stream.paused = False
            self._give_withheld(stream)

    def is_stuck(self, stream_id: int) -> bool:
        """Tell whether what waits on a stream, or on all together, is so much that more of it should be held back.

        The stream's id will be among those of `take_unstuck` when it may be asked again.
        """
        stream = self.streams.get(stream_id)
        if stream is None:
            return False
        self._crowded = self._is_crowded()
        stream.watched = self._crowded or self._is_full(stream)
        return stream.watched

    def take_unstuck(self) -> list[int]:
        """Return the streams that were stuck, and may be so no more, since the last call."""
        unstuck, self._unstuck = self._unstuck, []
        return unstuck

    def hold(self, held: bool) -> None:
        """Produce no DATA while the peer does not read (`held`); go on when it does."""
        self._sender.held = held
        self._flush()

    def shut_down(self, *, refuse: bool) -> None:
        """Announce the connection's end (section 6.8): first without refusing anything, then refusing new streams."""
        if self.closed:
            return
        last = self._highest_id if refuse else frames.MAX_STREAM_ID
        if self._last_id is None or last < self._last_id:
            self._last_id = last
            self._sender.control(frames.goaway(last, ErrorCode.NO_ERROR) + (b"" if refuse else frames.ping(_AWAY)))
        self._refusing = self._refusing or refuse

    # Frames.

    def _take_frames(self, octets: bytes, most: int) -> None:
        if octets:
            fresh = self._reader.feed(octets)
            self._frames = itertools.chain(self._frames, fresh) if self.more else fresh
        left = most
        for frame_type, flags, stream_id, payload in itertools.islice(self._frames, most):
            left -= 1
            if self._first_frame or self._block is not None:
                self._check_order(frame_type, flags)
            if frame_type == FrameType.DATA:
                self._data(flags, stream_id, payload)
            elif frame_type == FrameType.HEADERS:
                self._headers(flags, stream_id, payload)
            elif frame_type == FrameType.RST_STREAM:
                self._rst_stream(stream_id, payload)
            elif frame_type == FrameType.WINDOW_UPDATE:
                self._window_update(stream_id, payload)
            elif frame_type == FrameType.CONTINUATION:
                self._continuation(flags, stream_id, payload)
            elif frame_type == FrameType.PRIORITY:
                self._priority(stream_id, payload)
            elif frame_type > FrameType.CONTINUATION:
                self._spend_control()  # an extension that we do not know (section 5.5)
            else:
                self._connection_frame(frame_type, flags, stream_id, payload)
        self.more = not left
        if self._sender.control_frames > self._settings.max_queued_control_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "unread-control-frames")

    def _check_order(self, frame_type: int, flags: int) -> None:
        if self._first_frame:
            if frame_type != FrameType.SETTINGS or flags & Flag.ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no-settings-first")
            self._first_frame = False
        elif frame_type != FrameType.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "continuation-expected")

    def _connection_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if frame_type == FrameType.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "push-promise")
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream-id")
        if frame_type == FrameType.SETTINGS:
            self._peer_settings(flags, payload)
        elif frame_type == FrameType.PING:
            self._ping(flags, payload)
        elif len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
        else:
            self._spend_control()  # GOAWAY: running streams finish, and the peer closes

    # Frames of streams.

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        data = unpad(payload) if flags & Flag.PADDED else payload
        increment = self._window.pass_on(size)
        if increment < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection-window")
        if increment:
            self._sender.control(frames.window_update(0, increment))
        end_stream = bool(flags & Flag.END_STREAM)
        if len(data) < budgets.SMALL_DATA_BYTES and not end_stream:
            self._spend_control(1 - len(data) / budgets.SMALL_DATA_BYTES)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._closed_stream_frame(stream_id)
            return
        if stream.remote_closed:
            self._stream_fault(stream_id, ErrorCode.STREAM_CLOSED, "data-after-end")
            return
        if not stream.receive_window.take(size):
            self._stream_fault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream-window")
            return
        if stream.expected_bytes is not None and not self._count_content(stream, len(data), end_stream=end_stream):
            return
        if end_stream:
            stream.remote_closed = True
        else:
            self._release_stream(stream, size)
        self._events.append(DataReceived(stream_id, data, end_stream))

    def _count_content(self, stream: Stream, size: int, *, end_stream: bool) -> bool:
        """Hold a body against its content-length (section 8.1.1); False if the stream is reset."""
        stream.expected_bytes = expected = (stream.expected_bytes or 0) - size
        if expected < 0 or (end_stream and expected):
            self._stream_fault(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length")
            return False
        return True

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream-id")
        fragment = unpad(payload) if flags & Flag.PADDED else payload
        depends_on_itself = False
        if flags & Flag.PRIORITY:
            if len(fragment) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
            depends_on_itself = frames.UINT32.unpack_from(fragment)[0] & frames.STREAM_ID_MASK == stream_id
            fragment = fragment[5:]
        end_stream = bool(flags & Flag.END_STREAM)
        if flags & Flag.END_HEADERS:
            self._field_block(stream_id, fragment, end_stream, depends_on_itself)
        else:
            self._block = (stream_id, end_stream, depends_on_itself, [fragment])

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or stream_id != self._block[0]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "continuation")
        _, end_stream, depends_on_itself, fragments = self._block
        fragments.append(payload)
        if (
            len(fragments) - 1 > self._settings.max_continuations
            or sum(map(len, fragments)) > 2 * self._settings.max_field_section_bytes
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "continuation-flood")
        if flags & Flag.END_HEADERS:
            self._block = None
            self._field_block(stream_id, b"".join(fragments), end_stream, depends_on_itself)

    def _field_block(self, stream_id: int, block: bytes, end_stream: bool, depends_on_itself: bool) -> None:
        section = self._decoder.decode(block)  # of every block, or the compression context is lost
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._trailers(stream, section, end_stream)
        elif stream_id > self._highest_id:
            self._request(stream_id, section, end_stream, depends_on_itself)
        elif stream_id in self._reset_ids:
            self._spend_control()
        else:
            # Without gaps all lower ids were opened; with gaps it may be one that was skipped (section 5.1.1).
            skipped = self._highest_id != 2 * self._opened - 1
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR if skipped else ErrorCode.STREAM_CLOSED, "headers-on-closed-stream"
            )

    def _request(self, stream_id: int, section: FieldSection, end_stream: bool, depends_on_itself: bool) -> None:
        self._highest_id = stream_id
        self._opened += 1
        if self._refusing:
            # No fault of a peer that has not seen our GOAWAY yet.
            self._spend_control()
            self._send_reset(stream_id, ErrorCode.REFUSED_STREAM)
            self._events.append(StreamReset(stream_id, ErrorCode.REFUSED_STREAM, "going-away"))
            return
        if len(self.streams) >= self._settings.max_concurrent_streams:
            self._stream_fault(stream_id, ErrorCode.REFUSED_STREAM, "refused")
            return
        fault = "self-dependency" if depends_on_itself else section.request_fault
        if not fault and end_stream and section.content_length:
            fault = "content-length"
        if fault:
            self._stream_fault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
            return
        settings = self._settings
        stream = Stream(stream_id, settings.stream_window_bytes, self._sender.initial_window, section.content_length)
        stream.remote_closed = end_stream
        self.streams[stream_id] = stream
        self._control.earn(budgets.CONTROL_PER_REQUEST)
        self._events.append(RequestReceived(stream_id, section, end_stream))
        if stream_id == frames.MAX_STREAM_ID:
            self.shut_down(refuse=True)  # no ids are left (section 5.1.1)

    def _trailers(self, stream: Stream, section: FieldSection, end_stream: bool) -> None:
        if stream.remote_closed:
            self._stream_fault(stream.id, ErrorCode.STREAM_CLOSED, "headers-after-end")
        elif section.fault or not section.trailers or not end_stream:
            self._stream_fault(stream.id, ErrorCode.PROTOCOL_ERROR, section.fault or "trailers")
        elif stream.expected_bytes:
            self._stream_fault(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length")
        else:
            stream.remote_closed = True
            self._events.append(TrailersReceived(stream.id, section))

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream-id")
        self._spend_control()
        code, reason = ErrorCode.FRAME_SIZE_ERROR, "frame-size"
        if len(payload) == 5:
            if frames.UINT32.unpack_from(payload)[0] & frames.STREAM_ID_MASK != stream_id:
                return
            code, reason = ErrorCode.PROTOCOL_ERROR, "self-dependency"
        if stream_id not in self.streams:
            raise ConnectionFault(code, reason)  # an idle or closed stream can't be reset (section 5.1)
        self._stream_fault(stream_id, code, reason)

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "idle-stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._spend_control()
            return
        self._remove(stream)
        self._events.append(StreamReset(stream_id, frames.UINT32.unpack(payload)[0], ""))
        if stream.answered:
            # Envoy ends every ext_proc stream so, right after our last message.
            self._cancels.earn(9)
            return
        self._cancelled += 1
        if not self._answered and self._cancelled > budgets.CANCELS_WITHOUT_ANSWER:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "rapid-reset")
        if not self._cancels.spend(1, self._now):
            # One connection carries all clients of a gateway's worker: its running streams are let finish.
            self.shut_down(refuse=True)

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
        increment = frames.UINT32.unpack(payload)[0] & frames.MAX_WINDOW
        self._spend_control(0.25)
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window-increment")
            if not self._sender.window.add(increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window-overflow")
            self._flush()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "idle-stream")
        elif not increment:
            self._stream_fault(stream_id, ErrorCode.PROTOCOL_ERROR, "window-increment")
        elif not stream.send_window.add(increment):
            self._stream_fault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "window-overflow")
        elif stream.queue:
            self._sender.wake(stream)
            self._flush()

    # Frames of the connection.

    def _peer_settings(self, flags: int, payload: bytes) -> None:
        self._spend_control()
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
            # One that we did not ask for changes nothing, and costs like any empty frame.
            if self._unacknowledged:
                self._unacknowledged -= 1
                self._decoder.settings_acknowledged()
            return
        window, frame_size = read_peer_settings(payload, self._sender.initial_window, self._sender.max_frame_size)
        self._sender.max_frame_size = frame_size
        self._sender.answer(frames.SETTINGS_ACK)
        self._change_initial_window(window)

    def _change_initial_window(self, window: int) -> None:
        difference = window - self._sender.initial_window
        if not difference:
            return
        self._spend_control(len(self.streams) * budgets.CONTROL_PER_STREAM)
        self._sender.initial_window = window
        for stream in self.streams.values():
            if not stream.send_window.add(difference):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window-overflow")
            self._sender.wake(stream)
        self._flush()

    def _ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame-size")
        self._spend_control()
        if not flags & Flag.ACK:
            self._sender.answer(frames.ping_ack(payload))
        elif payload == _AWAY and self._last_id is not None:
            self.goaway_read = True

    # What they have in common.

    def _is_idle(self, stream_id: int) -> bool:
        # Even ids are ours to open, and we open none.
        return stream_id > self._highest_id or not stream_id & 1

    def _closed_stream_frame(self, stream_id: int) -> None:
        """DATA on no open stream: fine if we have reset it and the peer could not know."""
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "idle-stream")
        if stream_id not in self._reset_ids:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "data-on-closed-stream")

    def _stream_fault(self, stream_id: int, code: ErrorCode, reason: str) -> None:
        """Reset a stream for a fault of the peer's: an open one, or one that its HEADERS would have opened."""
        if not self._faults.spend(1, self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "faults")
        self._send_reset(stream_id, code)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._remove(stream)
        self._events.append(StreamReset(stream_id, code, reason))

    def _drop(self, stream: Stream, code: ErrorCode, reason: str) -> None:
        """Reset a stream whose answer has no way out; that is no protocol fault of the peer's."""
        self._send_reset(stream.id, code)
        self._remove(stream)
        self._events.append(StreamReset(stream.id, code, reason))

    def _send_reset(self, stream_id: int, code: ErrorCode) -> None:
        self._sender.reset(stream_id, code)
        self._reset_ids[stream_id] = None
        if len(self._reset_ids) > 2 * self._settings.max_concurrent_streams:
            self._reset_ids.popitem(last=False)

    def _spend_control(self, tokens: float = 1.0) -> None:
        if not self._control.spend(tokens, self._now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "control-flood")

    def _release_stream(self, stream: Stream, size: int) -> None:
        """Give a stream's credit back, unless its own answer is stuck: then what it could still send must wait too."""
        if stream.paused or self._is_full(stream):
            stream.withheld_bytes += size
            return
        increment = stream.receive_window.release(size)
        if increment:
            self._sender.control(frames.window_update(stream.id, increment))

    def _flush(self) -> None:
        for stream in self._sender.flush():
            self._close_if_done(stream)
            self._unwatch(stream)
            self._give_withheld(stream)
        if self._crowded and not self._is_crowded():
            self._crowded = False
            for stream in self.streams.values():
                self._unwatch(stream)

    def _unwatch(self, stream: Stream) -> None:
        if stream.watched:
            stream.watched = False
            self._unstuck.append(stream.id)

    def _is_crowded(self) -> bool:  # at the bound itself streams are lost
        return 2 * self._sender.queued_bytes > self._settings.max_connection_queued_bytes

    def _is_full(self, stream: Stream) -> bool:
        queue = stream.queue
        return bool(queue) and stream.queued_bytes + ENTRY_BYTES * len(queue) > self._settings.max_queued_bytes

    def _give_withheld(self, stream: Stream) -> None:
        if stream.withheld_bytes:
            withheld, stream.withheld_bytes = stream.withheld_bytes, 0
            if not stream.remote_closed and not stream.local_closed:
                self._release_stream(stream, withheld)

    def _close_if_done(self, stream: Stream) -> None:
        if not stream.local_closed:
            return
        if not stream.remote_closed:
            # The whole answer is out before the request's end: tell the peer to stop (section 8.1).
            self._send_reset(stream.id, ErrorCode.NO_ERROR)
        self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        self._sender.forget(stream)
        del self.streams[stream.id]

    def _fail(self, code: ErrorCode, reason: str) -> None:
        for stream in list(self.streams.values()):
            self._remove(stream)
            self._events.append(StreamReset(stream.id, code, reason))
        last = self._highest_id if self._last_id is None else min(self._highest_id, self._last_id)
        self._sender.control(frames.goaway(last, code, reason.encode()))
        self._events.append(ConnectionFailed(code, reason))
        self.closed, self.more = True, False
