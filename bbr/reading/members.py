"""Where the top-level members of a JSON document stand, found by its quotes.

Pure. A long document of a chat is a few long strings, and to look for the quote that ends one takes a hundredth of
passing over its bytes one by one. What holds many strings, or much besides strings, is left to a parser: here that
would take longer.
"""

from typing import Final

from bbr.reading import plain

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_COMMA: Final = ord(",")
_OPENING_BRACE: Final = ord("{")
_CLOSING_BRACE: Final = ord("}")
_OPENING_BRACKET: Final = ord("[")
_CLOSING_BRACKET: Final = ord("]")
_SPACE: Final = ord(" ")  # the other blanks are below it, and no other byte of a valid document is, outside of strings

# What may be done for a document: so many steps, and one for each so many of its bytes. A step looks for a quote, or
# goes over so many bytes one by one.
_STEPS: Final = 16
_OCTETS_PER_STEP_SHIFT: Final = 9

# A rest of a document that is longer than its whole, shifted by so much, is not worth the while.
_REST_SHIFT: Final = 2
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
    left = _steps(body)
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


def without_plain_text(body: bytes) -> bytes | None:
    """Return a document with nothing inside of its long strings of plain text, if little of it is left then.

    That is a JSON document if the whole is one, and only then: strings begin and end at the same quotes in both, and
    all else is the same.

    Args:
        body: a document, which may be none.

    Returns:
        None if more than a quarter would be left, or if it takes too many steps.
    """
    parts: list[bytes] = []
    view = memoryview(body)
    left = _steps(body)
    kept_from = 0
    quote = body.find(b'"')
    while quote >= 0:
        end, left = string_end(body, quote, left)
        if left < 0:
            return None
        is_long = end - quote > plain.LEAST_BYTES
        if is_long and body.find(b"\\", quote, end) < 0 and plain.is_plain(view[quote + 1 : end - 1]):
            parts.append(body[kept_from : quote + 1])
            kept_from = end - 1
        quote = body.find(b'"', end)
    parts.append(body[kept_from:])
    rest = b"".join(parts)
    return rest if len(rest) <= len(body) >> _REST_SHIFT else None


def _steps(body: bytes) -> int:
    return _STEPS + (len(body) >> _OCTETS_PER_STEP_SHIFT)


def _token(body: bytes, at: int) -> int:
    """Return where the next byte stands that is no blank; -1 if that is too far away."""
    for place in range(at, min(at + _MOST_IN_A_ROW, len(body))):
        if body[place] > _SPACE:
            return place
    return -1


def _value_end(body: bytes, at: int, left: int) -> tuple[int, int]:
    """Return where a value ends, and how many steps are left: -1 if they are too few."""
    octet = body[at]
    if octet == _QUOTE:
        return string_end(body, at, left)
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
        at, left = string_end(body, quote, left)
    return at, -1


def string_end(body: bytes, at: int, left: int) -> tuple[int, int]:
    """Return where a string ends that begins at a place, and how many steps are left: -1 if they are too few.

    Args:
        body: a document, which may be none: then the string may have no end, which takes too many steps.
        at: where its first quote stands.
        left: how many steps may be taken.
    """
    while left > 0:
        at = body.find(b'"', at + 1)
        if at < 0:
            break
        escapes = 0
        while escapes < _MOST_IN_A_ROW and body[at - escapes - 1] == _BACKSLASH:
            escapes += 1
        if escapes == _MOST_IN_A_ROW:
            break
        left -= 1 + (escapes >> _STEP_SHIFT)
        if not escapes & 1:  # each two backslashes are one that is meant
            return at + 1, left
    return at, -1
