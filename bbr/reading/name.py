"""Where a request's model name comes from: which bodies are read, and what makes a usable name.

Pure. A name that leaves this module is a legal header value as it stands.
"""

import enum
import re
from collections.abc import Sequence
from typing import Final

from bbr import refusal
from bbr.reading import json_body
from bbr.refusal import Refusal

# Longer names are refused. The longest known public model ids have about 100 characters; Kubernetes caps a label at 63.
MAX_MODEL_BYTES: Final = 256

# The most that a limit may allow: the longest header value that an HTTPRoute can match.
LONGEST_MODEL_BYTES: Final = 4096

# RFC 9110 section 5.5 forbids these in a field value; Envoy answers 500 to a mutation that holds one. TAB is legal
# inside a value, but no model name has one, and it is invisible to whoever reads a log.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_JSON_BLANKS: Final = b" \t\r\n"
_JSON_TYPES: Final = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


class BodyKind(enum.Enum):
    """What a request's headers say of its body, as far as the router cares."""

    JSON = enum.auto()  # to be read
    FORM = enum.auto()  # application/x-www-form-urlencoded; curl -d sends JSON under this name too
    MULTIPART = enum.auto()  # multipart/form-data
    OTHER = enum.auto()  # none of the router's business


def body_kind(content_types: Sequence[bytes]) -> BodyKind:
    """Classify a body by its Content-Type fields.

    Without any it is read: JSON is what such a body holds in practice. Of several fields one that names JSON is enough,
    since the model server may go by any of them.
    """
    if not content_types:
        return BodyKind.JSON
    joined = [
        part for value in content_types for part in value.split(b",")
    ]  # one field may hold two, joined on the way
    media_types = [value.partition(b";")[0].strip().lower() for value in joined]
    if any(map(_is_json, media_types)):
        return BodyKind.JSON
    if b"multipart/form-data" in media_types:
        return BodyKind.MULTIPART
    return BodyKind.FORM if b"application/x-www-form-urlencoded" in media_types else BodyKind.OTHER


def _is_json(media_type: bytes) -> bool:
    if media_type.startswith((b"application/grpc", b"application/connect")):
        return False  # frames that hold JSON: a stream, of which no part is a document
    return media_type in (b"application/json", b"text/json") or media_type.endswith(b"+json")  # RFC 6839


def begins_as_json_object(octets: bytes) -> bool | None:
    """Tell whether a body begins with a brace, blanks aside; None if it has only blanks so far."""
    rest = octets.lstrip(_JSON_BLANKS)
    return rest.startswith(b"{") if rest else None


def read_model(body: bytes, max_model_bytes: int = MAX_MODEL_BYTES) -> str | None:
    """Return the `model` field of a complete JSON body.

    Returns:
        None if the body is empty, is no object, or has no `model`: such a request names no model.

    Raises:
        Refusal: 400, with the byte offset; the body is not JSON, has two `model` fields, or its `model` is not a
            usable name.
    """
    if not body:
        return None
    value = json_body.find_model(body)
    if value is json_body.ABSENT:
        return None
    try:
        return check_model(value, max_model_bytes)
    except Refusal as refused:
        raise refused.at(json_body.model_value_offset(body)) from None


def check_model(value: object, max_model_bytes: int = MAX_MODEL_BYTES) -> str:
    """Return `value` if it is a usable model name.

    Usable is a non-empty string of at most `max_model_bytes` octets in UTF-8, without control characters and without
    blanks at either end. Other non-ASCII text is allowed and goes into the header as its UTF-8 octets (obs-text in
    RFC 9110), unnormalised: a route must spell it the same way.

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
