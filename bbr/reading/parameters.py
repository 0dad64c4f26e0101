"""Reads a header field's value and its parameters strictly: `multipart/form-data; boundary="x"`. Pure.

A value that parsers read in different ways has no result here. The caller rejects it.
"""

import re
from typing import Final, NamedTuple

from bbr import refusal

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_MEDIA_TYPE: Final = re.compile(rb"[ \t]*+(" + _TOKEN + rb"(?:/" + _TOKEN + rb")?)[ \t]*+")
# RFC 9110, sections 5.6.4 and 5.6.6. An empty parameter is allowed, and some clients end with a semicolon.
_PARAMETER: Final = re.compile(
    rb";[ \t]*+(?:(" + _TOKEN + rb')=(?:"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*+)"|('
    rb"" + _TOKEN + rb"))[ \t]*+)?"
)
# Wherever it stands: some servers look for it in the whole field. With a star it is spelled in another charset yet, or
# in pieces (RFC 2231): Python's email joins `charset*0=utf-; charset*1=7`, and aiohttp reads by that.
_CHARSET: Final = re.compile(rb"charset[ \t]*+(\*[0-9]*+\*?+)?+[ \t]*+=([^;,]*+)", re.IGNORECASE)
# What stands there must be one name, in a pair of quotes at most: for Python's codecs `""utf-7""` is UTF-7.
_ONE_NAME: Final = re.compile(rb"""[ \t]*+["']?+([^ \t"']*+)["']?+[ \t]*+""")

# Charsets in which bytes mean what they mean in UTF-8.
UTF8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii"))

_UTF8_OR_NONE: Final = UTF8 | {b""}

# More are refused: they would have to be compared with each other.
MAX_PARAMETERS: Final = 16


class Value(NamedTuple):
    """A field value.

    Attributes:
        main: what stands before the first semicolon, in lower case.
        parameters: by name, in lower case; values without their quotes, backslashes left in.
    """

    main: bytes
    parameters: dict[bytes, bytes]


def parse(value: bytes, *, allow_empty: bool = True) -> Value:
    """Return a field value and its parameters.

    Args:
        value: of the field.
        allow_empty: take parameters of nothing (`a/b;`), as RFC 9110 does. Go and busboy do not, in a part's header.

    Raises:
        ValueError: it is no such value, or a parameter occurs twice; the message says which, for a client to read.
    """
    match = _MEDIA_TYPE.match(value)
    if not match:
        raise ValueError("it does not begin with a token")
    main = match[1].lower()
    parameters: dict[bytes, bytes] = {}
    while (at := match.end()) < len(value):
        match = _PARAMETER.match(value, at)
        if not match or not (match[1] or allow_empty):
            raise ValueError('its parameters are not name=value or name="value", with semicolons between')
        if match[1]:
            name = match[1].lower()
            if name in parameters:
                raise ValueError(f"its parameter {refusal.quoted(name.decode())} occurs twice")
            if len(parameters) == MAX_PARAMETERS:
                raise ValueError(f"it has more than {MAX_PARAMETERS} parameters")
            parameters[name] = match[3] if match[2] is None else match[2]
    return Value(main, parameters)


def check_charset(content_type: bytes) -> None:
    """Check that a Content-Type names no charset but UTF-8, or its part US-ASCII.

    A server that decodes by another one may read other names: `model` itself is spelled otherwise in UTF-16.

    Raises:
        Refusal: 415.
    """
    other = _other_charset(content_type)
    if other is not None:
        raise refusal.charset_unknown(other.decode("ascii", "replace"))


def is_utf8(content_type: bytes) -> bool:
    """Tell whether a Content-Type names no charset but UTF-8, or its part US-ASCII."""
    return _other_charset(content_type) is None


def _other_charset(content_type: bytes) -> bytes | None:
    """Return what a Content-Type names as charset that is not UTF-8; None if it names none but that."""
    for star, value in _CHARSET.findall(content_type):
        name = _ONE_NAME.fullmatch(value)
        if star or not name or name[1].lower() not in _UTF8_OR_NONE:
            return name[1] if name else bytes(value)
    return None
