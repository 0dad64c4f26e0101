"""Finds the `model` of a JSON body with one pass of simdjson. Nearly every real client's body needs no more.

Pure. simdjson checks the same as orjson: UTF-8, the grammar, and that a double can hold each number. It lists all keys
of an object, repeated ones too, and compares them byte by byte. It makes Python objects only of what is asked for.

bbr.reading.json_body reads all other bodies with two other parsers: every body that will be refused, and valid ones
that have a `model` that is not text, a repeated key, deep nesting, more than 10,000 brackets, or a number of 20 digits
or more. Each such number may take simdjson 13 us.
"""

import itertools
import re
import sys
from typing import Any, Final

from bbr.reading.scan.grammar import MAX_TRAILING_BLANKS

# The keys that parsers which ignore letter case read as `model`. Go's encoding/json is one of them.
ALIKE: Final = frozenset(
    "".join(letters) for letters in itertools.product(*zip("model", "MODEL", strict=True)) if letters != tuple("model")
)

# Objects with more members are left to the other parsers. Real requests have about 40.
MOST_MEMBERS: Final = 128

# A longer text cannot be a model's name.
LONGEST_NAME: Final = 32 << 10

# Longer bodies are left to the other parsers. The slowest body of this size takes simdjson 0.5 ms to 1 ms. simdjson
# keeps up to 14 bytes of memory for each byte of the longest body that it has read.
MOST_BYTES: Final = 256 << 10

# Deeper documents are left to the other parsers. Real requests have 10 levels, and the router allows MAX_DEPTH. But if
# the model has to be replaced, msgspec finds its place, and how deep msgspec goes depends on the version of Python.
MOST_LEVELS: Final = 400
# A shorter document cannot be as deep.
_DEEP_BYTES: Final = 2 * MOST_LEVELS
# Bodies with more opening brackets are left to the other parsers. A body that may be deep is parsed twice, which takes
# up to 6 ns for each bracket.
MOST_OPENINGS: Final = 10_000
# How deep simdjson goes. To learn whether a document has more than MOST_LEVELS, the rest is put around it as brackets.
_DEPTH: Final = 1024
_OPENING: Final = b"[" * (_DEPTH - MOST_LEVELS)
_CLOSING: Final = b"]" * (_DEPTH - MOST_LEVELS)

# simdjson skips a byte order mark.
_BYTE_ORDER_MARK: Final = 0xEF

# From this number of digits on, simdjson needs exact arithmetic. In bodies of up to _LONG_FROM bytes all numbers
# together take less than a millisecond.
LONG_DIGITS: Final = 20
_LONG_FROM: Final = 2 << 10
# The search for such a number looks at one byte of ten. A number of 20 digits contains two of these bytes in a row.
# Where two in a row are digits, the search looks at all bytes around them. After _FEW such places it looks at the whole
# body. A body of more than _LONGEST_OF_DIGITS is then left to the other parsers: digits take simdjson 2 ns a byte.
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

# What `parsed` returns for a document that is neither an object nor an array.
_SCALAR: Final = ()
AVAILABLE: Final = _PARSER is not None


def name_in(body: bytes) -> str | None:
    """Return the text of the top-level `model` of a complete JSON document; "" if it has none, or is no object.

    Returns:
        None if another parser has to read the body: it is not strict JSON, is nested too deeply, would take long, has a
        repeated key, has a key that only some parsers read as `model`, or its `model` is empty or not text.
    """
    size = len(body)
    if not AVAILABLE or not 0 < size <= MOST_BYTES or body[0] == _BYTE_ORDER_MARK:
        return None
    if size > _LONG_FROM and has_long_number(body):
        return None
    # The scanner counts trailing blanks and refuses too many, so it has to see this body.
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
    """Return a document; None if simdjson rejects it.

    simdjson also rejects integers of more than 64 bits and more than 1,024 levels. The caller has to drop the document
    before the next call, because the parser is in use until then.
    """
    try:
        document = _PARSER.parse(body)
    except (ValueError, RuntimeError):
        return None
    return document if type(document) in _CONTAINERS else _SCALAR


def is_shallow(body: bytes) -> bool:
    """Tell whether a valid document has no more than MOST_LEVELS levels."""
    # The document must be valid already: brackets around an invalid one could make it valid.
    return parsed(b"%b%b%b" % (_OPENING, body, _CLOSING)) is not None


def _name(document: Any) -> str | None:
    """Return what `name_in` returns, for a parsed document."""
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
    """Return the number of opening brackets, in strings too. Counting stops above MOST_OPENINGS of a kind."""
    # `replace` finds each bracket with memchr, and stops after `most`.
    most = MOST_OPENINGS + 1
    return 2 * len(body) - len(body.replace(b"[", b"", most)) - len(body.replace(b"{", b"", most))


def has_long_number(body: bytes) -> bool:
    """Tell whether a body has LONG_DIGITS digits in a row, with or without a dot among them.

    For a body of more than 128 KiB with many digits the answer may be True although it has not.
    """
    sample = body[::_STRIDE].translate(_DIGITS)
    at = sample.find(_TWO_DIGITS)
    for _ in range(_FEW):
        if at < 0:
            return False
        place = at * _STRIDE
        # A number that contains both bytes begins less than one stride before the first.
        begin = place - _STRIDE if at else 0
        if _LONG_NUMBER.search(body, begin, place + LONG_DIGITS):
            return True
        at = sample.find(_TWO_DIGITS, at + 1)
    return at >= 0 and (len(body) > _LONGEST_OF_DIGITS or _LONG in body.translate(_DIGITS))
