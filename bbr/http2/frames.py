"""Frames on the wire: numbers of the specification, and the encoding of every frame that a server sends.

Source: RFC 9113, sections 4, 6, 7 and 11.
"""

import enum
import struct
from collections.abc import Iterable
from typing import Final

# An HTTP/1.1 server fails on it: "PRI" is no method, and no such version exists (section 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

# length << 8 | type, flags, reserved bit | stream id
# The length has three bytes, and struct has no such number: it is read together with the type.
HEADER: Final = struct.Struct(">IBI")
UINT32: Final = struct.Struct(">I")
SETTING: Final = struct.Struct(">HI")

# The bit above an id is reserved: we send it as 0, and ignore it on receipt (section 4.1).
STREAM_ID_MASK: Final = 0x7FFF_FFFF
MAX_STREAM_ID: Final = 0x7FFF_FFFF
MAX_WINDOW: Final = 0x7FFF_FFFF
# Every endpoint must be able to take a payload of this size (section 4.2).
MIN_MAX_FRAME_SIZE: Final = 1 << 14
MAX_MAX_FRAME_SIZE: Final = (1 << 24) - 1


class FrameType:
    """Section 6. Plain integers, as in Flag: to look up a member of an enum takes ten times as long (CPython 3.11)."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


class Flag:
    """Section 6. Plain integers: testing a bit of an enum.IntFlag takes twenty times as long."""

    END_STREAM: Final = 0x01
    ACK: Final = 0x01
    END_HEADERS: Final = 0x04
    PADDED: Final = 0x08
    PRIORITY: Final = 0x20


class ErrorCode(enum.IntEnum):
    """Section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class SettingId(enum.IntEnum):
    """Section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


def read_header(octets: bytes, at: int) -> tuple[int, int, int]:
    """Return what `HEADER.unpack_from` does. Compiled it takes a third of its time, interpreted four times as long."""
    return (
        octets[at] << 24 | octets[at + 1] << 16 | octets[at + 2] << 8 | octets[at + 3],
        octets[at + 4],
        octets[at + 5] << 24 | octets[at + 6] << 16 | octets[at + 7] << 8 | octets[at + 8],
    )


SETTINGS_ACK: Final = HEADER.pack(FrameType.SETTINGS, Flag.ACK, 0)


def header(frame_type: int, flags: int, stream_id: int, length: int) -> bytes:
    """Return the 9 bytes before a payload of `length` bytes."""
    return HEADER.pack(length << 8 | frame_type, flags, stream_id)


def settings(values: Iterable[tuple[SettingId, int]]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(SETTING.pack(identifier, value) for identifier, value in values)
    return header(FrameType.SETTINGS, 0, 0, len(payload)) + payload


def ping(opaque: bytes) -> bytes:
    """Return a PING with these 8 bytes."""
    return header(FrameType.PING, 0, 0, 8) + opaque


def ping_ack(opaque: bytes) -> bytes:
    """Return the answer to a PING with these 8 bytes."""
    return header(FrameType.PING, Flag.ACK, 0, 8) + opaque


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return header(FrameType.RST_STREAM, 0, stream_id, 4) + UINT32.pack(code)


def goaway(last_stream_id: int, code: ErrorCode, debug: bytes = b"") -> bytes:
    """Return a GOAWAY frame; `debug` names what went wrong, for whoever reads the peer's log."""
    payload = UINT32.pack(last_stream_id) + UINT32.pack(code) + debug
    return header(FrameType.GOAWAY, 0, 0, len(payload)) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return header(FrameType.WINDOW_UPDATE, 0, stream_id, 4) + UINT32.pack(increment)
