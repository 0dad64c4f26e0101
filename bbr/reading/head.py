"""What the router needs to know of a request's header section.

Pure.
"""

import enum
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from typing import Final, NamedTuple

from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue
from bbr.reading.content_type import body_kind, is_text
from bbr.reading.header_names import BEGINNING_BYTES, NO_NAMES, GuardedNames, beginning
from bbr.reading.name import BodyKind

# Anthropic's Messages API and what hangs below it, behind any prefix that a gateway may rewrite away.
_ANTHROPIC_ENDPOINT: Final = b"/v1/messages"
_ANTHROPIC_PATH: Final = re.compile(rb"/v1/messages(?:[/?#]|\Z)")
_QUERY: Final = re.compile(rb"[?#]")

# How the encodings of fields that matter begin.
_WANTED: Final = frozenset(
    map(beginning, ("content-type", "content-length", "content-encoding", ":path", ":method", "upgrade"))
)
_LENGTH_FIELD: Final = HeaderValue(key="content-length").SerializeToString()
_RAW_LENGTH_FIELD: Final = HeaderValue(key="content-length", raw_value=b"0").SerializeToString()[:-2]
_LENGTH_AT: Final = len(_RAW_LENGTH_FIELD)

_beginning_of: Final = itemgetter(slice(BEGINNING_BYTES))

# Sections and content types that are known again: most requests of a gateway have the same ones. 2 MB at most.
_CACHED: Final = 1024
_CACHED_BYTES: Final = 512
_CACHED_FIELDS: Final = 8

# Longer digit strings are no length that an HTTP stack accepts: over every limit, without parsing them.
_LENGTH_DIGITS: Final = 18
_TOO_LONG: Final = 1 << 63


class Dialect(enum.Enum):
    """Whose API a client speaks, and so in whose shape it gets errors."""

    OPENAI = enum.auto()
    ANTHROPIC = enum.auto()


class Head(NamedTuple):
    """A request's header section, as far as it matters.

    Attributes:
        kind: what the body is. OTHER for upgrades and CONNECT too, which have no body to wait for.
        dialect: see Dialect.
        path: the :path pseudo-header, with its query.
        method: the :method pseudo-header.
        content_types: the Content-Type fields.
        content_encodings: the Content-Encoding fields.
        bodyless: an upgrade or CONNECT: what follows is no body.
        strays: names of fields that a client may not say; see GuardedNames.
        text: the body is of the kind OTHER, and plain text, which could be JSON.
    """

    kind: BodyKind
    dialect: Dialect
    path: bytes = b""
    method: bytes = b""
    content_types: Sequence[bytes] = ()
    content_encodings: Sequence[bytes] = ()
    bodyless: bool = False
    strays: Sequence[str] = ()
    text: bool = False


def read_head(fields: Sequence[bytes], guarded: GuardedNames = NO_NAMES) -> tuple[Head, int]:
    """Read a header section; its keys are lower-case, and a field may stand several times.

    Args:
        fields: of the request, as encoded HeaderValues.
        guarded: names that a client may not say.

    Returns:
        What matters of it, and the length in bytes that it announces for the body: 0 if it announces none.

    Raises:
        DecodeError: a field that matters is no HeaderValue.
        Refusal: 431; it has too many strays.
    """
    # Most fields do not matter. The interpreter does not see them: `compress` and `map` pass over them.
    head, length = head_of(compress(fields, map(wanted(guarded).__contains__, map(_beginning_of, fields))), guarded)
    if guarded.prefixes:  # only these cost a second look
        strays = guarded.strays(fields)
        if strays:
            head = head._replace(strays=strays)
    return head, length


def head_of(fields: Iterable[bytes], guarded: GuardedNames) -> tuple[Head, int]:
    """Read those fields of a header section that are `wanted`, as read_head does but for guarded prefixes."""
    length = 0
    constant: list[bytes] = []
    for field in fields:
        if field.startswith(_LENGTH_FIELD):
            length = _length(field, length)
        else:
            constant.append(field)
    # A client's requests differ in their lengths. In the other fields that matter most of them are alike.
    last, of_whom, head = _last[0]
    if constant == last and guarded is of_whom:  # to compare them takes a fifth of what it takes to look them up
        return head, length
    if len(constant) <= _CACHED_FIELDS and sum(map(len, constant)) <= _CACHED_BYTES:
        head = _cached_head(tuple(constant), guarded)
        _last[0] = constant, guarded, head
        return head, length
    return _head(constant, guarded), length


def _head(fields: Sequence[bytes], guarded: GuardedNames) -> Head:
    """Read the fields that matter."""
    path = method = b""
    content_types = []
    encodings = []
    dialect = Dialect.OPENAI
    bodyless = False
    others: dict[str, None] = {}
    for key, value in map(_field, fields):
        if key == "content-type":
            content_types.append(value)
        elif key == ":path":
            path = value
            if _is_anthropic(value):
                dialect = Dialect.ANTHROPIC
        elif key == "content-encoding":
            encodings.append(value)
        elif key == ":method":
            method = value
            bodyless = bodyless or value == b"CONNECT"
        elif key == "upgrade":
            bodyless = True
        elif not guarded.prefixes and guarded.is_stray(key):
            others[key] = None
    kind = BodyKind.OTHER if bodyless else _kind(content_types)
    strays = guarded.checked(tuple(others)) if others else ()
    text = kind is BodyKind.OTHER and not bodyless and not encodings and is_text(content_types)
    return Head(kind, dialect, path, method, tuple(content_types), tuple(encodings), bodyless, strays, text)


_cached_head: Final = lru_cache(_CACHED)(_head)


def _length(field: bytes, length: int) -> int:
    """Return what a Content-Length field announces; `length` if that is no length."""
    # As gateways write it: the key, one byte with the value's length, and the value as raw_value.
    size = len(field) - _LENGTH_AT - 1
    if 0 < size <= _LENGTH_DIGITS and field[_LENGTH_AT] == size and field.startswith(_RAW_LENGTH_FIELD):
        value = field[_LENGTH_AT + 1 :]
        return int(value) if value.isdigit() else length
    _, value = _field(field)
    if not value.isdigit():
        return length
    return int(value) if len(value) <= _LENGTH_DIGITS else _TOO_LONG


@lru_cache(16)
def wanted(guarded: GuardedNames) -> frozenset[bytes]:
    """Return how the fields that matter begin, by BEGINNING_BYTES of their encodings."""
    return _WANTED | guarded.beginnings


def find_fields(headers: HeaderMap, name: str) -> list[bytes]:
    """Return the values of all fields with a name, in small letters and of at most 127 bytes.

    Raises:
        DecodeError: one of the fields is no HeaderValue.
    """
    key = _encoded_key(name)
    return [_field(field)[1] for field in headers.headers if field.startswith(key)]


def find_field(headers: HeaderMap, name: str) -> bytes | None:
    """Return the value of the first field with a name, in small letters and of at most 127 bytes; None without one.

    Raises:
        DecodeError: the field is no HeaderValue.
    """
    key = _encoded_key(name)
    for field in headers.headers:
        if field.startswith(key):
            return _field(field)[1]
    return None


def _encoded_key(name: str) -> bytes:
    """Return how the encoding of a field with a name begins, as far as its key goes."""
    key = name.encode()
    return b"\x0a" + bytes((len(key),)) + key


def _is_anthropic(path: bytes) -> bool:
    if _ANTHROPIC_ENDPOINT not in path:
        return False
    found = _ANTHROPIC_PATH.search(path)
    return found is not None and not _QUERY.search(path, 0, found.start())


def _kind(content_types: list[bytes]) -> BodyKind:
    if len(content_types) == 1 and len(content_types[0]) <= _CACHED_BYTES:
        return _cached_kind(content_types[0])
    return body_kind(content_types)


@lru_cache(_CACHED)
def _cached_kind(content_type: bytes) -> BodyKind:
    return body_kind((content_type,))


def _field(encoded: bytes) -> tuple[str, bytes]:
    """Return a field's name and value; a value stands in raw_value (Envoy), or in value (older gateways)."""
    field = HeaderValue.FromString(encoded)
    return field.key, field.raw_value or field.value.encode()


# The section that was read last: its fields, the guarded names, and what it says.
_last: Final[list[tuple[list[bytes], GuardedNames, Head]]] = [([], NO_NAMES, _head((), NO_NAMES))]
