"""Checks a long ProcessingRequest before it is decoded, so that decoding never takes long. Pure.

protobuf decodes a message in one go, and takes 10 ns for a field of two bytes. The long messages of a gateway have few
fields: either a body in one field, or a header section of some kilobytes. Source: Protocol Buffers, Encoding.
"""

from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError

from bbr import refusal
from bbr.pb.ext_proc_pb2 import ProcessingRequest

# Shorter messages are not looked at: they decode in a millisecond whatever they hold.
LONG_BYTES: Final = 128 << 10

# Of header sections, trailers and all else beside bodies, together. Envoy's limit is 60 KiB by default.
MAX_SECTION_BYTES: Final = 128 << 10

# Of a long message, and of a body in it. Envoy sends 8 of the one and 3 of the other at most.
MAX_FIELDS: Final = 64

_NUMBERS: Final = ProcessingRequest.DESCRIPTOR.fields_by_name
_BODIES: Final = frozenset(_NUMBERS[name].number for name in ("request_body", "response_body"))

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10


def check(message: bytes) -> None:
    """Look at a message of more than LONG_BYTES.

    Raises:
        DecodeError: it is none, or has more fields than a gateway would send.
        Refusal: 431; a header section is too long, or all that stands beside bodies.
    """
    beside = 0
    for number, start, end in _fields(message, 0, len(message)):
        if number in _BODIES:
            for _ in _fields(message, start, end):
                pass  # only their count matters
        else:
            beside += end - start
            if beside > MAX_SECTION_BYTES:
                raise refusal.headers_too_large(MAX_SECTION_BYTES)


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give the number of each field, and where its value begins and ends."""
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        tag, at = _varint(message, at, end)
        kind = tag & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(message, at, end)
        elif kind == _BYTES:
            size, start = _varint(message, at, end)
            at = start + size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError("a field of a kind that no gateway sends")
        if at > end:
            raise DecodeError("a field is cut off")
        yield tag >> 3, start, at
    if at != end:
        raise DecodeError(f"a message of more than {LONG_BYTES} bytes has more than {MAX_FIELDS} fields")


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number, and where it ends."""
    value = 0
    for place in range(min(_MAX_VARINT_BYTES, end - at)):
        octet = message[at + place]
        value |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            return value, at + place + 1
    raise DecodeError("a number is cut off")
