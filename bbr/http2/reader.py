"""Bytes to frames: first the client preface, then frame after frame, however the bytes are split into reads."""

from collections.abc import Callable, Iterator
from typing import Final

from bbr.built import COMPILED
from bbr.http2 import faults, frames
from bbr.http2.faults import ConnectionFault
from bbr.http2.frames import FrameType
from bbr.http2.held import Held
from bbr.pieces import VIEWED_BYTES, add_piece

Frame = tuple[int, int, int, bytes | memoryview]

# We advertise no other MAX_FRAME_SIZE than the default.
_MAX_FRAME_SIZE: Final = frames.MIN_MAX_FRAME_SIZE

# Looked up once: each is needed for each frame.
_CONTINUATION: Final = FrameType.CONTINUATION
_DATA: Final = FrameType.DATA
_HEADER_BYTES: Final = frames.HEADER_BYTES
_STREAM_ID_MASK: Final = frames.STREAM_ID_MASK
_read_by_hand: Final = COMPILED
_unpack: Final[Callable[[bytes, int], tuple[int, int, int]]] = frames.HEADER.unpack_from


class FrameReader:
    """Holds at most one unfinished frame (16,393 bytes), and joins its parts only once: linear for any reads.

    Args:
        held: counts the unfinished frame.

    Attributes:
        preface_received: the client's 24 bytes were there, and right.
    """

    __slots__ = ("_held", "_held_bytes", "_needed", "_parts", "_skip", "preface_received")

    def __init__(self, held: Held | None = None) -> None:
        self._held = held or Held()
        self.preface_received = False
        # A list and one join: adding to one bytes object copies it for each read, which is quadratic for small reads.
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._needed = len(frames.PREFACE)
        # What is left to pass over of an unknown frame's payload.
        self._skip = 0

    @property
    def unfinished(self) -> object:
        """What stands for the unfinished frame, the same object from its header on; None without one."""
        return self._parts or None

    def feed(self, octets: bytes) -> Iterator[Frame]:
        """Give type, flags, stream id and payload of each frame that these bytes complete.

        All that was fed before has to be given first. A frame of a type that RFC 9113 does not define comes as soon as
        its header is there, with no payload: the payload is passed over, not held. Long DATA comes as a view, which
        keeps all that was read with it in memory.

        Raises:
            ConnectionFault: the preface is wrong, or a frame header announces too much.
        """
        return self._go_on(octets) if self._parts or not self.preface_received else self._read(octets, 0)

    def feed_later(self, octets: bytes) -> Iterator[Frame]:
        """Give the same, when all that was fed before has been given."""
        yield from self.feed(octets)

    def _go_on(self, octets: bytes) -> Iterator[Frame]:
        """Complete what is held, and go on with what follows."""
        position = 0
        if not self.preface_received:
            octets = self._join(octets)
            # The preface is compared at each read, not only when it is complete: a peer that speaks HTTP/1.1 may send
            # fewer than 24 bytes and then wait for an answer that never comes.
            position = self._take_preface(octets)
            if not position:
                self._hold(octets)
                return
        while self._parts:
            # Of a read, only what the frame lacks is joined to it; to join all would copy the read. A header tells how
            # much its frame lacks, so a frame that is cut off there takes two rounds.
            lacking = octets[position : position + self._needed - self._held_bytes]
            position += len(lacking)
            if self._held_bytes + len(lacking) < self._needed:
                self._hold(lacking)
                return
            yield from self._read(self._join(lacking), 0)
        yield from self._read(octets, position)

    def _read(self, octets: bytes, position: int) -> Iterator[Frame]:
        """Give the frames that begin at a position, and hold the one that is not complete."""
        end = len(octets)
        # An extension's payload may come in many reads; none of it is kept (section 5.5).
        if self._skip:
            position = self._pass_over(position, end, self._skip)
        unpack = _unpack
        view: memoryview | None = None
        while True:
            start = position + _HEADER_BYTES
            if end < start:
                self._needed = _HEADER_BYTES
                break
            word, flags, stream_id = frames.read_header(octets, position) if _read_by_hand else unpack(octets, position)
            length, frame_type = word >> 8, word & 0xFF
            # The header says enough: we hold no byte of a frame that is too long. It is a connection error for every
            # type: we do not skip the payload to find the next frame (section 4.2).
            if length > _MAX_FRAME_SIZE:
                raise ConnectionFault(faults.FRAME_TOO_LONG)
            # It must be ignored (section 5.5), but the connection still has to see it: none may interrupt a field
            # block.
            if frame_type > _CONTINUATION:
                position = self._pass_over(start, end, length)
                yield frame_type, flags, stream_id & _STREAM_ID_MASK, b""
                continue
            if end < start + length:
                self._needed = _HEADER_BYTES + length
                break
            position = start + length
            payload: bytes | memoryview
            if length < VIEWED_BYTES or frame_type != _DATA:
                payload = octets[start:position]
            else:
                if view is None:
                    view = memoryview(octets)
                payload = view[start:position]
            # The highest bit is reserved, and a receiver must ignore it (section 4.1).
            yield frame_type, flags, stream_id & _STREAM_ID_MASK, payload
        if position < end:
            self._hold(octets[position:])

    def _pass_over(self, position: int, end: int, size: int) -> int:
        """Return where what follows begins, and note how much of a payload is yet to come."""
        self._skip = max(size - (end - position), 0)
        return min(position + size, end)

    def _hold(self, octets: bytes) -> None:
        add_piece(self._parts, octets)
        self._held_bytes += len(octets)
        self._held.octets += len(octets)

    def _join(self, octets: bytes) -> bytes:
        """Return what is held with what has come, and hold nothing."""
        self._held.octets -= self._held_bytes
        self._held_bytes = 0
        # A new list: whoever remembers what was unfinished keeps no bytes, and takes no later frame for it.
        parts, self._parts = self._parts, []
        parts.append(octets)
        joined = b"".join(parts)
        parts.clear()
        return joined

    def _take_preface(self, octets: bytes) -> int:
        """Return where the frames begin; 0 while the preface is not complete."""
        head = octets[: len(frames.PREFACE)]
        if not frames.PREFACE.startswith(head):
            raise ConnectionFault(faults.PREFACE)
        if len(head) < len(frames.PREFACE):
            return 0
        self.preface_received = True
        return len(head)


def unpad(payload: bytes | memoryview) -> bytes | memoryview:
    """Return what a padded frame carries.

    Raises:
        ConnectionFault: the pad length leaves no room for itself; it counts the padding only (section 6.1).
    """
    # The pad length's own byte is in `len(payload)`, so equal is too long as well (section 6.1).
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(faults.PADDING)
    return payload[1 : len(payload) - payload[0]]
