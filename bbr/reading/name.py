"""Where a request's model name comes from: which bodies are read, and what makes a usable name.

Pure. A name that leaves this module is a legal header value as it stands.
"""

import enum
import re
from functools import lru_cache
from typing import Final

from bbr import refusal
from bbr.reading import spelling
from bbr.reading.json_body import ABSENT, UNSETTLED, Fields, Unsettled, find_model
from bbr.refusal import Refusal

# Longer names are refused. The longest known public model ids have about 100 characters; Kubernetes caps a label at 63.
MAX_MODEL_BYTES: Final = 256

# The most that a limit may allow: the longest header value that an HTTPRoute can match.
LONGEST_MODEL_BYTES: Final = 4096

# RFC 9110 section 5.5 forbids these in a field value; Envoy answers 500 to a mutation that holds one. TAB is legal
# inside a value, but no model name has one, and it is invisible to whoever reads a log.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_JSON_BLANKS: Final = b" \t\r\n"
# An object that begins with the key that serde_json has for a document in a text, however it is escaped.
_RAW_VALUE_KEY: Final = "$serde_json::private::RawValue"
_RAW_VALUE: Final = re.compile(
    rb'\{"' + b"".join(rf"(?:{re.escape(letter)}|\\u00{ord(letter):02x})".encode() for letter in _RAW_VALUE_KEY) + b'"',
    re.IGNORECASE,
)
# The longest of it, without blanks.
_RAW_VALUE_BYTES: Final = len('{"') + 6 * len(_RAW_VALUE_KEY) + len('"')
# Of a document's beginning so much is looked at. Nobody sends as many blanks; what has them could be anything.
BEGINNING_BYTES: Final = 16 << 10
_JSON_TYPES: Final = {bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


class BodyKind(enum.Enum):
    """What a request's headers say of its body, as far as the router cares."""

    JSON = enum.auto()  # to be read
    FORM = enum.auto()  # application/x-www-form-urlencoded; curl -d sends JSON under this name too
    MULTIPART = enum.auto()  # multipart/form-data
    OTHER = enum.auto()  # none of the router's business
    UNTYPED = enum.auto()  # without a Content-Type: JSON in practice, and a form to some servers
    UNSURE = enum.auto()  # servers could take it for several of these, or it is to be refused


def serde_differs(body: bytes) -> bool:
    """Tell whether serde could find a model in a body, by its beginning, where all others find none.

    It reads the fields of a struct from a list, in their order. If any library in a program turns serde_json's feature
    raw_value on, serde_json reads an object with one key of its own as the document in that key's text.
    """
    head = without_blanks(body[:BEGINNING_BYTES])
    return is_serdes(head) or (may_be_serdes(head) and len(body) > BEGINNING_BYTES)


def without_blanks(beginning: bytes) -> bytes:
    """Return how a document begins, as far as it matters to serde, without blanks before its first key."""
    head = beginning.lstrip(_JSON_BLANKS)
    if head.startswith(b"{"):
        head = b"{" + head[1:].lstrip(_JSON_BLANKS)
    return head[:_RAW_VALUE_BYTES]


def is_serdes(head: bytes) -> bool:
    """Tell whether serde could find a model in what begins so; see `without_blanks`."""
    return head.startswith(b"[") or _RAW_VALUE.match(head) is not None


def may_be_serdes(head: bytes) -> bool:
    """Tell whether it depends on what follows."""
    return not head or (head.startswith(b"{") and len(head) < _RAW_VALUE_BYTES)


def model_at_once(
    body: bytes, max_model_bytes: int = MAX_MODEL_BYTES, fields: Fields | None = None
) -> str | Unsettled | None:
    """Return the `model` field of a complete JSON body, if that takes less than a millisecond.

    Args:
        body: the body.
        max_model_bytes: a longer name is UNSETTLED.
        fields: are given the members of a JSON object.

    Returns:
        None if the body is empty, is no object, or has no `model`: such a request names no model. UNSETTLED if it is
        to be read by a DocumentReading: it would take too long here, or it is to be refused.
    """
    if not body:
        return None
    value = find_model(body, fields)
    if value is ABSENT:
        return None
    try:
        # What is wrong, and at which byte, is the scanner's to say, so that it is said in one way.
        if type(value) is not str:
            return UNSETTLED
        check = _cached_check if len(value) <= _CACHED_CHARACTERS else check_model
        return check(value, max_model_bytes)
    except Refusal:
        return UNSETTLED


def check_model(value: object, max_model_bytes: int = MAX_MODEL_BYTES) -> str:
    """Return `value` if it is a usable model name.

    Usable is a non-empty string of at most `max_model_bytes` bytes in UTF-8, without control characters, without
    characters that nobody sees (blanks but the ASCII one, joiners, marks of direction, variation selectors, U+FEFF) and
    without blanks at either end. Other non-ASCII text is allowed and goes into the header as its UTF-8 bytes (obs-text
    in RFC 9110), unnormalised: a route must spell it the same way.

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
    why = why_illegal(value)
    if why:
        raise refusal.model_illegal(why)
    return value


def why_illegal(value: str) -> str:
    """Return why a text can't stand in a header as it is; "" if it can."""
    if _CONTROL.search(value):
        return "it holds a control character"
    if not value.isascii() and (found := spelling.INVISIBLE.search(value)):
        return f"it holds U+{ord(found[0]):04X}, which can't be seen"
    if value != value.strip():
        return "it begins or ends with a blank"
    return ""


# Most requests of a gateway name a few models. 1 MB at most.
_CACHED_CHARACTERS: Final = 256
_cached_check: Final = lru_cache(1024)(check_model)
