"""Forms, read as they come: multipart/form-data, and application/x-www-form-urlencoded, which may hold JSON."""

from typing import Final

from bbr import refusal
from bbr.reading import beginning
from bbr.reading.base import PIECE_BYTES, Pieces, named
from bbr.reading.beginning import Beginning
from bbr.reading.document import DocumentReading
from bbr.reading.fields import BodyFields, FieldValues
from bbr.reading.form import FormReader
from bbr.reading.multipart import BoundaryWatch, MultipartReader, other_boundary
from bbr.refusal import Refusal

# What is read of a form at once: so much, and no more keys that must be looked at, of 2 us each, than these and those
# of one call.
_FORM_PIECE_BYTES: Final = 8 << 10
_FORM_KEYS: Final = 50

_BLANKS: Final = b" \t\r\n"


def _other_boundary() -> Refusal:
    return refusal.multipart_boundary("it has a `=`, and some servers find what follows that in the body")


class MultipartReading:
    """A Reading of multipart/form-data (see bbr.reading.base.Reading)."""

    settled: Final = False
    serde_differs: Final = False
    fields: Final = None

    def __init__(self, boundary: bytes, max_model_bytes: int) -> None:
        self.pending = False
        self.model: str | Refusal | None = None
        self._reader = MultipartReader(boundary, max_model_bytes)
        other = other_boundary(boundary)
        self._watch = BoundaryWatch(other, _other_boundary) if other is not None else None
        self._pieces = Pieces()
        self._closed = False

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        return self._reader.passable_bytes

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return self._pieces.size

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return 0

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        self._pieces.add(octets)
        self.pending = self._pieces.size > 0

    def close(self) -> None:
        """See Reading."""
        self._closed = self.pending = True

    def work(self) -> None:
        """See Reading."""
        if self._pieces.size:
            piece = self._pieces.next(PIECE_BYTES)
            read = self._reader.feed(piece)
            if self._watch is not None:
                self._watch.feed(piece[:read])
            self._pieces.skip(read)
        else:
            self._reader.finish()
            self._closed = False
        self.model = self._reader.model
        self.pending = self._pieces.size > 0 or self._closed

    def result(self) -> str | None:
        """See Reading."""
        return named(self._reader.model)


class FormReading:
    """A Reading of application/x-www-form-urlencoded (see bbr.reading.base.Reading).

    What begins as a JSON object is one, as `curl -d` sends it. It is read as a form too: a server that goes by the
    content type finds `&model=` inside of a JSON string.
    """

    settled: Final = False

    def __init__(self, max_model_bytes: int, whole_bytes: int, fields: BodyFields | None = None) -> None:
        self.pending = False
        self.model: str | Refusal | None = None
        self._form = FormReader(max_model_bytes)
        self._document = DocumentReading(max_model_bytes, whole_bytes, fields)
        self._beginning = Beginning()
        self._is_json = False
        self._pieces = Pieces()
        self._closed = False

    @property
    def serde_differs(self) -> bool:
        """See Reading."""
        return self._beginning.octet == beginning.LIST or self._document.serde_differs

    @property
    def fields(self) -> FieldValues | None:
        """See Reading: those of JSON. A form has none."""
        return self._document.fields if self._is_json else None

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        passable = self._form.passable_bytes
        return min(passable, self._document.passable_bytes) if self._is_json else passable

    @property
    def unread_bytes(self) -> int:
        """See Reading: the document is read after the form."""
        return max(self._pieces.size, self._document.unread_bytes)

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return 0

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        if self._is_json:
            self._document.feed(octets)
        elif self._beginning.octet is None:
            before = self._beginning.begun.strip(_BLANKS)  # of marks alone a document knows what to make
            if self._beginning.feed(octets) == beginning.OBJECT:
                self._is_json = True
                self._document.feed(before)
                self._document.feed(octets)
        self._pieces.add(octets)
        self.pending = self._pieces.size > 0

    def close(self) -> None:
        """See Reading."""
        self._closed = self.pending = True

    def work(self) -> None:
        """See Reading."""
        if self._pieces.size:
            self._read_form(self._form.judged + _FORM_KEYS)
            self._check()
        elif self._closed:
            self._form.finish()
            self._check()
            self._closed = False
            if self._is_json:
                self._document.close()
        else:
            self._document.work()
        self.model = self._document.model if self._is_json else self._form.model
        self.pending = self._pieces.size > 0 or self._closed or self._document.pending

    def _read_form(self, enough: int) -> None:
        piece = self._pieces.next(_FORM_PIECE_BYTES)
        at = 0
        while at < len(piece) and self._form.judged < enough:
            at = self._form.feed(piece, at)
        self._pieces.skip(at)

    def _check(self) -> None:
        if (self._is_json or self.serde_differs) and self._form.names_model:
            raise refusal.form_model(
                "form", "it is JSON, but some servers could read a field `model` from it as from a form"
            )

    def result(self) -> str | None:
        """See Reading."""
        return self._document.result() if self._is_json else named(self._form.model)
