"""The server side of one HTTP/2 connection (RFC 9113), without I/O.

    connection.feed(bytes, now)
    for event in connection.events():    # never raises on what a peer sends
        ...                              # None: a frame that means nothing to the owner
    ... connection.send_headers(...), send_parts(...), reset(...)
    transport.write(connection.take_output())
    if connection.closed: transport.close()

A peer's fault ends a stream (RST_STREAM) or the connection (GOAWAY, then `closed`); each has a named reason.

    bytes -> FrameReader -> Receiver (frames of streams), Control (of the connection) -> events
    bytes <- Sender      <- StreamTable: the open streams, their ends and their credit
"""

import itertools
from collections.abc import Iterator
from typing import Final

from bbr.http2 import budgets, faults, frames, liveness
from bbr.http2.budgets import Budgets
from bbr.http2.control import Control
from bbr.http2.events import ConnectionFailed, Event, StreamReset
from bbr.http2.faults import ConnectionFault, Fault
from bbr.http2.fields import FieldDecoder
from bbr.http2.frames import ErrorCode, Flag, FrameType
from bbr.http2.held import Held
from bbr.http2.liveness import Liveness
from bbr.http2.reader import Frame, FrameReader
from bbr.http2.receiver import Receiver
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.stream_table import StreamTable
from bbr.http2.streams import Stream

# Looked up once: each is needed for each frame.
_DATA: Final = FrameType.DATA
_HEADERS: Final = FrameType.HEADERS
_RST_STREAM: Final = FrameType.RST_STREAM

# The bytes of a PING of ours; one may be under way at a time.
_KEEPALIVE: Final = frames.ping(b"bbr-ping")


class Connection:
    """See the module.

    Attributes:
        closed: nothing more will be received or sent but the output already there.
        held: counts what is held for the peer: unfinished frames and field blocks, output that waits, and what is
            remembered. Streams, and frames that were not looked at, are not in it.
        more: there may be frames that have come and were not looked at.
        streams: open streams by id.
    """

    def __init__(self, settings: Settings, now: float) -> None:
        self.closed = self.more = False
        self._settings = settings
        self._liveness = Liveness(settings, now)
        self._budgets = Budgets(now)
        self.held = Held()
        self._sender = Sender(settings, self.held)
        self._table = StreamTable(settings, self._sender, self.held)
        self.streams = self._table.open
        # One decoder for the connection: the compression context belongs to it, not to a stream (section 4.3).
        decoder = FieldDecoder(
            settings.header_table_size, settings.max_field_section_bytes, settings.max_fields, self.held
        )
        self._control = Control(settings, self._table, self._sender, self._budgets, decoder)
        self._receiver = Receiver(settings, self._table, self._sender, self._budgets, decoder, self._control, self.held)
        self._reader = FrameReader(self.held)
        self._frames: Iterator[Frame] = iter(())
        self._unread_bytes = 0  # of the reads whose frames were not all looked at
        self._settings_received = False  # the SETTINGS that end the peer's preface
        self._events: list[Event] = []  # what befell streams when nothing was received

    # Receiving.

    def receive(self, octets: bytes, now: float) -> list[Event]:
        """Take bytes from the peer, and return at once all that they mean; see `feed` and `events`."""
        self.feed(octets, now)
        return [event for event in self.events() if event is not None]

    def feed(self, octets: bytes, now: float) -> None:
        """Take bytes from the peer at `now`, in seconds of a monotonic clock. Nothing is looked at yet."""
        self._budgets.now = now
        # After a connection error we only close (section 5.4.1); bytes that still come must cost nothing.
        if octets and not self.closed:
            self._liveness.heard(now)
            # The last turn may have stopped between two frames. Those come first: recipients process frames in the
            # order in which they receive them (section 5).
            if self.more:
                self._frames = itertools.chain(self._frames, self._reader.feed_later(octets))
                self._unread_bytes += len(octets)
            else:
                self._frames = self._reader.feed(octets)
                self._unread_bytes = len(octets)
            self.more = True

    def events(self) -> Iterator[Event | None]:
        """Give what the bytes mean that have come, in order.

        A frame is looked at when its event is asked for, so that whoever has no more time can leave off after each; a
        frame that is no event gives None. Ask again while there is `more`.
        """
        if self._events:
            yield from self._take_events()
        fault: Fault | None = None
        try:
            receiver = self._receiver
            for frame_type, flags, stream_id, payload in self._frames:
                # Most frames are DATA, within what alone may come.
                if frame_type == _DATA and self._settings_received and receiver.block is None:
                    yield receiver.data(flags, stream_id, payload)
                else:
                    # Long DATA that may not come now is a view.
                    octets = payload if isinstance(payload, bytes) else bytes(payload)
                    yield self._frame(frame_type, flags, stream_id, octets)
                if self._events:
                    yield from self._take_events()
            self.more = False
        except ConnectionFault as broken:
            fault = broken.fault
        # Not in the handler: compiled, its exception would be the context of whatever the caller raises.
        if fault is not None:
            # Frames before the fault have had their effect already: each event left as soon as its frame was read.
            self._fail(fault)
            yield from self._take_events()

    def _frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> Event | None:
        receiver = self._receiver
        if receiver.block is not None or not self._settings_received:
            self._check_order(frame_type, flags)
        # The most frequent types come first: a call is HEADERS, DATA, and in Envoy's case RST_STREAM. DATA comes here
        # only to be refused.
        if frame_type == _HEADERS:
            return receiver.headers(flags, stream_id, payload)
        if frame_type == _RST_STREAM:
            return receiver.rst_stream(stream_id, payload)
        if frame_type == FrameType.WINDOW_UPDATE:
            return receiver.window_update(stream_id, payload)
        if frame_type == FrameType.CONTINUATION:
            return receiver.continuation(flags, stream_id, payload)
        if frame_type == FrameType.PRIORITY:
            return receiver.priority(stream_id, payload)
        if frame_type > FrameType.CONTINUATION:
            self._budgets.pay()  # an extension that we do not know is passed over (section 5.5)
        else:
            self._control.receive(frame_type, flags, stream_id, payload)
        return None

    def _check_order(self, frame_type: int, flags: int) -> None:
        """Hold a frame against what alone may come now: SETTINGS first, CONTINUATION inside of a field block."""
        if not self._settings_received:
            # The preface ends with a SETTINGS frame, which may be empty (section 3.4). An ACK does not do: it confirms
            # our settings and says nothing of the client's.
            if frame_type != FrameType.SETTINGS or flags & Flag.ACK:
                raise ConnectionFault(faults.NO_SETTINGS_FIRST)
            self._settings_received = True
        elif frame_type != FrameType.CONTINUATION:
            # Even a frame of an unknown type may not interrupt a field block (sections 4.3 and 5.5).
            raise ConnectionFault(faults.CONTINUATION_EXPECTED)

    # Time.

    def expire(self, now: float) -> list[Event]:
        """End what is overdue; call it about once a second.

        A connection fails whose preface, SETTINGS acknowledgement or rest of a frame does not come, or that is dead; a
        stream is reset whose answer the peer does not take.
        """
        if not self.closed:
            fault = self._liveness.overdue(
                now,
                preface_received=self._reader.preface_received,
                acknowledged=not self._control.unacknowledged,
                # A field block can stay open while every frame of it is complete, so it comes before the reader's
                # frame.
                unfinished=self._receiver.block or self._reader.unfinished,
            )
            if fault is not None:
                self._fail(fault)
            elif self._liveness.must_ask(now):
                # A peer whose host has vanished sends no FIN. Only a PING without an answer shows it (section 6.7).
                self._sender.control(_KEEPALIVE)
        # Slow read: a peer that gives no credit would keep our answers in memory for ever (section 10.5).
        if not self.closed and self._sender.queued:
            self._expire_stalled(now)
        return self._take_events()

    def _expire_stalled(self, now: float) -> None:
        """Reset the streams whose answers do not get away, or fail the connection if none does."""
        waiting = self._sender.queued
        overdue = liveness.stalled(waiting.values(), self._settings, now)
        # Of the streams on which something waits, all: then it is not one client that is slow.
        if overdue and len(overdue) == len(waiting) and self._sender.window.available <= 0:
            self._fail(faults.CONNECTION_STALLED)
            return
        for stream in overdue:
            self._drop(stream, faults.STREAM_STALLED)

    # Sending.

    def take_output(self) -> bytes:
        """Return the bytes to send, and forget them."""
        # Before the output is joined, because settling may add RST_STREAM frames that belong behind the answers.
        if self._table.unsettled:
            self._table.settle()
        if self._sender.limited:
            self._table.flush()
        return self._sender.take()

    @property
    def has_output(self) -> bool:
        """Whether more output can be taken, that found no place in the batch before."""
        return self._sender.limited

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool = False) -> None:
        """Send a response's field block (see `fields.encode`), or its trailers. On a closed stream it is nothing."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_closed:
            self._sender.headers(stream, block, end_stream=end_stream)
            # HEADERS alone are no answer: a peer could fetch these and cancel as before.
            if end_stream:
                self._budgets.answered = True
                self._table.close_if_done(stream)

    def send_data(self, stream_id: int, octets: bytes, *, end_stream: bool = False) -> None:
        """Send DATA as credit allows; the rest waits. On a closed stream it is nothing."""
        self.send_parts(stream_id, [octets], len(octets), end_stream=end_stream)

    def send_parts(
        self, stream_id: int, parts: list[bytes], size: int, block: bytes | None = None, *, end_stream: bool = False
    ) -> None:
        """Send DATA as `send_data` does, that is in parts which follow each other.

        Args:
            stream_id: of its stream.
            parts: the bytes.
            size: how many they are together.
            block: a field block to be sent before, as by `send_headers`.
            end_stream: they are the last.
        """
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_closed:
            if block is not None:
                self._sender.headers(stream, block, end_stream=False)
            self._budgets.answered = True
            # A peer must pay for frames that carry nothing, but our DATA obliges it to send some (bbr.http2.budgets).
            self._budgets.control.earn(budgets.CONTROL_PER_SEND + size * budgets.CONTROL_PER_OCTET)
            self._sender.parts(stream, parts, size, end_stream=end_stream)
            # The stream that adds to a full connection goes. The others were within the limit when their DATA came.
            if stream.queue and self._sender.overfull:
                self._drop(stream, faults.QUEUED_BYTES)
            elif end_stream:
                self._table.close_if_done(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream with RST_STREAM. On a closed stream it is nothing."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_closed:
            self._table.reset(stream_id, code)

    def hold(self, held: bool) -> None:
        """Produce no DATA while the peer does not read (`held`); go on when it does."""
        self._sender.held = held
        self._table.flush()

    # Backpressure.

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
            self._table.give_withheld(stream)

    def is_stuck(self, stream_id: int) -> bool:
        """Tell whether what waits on a stream, or on all together, is so much that more of it should be held back.

        The stream's id will be among those of `take_unstuck` when it may be asked again.
        """
        stream = self.streams.get(stream_id)
        return stream is not None and self._sender.is_stuck(stream)

    def take_unstuck(self) -> list[int]:
        """Return the streams that were stuck, and may be so no more, since the last call."""
        return self._sender.take_unstuck()

    @property
    def answered(self) -> bool:
        """Whether the peer has ever had an answer."""
        return self._budgets.answered

    @property
    def unread_bytes(self) -> int:
        """How many bytes were read from the peer whose frames were not all looked at."""
        return self._unread_bytes if self.more else 0

    # The end.

    @property
    def preface_received(self) -> bool:
        """Whether the client has sent the 24 bytes that come before its first frame (RFC 9113, section 3.4)."""
        return self._reader.preface_received

    @property
    def goaway_read(self) -> bool:
        """Whether the peer has read our GOAWAY, and opens no more streams; what it had opened before has come."""
        return self._control.goaway_read

    def shut_down(self, *, refuse: bool) -> None:
        """Announce the connection's end (section 6.8): first without refusing anything, then refusing new streams."""
        if not self.closed:
            self._control.shut_down(refuse=refuse)

    def fail(self, code: ErrorCode, reason: str) -> list[Event]:
        """End the connection for a fault of its owner's, with GOAWAY: nothing more is received."""
        if not self.closed:
            self._fail(Fault(code, reason, ""))
        return self._take_events()

    def _drop(self, stream: Stream, fault: Fault) -> None:
        """Reset a stream whose answer has no way out; that is no protocol fault of the peer's."""
        self._table.reset(stream.id, fault.code)
        self._events.append(StreamReset(stream.id, fault.code, fault.reason))

    def _fail(self, fault: Fault) -> None:
        self._table.settle()
        # Each stream's owner hears of its end before the connection's, so that no call outlives its connection.
        for stream in list(self.streams.values()):
            self._table.remove(stream)
            self._events.append(StreamReset(stream.id, fault.code, fault.reason))
        # GOAWAY comes last: an answer that is complete by now still leaves before it (section 5.4.1).
        self._control.fail(fault.code, fault.reason)
        self._events.append(ConnectionFailed(fault.code, fault.reason))
        self.closed, self.more = True, False
        self._frames = iter(())  # what has come after it is never looked at

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
