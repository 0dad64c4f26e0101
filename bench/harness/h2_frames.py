"""HTTP/2 frames and field blocks, built and read without a line of bbr.http2; and a peer to play a client with."""

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import hpack
from hyperframe.frame import Frame as HyperFrame

from bbr.http2.connection import Connection
from bbr.http2.events import Event
from bbr.http2.settings import Settings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(
    7
)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(7, 12)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_LIST_SIZE = range(1, 7)

# Flags that section 6 defines, by type.
_DEFINED_FLAGS = {DATA: 0x09, HEADERS: 0x2D, SETTINGS: 0x01, PING: 0x01, CONTINUATION: 0x04}
_DEFAULT_WINDOW = 65_535

Fields = Iterable[tuple[str, str]]

REQUEST: Fields = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/service/Method"),
    (":authority", "router"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
GET: Fields = ((":method", "GET"), (":scheme", "http"), (":path", "/"))


class Frame(NamedTuple):
    """A frame as it was on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def last_id(self) -> int:
        """The last stream id of a GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")

    @property
    def ends(self) -> bool:
        """Whether the frame ends its stream's direction."""
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """Return any frame, sensible or not."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def data(stream_id: int, payload: bytes = b"", *, end: bool = False, pad: int | None = None) -> bytes:
    """Return DATA; with `pad` octets of padding if that is not None."""
    flags = END_STREAM if end else 0
    if pad is not None:
        flags |= PADDED
        payload = bytes([pad]) + payload + bytes(pad)
    return frame(DATA, flags, stream_id, payload)


def headers(stream_id: int, fields: bytes, *, end: bool = False, flags: int = END_HEADERS) -> bytes:
    """Return HEADERS with a field block."""
    return frame(HEADERS, flags | (END_STREAM if end else 0), stream_id, fields)


def settings(*values: tuple[int, int]) -> bytes:
    """Return SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values))


def rst_stream(stream_id: int, code: int = CANCEL) -> bytes:
    """Return RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def window_update(stream_id: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


def priority(stream_id: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """Return PRIORITY."""
    return frame(PRIORITY, 0, stream_id, struct.pack(">IB", depends_on, weight))


SETTINGS_ACK = frame(SETTINGS, ACK)

# What a client may send at once: its preface (section 3.4), and that it knows the server's.
OPENING = PREFACE + settings() + SETTINGS_ACK
PING_FRAME = frame(PING, 0, 0, b"pingping")


def block(fields: Fields, *, huffman: bool = False) -> bytes:
    """Return a field block that is good with any table: an update to size 0 comes first."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(list(fields), huffman=huffman)


def literal(name: bytes, value: bytes) -> bytes:
    """Return a literal field without indexing, whatever its octets; each string below 127 octets."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


POST_BLOCK = block(REQUEST)
GET_BLOCK = block(GET)
TRAILER_BLOCK = block([("grpc-trace", "x")])


def parse(octets: bytes) -> Iterator[Frame]:
    """Give the frames of an output, each held against section 4.1 and against the hyperframe library."""
    position = 0
    while position < len(octets):
        length = int.from_bytes(octets[position : position + 3], "big")
        kind, flags, stream_id = struct.unpack_from(">BBI", octets, position + 3)
        payload = octets[position + 9 : position + 9 + length]
        assert len(payload) == length, "a frame is cut"
        assert stream_id < 1 << 31, "the reserved bit is set"
        assert not flags & ~_DEFINED_FLAGS.get(kind, 0), "undefined flags are set"
        parsed, _ = HyperFrame.parse_frame_header(memoryview(octets[position : position + 9]), strict=True)
        parsed.parse_body(memoryview(payload))
        yield Frame(kind, flags, stream_id, payload)
        position += 9 + length


class Peer:
    """A client of a Connection; it keeps all that came back, and counts the connection's credit.

    Args:
        limits: the connection's.
        chunk: octets of each read; None for all at once.
        preface: send the preface, `own` SETTINGS and the acknowledgement of the connection's.
    """

    def __init__(
        self,
        limits: Settings | None = None,
        *,
        chunk: int | None = None,
        preface: bool = True,
        own: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.limits = limits or Settings()
        self.now = 0.0
        self.connection = self.connect()
        self.chunk = chunk
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.credit = _DEFAULT_WINDOW
        self._decoder = hpack.Decoder()
        self.collect()
        if preface:
            self.send(PREFACE, settings(*own), SETTINGS_ACK)

    def send(self, *octets: bytes) -> list[Frame]:
        """Send frames; return what came back."""
        before = len(self.frames)
        self.credit -= sum(len(each) - 9 for each in octets if each[3:4] == bytes([DATA]))
        everything = b"".join(octets)
        step = self.chunk or max(len(everything), 1)
        for start in range(0, len(everything), step):
            self.deliver(everything[start : start + step])
            self.collect()
        return self.frames[before:]

    def connect(self) -> Connection:
        """Return what is talked to."""
        return Connection(self.limits, self.now)

    def deliver(self, octets: bytes) -> None:
        """Hand over what one read brings."""
        self.events += self.connection.receive(octets, self.now)

    def collect(self) -> list[Frame]:
        """Take the connection's output; return its frames."""
        found = [each for octets in iter(self.connection.take_output, b"") for each in parse(octets)]
        self.frames += found
        for each in found:
            if each.kind == WINDOW_UPDATE and each.stream_id == 0:
                self.credit += int.from_bytes(each.payload, "big")
        return found

    def fields(self, found: Frame) -> list[tuple[str, str]]:
        """Decode a HEADERS frame; in order, and each once."""
        return [(str(name), str(value)) for name, value in self._decoder.decode(found.payload)]

    def of(self, kind: int, stream_id: int | None = None) -> list[Frame]:
        """Return all frames of a type that came back, of one stream or all."""
        return [each for each in self.frames if each.kind == kind and stream_id in (None, each.stream_id)]

    def body(self, stream_id: int) -> bytes:
        """Return the DATA of a stream that came back."""
        return b"".join(each.payload for each in self.of(DATA, stream_id))

    def found(self, kind: type[Event]) -> list[Event]:
        """Return all events of a type."""
        return [each for each in self.events if isinstance(each, kind)]


def cut(octets: bytes, size: int) -> list[bytes]:
    """Return pieces of `size` octets; the last may be shorter."""
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def odd_ids(first: int = 1) -> Iterator[int]:
    """Give stream ids."""
    return itertools.count(first, 2)
