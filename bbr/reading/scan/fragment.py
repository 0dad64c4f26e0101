"""Judging many tokens of a document at once, from one place between two of them to another.

Pure. A *fragment* begins and ends between tokens, so it may close containers that it has not opened, and open some that
it does not close. With the brackets that it lacks put before and behind it, it is a whole document, and msgspec says
whether that is JSON: it passes over a value without making one, ten times as fast as regular expressions, and as
strictly as orjson but for two things. It takes any bytes for UTF-8, so they must have been checked; and numbers of any
size, so where one could be infinite, orjson is asked as well. What is left to find are the brackets: which stay open
behind the fragment, and how deep they went.

That a fragment is not taken does not say that it is wrong: its tokens must be looked at one by one then.
"""

import re
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Final, NamedTuple

import msgspec
import orjson

from bbr.reading.scan import grammar

# How many levels a fragment may span, lest msgspec comes to Python's limit, which counts the callers as well. Where a
# text is steeper, so many bytes are taken that they can't be.
_MOST_LEVELS: Final = 500
_FEW_LEVELS: Final = 400
_STEEP_BYTES: Final = 512

# Behind the last bracket or comma of JSON there are a key and its value at most. A text with more strings is not JSON.
_MOST_STRINGS_BEHIND: Final = 2

# How often pairs of brackets are taken out of a text before it is walked along.
_REDUCTIONS: Final = 8

# What a fragment costs, in ns at the worst: at all; by byte, bracket and string; by byte if there are keys to look
# at, for each that is looked for, and if orjson must look at the numbers.
_COST: Final = 12_000
_OCTET_COST: Final = 5
_BRACKET_COST: Final = 40
_STRING_COST: Final = 50
_KEY_COST: Final = 25
_NUMBERS_COST: Final = 25

_OBJECT: Final = ord("{")
_BACKSLASH: Final = ord("\\")  # as a number: to look for bytes in bytes costs an exception inside
_COMMA: Final = ord(",")
_CLOSING_BRACKETS: Final = b"]}"
_MARK: Final = b"!"  # stands nowhere outside a string
_CLOSING: Final = bytes.maketrans(b"[{", b"]}")
_ALIKE: Final = bytes.maketrans(b"}", b"]")
_NOT_BRACKETS: Final = bytes(octet for octet in range(256) if octet not in b"[]{}")
_NOT_MARKED: Final = bytes(octet for octet in range(256) if octet not in b"[]{}" + _MARK)
_STEPS: Final = bytes.maketrans(b"[{]}" + _MARK, b"\x01\x01\xff\xff\x00")  # 1, -1 and 0
_NOT_SCALARS: Final = b"[]{}: \t\n\r"
_SCALARS_AND_COLONS: Final = b" \t\n\r:+-.0123456789eEtrufalsn"
_UP_AND_DOWN: Final = re.compile(rb"([\[{]*+)(\]*+)")

_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_EXPONENT: Final = b"e00"
_LONG_DIGITS: Final = b"0" * 200

_pass_over: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Fragment(NamedTuple):
    """What has been taken.

    Attributes:
        size: how many bytes.
        stack: the brackets that are open behind them.
        last: the last of them: a bracket or a comma, which decides what must follow.
        more: how many to try next; 0 if that is in vain.
        cost: what it took at the worst, in ns.
    """

    size: int
    stack: bytearray
    last: int
    more: int
    cost: int


def is_text(octets: bytes) -> bool:
    """Tell whether bytes in UTF-8 can be the inside of a string."""
    return _is_json(b'"%b"' % octets, _pass_over)


def unescaped(octets: bytes) -> bytes:
    """Return bytes of a document, from no escape's middle on, without backslashes and quotes that are escaped."""
    return octets.replace(b"\\\\", b"__").replace(b'\\"', b"__") if _BACKSLASH in octets else octets


def read(
    octets: bytes, plain: bytes, most: int, stack: bytearray, begun: bytes, until: grammar.Keys | None
) -> Fragment:
    """Take a fragment, as long as can be, from the beginning of a text.

    Args:
        octets: the text; UTF-8, in a document between two tokens.
        plain: the same `unescaped`.
        most: how many bytes to try.
        stack: the brackets that are open, one at least.
        begun: a beginning of the innermost container that the text can follow.
        until: end before one of these keys of the root; None: anywhere.

    Returns:
        The fragment, of size 0 if none could be taken.
    """
    cost = _COST
    more = most if most < len(plain) else 0
    plain = plain[:most]
    while True:
        outside, size, strings = _outside_strings(plain)
        brackets = outside.translate(_ALIKE, _NOT_BRACKETS)
        behind, lowest, highest = _walk(brackets, stack)
        cost += _OCTET_COST * len(plain) + _BRACKET_COST * len(brackets) + _STRING_COST * strings
        if lowest > 0:
            room = _room(size, brackets, len(stack), highest, highest - lowest)
        else:  # the root's last bracket is not the fragment's, nor is what would follow it
            room = size - 1 if lowest == 0 and not behind and outside[-1] in _CLOSING_BRACKETS else 0
        if room == size and until is not None and lowest == 1 and until.end.search(plain, 0, size):
            cost += _KEY_COST * until.count * size
            room = _before_root_key(plain[:size], len(stack), until)
        if room == size:
            break
        more = max(room, _STEEP_BYTES)
        plain = plain[:room]
    if size:
        outer = stack[lowest - 1 : -1].replace(b"{", b'{"":')
        filler = (b'"":1' if behind[-1] == _OBJECT else b"1") if outside[-1] == _COMMA else b""
        closing = behind[lowest - 1 :].translate(_CLOSING)[::-1]
        document = b"".join((outer, begun, octets[:size], filler, closing))
        if _may_be_infinite(outside):
            cost += _NUMBERS_COST * size
            document = document if _are_finite(outside) else b""
        if _is_json(document, _pass_over):
            return Fragment(size, behind, outside[-1], more, cost)
    return Fragment(0, stack, 0, 0, cost)


def _outside_strings(plain: bytes) -> tuple[bytes, int, int]:
    """Return what is outside strings, up to the last bracket or comma; the size with strings; and how many of these."""
    parts = plain.split(b'"')
    size = len(plain)
    if len(parts) % 2 == 0:
        size -= len(parts.pop()) + 1  # a string without an end
    last = len(parts) - 1
    first = last - 2 * _MOST_STRINGS_BEHIND
    while not (part := parts[last].rstrip(_SCALARS_AND_COLONS)) and last:
        if last <= first:
            return b"", 0, len(parts) // 2
        size -= len(parts[last]) + len(parts[last - 1]) + 2
        last -= 2
    size -= len(parts[last]) - len(part)
    return b"".join((*parts[:last:2], part)), size, last // 2


def _walk(brackets: bytes, stack: bytearray) -> tuple[bytearray, int, int]:
    """Go up and down, and return the stack at the end, and the lengths of the lowest and of the highest on the way.

    Types are not compared; the lowest is negative if more is closed than was open. The highest may have been higher by
    what has been taken out.
    """
    for _ in range(_REDUCTIONS):
        size = len(brackets)
        brackets = brackets.replace(b"[]", b"").replace(b"{]", b"")
        if size - len(brackets) < size >> 3:  # few but steep, or none
            break
    stack = stack[:]
    lowest = highest = len(stack)
    for up, down in _UP_AND_DOWN.findall(brackets):
        stack += up
        level = len(stack)
        if level > highest:  # max and min take three times as long
            highest = level
        level -= len(down)
        if level < lowest:
            lowest = level
            if level < 0:
                break
        del stack[level:]
    return stack, lowest, highest


def _room(size: int, brackets: bytes, level: int, highest: int, span: int) -> int:
    """Return how much of a text of a size may be taken at once, by the levels that it goes through."""
    if span > _MOST_LEVELS and size > _STEEP_BYTES:
        return max(_STEEP_BYTES, size * _FEW_LEVELS // len(brackets))
    if highest + _REDUCTIONS > grammar.MAX_DEPTH:
        highest = max(_levels(brackets, level))
    return size if highest <= grammar.MAX_DEPTH else 0


def _levels(brackets: bytes, level: int) -> Iterator[int]:
    """Return the levels before, between and behind brackets and marks."""
    return accumulate(memoryview(brackets.translate(_STEPS)).cast("b"), initial=level)


def _before_root_key(plain: bytes, level: int, until: grammar.Keys) -> int:
    """Return where the first such key of the root is in a text that begins at a level, or the text's size."""
    parts = until.before_colon.split(plain)
    marked = b"".join(_MARK.join(parts).split(b'"')[::2]).translate(None, _NOT_MARKED)
    levels = list(_levels(marked, level))
    mark = -1
    for number in range(len(parts) - 1):
        mark = marked.find(_MARK, mark + 1)
        if mark < 0:
            return 0  # it was no key, so this is no JSON
        if levels[mark] == 1:
            return next(islice(until.before_colon.finditer(plain), number, None)).start()
    return len(plain)


def _may_be_infinite(outside_strings: bytes) -> bool:
    """Tell whether one of the numbers may be infinite, or too long."""
    digits = outside_strings.translate(_DIGITS, b"+")
    return _LONG_EXPONENT in digits or _LONG_DIGITS in digits


def _are_finite(outside_strings: bytes) -> bool:
    """Tell whether numbers are finite, and none of them too long."""
    scalars = list(filter(None, outside_strings.translate(None, _NOT_SCALARS).split(b",")))
    too_long = max(map(len, scalars)) > grammar.MAX_NUMBER_BYTES
    return not too_long and _is_json(b"[%b]" % b",".join(scalars), orjson.loads)


def _is_json(document: bytes, read: Callable[[bytes], object]) -> bool:
    try:
        read(document)
    except (msgspec.DecodeError, orjson.JSONDecodeError, RecursionError):
        return False
    return True
