import random
import struct
import sys

import pytest

from bbr.http2.events import ConnectionFailed, DataReceived, RequestReceived
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PING,
    PING_FRAME,
    POST_BLOCK,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    SETTINGS_TIMEOUT,
    WINDOW_UPDATE,
    Peer,
    data,
    frame,
    headers,
    settings,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, assert_failed, play, rows

OPEN = headers(1, POST_BLOCK)
BIG = bytes(16_385)


def wrong(place: int) -> bytes:
    return PREFACE[:place] + b"?" + PREFACE[place + 1 :]


def announced(length: int, kind: int, stream_id: int = 0) -> bytes:
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, 0, stream_id)


CASES = [
    *[
        Case(f"A2 magic wrong in octet {place}", (wrong(place), settings()), goaway=PROTOCOL_ERROR, preface=False)
        for place in (0, 12, 23)
    ],
    Case("A2 HTTP/1.1", (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",), goaway=PROTOCOL_ERROR, preface=False),
    Case("A2 TLS", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), goaway=PROTOCOL_ERROR, preface=False),
    Case("A3 PING first", (PREFACE, PING_FRAME), goaway=PROTOCOL_ERROR, preface=False),
    Case("A3 HEADERS first", (PREFACE, OPEN), goaway=PROTOCOL_ERROR, preface=False),
    Case("A3 ACK first", (PREFACE, SETTINGS_ACK), goaway=PROTOCOL_ERROR, preface=False),
    Case("A5 ACK that nobody asked for", (SETTINGS_ACK, SETTINGS_ACK)),
    Case("B1 unknown type on stream 0", (frame(0x0B, 0xFF, 0, b"x" * 300),)),
    Case("B1 unknown type on an open stream", (OPEN, frame(0xFF, 0, 1, b"x"), data(1, b"abc"))),
    Case("B1 unknown type on an idle stream", (frame(0x20, 0, 99, b""),)),
    Case("B1 unknown types, full length", tuple(frame(kind, 0, 0, bytes(16_384)) for kind in (0x0B, 0x7F, 0xFF))),
    Case(
        "B2 undefined flags on PING", (frame(PING, 0xFE, 0, bytes(8))[:4] + b"\xfe" + frame(PING, 0, 0, bytes(8))[5:],)
    ),
    Case("B2 undefined flags on SETTINGS", (frame(SETTINGS, 0xFE),)),
    Case("B2 undefined flags on HEADERS", (frame(HEADERS, 0xD2 | END_HEADERS, 1, POST_BLOCK),)),
    Case("B2 undefined flags on DATA", (OPEN, frame(DATA, 0xF6, 1, b"data"))),
    Case("B2 undefined flags on PRIORITY", (frame(PRIORITY, 0xFF, 1, bytes(3) + b"\x05\x01"),)),
    Case("B2 undefined flags on RST_STREAM", (OPEN, frame(RST_STREAM, 0xFF, 1, bytes(4)))),
    Case("B2 undefined flags on WINDOW_UPDATE", (frame(WINDOW_UPDATE, 0xFF, 0, b"\x00\x00\x00\x01"),)),
    Case(
        "B2 undefined flags on CONTINUATION",
        (headers(1, POST_BLOCK[:3], flags=0), frame(CONTINUATION, 0xFF, 1, POST_BLOCK[3:])),
    ),
    Case("B2 undefined flags on GOAWAY", (frame(GOAWAY, 0xFF, 0, bytes(8)),)),
    Case("B2 reserved bit of the stream id", (frame(HEADERS, END_HEADERS, 1 | 1 << 31, POST_BLOCK), data(1, b"x"))),
    Case("B2 reserved bit on stream 0", (frame(PING, ACK, 1 << 31, bytes(8)),)),
    Case("B2 reserved bit of an increment", (frame(WINDOW_UPDATE, 0, 0, b"\x80\x00\x00\x01"),)),
    Case("B3 DATA of 16,384", (OPEN, data(1, bytes(16_384)))),
    Case("B3 DATA of 16,385", (OPEN, data(1, BIG)), goaway=FRAME_SIZE_ERROR),
    Case("B4 HEADERS of 16,385", (headers(1, BIG),), goaway=FRAME_SIZE_ERROR),
    Case(
        "B4 CONTINUATION of 16,385", (headers(1, b"", flags=0), frame(CONTINUATION, 0, 1, BIG)), goaway=FRAME_SIZE_ERROR
    ),
    Case("B4 SETTINGS of 16,386", (frame(SETTINGS, 0, 0, bytes(16_386)),), goaway=FRAME_SIZE_ERROR),
    Case("B4 GOAWAY of 16,385", (frame(GOAWAY, 0, 0, BIG),), goaway=FRAME_SIZE_ERROR),
    Case("B4 unknown type of 16,385", (frame(0xF0, 0, 0, BIG),), goaway=FRAME_SIZE_ERROR),
    *[
        Case(f"B5 type {kind} announces 2^24-1", (announced((1 << 24) - 1, kind, 1),), goaway=FRAME_SIZE_ERROR)
        for kind in (0, 1, 4, 9, 0x0B)
    ],
]


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    play(case, chunk)


def test_a1_settings_come_first():
    peer = Peer(preface=False)
    assert peer.frames[0].kind == SETTINGS
    assert peer.frames[0].flags == 0
    assert {each.kind for each in peer.frames[1:]} == {WINDOW_UPDATE}


def test_a1_the_connection_window_is_as_large_as_the_settings_say():
    for size in (65_535, 65_536, 1 << 24):
        assert Peer(Settings(connection_window_bytes=size), preface=False).credit == size


def test_a2_a_wrong_magic_is_refused_before_it_is_complete():
    peer = Peer(preface=False, chunk=1)
    peer.send(wrong(3)[:4])
    assert_failed(peer, PROTOCOL_ERROR)


def test_a4_magic_in_24_reads():
    peer = Peer(preface=False, chunk=1)
    peer.send(PREFACE)
    assert peer.events == []
    peer.send(settings(), SETTINGS_ACK)
    assert_alive(peer)


@pytest.mark.parametrize("sent", [b"", PREFACE[:23]], ids=["nothing", "half a magic"])
def test_a4_silence_ends_at_the_preface_timeout(sent):
    peer = Peer(preface=False)
    peer.send(sent)
    assert peer.connection.expire(10.0) == []
    peer.events += peer.connection.expire(10.1)
    peer.collect()
    assert_failed(peer, PROTOCOL_ERROR)
    assert peer.connection.expire(99.0) == []


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a5_each_settings_is_acknowledged_once(chunk):
    peer = Peer(chunk=chunk)
    back = peer.send(settings((1, 0)), PING_FRAME, settings(), SETTINGS_ACK)
    assert [(each.kind, each.flags, each.payload) for each in back] == [
        (SETTINGS, ACK, b""),
        (PING, ACK, b"pingping"),
        (SETTINGS, ACK, b""),
    ]


def test_a6_settings_that_are_never_acknowledged():
    peer = Peer(preface=False)
    peer.send(PREFACE, settings())
    assert peer.connection.expire(10.0) == []
    peer.events += peer.connection.expire(10.1)
    peer.collect()
    assert_failed(peer, SETTINGS_TIMEOUT)


def test_a6_an_acknowledgement_in_time():
    peer = Peer(Settings(keepalive_seconds=1e7))
    peer.send(SETTINGS_ACK)
    assert peer.connection.expire(1e6) == []
    assert_alive(peer)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a7_the_last_value_counts(chunk):
    peer = Peer(chunk=chunk)
    peer.send(settings((INITIAL_WINDOW_SIZE, 9), (INITIAL_WINDOW_SIZE, 3), (0x99, 7)), headers(1, POST_BLOCK))
    peer.connection.send_data(1, b"abcdef")
    peer.collect()
    assert peer.body(1) == b"abc"
    peer.send(settings((MAX_FRAME_SIZE, 16_384), (MAX_FRAME_SIZE, 20_000), (INITIAL_WINDOW_SIZE, 4)))
    assert peer.body(1) == b"abcd"
    assert_alive(peer)


def test_a8_no_push():
    announced = Peer().frames[0].payload
    values = dict(struct.iter_unpack(">HI", announced))
    assert values.get(2, 0) == 0


def test_b5_a_frame_that_is_too_long_is_refused_on_its_header():
    peer = Peer(chunk=1)
    for octet in announced((1 << 24) - 1, DATA, 1):
        assert not peer.connection.closed
        peer.send(bytes([octet]))
    assert_failed(peer, FRAME_SIZE_ERROR)


@pytest.mark.parametrize("chunk", [9, 100, 4096])
def test_b5_what_is_held_is_less_than_64_kib(chunk):
    peer = Peer(chunk=chunk)
    peer.send(OPEN, data(1, bytes(16_384))[:-1])
    parts = peer.connection._reader._parts
    assert sum(map(sys.getsizeof, parts)) + sys.getsizeof(parts) < (128 << 10 if chunk == 9 else 64 << 10)
    peer.send(b"\x00")
    assert [each.stream_id for each in peer.found(DataReceived)] == [1]


@pytest.mark.parametrize("limit", [16_384, 20_000, (1 << 24) - 1])
def test_b6_frames_fit_the_peer(limit):
    peer = Peer(own=((MAX_FRAME_SIZE, limit), (INITIAL_WINDOW_SIZE, 1 << 20)))
    peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)), headers(1, POST_BLOCK))
    peer.connection.send_data(1, bytes(100_001), end_stream=True)
    sizes = [len(each.payload) for each in peer.collect() if each.kind == DATA]
    assert sum(sizes) == 100_001
    assert sizes == [limit] * (100_000 // limit) + [100_001 - 100_000 // limit * limit]
    assert [each.ends for each in peer.of(DATA)] == [False] * (len(sizes) - 1) + [True]


@pytest.mark.parametrize("seed", range(60))
def test_b7_any_octets(seed):
    source = random.Random(seed)
    peer = Peer(chunk=source.choice([1, 9, None]))
    for _ in range(80):
        kind, stream_id = source.randrange(12), source.randrange(8)
        peer.send(frame(kind, source.randrange(256), stream_id, source.randbytes(source.choice([0, 4, 5, 8, 30]))))
        for event in peer.found(RequestReceived):
            peer.connection.send_data(event.stream_id, b"x")
    peer.send(source.randbytes(500))
    assert peer.connection.closed == (len(peer.of(GOAWAY)) == 1 == len(peer.found(ConnectionFailed)))
