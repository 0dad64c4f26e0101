"""The `model` of a JSON body by one pass of simdjson, which settles nearly every body of a real client.

Pure. simdjson judges as orjson does: UTF-8, grammar, and numbers that a double can hold. It shows all keys of an
object, also those that stand twice, compares them byte by byte, and makes no Python object of what nobody asks for.

What it can't settle, bbr.reading.json_body looks at with two other parsers. That is each body that is to be refused,
and some sound ones: those whose `model` is no text, that have a key twice, that are nested deep or have 10,000
brackets, or a number of 20 digits or more, for each of which simdjson may take 13 us.
"""

import itertools
import re
import sys
from typing import Any, Final

from bbr.reading.scan.grammar import MAX_TRAILING_BLANKS

# What parsers that compare without regard to letter case take for it: Go's encoding/json among them.
ALIKE: Final = frozenset(
    "".join(letters) for letters in itertools.product(*zip("model", "MODEL", strict=True)) if letters != tuple("model")
)

# So many members are looked at one by one. Real requests have 40.
MOST_MEMBERS: Final = 128

# A longer text is no name.
LONGEST_NAME: Final = 32 << 10

# Longer bodies are left to the other parsers. simdjson takes 0.5 ms for the slowest of this size, or twice that,
# and keeps up to 14 bytes for each byte of the longest that it has read.
MOST_BYTES: Final = 256 << 10

# Documents of more levels are left to the other parsers: real requests have 10. The router allows MAX_DEPTH, but how
# deep msgspec goes, which looks for the model's place if it is to be replaced, depends on the version of Python.
MOST_LEVELS: Final = 400
# A shorter document has no room for so many.
_DEEP_BYTES: Final = 2 * MOST_LEVELS
# How many brackets may open something: what is parsed twice, to see how deep it is, takes up to 6 ns for each.
MOST_OPENINGS: Final = 10_000
# How deep simdjson goes. So many levels are put around a document that may have too many.
_DEPTH: Final = 1024
_OPENING: Final = b"[" * (_DEPTH - MOST_LEVELS)
_CLOSING: Final = b"]" * (_DEPTH - MOST_LEVELS)

# simdjson skips a byte order mark.
_BYTE_ORDER_MARK: Final = 0xEF

# Digits of a number for which simdjson computes exactly. Of shorter bodies, it takes less than a millisecond for all.
LONG_DIGITS: Final = 20
_LONG_FROM: Final = 2 << 10
# One byte of so many is looked at: two in a row stand in each number that is so long. Where they do, both are looked at
# closely, with what is around them. If there are many, all of the body is looked at, or it is left to the other parsers
# if it is long: a body of digits takes simdjson 2 ns a byte.
_STRIDE: Final = LONG_DIGITS // 2
_FEW: Final = 256
_LONGEST_OF_DIGITS: Final = 128 << 10
_DIGITS: Final = bytes(ord("0" if chr(octet) in ".0123456789" else " ") for octet in range(256))
_TWO_DIGITS: Final = b"00"
_LONG: Final = b"0" * LONG_DIGITS
_LONG_NUMBER: Final = re.compile(rb"[.0-9]{%d}" % LONG_DIGITS)

if sys.version_info >= (3, 14):  # for which simdjson has no wheels
    _PARSER: Any = None
    _OBJECT: Any = None
    _CONTAINERS: Any = ()
else:
    import simdjson

    _PARSER = simdjson.Parser(MOST_BYTES + len(_OPENING) + len(_CLOSING))
    _OBJECT = simdjson.Object
    _CONTAINERS = (_OBJECT, simdjson.Array)

# Stands for a document that is neither an object nor an array.
_SCALAR: Final = ()
AVAILABLE: Final = _PARSER is not None


def name_in(body: bytes) -> str | None:
    """Return the text of the top-level `model` of a complete JSON document; "" if it has none, or is no object.

    Returns:
        None if it is not settled: the body is no strict JSON document, is nested too deep, has a `model` that is no
        text or an empty one, has a key twice, or one that is `model` for some parsers only, or would take long.
    """
    size = len(body)
    if not AVAILABLE or not 0 < size <= MOST_BYTES or body[0] == _BYTE_ORDER_MARK:
        return None
    if size > _LONG_FROM and has_long_number(body):
        return None
    # Which makes a difference to the scanner.
    if size > MAX_TRAILING_BLANKS and body[-MAX_TRAILING_BLANKS - 1 :].isspace():
        return None
    brackets = openings(body) if size > _DEEP_BYTES else 0
    if brackets > MOST_OPENINGS:
        return None
    document = parsed(body)
    if document is None:
        return None
    name = _name(document)
    document = None  # the parser may not be used again before
    return name if brackets <= MOST_LEVELS or is_shallow(body) else None


def parsed(body: bytes) -> Any:
    """Return a document, to be let go before the next is parsed; None if simdjson does not take it.

    It does not take numbers of more than 64 bits, and more than 1,024 levels.
    """
    try:
        document = _PARSER.parse(body)
    except (ValueError, RuntimeError):
        return None
    return document if type(document) in _CONTAINERS else _SCALAR


def is_shallow(body: bytes) -> bool:
    """Tell whether a valid document has no more than MOST_LEVELS levels."""
    # Brackets around what is not valid could make it valid.
    return parsed(b"%b%b%b" % (_OPENING, body, _CLOSING)) is not None


def _name(document: Any) -> str | None:
    """Return the same of a document that is parsed."""
    if type(document) is not _OBJECT:
        return ""
    if len(document) > MOST_MEMBERS:
        return None
    keys = list(document)
    names = frozenset(keys)
    if len(names) != len(keys) or not ALIKE.isdisjoint(names) or "\0" in "".join(keys):
        return None
    if "model" not in names:
        return ""
    name = document["model"]
    return name if type(name) is str and 0 < len(name) <= LONGEST_NAME else None


def openings(body: bytes) -> int:
    """Return how many brackets open something, those in strings among them, or more than MOST_OPENINGS."""
    # To replace is to go from one to the next with memchr, up to so many times.
    most = MOST_OPENINGS + 1
    return 2 * len(body) - len(body.replace(b"[", b"", most)) - len(body.replace(b"{", b"", most))


def has_long_number(body: bytes) -> bool:
    """Tell whether LONG_DIGITS digits, with or without a dot, stand in a row anywhere in a body.

    They may be said to, though they do not, in a body of more than 128 KiB that holds many digits.
    """
    sample = body[::_STRIDE].translate(_DIGITS)
    at = sample.find(_TWO_DIGITS)
    for _ in range(_FEW):
        if at < 0:
            return False
        place = at * _STRIDE
        # What holds both of these bytes begins less than a stride before them.
        begin = place - _STRIDE if at else 0
        if _LONG_NUMBER.search(body, begin, place + LONG_DIGITS):
            return True
        at = sample.find(_TWO_DIGITS, at + 1)
    return at >= 0 and (len(body) > _LONGEST_OF_DIGITS or _LONG in body.translate(_DIGITS))
