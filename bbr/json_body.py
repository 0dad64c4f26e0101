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
_COLON: Final = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_QUOTE: Final = ord('"')

_NOT_FINITE: Final = re.compile(rb"-?Infinity|-?NaN")
_BOM: Final = b"\xef\xbb\xbf"


class _Document(msgspec.Struct):
    """What is read of a document; msgspec passes over all the rest."""

    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


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
    # The letters of `model` can be spelled with \u006X only, its quotes with \u0022. Text full of \u00e9 is everyday.
    escaped = b"\\u00" in body
    spelled = escaped and b"\\u006" in body
    count = body.count(_KEY)
    if not is_object or not (count or spelled):
        return ABSENT
    try:
        value = _DOCUMENT.decode(body).model
        if value is msgspec.UNSET:
            return ABSENT
        unique = not spelled and (count == 1 or (b"\\u0022" not in body and _kept_all(body, count)))
    except RecursionError:  # msgspec goes as deep as Python's own limit, orjson a little deeper
        raise refusal.invalid_json("too-deep", "nested too deep", 0) from None
    if not unique:
        offsets = model_keys(body)
        if len(offsets) > 1:
            raise refusal.model_duplicate().at(offsets[1])
    return orjson.loads(memoryview(value))


def _kept_all(body: bytes, count: int) -> bool:
    """Tell quickly that no `"model"` is lost when keys that stand twice become one; False: it must be looked for.

    A dropped key leaves fewer `"model"` in the parsed document than the `count` in the body, so an equal number proves
    that there was none, unless an escape makes one of them look different in the body: the caller has excluded that.
    Nested `model` keys are everyday (tool schemas), and walking all keys costs several times as much.
    """
    return msgspec.json.encode(msgspec.json.decode(body)).count(_KEY) == count


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
