"""What a request's Content-Type fields say that its body is.

Pure. A type is what the grammar of the field says (RFC 9110, section 8.3.1): its parameters end at no comma, and what
stands in a quoted string is a value. But servers differ: some split at commas, some go by the first field of two or by
the last, formidable looks for `json`, `urlencoded` and `multipart` anywhere in the field. So where another such word
stands in it, or there are several fields, or one that is not by the grammar, a body could be taken for any of them.
"""

import re
from collections.abc import Sequence
from typing import Final

from bbr.reading import parameters
from bbr.reading.name import BodyKind

# Of all fields together; longer ones are refused unread. Real ones have 100, and boundaries at most 70 of them.
MAX_BYTES: Final = 1 << 10

_JSON_TYPES: Final = (b"application/json", b"text/json")
# Messages in frames that hold JSON: a stream, of which no part is a document.
_FRAMED: Final = (b"application/grpc", b"application/connect")
_WORDS: Final = ((b"json", BodyKind.JSON), (b"urlencoded", BodyKind.FORM), (b"multipart", BodyKind.MULTIPART))
_UNTYPED: Final = frozenset((BodyKind.JSON, BodyKind.FORM))
_OTHER: Final = frozenset((BodyKind.OTHER,))
_TEXT: Final = b"text/plain"
# Formats with fields that servers bind to the same types as JSON (gin, echo, Spring, Twirp), wherever the word stands.
_FIELDS: Final = re.compile(
    rb"(?<![a-z0-9])(?:xml|ya?ml|toml|msgpack|messagepack|cbor|bson|ubjson|smile|plist|hjson|protobuf|proto|thrift|avro|ion)(?![a-z0-9])"
)


def is_too_long(content_types: Sequence[bytes]) -> bool:
    """Tell whether the fields are longer than is looked at."""
    return sum(map(len, content_types)) + len(content_types) > MAX_BYTES


def body_kind(content_types: Sequence[bytes]) -> BodyKind:
    """Classify a body by its Content-Type fields.

    Without any it is UNTYPED. OTHER is a body that no server should read as
    one of the three kinds; see `kinds`.
    """
    if not content_types:
        return BodyKind.UNTYPED
    if is_too_long(content_types):
        return BodyKind.UNSURE
    said = frozenset().union(*map(_said, content_types))
    if said <= _OTHER:
        return BodyKind.OTHER
    possible = (said | kinds(content_types)) - _OTHER
    if len(possible) > 1 or not all(map(parameters.is_utf8, content_types)):
        return BodyKind.UNSURE
    return next(iter(possible))


def is_text(content_types: Sequence[bytes]) -> bool:
    """Tell whether a body is text in UTF-8, as browsers say of JSON that a program has handed them as a string."""
    if len(content_types) != 1 or is_too_long(content_types) or kinds(content_types):
        return False
    try:
        return parameters.parse(content_types[0]).main == _TEXT and parameters.is_utf8(content_types[0])
    except ValueError:
        return False


def kinds(content_types: Sequence[bytes]) -> frozenset[BodyKind]:
    """Return for what else than OTHER any server could take a body with these fields.

    Without any, or with an empty one, Rack takes a POST for a form.
    """
    if not any(content_types):
        return _UNTYPED
    text = b",".join(content_types).lower()
    return frozenset(kind for word, kind in _WORDS if word in text)


def has_fields(content_types: Sequence[bytes]) -> bool:
    """Tell whether a body has named fields that are not read here: in XML, YAML, MessagePack and the like."""
    return _FIELDS.search(b",".join(content_types).lower()) is not None


def _said(value: bytes) -> frozenset[BodyKind]:
    """Return the kind that a field says, or those that it could say if the grammar does not have it."""
    try:
        return frozenset((_kind_of(parameters.parse(value).main),))
    except ValueError:
        return frozenset(_kind_of(each.partition(b";")[0].strip(b" \t").lower()) for each in value.split(b","))


def _kind_of(main: bytes) -> BodyKind:
    if main.startswith(_FRAMED):
        return BodyKind.OTHER
    if main in _JSON_TYPES or main.endswith(b"+json"):  # RFC 6839
        return BodyKind.JSON
    if main == b"multipart/form-data":
        return BodyKind.MULTIPART
    return BodyKind.FORM if main == b"application/x-www-form-urlencoded" else BodyKind.OTHER
