"""A JSON document, read as it comes: by the parsers if it is short and settled at once, else by the scanner."""

from collections import deque
from typing import Final

from bbr.pieces import add_piece
from bbr.reading import name as model
from bbr.reading.base import named
from bbr.reading.fields import BodyFields, FieldValues, ScannedValues
from bbr.reading.json_body import UNSETTLED
from bbr.reading.scan.scanner import BUDGET, Scanner
from bbr.refusal import Refusal

# Two of these, and what ends a turn of the event loop after the first, are a millisecond.
_WORK: Final = BUDGET // 2


class DocumentReading:
    """A Reading of JSON (see bbr.reading.base.Reading).

    Args:
        max_model_bytes: a longer name is refused.
        whole_bytes: a document of up to this is read at its end, by `model.model_at_once`; in a longer one the model is
            known as soon as it has come.
        fields: that are read as well; None for none.
    """

    settled: Final = False

    def __init__(self, max_model_bytes: int, whole_bytes: int, fields: BodyFields | None = None) -> None:
        self.pending = False
        self.model: str | Refusal | None = None
        self._max_model_bytes = max_model_bytes
        self._whole_bytes = whole_bytes
        self._scanner: Scanner | None = None
        self._pieces: deque[bytes | memoryview] = deque()
        self._unread_bytes = 0
        self._at = 0  # how much of the first piece is scanned
        self._closed = False
        self.serde_differs: bool = False
        self._head = b""  # how it begins, without blanks
        self._looked_bytes = 0
        self._looks = True  # until that is known, as far as it matters
        self._to_its_end = False  # nothing is known of it before
        # That of the scanner, if it is needed.
        self._scanned = ScannedValues(fields) if fields is not None else None
        self.fields: FieldValues | None = self._scanned

    @property
    def value_offset(self) -> int | None:
        """Where the model's value begins, once the model is known; None for a document that is read whole."""
        return self._scanner.value_offset if self._scanner is not None else None

    @property
    def passable_bytes(self) -> int:
        """See Reading: what is scanned, up to the closing brace."""
        scanner = self._scanner
        if scanner is None or self._to_its_end:
            return 0
        return scanner.scanned_bytes if scanner.closing is None else scanner.closing

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return self._unread_bytes

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return 0

    def feed(self, octets: bytes | memoryview) -> None:
        """See Reading. Bytes may also be a view, of a few kilobytes at least."""
        if octets:
            if self._looks:
                self._look(octets)
            if isinstance(octets, bytes):
                add_piece(self._pieces, octets)
            else:
                self._pieces.append(octets)
            self._unread_bytes += len(octets)
            if self._scanner is None and self._unread_bytes > self._whole_bytes:
                self._scanner = Scanner(self._max_model_bytes, self._scanned)
            self.pending = self._scanner is not None

    def _look(self, octets: bytes | memoryview) -> None:
        """Look at how the document begins."""
        left = max(model.BEGINNING_BYTES - self._looked_bytes, 0)
        self._looked_bytes += len(octets)
        head = model.without_blanks(self._head + bytes(octets[:left]))
        may_be = model.may_be_serdes(head)
        is_serdes = model.is_serdes(head)
        self.serde_differs = is_serdes or (may_be and self._looked_bytes > model.BEGINNING_BYTES)
        self._looks = may_be and not self.serde_differs
        self._head = head

    def close(self) -> None:
        """See Reading."""
        self._closed = self.pending = True

    def work(self) -> None:
        """See Reading."""
        scanner = self._scanner
        if scanner is None:
            self._read_whole(b"".join(self._pieces))
            return
        self._scan(scanner)
        if self._closed and not self._pieces:
            try:
                scanner.finish()
            except Refusal as refused:
                # The document itself is sound then: the scanner refuses its model last.
                if refused.kept() is not scanner.model or not refused.unnamed:
                    raise
            self.pending = False
        if not (self._to_its_end and self.pending):
            self.model = scanner.model

    def _read_whole(self, octets: bytes) -> None:
        fields = FieldValues(self._scanned.config) if self._scanned is not None else None
        found = model.model_at_once(octets, self._max_model_bytes, fields)
        self._pieces.clear()
        if found is UNSETTLED:
            # Read in bits, but as one that is read whole: it is forwarded when all of it is known, or not at all.
            self._to_its_end = True
            self._scanner = Scanner(self._max_model_bytes, self._scanned)
            self._pieces.append(octets)
        else:
            self.model = found
            self.fields = fields
            self._unread_bytes = 0
            self.pending = False

    def _scan(self, scanner: Scanner) -> None:
        left = _WORK
        while self._pieces and left > 0:
            piece = self._pieces[0]
            self._at = scanner.scan(piece, self._at, left)
            left = scanner.unspent
            if self._at == len(piece):
                self._pieces.popleft()
                self._unread_bytes -= len(piece)
                self._at = 0
        if self._scanned is not None:
            self._scanned.scanned_bytes = scanner.scanned_bytes
        self.pending = bool(self._pieces) or self._closed

    def result(self) -> str | None:
        """See Reading."""
        return named(self.model)
