"""Passing over much of a long document at once, by simdjson.

Pure. Where a document may be cut, and which brackets are open there, is only guessed. The text up to there is put
between a beginning and an end that belong to the guess, and simdjson says whether all of it is one document. It is only
if the guess is right: an end without quotes completes no string, and closes no bracket that is not open. So nobody has
to look for quotes and brackets first, which takes ten times as long where strings have escapes.
"""

from typing import Any, Final

from bbr.reading import one_pass
from bbr.reading.scan.grammar import MAX_DEPTH

# Of less, it is as fast to look at it in other ways; and the most at once.
LEAST_BYTES: Final = 2 << 10
MOST_BYTES: Final = 32 << 10

# What an attempt costs at the worst: at all, and by byte, in ns. A text is parsed up to six times.
COST: Final = 6_000
OCTET_COST: Final = 8

_CLOSING: Final = bytes.maketrans(b"[{", b"]}")


def text_bytes(octets: bytes) -> int:
    """Return how many bytes from the first one on, up to a blank, are the inside of one string; 0 if it may end.

    They must not be dense.
    """
    # No blank stands inside of an escape, or of a pair of them.
    cut = octets.rfind(b" ")
    if cut < LEAST_BYTES:
        return 0
    document = one_pass.parsed(b'["%b"]' % octets[:cut])
    return cut if document is not None and len(document) == 1 else 0


def is_dense(octets: bytes) -> bool:
    """Tell whether there is something in a text for which simdjson would take long; see `one_pass`."""
    return one_pass.has_long_number(octets)


def into_text(octets: bytes, begun: bytes, stack: bytes) -> int:
    """Return how many bytes from the first one on end inside of a string that is a value, up to a blank.

    Args:
        octets: the text, not dense; it begins between two tokens, or inside of a string.
        begun: a beginning of a document that it can follow; its root is an object.
        stack: the brackets that are guessed to be open around the string.

    Returns:
        0 if the guess is wrong, or if there is something in the text that has to be looked at closely: a member of the
        root, deep nesting, or a fault.
    """
    cut = octets.rfind(b" ")
    return cut if _is_document(octets, cut, begun, b'"', stack) else 0


def behind_object(octets: bytes, begun: bytes, stack: bytes) -> int:
    """Return how many bytes from the first one on end behind an object that another one follows, as `into_text`."""
    cut = max(octets.rfind(b'},{"'), octets.rfind(b'}, {"')) + 1
    return cut if _is_document(octets, cut, begun, b"", stack) else 0


def beginning(stack: bytes, begun: bytes) -> bytes:
    """Return a beginning of a document in which brackets are open, the innermost of them `begun`."""
    return stack[:-1].replace(b"{", b'{"":') + begun


def _is_document(octets: bytes, cut: int, begun: bytes, end: bytes, stack: bytes) -> bool:
    if cut < LEAST_BYTES:
        return False
    text = octets[:cut]
    closing = stack.translate(_CLOSING)[::-1]
    document: Any = one_pass.parsed(b"".join((begun, text, end, closing)))
    # A member of the root beside the one that is begun is to be looked at.
    if document is None or len(document) != 1:
        return False
    document = None
    if one_pass.openings(text) + begun.count(b"[") + begun.count(b"{") <= MAX_DEPTH:
        return True
    return one_pass.is_shallow(b"".join((begun, text, end, closing)))
