"""The receiving half of a connection: frames of streams in, events out.

The table in bbr.http2.states says what a frame does in a state of its stream.
"""

from typing import Final

from bbr.http2 import budgets, faults, frames, states
from bbr.http2.budgets import Budgets
from bbr.http2.control import Control
from bbr.http2.events import DataReceived, Event, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.faults import ConnectionFault, Fault
from bbr.http2.fields import FieldDecoder, FieldSection
from bbr.http2.frames import Flag, FrameType
from bbr.http2.held import Held
from bbr.http2.reader import unpad
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.stream_table import StreamTable
from bbr.http2.streams import Stream
from bbr.http2.windows import ReceiveWindow

# Looked up once: each is needed for each frame.
_END_STREAM: Final = Flag.END_STREAM
_END_HEADERS: Final = Flag.END_HEADERS
_PADDED: Final = Flag.PADDED
_PRIORITY: Final = Flag.PRIORITY
_SMALL_DATA_BYTES: Final = budgets.SMALL_DATA_BYTES


class FieldBlock:
    """A field block of several frames that is not complete: HEADERS have come, CONTINUATION is to follow (section 4.3).

    Attributes:
        stream_id: its stream.
        end_stream: it ends its stream.
        depends_on_itself: its priority fields name its own stream.
        fragments: what has come of it.
        size: their bytes.
    """

    __slots__ = ("depends_on_itself", "end_stream", "fragments", "size", "stream_id")

    def __init__(self, stream_id: int, fragment: bytes, *, end_stream: bool, depends_on_itself: bool) -> None:
        self.stream_id = stream_id
        self.end_stream = end_stream
        self.depends_on_itself = depends_on_itself
        self.fragments = [fragment]
        self.size = len(fragment)

    def add(self, fragment: bytes) -> None:
        """Take a CONTINUATION's payload."""
        self.fragments.append(fragment)
        self.size += len(fragment)


class Receiver:
    """Takes the frames of streams, one by one and in order, to the event that each is; None if it is none.

    Every method raises ConnectionFault for what ends the connection.

    Attributes:
        block: a field block in progress; only CONTINUATION may come then.
    """

    def __init__(
        self,
        settings: Settings,
        streams: StreamTable,
        sender: Sender,
        budgets: Budgets,
        decoder: FieldDecoder,
        control: Control,
        held: Held,
    ) -> None:
        self.block: FieldBlock | None = None
        self._held = held
        self._settings = settings
        self._streams = streams
        # The table's own dict: nearly every frame looks its stream up.
        self._open = streams.open
        self._sender = sender
        self._budgets = budgets
        self._decoder = decoder
        self._control = control
        self._window = ReceiveWindow(settings.connection_window_bytes)

    def data(self, flags: int, stream_id: int, payload: bytes | memoryview) -> Event | None:
        """DATA (section 6.1). Its padding is flow-controlled too, even if the frame is dropped."""
        # Flow control counts the pad length and the padding with the data (section 6.1).
        size = len(payload)
        data = unpad(payload) if flags & _PADDED else payload
        # The connection's credit goes back at once: no stream waits for another's owner.
        increment = self._window.pass_on(size)
        if increment < 0:
            raise ConnectionFault(faults.CONNECTION_WINDOW)
        if increment:
            self._sender.control(frames.window_update(0, increment))
        end_stream = flags & _END_STREAM != 0
        # Empty-frames flood (CVE-2019-9518): each frame is work, and flow control bounds only bytes. A frame that
        # ends its stream is useful with no byte at all.
        if len(data) < _SMALL_DATA_BYTES and not end_stream:
            self._budgets.pay(1 - len(data) / _SMALL_DATA_BYTES)
        stream = self._open.get(stream_id)
        # Only here, behind the connection's window: DATA on a closed stream still counts against that (section 6.9).
        if stream is None or stream.remote_closed:
            return self._out_of_place(FrameType.DATA, stream_id)
        if not stream.receive_window.take(size):
            return self.stream_fault(stream_id, faults.STREAM_WINDOW)
        # A body of another length than announced is malformed (section 8.1.1).
        if stream.expected_bytes is not None and not _counts(stream, len(data), end_stream=end_stream):
            return self.stream_fault(stream_id, faults.CONTENT_LENGTH)
        if end_stream:
            stream.remote_closed = True
        else:
            # A stream that has ended needs no more credit, so its last frame causes no WINDOW_UPDATE.
            self._streams.release(stream, size)
        return DataReceived(stream_id, data, end_stream)

    def headers(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        """HEADERS (section 6.2): a request, or the trailers of one."""
        if not stream_id & 1:  # 0 is the connection, even ids are a server's
            raise ConnectionFault(faults.EVEN_STREAM)
        fragment = bytes(unpad(payload)) if flags & _PADDED else payload
        depends_on_itself = False
        if flags & _PRIORITY:
            # The priority fields are deprecated, but their five bytes still come before the field block (section 6.2).
            if len(fragment) < 5:
                raise ConnectionFault(faults.HEADERS_SIZE)
            depends_on_itself = frames.UINT32.unpack_from(fragment)[0] & frames.STREAM_ID_MASK == stream_id
            fragment = fragment[5:]
        end_stream = flags & _END_STREAM != 0
        if flags & _END_HEADERS:
            return self._field_block(stream_id, fragment, end_stream, depends_on_itself)
        self.block = FieldBlock(stream_id, fragment, end_stream=end_stream, depends_on_itself=depends_on_itself)
        self._held.octets += len(fragment)
        return None

    def continuation(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        """CONTINUATION (section 6.10)."""
        block = self.block
        # A block stays in one sequence on one stream (section 6.10); the compression context allows no other order.
        if block is None or stream_id != block.stream_id:
            raise ConnectionFault(faults.CONTINUATION)
        block.add(payload)
        self._held.octets += len(payload)
        # Neither count nor bytes are bounded by the specification (CVE-2024-27316 and its kin).
        settings = self._settings
        if len(block.fragments) - 1 > settings.max_continuations or block.size > 2 * settings.max_field_section_bytes:
            raise ConnectionFault(faults.CONTINUATION_FLOOD)
        if not flags & Flag.END_HEADERS:
            return None
        self.block = None
        self._held.octets -= block.size
        return self._field_block(stream_id, b"".join(block.fragments), block.end_stream, block.depends_on_itself)

    def _field_block(self, stream_id: int, block: bytes, end_stream: bool, depends_on_itself: bool) -> Event | None:
        section = self._decoder.decode(block)  # of every block, or the compression context is lost
        stream = self._open.get(stream_id)
        if stream is not None and not stream.remote_closed:
            # A second HEADERS can only be the trailers (section 8.1).
            return self._trailers(stream, section, end_stream)
        if stream is None and stream_id > self._streams.highest_id:
            return self._request(stream_id, section, end_stream, depends_on_itself)
        return self._out_of_place(FrameType.HEADERS, stream_id)

    def _request(self, stream_id: int, section: FieldSection, end_stream: bool, depends_on_itself: bool) -> Event:
        # Also for a refused request: its id is used, and all lower idle ids are closed (section 5.1.1).
        self._streams.note(stream_id)
        if self._control.refusing:
            # No fault of a peer that has not seen our GOAWAY yet.
            self._budgets.pay()
            self._streams.reset(stream_id, faults.GOING_AWAY.code)
            return StreamReset(stream_id, faults.GOING_AWAY.code, faults.GOING_AWAY.reason)
        if len(self._open) >= self._settings.max_concurrent_streams:
            self._streams.settle()  # what is answered makes room
        if len(self._open) >= self._settings.max_concurrent_streams:
            # REFUSED_STREAM tells the client that nothing was done, so it may retry even a POST (section 8.7). It
            # counts as a fault all the same: the client has read our limit once it has acknowledged SETTINGS.
            return self.stream_fault(stream_id, faults.REFUSED)
        if depends_on_itself:
            return self.stream_fault(stream_id, faults.SELF_DEPENDENCY)
        # A malformed request is a stream error (section 8.1.1): one client's bad request must not end the connection
        # that a gateway's other clients share.
        if section.request_fault:
            return self.stream_fault(stream_id, faults.malformed(section.request_fault))
        # No DATA can follow, so any length but 0 is wrong (section 8.1.1).
        if end_stream and section.content_length:
            return self.stream_fault(stream_id, faults.CONTENT_LENGTH)
        stream = self._streams.begin(stream_id, section.content_length)
        stream.remote_closed = end_stream
        # Only a request that opens a stream earns: else refused ones would pay for a flood.
        self._budgets.control.earn(budgets.CONTROL_PER_REQUEST)
        if stream_id == frames.MAX_STREAM_ID:
            self._control.shut_down(refuse=True)  # no ids are left (section 5.1.1)
        return RequestReceived(stream_id, section, end_stream)

    def _trailers(self, stream: Stream, section: FieldSection, end_stream: bool) -> Event:
        if section.fault:
            return self.stream_fault(stream.id, faults.malformed(section.fault))
        # Trailers have no pseudo-fields and end the stream; anything else is malformed (sections 8.1 and 8.3).
        if not section.trailers or not end_stream:
            return self.stream_fault(stream.id, faults.TRAILERS)
        # The body ends here as well, so what the content-length announced must have come (section 8.1.1).
        if stream.expected_bytes:
            return self.stream_fault(stream.id, faults.CONTENT_LENGTH)
        stream.remote_closed = True
        return TrailersReceived(stream.id, section)

    def priority(self, stream_id: int, payload: bytes) -> Event | None:
        """PRIORITY (section 6.3): deprecated, checked, and of no consequence."""
        if not stream_id:
            raise ConnectionFault(faults.PRIORITY_ON_CONNECTION)
        # Priority floods (CVE-2019-9513) made servers reorder a tree. We keep no tree, but reading a frame costs too.
        self._budgets.pay()
        # A wrong size is an error of the stream alone: priority changes nothing for the connection (section 6.3).
        fault = faults.PRIORITY_SIZE
        if len(payload) == 5:
            if frames.UINT32.unpack_from(payload)[0] & frames.STREAM_ID_MASK != stream_id:
                return None
            fault = faults.SELF_DEPENDENCY
        if stream_id not in self._open:
            raise ConnectionFault(fault)  # an idle or closed stream can't be reset (section 5.1)
        return self.stream_fault(stream_id, fault)

    def rst_stream(self, stream_id: int, payload: bytes) -> Event | None:
        """RST_STREAM (section 6.4)."""
        if len(payload) != 4:
            # A connection error (section 6.4): no RST_STREAM may answer a RST_STREAM, or both ends could loop (5.4.2).
            raise ConnectionFault(faults.RST_STREAM_SIZE)
        stream = self._open.get(stream_id)
        if stream is None:
            return self._out_of_place(FrameType.RST_STREAM, stream_id)
        if stream.answered:
            # Envoy ends every ext_proc stream so, right after our last message.
            self._budgets.cancels.earn(budgets.CANCELS_PER_ANSWER)
        # Rapid reset (CVE-2023-44487): a reset stream leaves the concurrency limit at once, so that limit (section
        # 5.1.2) does not bound how many requests we begin.
        elif not self._budgets.pay_for_cancel():
            # One connection carries all clients of a gateway's worker: its running streams are let finish.
            self._control.shut_down(refuse=True)
        self._streams.remove(stream)
        return StreamReset(stream_id, frames.UINT32.unpack(payload)[0], "")

    def window_update(self, stream_id: int, payload: bytes) -> Event | None:
        """WINDOW_UPDATE (section 6.9). An increment of 0 is a fault of what it is for."""
        if len(payload) != 4:
            raise ConnectionFault(faults.WINDOW_UPDATE_SIZE)
        increment = frames.UINT32.unpack(payload)[0] & frames.MAX_WINDOW
        # Before the frame is looked at: one for a closed stream costs us as much.
        self._budgets.pay(budgets.CONTROL_PER_CREDIT)
        if not stream_id:
            if not increment:
                raise ConnectionFault(faults.WINDOW_INCREMENT)
            # A sum above 2^31-1 is an error of the window's owner: here the connection, below the stream (section
            # 6.9.1).
            if not self._sender.window.add(increment):
                raise ConnectionFault(faults.WINDOW_OVERFLOW)
            self._streams.flush()
            return None
        stream = self._open.get(stream_id)
        if stream is None:
            return self._out_of_place(FrameType.WINDOW_UPDATE, stream_id)
        if not increment:
            return self.stream_fault(stream_id, faults.WINDOW_INCREMENT)
        if not stream.send_window.add(increment):
            return self.stream_fault(stream_id, faults.WINDOW_OVERFLOW)
        # Without a queue nothing waits for this credit, and the round over the waiting streams would find nothing.
        if stream.queue:
            self._sender.wake(stream)
            self._streams.flush()
        return None

    def stream_fault(self, stream_id: int, fault: Fault) -> StreamReset:
        """Reset a stream for a fault of the peer's: an open one, or one that its HEADERS would have opened."""
        # Made You Reset (CVE-2025-8671): a peer that provokes our resets empties the table as fast as by its own.
        self._budgets.pay_for_fault()
        self._streams.reset(stream_id, fault.code)
        return StreamReset(stream_id, fault.code, fault.reason)

    def _out_of_place(self, frame_type: int, stream_id: int) -> Event | None:
        """Do what the table says of a frame on a stream that is not open, or not in this direction."""
        rule = states.RULES[frame_type, self._streams.state(stream_id)]
        if rule.fault is None:
            if rule.tokens:
                self._budgets.pay(rule.tokens)
            return None
        # A stream error needs a stream to reset, and an idle one may not be reset (section 6.4).
        if rule.ends_connection:
            raise ConnectionFault(rule.fault)
        return self.stream_fault(stream_id, rule.fault)


def _counts(stream: Stream, size: int, *, end_stream: bool) -> bool:
    """Hold a body against its content-length (section 8.1.1); False if it has more or less."""
    stream.expected_bytes = expected = (stream.expected_bytes or 0) - size
    return expected >= 0 and not (end_stream and expected)
