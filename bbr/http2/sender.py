"""The sending half of a connection: frames out, within the peer's windows and frame size."""

from collections import OrderedDict

from bbr.http2 import frames
from bbr.http2.frames import ErrorCode, Flag, FrameType
from bbr.http2.settings import DEFAULT_WINDOW_BYTES
from bbr.http2.streams import Stream
from bbr.http2.windows import SendWindow

# What an entry of a stream's queue takes beside its octets.
ENTRY_BYTES = 256

# RFC 9113 section 6.5.2: what the peer accepts until it says otherwise.
DEFAULT_MAX_FRAME_SIZE = frames.MIN_MAX_FRAME_SIZE


class Sender:
    """Output of one connection.

    Control frames leave at once. DATA leaves as far as credit goes; the rest waits in its stream, in order, and the
    streams that wait take turns of one frame each. A stream's trailers wait behind its DATA.

    Attributes:
        window: the connection's send window.
        initial_window: the peer's INITIAL_WINDOW_SIZE, for new streams.
        max_frame_size: the peer's MAX_FRAME_SIZE.
        control_frames: answers to PING and SETTINGS in the output that has not been taken yet.
        held: while true no DATA is produced: the peer does not read.
        queued: the streams on which something waits, by id.
        queued_bytes: their DATA octets together, and what each entry of a queue takes beside its octets.
    """

    def __init__(self) -> None:
        self.window = SendWindow(DEFAULT_WINDOW_BYTES)
        self.initial_window = DEFAULT_WINDOW_BYTES
        self.max_frame_size = DEFAULT_MAX_FRAME_SIZE
        self.control_frames = 0
        self.held = False
        self._out: list[bytes | memoryview] = []
        self.queued: dict[int, Stream] = {}
        self.queued_bytes = 0
        self._waiting: OrderedDict[int, Stream] = OrderedDict()

    def take(self) -> bytes:
        """Return all output so far, and forget it."""
        if not self._out:
            return b""
        octets = b"".join(self._out)
        self._out.clear()
        self.control_frames = 0
        return octets

    def control(self, frame: bytes) -> None:
        """Send a frame that is subject to no window."""
        self._out.append(frame)

    def answer(self, frame: bytes) -> None:
        """Send a control frame that the peer made us send, and count it."""
        self.control_frames += 1
        self._out.append(frame)

    def headers(self, stream: Stream, block: bytes, *, end_stream: bool) -> None:
        """Send a field block; as trailers it waits for the stream's DATA."""
        if end_stream and stream.queue:
            stream.trailers = block
            return
        flags = Flag.END_HEADERS | Flag.END_STREAM if end_stream else Flag.END_HEADERS
        # Our blocks are a few dozen octets; the smallest frame size a peer can ask for is 16,384.
        self._out.append(frames.header(FrameType.HEADERS, flags, stream.id, len(block)) + block)
        stream.local_closed = end_stream

    def data(self, stream: Stream, octets: bytes, *, end_stream: bool) -> None:
        """Send DATA, now or when there is credit. No octets and no end is nothing."""
        size = len(octets)
        if stream.queue:
            stream.queue_ends = end_stream
            if size:
                self._enqueue(stream, memoryview(octets))
            return
        credit = 0 if self.held else min(self.window.available, stream.send_window.available)
        if size <= credit or not size:
            if size or end_stream:
                self._emit(stream, octets, end_stream=end_stream)
            return
        stream.queue_ends = end_stream
        rest = memoryview(octets)
        if credit > 0:
            self._emit(stream, rest[:credit], end_stream=False)
            rest = rest[credit:]
        self._enqueue(stream, rest)

    def forget(self, stream: Stream) -> None:
        """Drop what waits on a stream that is closed."""
        if stream.queue:
            self._waiting.pop(stream.id, None)
            del self.queued[stream.id]
            self.queued_bytes -= stream.queued_bytes + ENTRY_BYTES * len(stream.queue)
            stream.queue.clear()
            stream.queued_bytes = 0
            stream.trailers = None

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Send RST_STREAM."""
        self._out.append(frames.rst_stream(stream_id, code))

    def wake(self, stream: Stream) -> None:
        """Give a stream a turn again whose own window has changed."""
        if stream.queue and stream.send_window.available > 0:
            self._waiting[stream.id] = stream

    def flush(self) -> list[Stream]:
        """Send what waits, as far as credit goes now; return the streams on which nothing waits any more.

        Its work is in proportion to what it sends: a stream without credit of its own leaves the round until `wake`.
        """
        drained = []
        waiting = self._waiting
        while waiting and self.window.available > 0 and not self.held:
            stream_id, stream = waiting.popitem(last=False)
            credit = min(self.window.available, stream.send_window.available, self.max_frame_size)
            if credit <= 0:
                continue
            octets = stream.queue[0]
            if len(octets) > credit:
                stream.queue[0] = octets[credit:]
                octets = octets[:credit]
            else:
                stream.queue.popleft()
                self.queued_bytes -= ENTRY_BYTES
            stream.queued_bytes -= len(octets)
            self.queued_bytes -= len(octets)
            self._emit(stream, octets, end_stream=stream.queue_ends and not stream.queue)
            if stream.queue:
                waiting[stream_id] = stream
                continue
            del self.queued[stream_id]
            drained.append(stream)
            if stream.trailers is not None:
                self.headers(stream, stream.trailers, end_stream=True)
        return drained

    def stalled(self, now: float, stall_seconds: float, min_progress_bytes: int) -> list[Stream]:
        """Return the streams of whose queues less than that many octets have left in that many seconds.

        It sees progress only when it is called: about once a second.
        """
        overdue = []
        for stream in self.queued.values():
            left = stream.stalled_bytes - stream.queued_bytes
            if stream.stalled_at is None or left >= min_progress_bytes:
                stream.stalled_at = now
                stream.stalled_bytes = stream.queued_bytes
            elif now - stream.stalled_at > stall_seconds:
                overdue.append(stream)
        return overdue

    def _enqueue(self, stream: Stream, octets: memoryview) -> None:
        if not stream.queue:
            self.queued[stream.id] = stream
            stream.stalled_at = None
        stream.queue.append(octets)
        stream.queued_bytes += len(octets)
        stream.stalled_bytes += len(octets)
        self.queued_bytes += len(octets) + ENTRY_BYTES
        self.wake(stream)

    def _emit(self, stream: Stream, octets: bytes | memoryview, *, end_stream: bool) -> None:
        size = len(octets)
        self.window.available -= size
        stream.send_window.available -= size
        limit = self.max_frame_size
        if size > limit:
            view = memoryview(octets)
            last = (size - 1) // limit * limit
            full = frames.header(FrameType.DATA, 0, stream.id, limit)
            for start in range(0, last, limit):
                self._out.append(full)
                self._out.append(view[start : start + limit])
            octets = view[last:]
        flags = Flag.END_STREAM if end_stream else 0
        self._out.append(frames.header(FrameType.DATA, flags, stream.id, len(octets)))
        self._out.append(octets)
        stream.answered = True
        stream.local_closed = end_stream
