"""The one `model` of a JSON body, without the ambiguity that a parser alone would hide.

Pure. Two parsers that read different models out of one body are a security hole: the router would authorise one model,
the server run another. So a document that any of them could read in two ways is refused.

orjson says whether the body is strict JSON, and that is all it is asked for: it keeps object keys of up to 64 octets in
a cache by a hash that anyone can find a second key for, so that one client's key could stand for `model` in everybody
else's documents (seen in 3.13.0; tests/corpus has such a key). The field is found by msgspec, which compares keys.
"""

import itertools
import re
from typing import Final, NamedTuple

import msgspec
import orjson

from bbr import refusal
from bbr.reading import spelling
from bbr.refusal import Refusal

# The `model` field is not there; told apart from None, which is JSON's null.
ABSENT: Final = object()

# What parsers that compare without regard to letter case take for it: Go's encoding/json among them.
_ALIKE: Final = frozenset(
    "".join(letters) for letters in itertools.product(*zip("model", "MODEL", strict=True)) if letters != tuple("model")
)

# A string, or a bracket, of a document known to be valid. Possessive quantifiers: no backtracking, no stack.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
# A string, if all of it is there.
STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_COLON: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_AFTER_MEMBER: Final = re.compile(rb"[ \t\r\n]*+[,}]")
_NUL: Final = rb"\u0000"
_KEY_BYTES: Final = len('"model"')
_QUOTE: Final = ord('"')
_CLOSING_BRACE: Final = ord("}")

_NOT_FINITE: Final = re.compile(rb"-?Infinity|-?NaN")
_BOM: Final = b"\xef\xbb\xbf"

# A document's top-level members; their values are passed over and kept as they stand.
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

# A second `model` takes at least 10 octets, and a NUL behind it that is written as an escape 5 more than it means.
_UNACCOUNTED_BYTES: Final = len(_NUL) - 1


def find_model(body: bytes) -> object:
    """Return the value of the top-level `model` of a complete JSON document, or ABSENT.

    ABSENT too if the document is no object. The value is not checked; it is whatever JSON has there.

    Raises:
        Refusal: 400; the body is no strict JSON document, or has a top-level key that is `model` for some parsers only,
            or several.
    """
    try:
        is_object = type(orjson.loads(body)) is dict
    except orjson.JSONDecodeError as error:
        raise invalid_json(body, error) from None
    if not is_object:
        return ABSENT
    try:
        members = _MEMBERS.decode(body)
    except RecursionError:  # msgspec goes as deep as Python's own limit, orjson a little deeper
        raise refusal.invalid_json("too-deep", "nested too deep", 0) from None
    value = members.get("model")
    # A backslash is looked for at once, six octets are not.
    if value is None and (b"\\" not in body or _NUL not in body) and _ALIKE.isdisjoint(members):
        return ABSENT
    # Two braces; for each member two quotes and a colon; the commas between them.
    accounted = sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1
    if not _ALIKE.isdisjoint(members) or (
        len(body) - accounted >= _UNACCOUNTED_BYTES and not _as_written(body, members)
    ):
        _check_keys(body)
    return ABSENT if value is None else orjson.loads(memoryview(value))


def _check_keys(body: bytes) -> None:
    """Refuse a valid document in which more than one top-level key is `model`, or one that is not for all parsers."""
    keys = model_keys(body)
    if len(keys) > 1:
        raise refusal.model_duplicate().at(keys[1].offset)
    if keys and not keys[0].exact:
        raise refusal.model_spelling().at(keys[0].offset)


def _as_written(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Tell whether a valid document is these members in this order, and blanks; False: it must be looked into.

    Parsers keep one of several members of one name, and tell nobody. Octets that the members kept do not account for
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


def _end(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    match = pattern.match(body, position)
    return match.end() if match else 0


class ModelKey(NamedTuple):
    """A top-level key that is `model`, at least for some parsers.

    Attributes:
        offset: where it begins, in bytes.
        exact: it is for all.
    """

    offset: int
    exact: bool


def model_keys(body: bytes) -> list[ModelKey]:
    """Return the first two top-level `model` keys of a valid document, however they are spelled."""
    depth = 0
    keys: list[ModelKey] = []
    for token in _TOKEN.finditer(body):
        start = token.start()
        first = body[start]
        if first == _QUOTE:
            name = depth == 1 and _alike(token[0])
            if name and _COLON.match(body, token.end()):
                keys.append(ModelKey(start, name == "model"))
                if len(keys) == 2:
                    break
        elif first in b"{[":
            depth += 1
        else:
            depth -= 1
    return keys


def model_value_offset(body: bytes) -> int:
    """Return the byte offset of the top-level `model`'s value, in a valid document that has one."""
    start = model_keys(body)[0].offset
    key = _TOKEN.match(body, start)
    colon = key and _COLON.match(body, key.end())
    return colon.end() if colon else start


def _alike(token: bytes) -> str:
    """Return what a string means if that is `model` for some parser, else nothing."""
    if len(token) == _KEY_BYTES or b"\\" in token:
        name: str = orjson.loads(token)  # a value: orjson caches keys only
        return name if spelling.is_folded(name) else ""
    return ""


def invalid_json(body: bytes, error: orjson.JSONDecodeError) -> Refusal:
    """Return the refusal of a body that orjson does not take, with the kind of fault and its byte offset."""
    if body.startswith(_BOM):
        return refusal.invalid_json("byte-order-mark", "it begins with a byte order mark", 0)
    try:
        body.decode()
    except UnicodeDecodeError as bad:  # orjson reports it at position 0
        return refusal.invalid_json("invalid-utf8", "invalid UTF-8", bad.start)
    # orjson counts characters, a client that looks into its body counts bytes.
    offset = len(error.doc[: error.pos].encode())
    if _NOT_FINITE.match(body, offset) or "infinity" in error.msg:
        return refusal.invalid_json("non-finite-number", "a number that is not finite", offset)
    if "surrogate" in error.msg:
        return refusal.invalid_json("lone-surrogate", "half of a surrogate pair", offset)
    if "depth" in error.msg or "memory" in error.msg:
        return refusal.invalid_json("too-deep", "nested too deep", offset)
    if "after document" in error.msg:
        return refusal.invalid_json("trailing-bytes", "something follows the document", offset)
    return refusal.invalid_json("invalid-json", error.msg, offset)
