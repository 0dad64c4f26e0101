"""The two ProcessingRequests that nearly every exchange consists of, read by hand: request_headers and request_body.

Pure. Only what encoders write is read here: fields in order, each once, numbers in as few bytes as they need, nothing
that the router does not know. For all other messages the answer is None, and protobuf reads them. So what is read here
means what protobuf says: tests/differential/wire.py compares the two. Source: Protocol Buffers, Encoding.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from bbr.native import mypyc_attr
from bbr.pb.ext_proc_pb2 import HeaderMap, HttpBody, HttpHeaders, ProcessingRequest
from bbr.pieces import VIEWED_BYTES

_REQUESTS: Final = ProcessingRequest.DESCRIPTOR.fields_by_name


def _tag(number: int, kind: int) -> int:
    return number << 3 | kind


_VARINT, _BYTES = 0, 2
_REQUEST_HEADERS: Final = _tag(_REQUESTS["request_headers"].number, _BYTES)
_REQUEST_BODY: Final = _tag(_REQUESTS["request_body"].number, _BYTES)
_HEADERS: Final = _tag(HttpHeaders.DESCRIPTOR.fields_by_name["headers"].number, _BYTES)
_FIELD: Final = _tag(HeaderMap.DESCRIPTOR.fields_by_name["headers"].number, _BYTES)
_BODY: Final = _tag(HttpBody.DESCRIPTOR.fields_by_name["body"].number, _BYTES)
# How a message ends that says end_of_stream.
_HEADERS_END: Final = bytes((_tag(HttpHeaders.DESCRIPTOR.fields_by_name["end_of_stream"].number, _VARINT), 1))
_BODY_END: Final = bytes((_tag(HttpBody.DESCRIPTOR.fields_by_name["end_of_stream"].number, _VARINT), 1))

# What follows the headers in a stream's first message: the same for all of a gateway's, and a dozen bytes.
_MOST_CONFIG_BYTES: Final = 32
_CACHED_CONFIGS: Final = 64
# Sizes of messages with a body. Envoy's have few, mostly 16,384 bytes by HTTP/2. A client can choose others.
_CACHED_SIZES: Final = 1024

# Of a header section. Envoy's own limit is 100; sections of more fields are protobuf's.
_MOST_FIELDS: Final = 128
# A number of so many bytes is below 2^21, and a header section is far shorter.
_MOST_NUMBER_BYTES: Final = 3


@mypyc_attr(free_list_len=1)
class Opening:
    """What a request_headers message says.

    Attributes:
        section: the header section, an encoded HeaderMap of at most 128 fields.
        wanted: those fields that were asked for, as encoded HeaderValues, in order.
        end_of_stream: no body follows.
        modes: the body modes of requests and of responses; None if the gateway names none.
    """

    __slots__ = ("end_of_stream", "modes", "section", "wanted")

    def __init__(
        self, section: bytes, wanted: Sequence[bytes], end_of_stream: bool, modes: tuple[int, int] | None
    ) -> None:
        self.section = section
        self.wanted = wanted
        self.end_of_stream = end_of_stream
        self.modes = modes


class Wanted:
    """Which fields of a section are asked for.

    Args:
        beginnings: how their encodings begin: the key's tag, its length, and some bytes of it.
        size: how many bytes that is, three at least.
    """

    __slots__ = ("_marks", "beginnings", "size")

    def __init__(self, beginnings: frozenset[bytes], size: int) -> None:
        self.beginnings = beginnings
        self.size = size
        # Most fields are told apart by the key's length and first byte; only the rest are cut out and looked up.
        marks = bytearray(256)
        for each in beginnings:
            marks[_mark(each[1], each[2])] = 1  # no key is empty
        self._marks = bytes(marks)

    def may_hold(self, length: int, first: int) -> bool:
        """Tell whether one of them may have a key of such a length that begins with such a byte."""
        return self._marks[_mark(length, first)] != 0


def _mark(length: int, first: int) -> int:
    return (length ^ first << 1) & 0xFF


def read_piece(message: bytes) -> tuple[bytes | memoryview, bool] | None:
    """Return the body and end_of_stream of a request_body message that has a body; None if it is another message.

    A long body is a view of the message, which has hardly more bytes.
    """
    # All that stands before the body is numbers that follow from the message's size.
    size = len(message)
    piece, last = _known_beginnings.get(size) or _beginnings(size)
    if last and message.startswith(last):
        if not message.endswith(_BODY_END):
            return None
        return (message[len(last) : -2] if size < VIEWED_BYTES else memoryview(message)[len(last) : -2]), True
    if piece and message.startswith(piece):
        return (message[len(piece) :] if size < VIEWED_BYTES else memoryview(message)[len(piece) :]), False
    return None


def read_opening(message: bytes, wanted: Wanted) -> Opening | None:
    """Read a request_headers message; None if it is another one.

    Args:
        message: encoded.
        wanted: the fields that are asked for.
    """
    size = len(message)
    if not size or message[0] != _REQUEST_HEADERS:
        return None
    at, end = _bounds(message, 1, size)
    if at < 0 or at == end or message[at] != _HEADERS:
        return None
    at, last = _bounds(message, at + 1, end)
    if at < 0 or (last < end and message[last:end] != _HEADERS_END) or size - end > _MOST_CONFIG_BYTES:
        return None
    found = _fields(message, at, last, wanted)
    modes = _modes(message[end:]) if end < size else None
    if found is None or (modes is None and end < size):
        return None
    return Opening(message[at:last], found, last < end, modes)


def _fields(message: bytes, at: int, end: int, wanted: Wanted) -> Sequence[bytes] | None:
    """Return those fields of a header section that are wanted; None if it is for protobuf to read."""
    found: list[bytes] = []
    size, beginnings = wanted.size, wanted.beginnings
    for _ in range(_MOST_FIELDS):
        if at == end:
            return found
        if message[at] != _FIELD:
            return None
        at, after = _bounds(message, at + 1, end)
        if at < 0:
            return None
        if after - at < size:
            if message[at:after] in beginnings:
                found.append(message[at:after])
        elif wanted.may_hold(message[at + 1], message[at + 2]) and message[at : at + size] in beginnings:
            found.append(message[at:after])
        at = after
    return found if at == end else None


def _bounds(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where a value begins and ends whose length stands at a place; -1 twice if it is none, or too long."""
    length = 0
    for place in range(_MOST_NUMBER_BYTES):
        if at >= end:
            break
        octet = message[at]
        at += 1
        length |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            # The last byte of a number is none that could be left out.
            if (octet or not place) and at + length <= end:
                return at, at + length
            break
    return -1, -1


@lru_cache(_CACHED_CONFIGS)
def _modes(encoded: bytes) -> tuple[int, int] | None:
    """Return the modes of a protocol_config; None if there is anything else.

    Raises:
        DecodeError: it is no part of a message.
    """
    rest = ProcessingRequest.FromString(encoded)
    if [field.name for field, _ in rest.ListFields()] != ["protocol_config"]:
        return None
    config = rest.protocol_config
    return config.request_body_mode, config.response_body_mode


# Plain, and emptied when it is full: to ask an lru_cache takes five times as long, and what it forgets is as dear.
_known_beginnings: Final[dict[int, tuple[bytes, bytes]]] = {}


def _beginnings(size: int) -> tuple[bytes, bytes]:
    """Return what stands before the body in a message of a size: if it is a piece of it, and if it is the last one.

    Empty if there is none of this size.
    """
    if len(_known_beginnings) >= _CACHED_SIZES:
        _known_beginnings.clear()
    found = _known_beginnings[size] = _beginning(size, b""), _beginning(size, _BODY_END)
    return found


def _beginning(size: int, end: bytes) -> bytes:
    # Numbers have 1 to 5 bytes, and longer ones stand before more.
    for outer_bytes in range(1, 6):
        outer = size - 1 - outer_bytes
        for inner_bytes in range(1, outer_bytes + 1):
            inner = outer - 1 - inner_bytes - len(end)
            if inner > 0 and len(number(outer)) == outer_bytes and len(number(inner)) == inner_bytes:
                return bytes((_REQUEST_BODY, *number(outer), _BODY, *number(inner)))
    return b""


def number(value: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
