"""Where the top-level members of a JSON document stand, found by its quotes.

Pure. A long document of a chat is a few long strings, and to look for the quote that ends one takes a hundredth of
passing over its octets one by one. What holds many strings, or much besides strings, is left to a parser: here that
would take longer.
"""

from typing import Final

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_OPENING_BRACE: Final = ord("{")
_CLOSING_BRACE: Final = ord("}")
_OPENING_BRACKET: Final = ord("[")
_CLOSING_BRACKET: Final = ord("]")
_SPACE: Final = ord(" ")  # the other blanks are below it, and no other octet of a valid document is, outside of strings

# What may be done for a document: so many steps, and one for each so many of its octets. A step looks for a quote, or
# goes over so many octets one by one.
_STEPS: Final = 16
_OCTETS_PER_STEP_SHIFT: Final = 9
_STEP_SHIFT: Final = 3
# The most blanks in a row, and backslashes.
_MOST_IN_A_ROW: Final = 128


def places(body: bytes) -> dict[str, tuple[int, int]] | None:
    """Return where the value of each top-level member begins and ends, in order.

    Args:
        body: a valid JSON document that is an object. It has to be known to be one.

    Returns:
        None if it takes too many steps, if a key has an escape, or if two are equal: a parser has to look at those.
    """
    found: dict[str, tuple[int, int]] = {}
    left = _STEPS + (len(body) >> _OCTETS_PER_STEP_SHIFT)
    at = body.find(b"{")
    while True:
        key_at = _token(body, at + 1)
        if key_at < 0:
            return None
        if body[key_at] == _CLOSING_BRACE:  # of an empty object
            return found
        key_end = body.find(b'"', key_at + 1)
        colon_at = _token(body, key_end + 1)
        value_at = colon_at if colon_at < 0 else _token(body, colon_at + 1)
        if value_at < 0 or body.find(b"\\", key_at, key_end) >= 0:
            return None
        key = body[key_at + 1 : key_end].decode()
        end, left = _value_end(body, value_at, left)
        at = end if left < 0 else _token(body, end)
        if key in found or left < 0 or at < 0:
            return None
        found[key] = value_at, end
        if body[at] == _CLOSING_BRACE:
            return found


def _token(body: bytes, at: int) -> int:
    """Return where the next octet stands that is no blank; -1 if that is too far away."""
    for place in range(at, min(at + _MOST_IN_A_ROW, len(body))):
        if body[place] > _SPACE:
            return place
    return -1


def _value_end(body: bytes, at: int, left: int) -> tuple[int, int]:
    """Return where a value ends, and how many steps are left: -1 if they are too few."""
    octet = body[at]
    if octet == _QUOTE:
        return _string_end(body, at, left)
    depth = 0
    while left >= 0:
        quote = body.find(b'"', at)
        end = quote if quote >= 0 else len(body)
        left -= 1 + ((end - at) >> _STEP_SHIFT)
        if left < 0:
            break
        while at < end:
            octet = body[at]
            if octet in (_OPENING_BRACE, _OPENING_BRACKET):
                depth += 1
            elif octet in (_CLOSING_BRACE, _CLOSING_BRACKET):
                if depth <= 1:  # its own end, or that of the object that a number, true, false or null stands in
                    return at + depth, left
                depth -= 1
            elif octet == _COMMA and not depth:
                return at, left
            at += 1
        at, left = _string_end(body, quote, left)
    return at, -1


def _string_end(body: bytes, at: int, left: int) -> tuple[int, int]:
    """Return where a string ends that begins at a place, and how many steps are left: -1 if they are too few."""
    while left > 0:
        at = body.find(b'"', at + 1)
        escapes = 0
        while escapes < _MOST_IN_A_ROW and body[at - escapes - 1] == _BACKSLASH:
            escapes += 1
        if escapes == _MOST_IN_A_ROW:
            break
        left -= 1 + (escapes >> _STEP_SHIFT)
        if not escapes & 1:  # each two backslashes are one that is meant
            return at + 1, left
    return at, -1
