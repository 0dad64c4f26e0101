"""What the router needs to know of a request's header section.

Pure.
"""

import enum
import re
from typing import Final, NamedTuple

from bbr import model
from bbr.model import BodyKind
from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue

# Anthropic's Messages API and what hangs below it, behind any prefix that a gateway may rewrite away.
_ANTHROPIC_PATH: Final = re.compile(rb"[^?#]*/v1/messages(?:[/?#]|$)")

_WANTED: Final = frozenset(("content-type", "content-length", ":path", ":method", "upgrade"))

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
        content_length: in octets; 0 if it is not announced.
        dialect: see Dialect.
    """

    kind: BodyKind
    content_length: int
    dialect: Dialect


def read_head(headers: HeaderMap) -> Head:
    """Read a header section; its keys are lower-case, and a field may stand several times."""
    length = 0
    content_types = []
    dialect = Dialect.OPENAI
    bodyless = False
    for header in headers.headers:
        key = header.key
        if key not in _WANTED:  # of a dozen fields at most three are: one look-up for the others
            continue
        if key == "content-type":
            content_types.append(_value(header))
        elif key == "content-length":
            digits = _value(header)
            if digits.isdigit():
                length = int(digits) if len(digits) <= _LENGTH_DIGITS else _TOO_LONG
        elif key == ":path":
            if _ANTHROPIC_PATH.match(_value(header)):
                dialect = Dialect.ANTHROPIC
        elif key == "upgrade" or _value(header) == b"CONNECT":
            bodyless = True
    kind = BodyKind.OTHER if bodyless else model.body_kind(content_types)
    return Head(kind, length, dialect)


def _value(header: HeaderValue) -> bytes:
    return header.raw_value or header.value.encode()  # Envoy fills raw_value only, older gateways value
