"""Where a request's model name comes from: which bodies are read, and the `model` field of a JSON body.

Pure. A name that leaves this module is a legal header value as it stands.
"""

import re
from typing import Final

import orjson

from bbr import refusal
from bbr.refusal import Refusal

# Longer names are refused. The longest known public model ids have about 100 characters; Kubernetes caps a label at 63.
MAX_MODEL_BYTES: Final = 256

# RFC 9110 section 5.5 forbids these in a field value; Envoy answers 500 to a mutation that holds one. TAB is legal
# inside a value, but no model name has one, and it is invisible to whoever reads a log.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_JSON_TYPES: Final = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


def is_json(content_type: bytes) -> bool:
    """Tell whether a Content-Type value names JSON: application/json, text/json or any +json suffix (RFC 6839)."""
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type in (b"application/json", b"text/json") or media_type.endswith(b"+json")


def read_model(body: bytes, max_model_bytes: int = MAX_MODEL_BYTES) -> str | None:
    """Return the `model` field of a complete JSON body.

    Returns:
        None if the body is empty, is no object, or has no `model`: such a request names no model.

    Raises:
        Refusal: 400; the body is not JSON, or its `model` is not a usable name.
    """
    if not body:
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid_json(body, error) from None
    if type(document) is not dict or "model" not in document:
        return None
    return check_model(document["model"], max_model_bytes)


def check_model(value: object, max_model_bytes: int = MAX_MODEL_BYTES) -> str:
    """Return `value` if it is a usable model name.

    Usable is a non-empty string of at most `max_model_bytes` octets in UTF-8, without control characters and without
    blanks at either end. Other non-ASCII text is allowed and goes into the header as its UTF-8 octets.

    Raises:
        Refusal: 400, and which rule is broken.
    """
    if type(value) is not str:
        raise refusal.model_not_string(_JSON_TYPES.get(type(value), "null"))
    if not value:
        raise refusal.model_empty()
    length = len(value.encode())
    if length > max_model_bytes:
        raise refusal.model_too_long(length, max_model_bytes)
    if _CONTROL.search(value):
        raise refusal.model_illegal("it holds a control character")
    if value != value.strip():
        raise refusal.model_illegal("it begins or ends with a blank")
    return value


def _invalid_json(body: bytes, error: orjson.JSONDecodeError) -> Refusal:
    try:
        body.decode()
    except UnicodeDecodeError as bad:  # orjson reports it at position 0
        return refusal.invalid_json("invalid UTF-8", bad.start)
    # orjson counts characters, a client that looks into its body counts bytes.
    return refusal.invalid_json(error.msg, len(error.doc[: error.pos].encode()))
