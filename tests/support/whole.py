"""What orjson and msgspec make of a whole JSON body: a judge that shares no code with what the router reads bodies by.

It tells refusals, their byte offsets and second `model` keys with parsers that read all of the body at once, and a walk
over its tokens. The router tells them with a scanner that reads a bit at a time.
"""

import re

import msgspec
import orjson

from bbr import refusal
from bbr.reading import spelling
from bbr.reading.base import read_through
from bbr.reading.document import DocumentReading
from bbr.reading.json_body import ABSENT, UNSETTLED
from bbr.reading.name import MAX_MODEL_BYTES, check_model, model_at_once
from bbr.refusal import Refusal

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_NOT_FINITE = re.compile(rb"-?Infinity|-?NaN")


def read_model(body: bytes, max_model_bytes: int = MAX_MODEL_BYTES) -> str | None:
    """Return the model that the router reads from a whole body, or None; raises the refusal."""
    told = model_at_once(body, max_model_bytes)
    return read_through(DocumentReading(max_model_bytes, 0), body) if told is UNSETTLED else told


def judge(body: bytes) -> str | None:
    """Return the model that the judge reads, or None; raises the refusal."""
    if not body:
        return None
    value = find(body)
    if value is ABSENT:
        return None
    try:
        return check_model(value)
    except Refusal as refused:
        raise refused.at(_value_offset(body)) from None


def find(body: bytes) -> object:
    """Return the value of the top-level `model`, or ABSENT; raises why a body is refused."""
    try:
        is_object = type(orjson.loads(body)) is dict
    except orjson.JSONDecodeError as error:
        raise _invalid_json(body, error) from None
    if not is_object:
        return ABSENT
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except RecursionError:  # msgspec goes as deep as Python's own limit, orjson a little deeper
        raise refusal.invalid_json("too-deep", "nested too deep", 0) from None
    keys = model_keys(body)
    if len(keys) > 1:
        raise refusal.model_duplicate().at(keys[1][0])
    if not keys:
        return ABSENT
    offset, exact = keys[0]
    if not exact:
        raise refusal.model_spelling().at(offset)
    return orjson.loads(memoryview(members["model"]))


def model_keys(body: bytes) -> list[tuple[int, bool]]:
    """Return the byte offsets of the top-level keys that are `model` for some parser, and whether for all."""
    depth = 0
    keys = []
    for token in _TOKEN.finditer(body):
        first = token[0][:1]
        if first == b'"':
            if depth == 1 and _COLON.match(body, token.end()):
                name: str = orjson.loads(token[0])  # a value: orjson caches keys only
                if spelling.is_folded(name):
                    keys.append((token.start(), name == "model"))
        else:
            depth += 1 if first in b"{[" else -1
    return keys


def _value_offset(body: bytes) -> int:
    key = _TOKEN.match(body, model_keys(body)[0][0])
    assert key
    colon = _COLON.match(body, key.end())
    assert colon
    return colon.end()


def _invalid_json(body: bytes, error: orjson.JSONDecodeError) -> Refusal:
    """Return the refusal of a body that orjson does not take, with the kind of fault and its byte offset."""
    if body.startswith(b"\xef\xbb\xbf"):
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
