"""Frames, and hypothesis strategies of frame scripts, that share no line with bbr.http2."""

import struct
from collections.abc import Iterator

import hpack
from hyperframe.frame import Frame
from hypothesis import strategies as st

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x01
END_HEADERS, PADDED, WITH_PRIORITY = 0x04, 0x08, 0x20

Fields = list[tuple[bytes, bytes]]
POST: Fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"bbr:9004")]
SIZED: Fields = [*POST, (b"content-length", b"12")]
TRACED: Fields = [*POST, (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
TRAILERS: Fields = [(b"grpc-status", b"0")]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream_id) + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


def block(fields: Fields, *, huffman: bool = False) -> bytes:
    """Literals that are never indexed: the same octets whatever the tables hold."""
    octets = hpack.Encoder().encode([(name, value, True) for name, value in fields], huffman=huffman)
    return bytes(octets)


def request(stream_id: int, fields: Fields = POST, *, end_stream: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end_stream else 0), stream_id, block(fields))


def padded(payload: bytes, padding: int) -> bytes:
    return bytes((padding,)) + payload + bytes(padding)


def parsed(octets: bytes) -> Iterator[Frame]:
    """Parse whole frames; what is no whole frame is an error."""
    view = memoryview(octets)
    while view:
        made, length = Frame.parse_frame_header(view[:9], strict=True)
        assert len(view) >= 9 + length
        made.parse_body(view[9 : 9 + length])
        view = view[9 + length :]
        yield made


MALFORMED: list[Fields] = [
    [(b":method", b"GET")],
    [*POST, (b"Upper", b"x")],
    [*POST, (b"connection", b"close")],
    [*POST, (b":path", b"/")],
    [*POST, (b"a", b" b")],
    [(b"a", b"b"), *POST],
]
BLOCKS = [block(fields, huffman=huffman) for fields in (POST, SIZED, TRACED, TRAILERS) for huffman in (False, True)]
BAD_BLOCKS = [*map(block, MALFORMED), b"\x80", b"\xff\xff\xff\xff\xff\xff\xff", b"\x00\x85ab", b"\x3f\xe1\x7f"]

stream_ids = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 9])
flags = st.sampled_from([0, 0, END_STREAM])
increments = st.sampled_from([1, 7, 100, 20_000, 65_535, 1 << 30])
sizes = st.sampled_from([0, 1, 12, 12, 255, 300, 5_000, 16_384])


@st.composite
def data_frames(draw: st.DrawFn) -> bytes:
    payload, flag = bytes(draw(sizes)), draw(flags)
    if len(payload) < 16_000 and draw(st.booleans()):
        payload, flag = padded(payload, draw(st.integers(0, 255))), flag | PADDED
    return frame(DATA, flag, draw(stream_ids), payload)


@st.composite
def header_frames(draw: st.DrawFn, blocks: st.SearchStrategy[bytes]) -> bytes:
    fragment, flag, stream_id = draw(blocks), draw(flags), draw(stream_ids)
    cuts = sorted(draw(st.lists(st.integers(0, len(fragment)), max_size=3)))
    first, *rest = (fragment[a:b] for a, b in zip([0, *cuts], [*cuts, len(fragment)], strict=True))
    if draw(st.booleans()):
        first, flag = struct.pack(">IB", draw(st.sampled_from([0, 11, 0x8000000B])), 15) + first, flag | WITH_PRIORITY
    if draw(st.booleans()):
        first, flag = padded(first, draw(st.integers(0, 30))), flag | PADDED
    out = frame(HEADERS, flag if rest else flag | END_HEADERS, stream_id, first)
    for piece in rest[:-1]:
        out += frame(CONTINUATION, 0, stream_id, piece)
    return out + frame(CONTINUATION, END_HEADERS, stream_id, rest[-1]) if rest else out


setting_entries = st.tuples(
    st.sampled_from([1, 2, 3, 4, 4, 5, 6, 8, 0x99]), st.sampled_from([0, 1, 100, 16_384, 65_535, 100_000])
).map(lambda entry: (5, 16_384 + entry[1]) if entry[0] == 5 else (2, entry[1] & 1) if entry[0] == 2 else entry)

# Each is allowed somewhere; which ones are allowed where they come is what a script is about.
good_frames = st.one_of(
    header_frames(st.sampled_from(BLOCKS)),
    header_frames(st.sampled_from(BLOCKS)),
    data_frames(),
    data_frames(),
    st.builds(window_update, st.just(0) | stream_ids, increments),
    st.builds(lambda stream_id, code: frame(RST_STREAM, 0, stream_id, struct.pack(">I", code)), stream_ids, increments),
    st.lists(setting_entries, max_size=3).map(lambda entries: settings(*entries)),
    st.sampled_from([frame(SETTINGS, ACK, 0), frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, bytes(8))]),
    st.builds(lambda stream_id, on: frame(PRIORITY, 0, stream_id, struct.pack(">IB", on, 9)), stream_ids, st.just(11)),
    st.builds(frame, st.integers(10, 255), st.integers(0, 255), st.just(0) | stream_ids, st.binary(max_size=9)),
)
bad_frames = st.one_of(
    header_frames(st.sampled_from(BAD_BLOCKS)),
    st.builds(
        frame, st.integers(0, 11), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5, 9]), st.binary(max_size=12)
    ),
    st.builds(window_update, st.just(0) | stream_ids, st.sampled_from([0, (1 << 31) - 1])),
    st.tuples(st.integers(1, 6), st.sampled_from([2, 16_383, 1 << 24, 1 << 31])).map(settings),
    st.builds(lambda stream_id, size: frame(PRIORITY, 0, stream_id, bytes(size)), stream_ids, st.sampled_from([4, 6])),
    st.builds(lambda stream_id: frame(PRIORITY, 0, stream_id, struct.pack(">IB", stream_id, 9)), stream_ids),
    st.sampled_from([frame(GOAWAY, 0, 0, bytes(8)), frame(GOAWAY, 0, 0, bytes(7)), frame(GOAWAY, 0, 1, bytes(8))]),
    st.just(frame(DATA, 0, 1, bytes(16_385))[:9]),
    st.builds(lambda stream_id: frame(HEADERS, 0, stream_id, block(POST)), stream_ids),
)
scripts = st.lists(st.one_of(good_frames, good_frames, good_frames, bad_frames), max_size=20)


@st.composite
def mutated(draw: st.DrawFn, octets: bytes) -> bytes:
    """Some octets changed, dropped or put in."""
    changed = bytearray(octets)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(changed)))
        changed[start : start + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(changed)
