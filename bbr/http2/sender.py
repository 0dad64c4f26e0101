"""The sending half of a connection: frames out, within the peer's windows and frame size."""

from collections import OrderedDict, deque
from typing import Final

from bbr.http2 import frames
from bbr.http2.frames import ErrorCode, Flag, FrameType
from bbr.http2.held import Held
from bbr.http2.settings import DEFAULT_WINDOW_BYTES, Settings
from bbr.http2.streams import Stream
from bbr.http2.windows import SendWindow

# Looked up once: each is needed for each answer.
_HEADERS: Final = FrameType.HEADERS
_DATA: Final = FrameType.DATA
_END_HEADERS: Final = Flag.END_HEADERS
_END_STREAM: Final = Flag.END_STREAM
_LAST_HEADERS: Final = _END_HEADERS | _END_STREAM
_pack: Final = frames.HEADER.pack

# What an entry of a stream's queue takes beside its bytes.
ENTRY_BYTES: Final = 256

# DATA that waited leaves in batches of so much. A peer that opens its window on 64 MiB would otherwise have the event
# loop to itself, and all of that would lie in the transport, where nobody counts it, if the peer does not read then.
BATCH_BYTES: Final = 256 << 10

# RFC 9113 section 6.5.2: what the peer accepts until it says otherwise.
DEFAULT_MAX_FRAME_SIZE: Final = frames.MIN_MAX_FRAME_SIZE


class Sender:
    """Output of one connection, and what of it waits.

    Control frames leave at once. DATA leaves as far as credit goes; the rest waits in its stream, in order, and the
    streams that wait take turns of one frame each. A stream's trailers wait behind its DATA.

    Attributes:
        window: the connection's send window.
        initial_window: the peer's INITIAL_WINDOW_SIZE, for new streams.
        max_frame_size: the peer's MAX_FRAME_SIZE.
        control_frames: answers to PING and SETTINGS in the output that has not been taken yet.
        held: while true no DATA is produced: the peer does not read.
        limited: a batch was full, and more could leave with the next one.
        queued: the streams on which something waits, by id.
        queued_bytes: their DATA bytes together, and what each entry of a queue takes beside its bytes.
    """

    def __init__(self, settings: Settings, held: Held) -> None:
        self.window = SendWindow(DEFAULT_WINDOW_BYTES)
        self.initial_window = DEFAULT_WINDOW_BYTES
        self.max_frame_size = DEFAULT_MAX_FRAME_SIZE
        self.control_frames = 0
        self.held = False
        self.limited = False
        self.queued: dict[int, Stream] = {}
        # Entries count beside their bytes: many answers of a byte each take far more memory than they carry.
        self.queued_bytes = 0
        self._held = held
        self._max_stream_bytes = settings.max_queued_bytes
        self._max_bytes = settings.max_connection_queued_bytes
        self._out: list[bytes | memoryview] = []
        # Ordered, because streams take turns: the first goes to the end after its frame, and none starves the rest.
        self._waiting: OrderedDict[int, Stream] = OrderedDict()  # those of them that have credit of their own
        self._watched: dict[int, Stream] = {}  # their owner wants to know when they are stuck no more
        self._crowded = False  # a stream was called stuck for all that waits on the connection
        self._unstuck: list[int] = []

    def take(self) -> bytes:
        """Return all output so far, and forget it."""
        if not self._out:
            return b""
        octets = b"".join(self._out)
        self._out.clear()
        # Taken output is the transport's; from here on its own limits hold (see `hold`).
        self.control_frames = 0
        return octets

    # What is sent.

    def control(self, frame: bytes) -> None:
        """Send a frame that is subject to no window."""
        self._out.append(frame)

    def answer(self, frame: bytes) -> None:
        """Send a control frame that the peer made us send, and count it."""
        self.control_frames += 1
        self._out.append(frame)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Send RST_STREAM."""
        self._out.append(frames.rst_stream(stream_id, code))

    def headers(self, stream: Stream, block: bytes, *, end_stream: bool) -> None:
        """Send a field block; as trailers it waits for the stream's DATA."""
        if end_stream and stream.queue:
            # Trailers need no credit (section 6.9), but they carry END_STREAM: DATA behind them would be on a
            # half-closed stream (section 5.1).
            stream.trailers = block
            return
        flags = _LAST_HEADERS if end_stream else _END_HEADERS
        # Our blocks are a few dozen bytes; the smallest frame size a peer can ask for is 16,384.
        self._out.append(_pack(len(block) << 8 | _HEADERS, flags, stream.id) + block)
        stream.local_closed = end_stream

    def data(self, stream: Stream, octets: bytes, *, end_stream: bool) -> None:
        """Send DATA, now or when there is credit. No bytes and no end is nothing."""
        size = len(octets)
        # Never past the queue, even with credit: the messages of a call would change their order.
        if stream.queue:
            stream.queue_ends = end_stream
            if size:
                self._enqueue(stream, memoryview(octets))
            return
        # Both windows bind (section 6.9.1). The stream's may be negative (section 6.9.2), so test for more than 0.
        credit = 0
        if not self.held:
            credit = self.window.available
            if credit > stream.send_window.available:
                credit = stream.send_window.available
        # An empty frame that ends the stream needs no credit (section 6.9.1).
        if size <= credit or not size:
            if size or end_stream:
                self._emit(stream, octets, end_stream=end_stream)
            return
        stream.queue_ends = end_stream
        rest = memoryview(octets)
        # What fits leaves now: a peer may give more credit only once it has read something.
        if credit > 0:
            self._emit(stream, rest[:credit], end_stream=False)
            rest = _rest(rest, credit)
        self._enqueue(stream, rest)

    def parts(self, stream: Stream, parts: list[bytes], size: int, *, end_stream: bool) -> None:
        """Send DATA in parts, which follow each other, as `data` does; `size` is all of their bytes."""
        connection, own = self.window, stream.send_window
        # Most answers leave at once: then nothing is joined but the whole output.
        if not size or stream.queue or self.held or size > connection.available or size > own.available:
            self.data(stream, b"".join(parts), end_stream=end_stream)
            return
        connection.available -= size
        own.available -= size
        if size <= self.max_frame_size:
            self._out.append(_pack(size << 8 | _DATA, _END_STREAM if end_stream else 0, stream.id))
            self._out += parts
        else:
            self._spread(stream.id, parts, size, end_stream=end_stream)
        stream.answered = True
        stream.local_closed = end_stream

    def _spread(self, stream_id: int, parts: list[bytes], size: int, *, end_stream: bool) -> None:
        """Put parts into frames, all but the last as large as the peer takes them."""
        out, limit = self._out, self.max_frame_size
        room = 0  # in the frame that was begun
        for part in parts:
            rest: bytes | memoryview = part
            while len(rest) > room:
                if room:
                    # A view copies nothing.
                    rest = memoryview(rest)
                    out.append(rest[:room])
                    rest = rest[room:]
                room = limit if size > limit else size
                size -= room
                ends = end_stream and not size
                out.append(_pack(room << 8 | _DATA, _END_STREAM if ends else 0, stream_id))
            if rest:
                out.append(rest)
                room -= len(rest)

    # What waits.

    def forget(self, stream: Stream) -> None:
        """Drop what waits on a stream that is closed."""
        if stream.queue:
            self._waiting.pop(stream.id, None)
            del self.queued[stream.id]
            self._count(-stream.queued_bytes - ENTRY_BYTES * len(stream.queue))
            stream.queue.clear()
            stream.queued_bytes = 0
            stream.trailers = None
        if self._watched:
            self._watched.pop(stream.id, None)
            self._tell_unstuck([])  # there may be room now for the others

    def wake(self, stream: Stream) -> None:
        """Give a stream a turn again whose own window has changed."""
        # Credit from a change of INITIAL_WINDOW_SIZE may leave the window below 1 (section 6.9.2).
        if stream.queue and stream.send_window.available > 0:
            self._waiting[stream.id] = stream

    def flush(self) -> list[Stream]:
        """Send what waits, as far as credit goes now; return the streams on which nothing waits any more.

        Its work is in proportion to what it sends: a stream without credit of its own leaves the round until `wake`.
        """
        drained = []
        waiting = self._waiting
        room = BATCH_BYTES
        self.limited = False
        while waiting and self.window.available > 0 and not self.held:
            if room <= 0:
                self.limited = True
                break
            stream_id, stream = waiting.popitem(last=False)
            # One frame a turn: with more, a long answer would keep short ones of other calls waiting.
            credit = min(self.window.available, stream.send_window.available, self.max_frame_size)
            if credit <= 0:
                # The stream left the round with popitem. Looking at it again in each flush would cost work for no
                # output, and a peer can cause that with each WINDOW_UPDATE.
                continue
            room -= self._emit_queued(stream, credit)
            if stream.queue:
                waiting[stream_id] = stream
                continue
            del self.queued[stream_id]
            drained.append(stream)
            # Behind the last DATA, which could not carry END_STREAM for them (section 8.1).
            if stream.trailers is not None:
                self.headers(stream, stream.trailers, end_stream=True)
        if self._watched:
            self._tell_unstuck(drained)
        return drained

    # How much waits, and who wants to know.

    @property
    def overfull(self) -> bool:
        """Whether more waits than the connection may hold: whoever has added to it loses its stream."""
        return self.queued_bytes > self._max_bytes

    def is_full(self, stream: Stream) -> bool:
        """Tell whether so much waits on a stream that its peer gets no more credit for it."""
        queue = stream.queue
        if not queue:
            return False
        return stream.queued_bytes + ENTRY_BYTES * len(queue) > self._max_stream_bytes

    def is_stuck(self, stream: Stream) -> bool:
        """Tell whether so much waits on a stream, or on all together, that more of it should be held back.

        If so, `take_unstuck` returns the stream when this may be asked again.
        """
        # Half the bound, so that handlers pause well before a stream has to be reset.
        self._crowded = self._is_crowded()
        if not self._crowded and not self.is_full(stream):
            return False
        self._watched[stream.id] = stream
        return True

    def take_unstuck(self) -> list[int]:
        """Return the streams that were stuck, and may be so no more, since the last call."""
        unstuck, self._unstuck = self._unstuck, []
        return unstuck

    def _is_crowded(self) -> bool:  # at the bound itself streams are lost
        return 2 * self.queued_bytes > self._max_bytes

    def _tell_unstuck(self, drained: list[Stream]) -> None:
        if self._crowded and not self._is_crowded():
            self._crowded = False
            self._unstuck += self._watched
            self._watched.clear()
            return
        for stream in drained:
            if self._watched.pop(stream.id, None) is not None:
                self._unstuck.append(stream.id)

    def _enqueue(self, stream: Stream, octets: memoryview) -> None:
        if not stream.queue:
            self.queued[stream.id] = stream
            # The time to make progress begins with the queue, not with an earlier one of the same stream.
            stream.stalled_at = None
        if stream.queue is None:
            stream.queue = deque()
        stream.queue.append(octets)
        stream.queued_bytes += len(octets)
        stream.stalled_bytes += len(octets)
        self._count(len(octets) + ENTRY_BYTES)
        self.wake(stream)

    def _count(self, octets: int) -> None:
        self.queued_bytes += octets
        self._held.add_bulk(octets)

    def _emit_queued(self, stream: Stream, credit: int) -> int:
        """Send the first entry of a stream's queue as far as there is credit; return how much that is."""
        queue = stream.queue
        assert queue  # noqa: S101 (a stream that waits has one)
        octets = queue[0]
        if len(octets) > credit:
            # A slice of a memoryview copies nothing; of bytes, a long answer in small credit would be quadratic.
            queue[0] = _rest(octets, credit)
            octets = octets[:credit]
        else:
            queue.popleft()
            self._count(-ENTRY_BYTES)
        stream.queued_bytes -= len(octets)
        self._count(-len(octets))
        self._emit(stream, octets, end_stream=stream.queue_ends and not queue)
        return len(octets)

    def _emit(self, stream: Stream, octets: bytes | memoryview, *, end_stream: bool) -> None:
        size = len(octets)
        self.window.available -= size
        stream.send_window.available -= size
        limit = self.max_frame_size
        out = self._out
        if size > limit:
            view = memoryview(octets)
            # Not size // limit: the last frame carries END_STREAM, so it must exist also when the size is a multiple.
            last = (size - 1) // limit * limit
            full = _pack(limit << 8 | _DATA, 0, stream.id)
            for start in range(0, last, limit):
                out.append(full)
                out.append(view[start : start + limit])
            octets = view[last:]
            size -= last
        out.append(_pack(size << 8 | _DATA, _END_STREAM if end_stream else 0, stream.id))
        out.append(octets)
        # Only DATA counts: whoever resets after HEADERS alone has not had an answer (see Receiver.rst_stream).
        stream.answered = True
        stream.local_closed = end_stream


def _rest(octets: memoryview, start: int) -> memoryview:
    """Return what follows; a view keeps all of its buffer alive, so a small rest of a large one is copied."""
    rest = octets[start:]
    buffer = octets.obj
    return memoryview(bytes(rest)) if 2 * len(rest) < len(buffer) else rest  # type: ignore[arg-type]
