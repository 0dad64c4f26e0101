"""A body that is read piece by piece, and held until it may be forwarded upstream.

Pure. Small JSON bodies, which is most of them, never become one: see bbr.exchange.exchange.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES
from bbr.pieces import add_piece
from bbr.reading.base import Reading
from bbr.reading.document import DocumentReading
from bbr.reading.fields import FieldValues
from bbr.reading.replacing import replace_in
from bbr.refusal import Refusal

# Parts of a body that follow each other, and how many bytes they are together.
Chunk = tuple[list[bytes | memoryview], int]

# Chunks that are given back at once: what a peer with a shut window makes us queue at most.
_CHUNKS: Final = 4


class LongBody:
    """One request's body.

    Args:
        reading: reads it.
        kept: hold the bytes, to give them back: in full duplex.

    Attributes:
        closed: no more bytes will come.
        longer_bytes: than what came, or was decoded: its model was replaced.
        read: it has been read to its end, or is not to be read any further: all of it may be forwarded.
    """

    __slots__ = (
        "_document",
        "_free",
        "_held_bytes",
        "_kept",
        "_passed_bytes",
        "_pieces",
        "_reading",
        "_refusal",
        "closed",
        "longer_bytes",
        "read",
    )

    def __init__(self, reading: Reading, *, kept: bool) -> None:
        self.closed = False
        self.read = False
        self._free = False  # all that is held may be forwarded
        self._reading = reading
        # The one that takes views.
        self._document = reading if isinstance(reading, DocumentReading) else None
        self._kept = kept
        self._pieces: deque[bytes | memoryview] = deque()
        self._held_bytes = 0
        self._passed_bytes = 0
        self.longer_bytes = 0
        self._refusal: Refusal | None = None

    @property
    def model(self) -> str | Refusal | None:
        """What is known of the model so far; see Reading."""
        return self._reading.model

    @property
    def fields(self) -> FieldValues | None:
        """What other fields of the body say; see Reading."""
        return self._reading.fields

    @property
    def reading(self) -> bool:
        """Whether `work` has something to read."""
        return not self.read and self._reading.pending

    @property
    def settled(self) -> bool:
        """Whether nothing that may follow matters."""
        return self._reading.settled

    @property
    def serde_differs(self) -> bool:
        """Whether serde could find a model in the body; see Reading."""
        return self._reading.serde_differs

    @property
    def held_bytes(self) -> int:
        """What is held in memory."""
        if self.read:
            return self._held_bytes
        # Of a body that is not kept, only what is unread costs memory: the gateway has the bytes.
        held = self._held_bytes if self._kept else self._reading.unread_bytes
        return held + self._reading.memory_bytes

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be given back."""
        return not self._pieces

    def feed(self, octets: bytes | memoryview) -> None:
        """Add bytes."""
        # After `open` nobody asks what the body says, so to read the rest would be wasted time.
        if not self.read:
            document = self._document
            if document is not None:
                document.feed(octets)
            else:
                octets = bytes(octets)  # the reading and the body hold the same ones
                self._reading.feed(octets)
        if octets and self._kept:
            self._held_bytes += len(octets)
            # Tiny pieces are joined: each would cost more as an object than by its bytes.
            if isinstance(octets, bytes):
                add_piece(self._pieces, octets)
            else:
                self._pieces.append(octets)

    def close(self) -> None:
        """Take note that no more bytes will come."""
        self.closed = True
        if not self.read:
            self._reading.close()

    def work(self) -> bool:
        """Read on for about half a millisecond; True once the end has been read, so that there is a result.

        Raises:
            Refusal: the body can't be routed. It is the result too.
        """
        if self._reading.pending:
            try:
                self._reading.work()
            except Refusal as refused:
                # Kept, because modes that await answers find a fault long before the message that it answers.
                self._refusal = refused
                raise
        return self.closed and not self._reading.pending

    def result(self) -> str | None:
        """Return the model that the whole body names, or None; raises its refusal."""
        if self._refusal is not None:
            raise self._refusal
        return self._reading.result()

    @property
    def whole(self) -> bytes | None:
        """All of it, if it is kept, has been read to its end without a fault, and nothing of it has been passed on."""
        faulty = self._refusal is not None or not self.closed or self._reading.pending
        return None if faulty or self._passed_bytes or not self._kept else b"".join(self._pieces)

    def replace_model(self, model: str) -> bool:
        """Put another model into the place of the one that it names, before anything of it has been passed on.

        False if it can't be: it is no JSON, or is forwarded encoded.
        """
        replaced = replace_in(self._pieces, self._reading, model)
        if replaced is None:
            return False
        self._pieces = replaced.pieces
        self._held_bytes += replaced.longer_bytes
        self.longer_bytes = replaced.longer_bytes
        return True

    def open(self) -> None:
        """Read no further, and let all of it be forwarded."""
        self.read = self._free = True

    @property
    def takeable(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._pieces) and (self._free or self._passable(self._pieces[0]) > 0)

    def take(self) -> Sequence[Chunk]:
        """Return what may be forwarded now, in chunks of at most MAX_BODY_CHUNK_BYTES, and hold it no more.

        A few chunks at a time. Pieces are forwarded whole, but for those that are longer than a chunk.
        """
        chunks: list[Chunk] = []
        while len(chunks) < _CHUNKS:
            chunk = self._chunk()
            # What is left has not been read, or must not complete a body that could still be refused.
            if not chunk[1]:
                break
            chunks.append(chunk)
        return chunks

    def _chunk(self) -> Chunk:
        parts: list[bytes | memoryview] = []
        size = 0
        while self._pieces:
            piece = self._pieces[0]
            passable = self._passable(piece)
            if not passable or size + passable > MAX_BODY_CHUNK_BYTES:
                break
            if passable == len(piece):
                self._pieces.popleft()
            else:
                # A view: to copy the rest for each chunk would take quadratic time on a message of many MiB.
                piece = memoryview(piece)
                self._pieces[0] = piece[passable:]
                piece = piece[:passable]
            parts.append(piece)
            size += passable
            self._passed_bytes += passable
            self._held_bytes -= passable
        return parts, size

    def _passable(self, piece: bytes | memoryview) -> int:
        """Return how much of the first piece may be forwarded now: all of it, a chunk of a long one, or nothing."""
        size = len(piece)
        # Until the end is read, what is forwarded completes no body. So no server acts on one that is refused later.
        free = size if self._free else self._reading.passable_bytes + self.longer_bytes - self._passed_bytes
        # Whole or not at all: to cut at every byte that has been read would make a message of each bit of work.
        if size <= MAX_BODY_CHUNK_BYTES:
            return size if free >= size else 0
        return MAX_BODY_CHUNK_BYTES if free >= MAX_BODY_CHUNK_BYTES else 0
