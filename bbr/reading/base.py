"""What all Readings have in common."""

from collections import deque
from typing import Final, Protocol

from bbr.pieces import add_piece
from bbr.reading.fields import FieldValues
from bbr.refusal import Refusal

# What a reader is given at once, if it has no budget of its own: a fraction of a millisecond of work.
PIECE_BYTES: Final = 64 << 10


class Reading(Protocol):
    """One body, read as it comes.

    Bytes are fed, and cost nothing; `work` reads them, for at most about half a millisecond at a time, so that whoever
    drives it can do something else in between. Every split of a body gives the same result.

    Attributes:
        pending: `work` has something to do. Once the body is closed and nothing is pending, there is a result.
        model: what is known of the model so far: its name, the refusal that it calls for, or None. A fault in the rest
            of the body goes before it. A refusal that is `unnamed` (null, "") is raised by `result` alone: the whole
            body is then known to have no other fault.
        settled: nothing that may follow matters: the body needs to be read no further.
        serde_differs: serde could find a model in the body as far as has been fed, where all others find none; see
            bbr.reading.name.serde_differs.
    """

    @property
    def pending(self) -> bool: ...

    @property
    def model(self) -> str | Refusal | None: ...

    @property
    def settled(self) -> bool: ...

    @property
    def serde_differs(self) -> bool: ...

    @property
    def fields(self) -> FieldValues | None:
        """What other fields of the body say, as far as it is read as JSON; None if that does not matter, or it is not.

        A refusal that one of them calls for is the model's, unless that calls for one itself.
        """

    @property
    def passable_bytes(self) -> int:
        """How many bytes, from the body's start, a server may get before the end is known.

        With them alone no server holds a whole body that could still be refused.
        """

    @property
    def unread_bytes(self) -> int:
        """How many of the bytes that were fed are kept, to be read."""

    @property
    def memory_bytes(self) -> int:
        """What is kept besides: windows of decoders, decoded bytes. A few kilobytes of state are not counted."""

    def feed(self, octets: bytes) -> None:
        """Add bytes. They are kept until they are read, and not copied."""

    def close(self) -> None:
        """Take note that no more bytes will come."""

    def work(self) -> None:
        """Read on.

        Raises:
            Refusal: the body can't be routed. The reading is over then.
        """

    def result(self) -> str | None:
        """Return the model that the whole body names, or None, when it is closed and nothing is pending.

        Raises:
            Refusal: the model is not usable.
        """


def named(model: str | Refusal | None) -> str | None:
    """Return what is known of the model at the end of a body as its result.

    Raises:
        Refusal: it is one.
    """
    if isinstance(model, Refusal):
        raise model
    return model


def read_through(reading: Reading, octets: bytes) -> str | None:
    """Return the model of a whole body without a pause: for those that take less than a bit of work.

    Raises:
        Refusal: the body can't be routed.
    """
    reading.feed(octets)
    reading.close()
    while reading.pending:
        reading.work()
    return reading.result()


class Pieces:
    """Bytes that wait to be read, as they came.

    Attributes:
        size: how many.
    """

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._at = 0  # how much of the first one is read
        self.size = 0

    def add(self, octets: bytes) -> None:
        """Add bytes."""
        if octets:
            add_piece(self._pieces, octets)
            self.size += len(octets)

    def next(self, limit: int) -> bytes:
        """Return the next bytes, at most `limit`, and at least one; see `skip`."""
        return self._pieces[0][self._at : self._at + limit]

    def skip(self, octets: int) -> None:
        """Let go of bytes that `next` has given."""
        self._at += octets
        self.size -= octets
        if self._at == len(self._pieces[0]):
            self._pieces.popleft()
            self._at = 0
