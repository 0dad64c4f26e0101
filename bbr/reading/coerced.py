"""A long JSON document whose `model` may be of any type, as the Go routers read it (--compat)."""

from typing import Final

from bbr.pieces import add_piece
from bbr.reading.document import DocumentReading
from bbr.reading.fields import BodyFields
from bbr.reading.go_model import looked_at, text_at
from bbr.refusal import Refusal

# What is wrong with keys is no matter of the value's type.
_KEYS_AT_FAULT: Final = ("model-duplicate", "model-spelling")


class CoercedReading(DocumentReading):
    """A Reading of JSON that is read to its end before its model is known (see bbr.reading.base.Reading).

    Args:
        max_model_bytes: a longer name is refused.
        fields: that are read as well; None for none.
    """

    def __init__(self, max_model_bytes: int, fields: BodyFields | None = None) -> None:
        super().__init__(max_model_bytes, 0, fields)
        self._kept: list[bytes] = []
        self._fed_bytes = 0

    @property
    def unread_bytes(self) -> int:
        """See Reading: all of them are kept, since the value must be found again."""
        return self._fed_bytes

    def feed(self, octets: bytes | memoryview) -> None:
        """See DocumentReading."""
        octets = bytes(octets)
        super().feed(octets)
        self._fed_bytes += len(octets)
        add_piece(self._kept, octets)

    def work(self) -> None:
        """See Reading."""
        try:
            super().work()
            if self._closed and not self.pending:
                self.result()
        except Refusal as refused:
            scanner = self._scanner
            if scanner is None or scanner.model is not refused.kept() or refused.reason in _KEYS_AT_FAULT:
                raise  # the document's own fault
            fields = self.fields
            if fields is not None and fields.refusal is not None:
                raise fields.refusal from None
            self.model = self._text_at(scanner.value_offset)
            self.pending = False
        if self._closed and not self.pending:
            self._kept.clear()
            self._fed_bytes = 0

    def _text_at(self, offset: int) -> str:
        """Return the text of the value that begins at an offset of a document that is known to be one."""
        try:
            return text_at(b"".join(self._from(offset)), 0, self._max_model_bytes)
        except Refusal as refused:
            raise refused.at(offset) from None

    def _from(self, offset: int) -> list[bytes]:
        """Return what is kept from an offset on, as much as is looked at."""
        found = []
        start, end = offset, offset + looked_at(self._max_model_bytes)
        at = 0
        for piece in self._kept:
            if at >= end:
                break
            if at + len(piece) > start:
                found.append(piece[max(start - at, 0) : end - at])
            at += len(piece)
        return found
