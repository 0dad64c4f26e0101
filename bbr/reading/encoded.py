"""A body with a Content-Encoding: decoded for reading, a step at a time; what is forwarded are the bytes that came."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bbr import refusal
from bbr.reading.base import Pieces, Reading
from bbr.reading.encodings import Decoder, Limits
from bbr.reading.fields import FieldValues
from bbr.reading.form import FormReader
from bbr.reading.several import Watch
from bbr.refusal import Refusal


class FormWatch:
    """A Watch for a form's `model` among bytes that are no form for most servers, encoded ones as a rule."""

    def __init__(self, max_model_bytes: int, found: Callable[[], Refusal] = refusal.encoding_ambiguous) -> None:
        self._reader = FormReader(max_model_bytes)
        self._found = found

    def feed(self, octets: bytes) -> None:
        """See Watch."""
        at = 0
        try:
            while at < len(octets):
                at = self._reader.feed(octets, at)
        except Refusal:  # something that might be one
            raise self._found() from None
        self._check()

    def end(self) -> None:
        """See Watch."""
        try:
            self._reader.end()
        except Refusal:
            raise self._found() from None
        self._check()

    def _check(self) -> None:
        if self._reader.names_model:  # its value may have no end
            raise self._found()


# What is looked at and handed to a decoder at once.
_STEP_BYTES: Final = 2 << 10


class EncodedReading:
    """A Reading of what an encoded body decodes to (see bbr.reading.base.Reading).

    `passable_bytes` counts the encoded bytes: a server that decodes them gets no more than the inner reading lets it
    have. It moves only where the decoder had put out all that its input gives.

    Args:
        codings: as encodings.parse returns them.
        limits: of the decoded body.
        inner: reads that.
        watch: looks at the encoded bytes; None for none.
    """

    def __init__(self, codings: Sequence[str], limits: Limits, inner: Reading, watch: Watch | None = None) -> None:
        self.pending = False
        self.model: str | Refusal | None = None
        self._decoder = Decoder(codings, limits)
        self._inner = inner
        self._watch = watch
        self._pieces = Pieces()
        self._fed_bytes = 0
        self._closed = False
        self._passable_bytes = 0
        # Encoded bytes, and what they decode to, where the decoder had nothing more to give.
        self._marks: deque[tuple[int, int]] = deque()

    @property
    def settled(self) -> bool:
        """See Reading."""
        return self._inner.settled

    @property
    def serde_differs(self) -> bool:
        """See Reading."""
        return self._inner.serde_differs

    @property
    def fields(self) -> FieldValues | None:
        """See Reading."""
        return self._inner.fields

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        passable = self._inner.passable_bytes
        while self._marks and self._marks[0][1] <= passable:
            self._passable_bytes = self._marks.popleft()[0]
        return self._passable_bytes

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return self._pieces.size

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return self._decoder.memory_bytes + self._inner.unread_bytes + self._inner.memory_bytes

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        if octets:
            self._pieces.add(octets)
            self.pending = True

    def close(self) -> None:
        """See Reading."""
        self._closed = self.pending = True

    def work(self) -> None:
        """See Reading."""
        if self._inner.pending:
            self._inner.work()
            self.model = self._inner.model
        elif self._decoder.pending:
            self._decode()
        elif self._pieces.size:
            self._take()
        else:
            self._decoder.end()
            if self._watch is not None:
                self._watch.end()
            self._closed = False
            self._inner.close()
        self.pending = self._inner.pending or self._decoder.pending or self._pieces.size > 0 or self._closed

    def _decode(self) -> None:
        self._inner.feed(self._decoder.read())
        if not self._decoder.pending:
            marks, fed = self._marks, self._fed_bytes
            # As far apart as whole steps leave them: a mark for each byte would take a hundred times as much as that.
            if len(marks) > 1 and fed - marks[-2][0] < _STEP_BYTES:
                marks.pop()
            marks.append((fed, self._decoder.decoded_bytes))

    def _take(self) -> None:
        piece = self._pieces.next(_STEP_BYTES)
        if self._watch is not None:
            self._watch.feed(piece)
        self._decoder.feed(piece)
        self._pieces.skip(len(piece))
        self._fed_bytes += len(piece)

    def result(self) -> str | None:
        """See Reading."""
        return self._inner.result()
