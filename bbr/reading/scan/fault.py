"""What is wrong with a document, where, and what its refusal says of it.

Pure.
"""

from typing import Final

from bbr import refusal
from bbr.refusal import Refusal

# The reason and the sentence of a number that no other parser could hold either.
NOT_FINITE: Final = ("non-finite-number", "a number that is not finite")

_BOM: Final = b"\xef\xbb\xbf"
_NOT_FINITE_WORDS: Final = (b"NaN", b"-NaN", b"Infinity", b"-Infinity")
_LONGEST_WORD: Final = max(map(len, _NOT_FINITE_WORDS))


class Fault(Exception):  # noqa: N818 (the document's, not an error of ours)
    """Bytes that no document has at their place.

    Args:
        place: their offset in the piece that is being scanned.
        why: a sentence for the client, without the end.
        reason: the refusal's.
    """

    def __init__(self, place: int, why: str, reason: str = "invalid-json") -> None:
        super().__init__(why)
        self.place = place
        self.why = why
        self.reason = reason

    def may_change(self, rest: bytes) -> bool:
        """Tell whether the bytes from the fault on may become a word with a sentence of its own, if more come."""
        return len(rest) < _LONGEST_WORD and any(word.startswith(rest) for word in _NOT_FINITE_WORDS if word != rest)

    def refusal(self, rest: bytes, offset: int) -> Refusal:
        """Return the refusal: `rest` are the bytes from the fault on, at an offset of the document."""
        if not offset and rest.startswith(_BOM):
            return refusal.invalid_json("byte-order-mark", "it begins with a byte order mark", 0)
        if rest.startswith(_NOT_FINITE_WORDS):
            return refusal.invalid_json(*NOT_FINITE, offset)
        return refusal.invalid_json(self.reason, self.why, offset)
