"""One scalar of a document, or as much of it as a piece holds.

Pure. The functions return the offset in the piece at which they have come to the end. That is where they began if they
need more bytes. They raise a Fault at bytes that no scalar has.
"""

import math
from typing import Final

from bbr.reading.scan import fragment, grammar
from bbr.reading.scan.fault import NOT_FINITE, Fault
from bbr.reading.scan.grammar import MAX_NUMBER_BYTES

LITERALS: Final = {word[0]: word for word in (b"true", b"false", b"null")}

# A shorter part of a string costs less by `grammar.TEXT`.
_TEXT_BYTES: Final = 400


def number_end(piece: bytes, start: int, final: bool) -> int:
    """Return the end of a number; `final` says that nothing follows the piece."""
    end = grammar.NUMBER_OCTETS.match(piece, start).end()
    if end - start > MAX_NUMBER_BYTES:
        raise Fault(start, f"a number of more than {MAX_NUMBER_BYTES} bytes")
    if end == len(piece) and not final:
        return start
    found = grammar.NUMBER.match(piece, start)
    if not found:
        return _cut_number(piece, start, start + 1, "no digit after sign")
    number, end = found[0], found.end()
    behind = piece[end : end + 1]
    if number in (b"0", b"-0") and behind.isdigit():
        raise Fault(end - 1, "number with leading zero is not allowed")
    has_exponent = b"e" in number or b"E" in number
    if behind == b"." and b"." not in number and not has_exponent:
        return _cut_number(piece, start, end + 1, "no digit after decimal point")
    if behind in (b"e", b"E") and not has_exponent:
        signed = piece[end + 1 : end + 2] in (b"+", b"-")
        return _cut_number(piece, start, end + 1 + signed, "no digit after exponent sign")
    if not math.isfinite(float(number)):
        reason, why = NOT_FINITE
        raise Fault(start, why, reason)
    return end


def _cut_number(piece: bytes, start: int, place: int, why: str) -> int:
    """Refuse a number that lacks a digit at a place, unless the piece ends there."""
    if place == len(piece):
        return start
    raise Fault(place, why)


def literal_end(piece: bytes, start: int) -> int:
    """Return the end of `true`, `false` or `null`, of which the first letter has been seen."""
    word = LITERALS[piece[start]]
    rest = piece[start : start + len(word)]
    if rest == word:
        return start + len(word)
    if word.startswith(rest):
        return start
    raise Fault(start, f"invalid literal, expected '{word.decode()}'")


def text_end(piece: bytes, plain: bytes, position: int) -> int:
    """Return where the inside of a string ends, or something in it that is not whole or not right.

    Args:
        piece: the inside of a string from `position` on, and whatever follows it.
        plain: the same, `fragment.unescaped`.
        position: where to begin; it stands in the middle of no escape.
    """
    end = plain.find(b'"', position)
    if end < 0:
        end = len(plain)
        escape = plain.find(b"\\", max(position, end - grammar.LONGEST_ESCAPE))
        if escape >= 0:
            half = escape - grammar.LONGEST_ESCAPE // 2  # of a pair, perhaps
            end = half if half >= position and plain.startswith(b"\\u", half) else escape
    if end - position >= _TEXT_BYTES and fragment.is_text(piece[position:end]):
        position = end
    return grammar.TEXT.match(piece, position).end()


def judge_escape(piece: bytes, start: int) -> None:
    """Do nothing if an escape may be whole when more bytes have come; refuse it if it is wrong."""
    escape = piece[start : start + grammar.LONGEST_ESCAPE]
    if grammar.UNFINISHED_ESCAPE.fullmatch(escape):
        return
    if grammar.LONE_SURROGATE.match(escape):
        raise Fault(start, "half of a surrogate pair", "lone-surrogate")
    raise Fault(start, "invalid escaped sequence in string")
