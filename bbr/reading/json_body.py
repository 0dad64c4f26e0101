"""The one `model` of a JSON body, without the ambiguity that a parser alone would hide.

Pure. Two parsers that read different models out of one body are a security hole: the router would authorise one model,
the server run another. So a document that any of them could read in two ways is refused.

orjson says whether the body is strict JSON, and that is all it is asked for: it keeps object keys of up to 64 octets in
a cache by a hash that anyone can find a second key for, so that one client's key could stand for `model` in everybody
else's documents (seen in 3.13.0; tests/corpus has such a key). The field is found by msgspec, which compares keys.
"""

import re
from typing import Final

import msgspec
import orjson

from bbr import refusal
from bbr.refusal import Refusal

# The `model` field is not there; told apart from None, which is JSON's null.
ABSENT: Final = object()

_KEY: Final = b'"model"'

# A string, or a bracket, of a document known to be valid. Possessive quantifiers: no backtracking, no stack.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_COLON: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_AFTER_MEMBER: Final = re.compile(rb"[ \t\r\n]*+[,}]")
_QUOTE: Final = ord('"')
_CLOSING_BRACE: Final = ord("}")

_NOT_FINITE: Final = re.compile(rb"-?Infinity|-?NaN")
_BOM: Final = b"\xef\xbb\xbf"

# A document's top-level members; their values are passed over and kept as they stand.
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

# The fewest octets that a second `model` takes.
_SHORTEST_MEMBER_BYTES: Final = len(b',"model":1')


def find_model(body: bytes) -> object:
    """Return the value of the top-level `model` of a complete JSON document, or ABSENT.

    ABSENT too if the document is no object. The value is not checked; it is whatever JSON has there.

    Raises:
        Refusal: 400; the body is no strict JSON document, or has several top-level `model` keys.
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
    if value is None:
        return ABSENT
    # Two braces; for each member two quotes and a colon; the commas between them.
    accounted = sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1
    if len(body) - accounted >= _SHORTEST_MEMBER_BYTES and not _as_written(body, members):
        offsets = model_keys(body)
        if len(offsets) > 1:
            raise refusal.model_duplicate().at(offsets[1])
    return orjson.loads(memoryview(value))


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


def model_keys(body: bytes) -> list[int]:
    """Return the byte offsets of the first two top-level `model` keys of a valid document, however they are spelled."""
    depth = 0
    offsets = []
    for token in _TOKEN.finditer(body):
        start = token.start()
        first = body[start]
        if first == _QUOTE:
            if depth == 1 and _is_model(token[0]) and _COLON.match(body, token.end()):
                offsets.append(start)
                if len(offsets) == 2:
                    break
        elif first in b"{[":
            depth += 1
        else:
            depth -= 1
    return offsets


def model_value_offset(body: bytes) -> int:
    """Return the byte offset of the top-level `model`'s value, in a valid document that has one."""
    start = model_keys(body)[0]
    key = _TOKEN.match(body, start)
    colon = key and _COLON.match(body, key.end())
    return colon.end() if colon else start


def _is_model(token: bytes) -> bool:
    return token == _KEY or (b"\\" in token and orjson.loads(token) == "model")  # a value: orjson caches keys only


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
