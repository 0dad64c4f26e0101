"""Length-prefixed messages (gRPC over HTTP/2): DATA in any split to messages, and messages to DATA."""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from bbr.built import COMPILED
from bbr.http2.held import Held
from bbr.native import mypyc_attr
from bbr.pieces import TINY_PIECE_BYTES, add_piece
from bbr.rpc.status import Status, StatusCode

# The compressed flag, one byte, and the length, four bytes in network order.
PREFIX: Final = struct.Struct(">BI")
_PREFIX_BYTES: Final = PREFIX.size
_pack: Final = PREFIX.pack
_read_by_hand: Final = COMPILED
_unpack: Final[Callable[[bytes | memoryview, int], tuple[int, int]]] = PREFIX.unpack_from

# How a call with compressed messages ends; its trailers say what would have been accepted.
COMPRESSED: Final = Status(
    StatusCode.UNIMPLEMENTED, "compressed messages are not supported; send them with grpc-encoding identity"
)


class MessageError(Exception):
    """The peer's messages can't be read on; its call ends with this status.

    Attributes:
        code: the gRPC status code.
        reason: stable name in kebab case.
        size: of a message that is too large, in bytes; else 0.
    """

    def __init__(self, code: StatusCode, reason: str, message: str, size: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.size = size

    @property
    def status(self) -> Status:
        """What ends the call."""
        return Status(self.code, self.message)


@mypyc_attr(free_list_len=1)
class MessageReader:
    """Collects the messages of one direction of a call.

    Holds at most one unfinished message, of at most `max_bytes`, and joins its parts once.

    Args:
        max_bytes: a longer message is refused when its prefix says so, before its first byte is held.
        encoding: the call's grpc-encoding, None for none. None is decoded here.
        held: counts what is held, here and by others.
        viewing: takes note of readers that hold views of what was fed, for whoever calls `own`. None holds copies.

    Attributes:
        held_bytes: of the unfinished message, with its prefix.
        kept_bytes: of a message that was handed over, and may be held by whoever got it until the call ends.
        begun_bytes: the size of a message whose prefix was the last to come, if that message is not complete; for
            whoever wants to know of it, and sets it to 0 then.
    """

    __slots__ = (
        "_counted_bytes",
        "_encoding",
        "_first_view",
        "_held",
        "_max_bytes",
        "_missing",
        "_parts",
        "_viewing",
        "begun_bytes",
        "held_bytes",
        "kept_bytes",
    )

    def __init__(
        self,
        max_bytes: int,
        encoding: bytes | None = None,
        held: Held | None = None,
        viewing: "list[MessageReader] | None" = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        # DATA frames have no relation to messages: a message may come in thousands of them. Joining once keeps that
        # linear.
        self._parts: list[bytes | memoryview] = []
        self._viewing = viewing
        self._first_view = -1  # from which part on there are views
        self.held_bytes = 0
        self._counted_bytes = 0  # of these, in `held`
        self.kept_bytes = 0
        self._held = held or Held()
        # What is yet to come of the unfinished message; 0 while its prefix is not complete. Nothing is joined before.
        self._missing = 0
        self.begun_bytes = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self.held_bytes)

    def completes(self, octets: bytes | memoryview) -> int:
        """Return how large a message is that these bytes would complete; 0 if none that had begun before."""
        if self._missing and len(octets) >= self._missing:
            return self.held_bytes - _PREFIX_BYTES + self._missing
        return 0

    def feed(self, octets: bytes | memoryview) -> Sequence[bytes]:
        """Add DATA and return the messages that it completes, in order.

        A part of a message that comes as a view is held so until `own` is called: a message then is copied once.

        Raises:
            MessageError: a prefix announces too much, or a compressed message.
        """
        size = len(octets)
        missing = self._missing
        if missing:
            # A body that trickles in must cost nothing for each piece: the length is known, so we only count.
            if size < missing:
                self._missing = missing - size
                self._add(octets, size)
                self._count()
                return ()
            # What belongs to the message is joined to it, and nothing of what follows.
            return self._cut(octets, missing, [self._join(octets[:missing])])
        if self._parts:
            octets = self._join(octets)
        elif size >= _PREFIX_BYTES:
            flag, length = read_prefix(octets, 0) if _read_by_hand and isinstance(octets, bytes) else _unpack(octets, 0)
            # One whole message, as most DATA is.
            if not flag and length + _PREFIX_BYTES == size and length <= self._max_bytes:
                # Told apart before they are cut: of bytes a compiler cuts faster than of what may be either.
                if isinstance(octets, bytes):
                    return (octets[_PREFIX_BYTES:],)
                return (bytes(octets[_PREFIX_BYTES:]),)
        return self._cut(octets, 0, [])

    def _cut(self, octets: bytes | memoryview, position: int, messages: list[bytes]) -> Sequence[bytes]:
        """Add the whole messages from a position on, return all, and hold what follows them."""
        end = len(octets)
        unpack, most = _unpack, self._max_bytes
        while position + _PREFIX_BYTES <= end:
            flag, length = (
                read_prefix(octets, position)
                if _read_by_hand and isinstance(octets, bytes)
                else unpack(octets, position)
            )
            # Four bytes can announce 4 GiB. We refuse by the prefix, and never reserve memory for what a peer only
            # announces.
            if flag or length > most:
                self._count()
                raise self._refusal(flag, length)
            position += _PREFIX_BYTES
            following = position + length
            if following > end:
                self._missing = following - end
                # Also when a part is there already: who decides by the size needs it before the rest comes.
                self.begun_bytes = length
                # Without its prefix, so that the pieces are the message when they are joined.
                self._add(octets[position:], end - position + _PREFIX_BYTES)
                break
            if isinstance(octets, bytes):
                messages.append(octets[position:following])
            else:
                messages.append(bytes(octets[position:following]))
            position = following
        else:
            if position < end:
                # Fewer than a prefix's bytes also count as held: a prefix may be split over two DATA frames.
                self._add(octets[position:], end - position)
        # As `_count` does, without calls: this is on the way of every frame of a body.
        more = self.held_bytes - self._counted_bytes
        if more:
            self._counted_bytes += more
            held = self._held
            held.octets += more
            held.bulk += more
        return messages

    def keep(self, octets: int) -> None:
        """Count bytes of a message that was handed over as held, until the call ends."""
        self.kept_bytes += octets
        self._held.add_bulk(octets)

    def close(self) -> None:
        """Let go of everything: the call is over."""
        self.drop()
        self._held.add_bulk(-self.kept_bytes)
        self.kept_bytes = 0

    def drop(self) -> None:
        """Let go of the unfinished message."""
        self.held_bytes = self._missing = 0
        self._first_view = -1
        self._parts = []
        self._count()

    def own(self) -> None:
        """Hold copies instead of views, each of which keeps all that was read with it in memory."""
        first = self._first_view
        if first >= 0:
            self._first_view = -1
            self._parts[first:] = [b"".join(self._parts[first:])]

    def _join(self, octets: bytes | memoryview) -> bytes:
        """Return what is held with what has come, and hold nothing."""
        self.held_bytes = self._missing = 0
        self._first_view = -1
        parts = self._parts
        self._parts = []
        parts.append(octets)
        return b"".join(parts)

    def _add(self, octets: bytes | memoryview, size: int) -> None:
        """Hold bytes, and count so many."""
        self.held_bytes += size
        if isinstance(octets, bytes):
            if len(octets) >= TINY_PIECE_BYTES:
                self._parts.append(octets)
            else:
                add_piece(self._parts, octets)
        elif self._viewing is None or len(octets) < TINY_PIECE_BYTES:
            add_piece(self._parts, bytes(octets))
        else:
            if self._first_view < 0:
                self._first_view = len(self._parts)
                self._viewing.append(self)
            self._parts.append(octets)

    def _count(self) -> None:
        """Tell what is held now. Once for each feed: most of them complete one message and begin another."""
        more = self.held_bytes - self._counted_bytes
        self._counted_bytes += more
        self._held.add_bulk(more)

    def _refusal(self, flag: int, length: int) -> MessageError:
        # By the compression document this is the client's protocol error, INTERNAL, and no missing feature of ours.
        if flag == 1 and self._encoding in (None, b"identity"):
            text = "a message is marked as compressed, and the call names no grpc-encoding"
            return MessageError(StatusCode.INTERNAL, "compressed-without-encoding", text)
        if flag == 1:
            # We decode nothing, so a compression bomb cannot make a small upload a large one.
            return MessageError(COMPRESSED.code, "compressed-message", COMPRESSED.message)
        # The specification has 0 and 1. Anything else means that we have lost the messages' boundaries, or the peer
        # has.
        if flag:
            return MessageError(StatusCode.INTERNAL, "compressed-flag", f"a message's compressed flag is {flag}")
        # Both figures, because gRPC libraries have such a limit too, and an operator must see whose it was.
        text = f"a message of {length} bytes is larger than {self._max_bytes}, the most that this server receives"
        return MessageError(StatusCode.RESOURCE_EXHAUSTED, "message-too-large", text, length)


def read_prefix(octets: bytes, at: int) -> tuple[int, int]:
    """Return what `PREFIX.unpack_from` does. Compiled it takes a third of its time, interpreted three times as long."""
    return octets[at], octets[at + 1] << 24 | octets[at + 2] << 16 | octets[at + 3] << 8 | octets[at + 4]


def frame(messages: Sequence[bytes]) -> bytes:
    """Return messages as the bytes of a call's DATA."""
    return b"".join(framed(messages)[0])


def framed(messages: Sequence[bytes]) -> tuple[list[bytes], int]:
    """Return the same in parts that follow each other, the prefix of each message and the message; and their size."""
    # All messages of an answer in one DATA frame: a frame for each would cost nine bytes and a pass through the
    # sender.
    parts: list[bytes] = []
    size = 0
    for message in messages:
        length = len(message)
        parts += (_pack(0, length), message)
        size += _PREFIX_BYTES + length
    return parts, size
