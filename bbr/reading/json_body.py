"""Finds the one `model` of a short JSON body, with parsers that read it in one call.

Pure. If two parsers read different models from one body, that is a security hole: the router authorises one model, and
the server runs another. So a document that could be read in two ways is refused.

simdjson reads nearly all bodies (bbr.reading.one_pass). Two other parsers read the rest, and all bodies if other fields
of the body go into headers. orjson only says whether the body is strict JSON. Its keys are not used: it caches keys of
up to 64 bytes by a hash, and anyone can find a second key with the same hash. So one client's key could become `model`
in everybody else's documents (seen in 3.13.0; tests/corpus has such a key). msgspec, which compares keys, finds the
field.

No parser can be interrupted, and 256 KiB of brackets take orjson 9 ms. So they read only bodies that are valid and take
them less than a millisecond. All other bodies are UNSETTLED: the scanner reads them in small steps, and says what is
wrong with them (bbr.reading.document).
"""

import enum
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import orjson

from bbr.built import COMPILED
from bbr.reading.members import places, without_plain_text
from bbr.reading.one_pass import ALIKE, LONGEST_NAME, MOST_MEMBERS, name_in
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES, MAX_TRAILING_BLANKS

# There is no `model` field. None is JSON's null.
ABSENT: Final = object()


class Unsettled(enum.Enum):
    """The result for a body that the scanner has to read."""

    UNSETTLED = enum.auto()


UNSETTLED: Final = Unsettled.UNSETTLED

# A member's value as it is written.
Raw = msgspec.Raw | memoryview


class Fields(Protocol):
    """Other members of a body whose values are needed."""

    def take_members(self, members: Mapping[str, Raw]) -> bool:
        """Take all members of an object without repeated keys; False if the scanner has to read the body."""


# A string, if all of it is there.
STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_COLON: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_AFTER_MEMBER: Final = re.compile(rb"[ \t\r\n]*+[,}]")
_NUL: Final = rb"\u0000"
_QUOTE: Final = ord('"')
_CLOSING_BRACE: Final = ord("}")
_BACKSLASH: Final = ord("\\")  # a number: with bytes, `in` makes Python raise and catch an exception

_loads: Final = orjson.loads

# From this size on, finding members by their quotes is faster than msgspec, if quotes are rare. It takes an interpreter
# 8 us and compiled code 1 us. msgspec takes 2.7 us for 10 KB.
_PLACED_FROM: Final = (8 if COMPILED else 32) << 10
# From this size on, it is faster to take plain text out before a parser reads the rest, if quotes are rare.
_PLAIN_FROM: Final = (8 if COMPILED else 16) << 10
# Quotes are rare if most of the samples of this many bytes have none.
_WITHOUT_QUOTE_BYTES: Final = 256

# A document's top-level members, with their values unparsed.
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

# A second `model` takes at least 10 bytes. A NUL behind it, written as an escape, takes 5 bytes more than decoded.
_UNACCOUNTED_BYTES: Final = len(_NUL) - 1

# The limits of a body that the two parsers read. Their time depends on its contents: 0.7 ns for a byte of text, 140 ns
# for a list or object, 130 ns for a key with its value, 30 ns for another value. Colons and commas are counted only
# behind the first COLONS_FROM and COMMAS_FROM bytes, which have no room for too many.
MOST_BRACKETS: Final = 2_000
MOST_COLONS: Final = 4_000
COLONS_FROM: Final = 64 << 10
MOST_COMMAS: Final = 5_000
COMMAS_FROM: Final = 96 << 10
# So many are searched for one by one. If they are on average less than _CLOSE_BYTES apart, counting all is faster.
_RARE: Final = 32
_CLOSE_BYTES: Final = 128

# The parsers read bodies of up to this size with any contents, unless they are nested too deeply. For longer bodies the
# scanner's limits hold too, so it makes no difference which of them reads the body.
SHORT_BYTES: Final = 16 << 10
# A shorter body cannot be nested deeper than the scanner allows.
_DEEP_BYTES: Final = 2 * MAX_DEPTH
# The search for a number that is too long samples one byte of so many. The number fills _LONG_NUMBER samples in a row.
_STRIDE: Final = 256
_NUMBERS: Final = bytes(ord("0" if chr(octet) in "-+.0123456789eE" else " ") for octet in range(256))
_LONG_NUMBER: Final = b"0" * (MAX_NUMBER_BYTES // _STRIDE - 1)


def find_model(body: bytes, fields: Fields | None = None) -> object:
    """Return the value of the top-level `model` of a complete JSON document.

    The value is not checked, and may be of any JSON type.

    Args:
        body: the document.
        fields: gets all top-level members of an object.

    Returns:
        ABSENT if it has no `model`, or is not an object. UNSETTLED if it would take long, is not strict JSON, has
        `model` several times, or has a top-level key that only some parsers read as `model`.
    """
    if fields is None:
        rest = None
        if len(body) >= _PLAIN_FROM and _are_quotes_rare(body):
            # Most of a long prompt or an image is plain text, which is known to be valid without parsing.
            rest = without_plain_text(body)
        name = name_in(body if rest is None else rest)
        if name is not None:
            return name or ABSENT
    return settled_by_two(body, fields)


def settled_by_two(body: bytes, fields: Fields | None = None) -> object:
    """Return what `find_model` returns, by orjson and msgspec."""
    brackets = 0
    if len(body) > _DEEP_BYTES:
        brackets = _count(b"[", body, 0, MOST_BRACKETS) + _count(b"{", body, 0, MOST_BRACKETS)
        if len(body) > SHORT_BYTES and not _is_light(body, brackets):
            return UNSETTLED
    try:
        document = _loads(body)
        if brackets > MAX_DEPTH:
            orjson.dumps(document)  # raises if it is deeper than 254 levels
        if type(document) is not dict:
            return ABSENT
        if len(document) > MOST_MEMBERS:
            return UNSETTLED
        placed = places(body) if len(body) >= _PLACED_FROM and _are_quotes_rare(body) else None
        if placed is not None:
            return _placed_model(body, placed, fields)
        members = _MEMBERS.decode(body)
    # How deep msgspec goes depends on the version of Python; orjson goes 1,024 levels deep.
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, msgspec.DecodeError, RecursionError):
        return UNSETTLED
    if not ALIKE.isdisjoint(members):
        return UNSETTLED
    value: Any = members.get("model")
    if value is None and fields is None:
        # A backslash is looked for at once, six bytes are not.
        return UNSETTLED if _BACKSLASH in body and _NUL in body else ABSENT
    if not is_written(body, members):
        return UNSETTLED
    if fields is not None:
        if not fields.take_members(members):
            return UNSETTLED
        if value is None:
            return ABSENT
    return UNSETTLED if len(value) > LONGEST_NAME else _value(bytes(value))


def object_members(body: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the members of a document that is an object, the last of each key; None if it is nested too deep."""
    try:
        return _MEMBERS.decode(body)
    except RecursionError:
        return None


def is_written(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Tell whether an object is these members, each once; False: it must be looked into."""
    # Two braces; for each member two quotes and a colon; the commas between them.
    accounted = sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1
    return len(body) - accounted < _UNACCOUNTED_BYTES or _as_written(body, members)


def _placed_model(body: bytes, members: dict[str, tuple[int, int]], fields: Fields | None) -> object:
    """Return what find_model does, of members that are known to be all, each with a key of its own, without escapes."""
    if not ALIKE.isdisjoint(members):
        return UNSETTLED
    if fields is not None:
        view = memoryview(body)
        if not fields.take_members({key: view[start:end] for key, (start, end) in members.items()}):
            return UNSETTLED
    place = members.get("model")
    if place is None:
        return UNSETTLED if _BACKSLASH in body and _NUL in body else ABSENT
    start, end = place
    return UNSETTLED if end - start > LONGEST_NAME else _value(body[start:end])


def _value(octets: bytes) -> object:
    """Return what a value means that is known to be valid, and to end where it ends."""
    # A name without escapes means what it says; to ask a parser takes longer.
    if octets[0] == _QUOTE and _BACKSLASH not in octets:
        return octets[1:-1].decode()
    return _loads(octets)


def _are_quotes_rare(body: bytes) -> bool:
    """Guess whether a body consists of a few long strings, by three places in it."""
    quarter = len(body) >> 2
    without = 0
    for place in (quarter, 2 * quarter, 3 * quarter):
        if body.find(b'"', place, place + _WITHOUT_QUOTE_BYTES) < 0:
            without += 1
    return without >= 2


def _is_light(body: bytes, brackets: int) -> bool:
    """Tell whether parsers take less than a millisecond for a body, and it is within the scanner's limits but depth.

    It may be said not to be though it is.
    """
    if brackets >= MOST_BRACKETS or _LONG_NUMBER in body[::_STRIDE].translate(_NUMBERS):
        return False
    if body[-1:].isspace() and body[-MAX_TRAILING_BLANKS - 1 :].isspace():
        return False
    size = len(body)
    if size > COLONS_FROM and _count(b":", body, COLONS_FROM, MOST_COLONS) >= MOST_COLONS:
        return False
    return size <= COMMAS_FROM or _count(b",", body, COMMAS_FROM, MOST_COMMAS) < MOST_COMMAS


def _count(octet: bytes, body: bytes, start: int, most: int) -> int:
    """Return how often a byte stands in a body from a place on; `most` or more if it is as often as that."""
    at = start - 1
    for count in range(_RARE):
        at = body.find(octet, at + 1)
        if at < 0:
            return count
    if at - start < _RARE * _CLOSE_BYTES:
        return body.count(octet, start)
    # To replace is to go from one to the next with memchr, up to so many times.
    rest = body[start:]
    return len(rest) - len(rest.replace(octet, b"", most))


def _as_written(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Tell whether a valid document is these members in this order, and blanks; False: it must be looked into.

    Parsers silently keep one of several members of one name. Bytes that the members kept do not account for
    are blanks, escapes in keys, or such a loss. Going along the members costs a fraction of walking all tokens.
    """
    position = body.index(b"{") + 1
    for key, value in members.items():
        position = _end(_BLANKS, body, position)
        name = b'"%b"' % key.encode()
        colon = _end(_COLON, body, position + len(name))
        octets = bytes(value)
        if not colon or not body.startswith(name, position) or not body.startswith(octets, colon):
            return False
        position = _end(_AFTER_MEMBER, body, colon + len(octets))
        if not position:
            return False
    return body[position - 1] == _CLOSING_BRACE


def model_value_offset(body: bytes) -> int | None:
    """Return where the value of `model` begins in a valid document that has one.

    None if that takes a closer look, which it never does in a document that `find_model` has settled.
    """
    position = body.index(b"{") + 1
    for key, value in _MEMBERS.decode(body).items():
        name = STRING.match(body, _end(_BLANKS, body, position))
        position = _end(_COLON, body, name.end()) if name else 0
        octets = bytes(value)
        # Where a key occurs twice, members and text do not go together.
        if not name or orjson.loads(name[0]) != key or not body.startswith(octets, position):
            return None
        if key == "model":
            return position
        position = _end(_AFTER_MEMBER, body, position + len(octets))
    return None


def _end(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    match = pattern.match(body, position)
    return match.end() if match else 0
