"""Skips up to 32 KiB of a long document in one step, with simdjson.

Pure. The caller guesses which brackets are open where the text begins. This module guesses a place to cut the text. It
puts a beginning and an end that fit the guess around the text, and asks simdjson whether the result is one valid
document. A wrong guess makes it invalid: the end has no quote that could complete a string, and it closes only the
brackets of the guess. So the scanner does not have to find quotes and brackets itself, which takes ten times as long in
strings with escapes.
"""

from typing import Any, Final

from bbr.reading import one_pass
from bbr.reading.scan.grammar import MAX_DEPTH

# The limits of one step. The scanner reads shorter texts as fast without simdjson.
LEAST_BYTES: Final = 2 << 10
MOST_BYTES: Final = 32 << 10

# The highest cost of one attempt: in ns, and in ns for each byte. simdjson parses a text up to six times.
COST: Final = 6_000
OCTET_COST: Final = 8

_CLOSING: Final = bytes.maketrans(b"[{", b"]}")


def text_bytes(octets: bytes) -> int:
    """Return how many bytes at the beginning of a text belong to the string that it begins in; 0 if it may end.

    They end before a blank. The text must not be dense (`is_dense`).
    """
    # A blank is never part of an escape, so a cut before a blank does not split one.
    cut = octets.rfind(b" ")
    if cut < LEAST_BYTES:
        return 0
    document = one_pass.parsed(b'["%b"]' % octets[:cut])
    return cut if document is not None and len(document) == 1 else 0


def is_dense(octets: bytes) -> bool:
    """Tell whether a text may have a number that would take simdjson long; see `one_pass.has_long_number`."""
    return one_pass.has_long_number(octets)


def into_text(octets: bytes, begun: bytes, stack: bytes) -> int:
    """Return how many bytes at the beginning of a text end inside a string that is a value, before a blank.

    Args:
        octets: the text, not dense. It begins between two tokens, or inside a string.
        begun: a beginning of a document that the text can follow. The document's root is an object.
        stack: the brackets that are open around the string, as the caller guesses.

    Returns:
        0 if the guess is wrong, or if the scanner has to read the text closely: it has another member of the root, is
        nested deeply, or is invalid.
    """
    cut = octets.rfind(b" ")
    return cut if _is_document(octets, cut, begun, b'"', stack) else 0


def behind_object(octets: bytes, begun: bytes, stack: bytes) -> int:
    """Return how many bytes at the beginning of a text end between two objects of a list. As `into_text` otherwise."""
    cut = max(octets.rfind(b'},{"'), octets.rfind(b'}, {"')) + 1
    return cut if _is_document(octets, cut, begun, b"", stack) else 0


def beginning(stack: bytes, begun: bytes) -> bytes:
    """Return a beginning of a document with these brackets open; `begun` is the text from the innermost one on."""
    return stack[:-1].replace(b"{", b'{"":') + begun


def _is_document(octets: bytes, cut: int, begun: bytes, end: bytes, stack: bytes) -> bool:
    if cut < LEAST_BYTES:
        return False
    text = octets[:cut]
    closing = stack.translate(_CLOSING)[::-1]
    document: Any = one_pass.parsed(b"".join((begun, text, end, closing)))
    # The scanner reads every member of the root itself: one could be `model`.
    if document is None or len(document) != 1:
        return False
    document = None
    if one_pass.openings(text) + begun.count(b"[") + begun.count(b"{") <= MAX_DEPTH:
        return True
    return one_pass.is_shallow(b"".join((begun, text, end, closing)))
