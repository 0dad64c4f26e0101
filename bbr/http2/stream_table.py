"""The streams of a connection: which state each is in, how they end, and the credit that their peer gets back."""

from collections import OrderedDict
from typing import Final

from bbr.http2 import frames
from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.states import State
from bbr.http2.streams import Stream

# What a stream's id takes in memory that is remembered.
_RESET_ID_BYTES: Final = 160


class StreamTable:
    """See the module.

    Attributes:
        open: the streams that are not closed, by id.
        highest_id: of all that the peer has opened, or tried to; 0 before the first.
        unsettled: those of the open ones whose whole answer is out, and whose request's end had not come; see `settle`.
    """

    def __init__(self, settings: Settings, sender: Sender, held: Held) -> None:
        self.open: dict[int, Stream] = {}
        self.highest_id = 0
        self._settings = settings
        self._wide: list[Stream] = []  # some of them may be closed
        self._sender = sender
        self._held = held
        # How many ids were used: with `highest_id` it tells whether any was left out, without a set of all of them.
        self._opened = 0
        self.unsettled: list[Stream] = []
        # Streams that we have reset lately: frames of theirs may still be under way. Twice as many as can be open at
        # once, so a peer that resets and opens as fast as it may is never mistaken for one that uses closed streams.
        self._reset_ids: OrderedDict[int, None] = OrderedDict()

    def state(self, stream_id: int) -> str:
        """Return the State of any stream."""
        stream = self.open.get(stream_id)
        if stream is not None:
            return State.HALF_CLOSED if stream.remote_closed else State.OPEN
        if stream_id > self.highest_id or not stream_id & 1:  # even ids are ours to open, and we open none
            return State.IDLE
        if stream_id in self._reset_ids:
            return State.RESET
        # The client's ids are 1, 3, 5 and so on: if none was left out, the n-th is 2n-1, and no idle stream was closed
        # by a higher id (section 5.1.1).
        return State.CLOSED if self.highest_id == 2 * self._opened - 1 else State.SKIPPED

    def note(self, stream_id: int) -> None:
        """Note that the peer uses a new id: its stream leaves IDLE, even if it is rejected."""
        # GOAWAY names this id, and the peer may retry anything above it (section 6.8).
        self.highest_id = stream_id
        self._opened += 1

    def begin(self, stream_id: int, expected_bytes: int | None) -> Stream:
        """Open a stream that has been noted, with the content-length that it announces."""
        initial = self._sender.initial_window
        # The peer's setting as it is now: a later change reaches only streams that are open then (section 6.9.2).
        stream = Stream(stream_id, self._settings.stream_window_bytes, initial, expected_bytes)
        self.open[stream_id] = stream
        return stream

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream with RST_STREAM: an open one, or one that its HEADERS would have opened."""
        # RST_STREAM is subject to no flow control (section 6.9), so it may overtake DATA that waits.
        self._sender.reset(stream_id, code)
        # The peer may have sent frames before it reads our reset; section 5.1 has us ignore them.
        self._reset_ids[stream_id] = None
        if len(self._reset_ids) > 2 * self._settings.max_concurrent_streams:
            self._reset_ids.popitem(last=False)
        else:
            self._held.octets += _RESET_ID_BYTES
        stream = self.open.get(stream_id)
        if stream is not None:
            self.remove(stream)

    def remove(self, stream: Stream) -> None:
        """Let a stream go that is closed now, with what waits on it."""
        # First what waits: a queue without its stream would count against the connection's limit for ever.
        self._sender.forget(stream)
        del self.open[stream.id]

    def close_if_done(self, stream: Stream) -> None:
        """Let a stream go whose whole answer its owner has sent, if the request's end has come; else `settle` will."""
        if stream.local_closed:
            if stream.remote_closed:
                self.remove(stream)
            else:
                # Not reset here: a server may answer early, but NO_ERROR is for a request that goes on (section 8.1).
                self.unsettled.append(stream)

    def settle(self) -> None:
        """Let streams go whose answer came before their request's end, and tell the peer to stop (section 8.1).

        Done before output is taken and no sooner: the end may be in what was read with the rest, and a reset that
        nobody needs is one that a client may take for a failure.
        """
        # A stream may be in the list and yet closed: the peer can reset it, and its id is never used again.
        streams, self.unsettled = self.unsettled, []
        for stream in streams:
            if self.open.get(stream.id) is stream:  # not reset meanwhile
                self._close(stream)

    def _close(self, stream: Stream) -> None:
        if stream.remote_closed:
            self.remove(stream)
        else:
            # NO_ERROR asks the client to stop its upload and keep the answer (section 8.1).
            self.reset(stream.id, ErrorCode.NO_ERROR)

    def flush(self) -> None:
        """Send what waits, as far as credit goes now."""
        for stream in self._sender.flush():
            if stream.local_closed:
                self._close(stream)
            else:
                # Credit was withheld because the answer stood still; now it moves again.
                self.give_withheld(stream)

    def release(self, stream: Stream, size: int) -> None:
        """Give a stream's credit back, unless its own answer is stuck: then what it could still send must wait too."""
        # A peer that sends and does not read makes us hold answers (CVE-2019-9517): its own requests must stop first.
        if stream.paused or (stream.queue and self._sender.is_full(stream)):
            stream.withheld_bytes += size
            return
        increment = stream.receive_window.release(size)
        if increment:
            self._sender.control(frames.window_update(stream.id, increment + self._widen(stream)))

    def _widen(self, stream: Stream) -> int:
        """Give a stream that has much to send a wider window, if few have one; return by how much."""
        size = self._settings.wide_window_bytes
        if stream.receive_window.size >= size:
            return 0
        if len(self._wide) >= self._settings.wide_streams:
            self._wide = [each for each in self._wide if self.open.get(each.id) is each]
            if len(self._wide) >= self._settings.wide_streams:
                return 0
        self._wide.append(stream)
        return stream.receive_window.widen(size)

    def give_withheld(self, stream: Stream) -> None:
        """Give a stream the credit that was withheld, if that is of any use to it."""
        if stream.withheld_bytes:
            withheld, stream.withheld_bytes = stream.withheld_bytes, 0
            # After END_STREAM the peer sends no DATA, so a WINDOW_UPDATE would be of no use.
            if not stream.remote_closed:
                self.release(stream, withheld)
