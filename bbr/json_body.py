"""The `model` of a JSON body, by orjson, and without the ambiguity that a parser alone would hide.

Pure. Two parsers that read different models out of one body are a security hole: the router would authorise one model,
the server run another. So a document that any of them could read in two ways is refused.
"""

import re
from typing import Final

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


def find_model(body: bytes) -> object:
    """Return the value of the top-level `model` of a complete JSON document, or ABSENT.

    ABSENT too if the document is no object. The value is not checked; it is whatever JSON has there.

    Raises:
        Refusal: 400; the body is no strict JSON document, or has several top-level `model` keys.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_json(body, error) from None
    if type(document) is not dict or "model" not in document:
        return ABSENT
    if not _is_unique(body, document):
        offsets = model_keys(body)
        if len(offsets) > 1:
            raise refusal.model_duplicate().at(offsets[1])
    return document["model"]


def _is_unique(body: bytes, document: dict[str, object]) -> bool:
    """Tell quickly that the parser can't have dropped a top-level `model`; False means that it must be looked for.

    A dropped key leaves fewer `"model"` in the document than in the body, so equal counts prove that there was none,
    unless an escape makes one of them look different in the body. Nested `model` keys are everyday (tool schemas);
    writing the document out again costs a twelfth of walking its keys (bench/micro/duplicates.py).
    """
    # Letters of `model` can be spelled with \u006X only, and its quotes with \u0022. Text full of \u00e9 is everyday.
    escaped = b"\\u00" in body
    if escaped and b"\\u006" in body:
        return False
    count = body.count(_KEY)
    if count == 1:
        return True
    if escaped and b"\\u0022" in body:
        return False
    try:
        return orjson.dumps(document).count(_KEY) == count
    except orjson.JSONEncodeError:  # nested deeper than orjson writes, though not deeper than it reads
        return False


def model_keys(body: bytes) -> list[int]:
    """Return the byte offsets of all top-level `model` keys of a valid document, however they are spelled."""
    depth = 0
    offsets = []
    for token in _TOKEN.finditer(body):
        start = token.start()
        first = body[start]
        if first == _QUOTE:
            if depth == 1 and _is_model(token[0]) and _COLON.match(body, token.end()):
                offsets.append(start)
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
    return token == _KEY or (b"\\" in token and orjson.loads(token) == "model")


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
    if "depth" in error.msg:
        return refusal.invalid_json("too-deep", "nested too deep", offset)
    if "after document" in error.msg:
        return refusal.invalid_json("trailing-bytes", "something follows the document", offset)
    return refusal.invalid_json("invalid-json", error.msg, offset)
