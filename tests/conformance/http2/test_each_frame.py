import struct

import pytest

from bbr.http2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PING_FRAME,
    POST_BLOCK,
    PRIORITY,
    PRIORITY_FLAG,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    TRAILER_BLOCK,
    WINDOW_UPDATE,
    Peer,
    data,
    frame,
    headers,
    priority,
    rst_stream,
    settings,
    window_update,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, assert_conserved, assert_failed, play, rows

OPEN = headers(1, POST_BLOCK)
ON_ITSELF = struct.pack(">IB", 1, 15)
MIDDLE = headers(1, POST_BLOCK[:5], flags=0)


def continuation(stream_id: int, fragment: bytes = b"", *, end: bool = True) -> bytes:
    return frame(CONTINUATION, END_HEADERS if end else 0, stream_id, fragment)


def cut_at(place: int) -> tuple[bytes, ...]:
    return headers(1, POST_BLOCK[:place], flags=0), continuation(1, POST_BLOCK[place:])


CASES = [
    Case("D1 DATA on stream 0", (data(0, b"x"),), goaway=PROTOCOL_ERROR),
    Case("D1 padding as long as the payload", (OPEN, frame(DATA, PADDED, 1, b"\x04abc")), goaway=PROTOCOL_ERROR),
    Case("D1 padding much longer", (OPEN, frame(DATA, PADDED, 1, b"\xffabc")), goaway=PROTOCOL_ERROR),
    Case("D1 PADDED without a length", (OPEN, frame(DATA, PADDED, 1)), goaway=PROTOCOL_ERROR),
    Case("D1 nothing but padding", (OPEN, data(1, b"", pad=3))),
    Case("D1 255 of padding", (OPEN, data(1, b"", pad=255), data(1, b"x", pad=255, end=True))),
    Case("D3 HEADERS on stream 0", (headers(0, POST_BLOCK),), goaway=PROTOCOL_ERROR),
    Case(
        "D3 padding as long as the payload",
        (frame(HEADERS, END_HEADERS | PADDED, 1, bytes([len(POST_BLOCK) + 1]) + POST_BLOCK),),
        goaway=PROTOCOL_ERROR,
    ),
    Case("D3 PADDED without a length", (frame(HEADERS, END_HEADERS | PADDED, 1),), goaway=PROTOCOL_ERROR),
    Case("D3 PADDED", (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02" + POST_BLOCK + bytes(2)), data(1, b"x"))),
    Case("D3 PRIORITY", (frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, bytes(5) + POST_BLOCK), data(1, b"x"))),
    Case(
        "D3 PADDED and PRIORITY",
        (frame(HEADERS, END_HEADERS | PADDED | PRIORITY_FLAG, 1, b"\x01" + bytes(5) + POST_BLOCK + b"\x00"),),
    ),
    Case(
        "D3 PRIORITY in 4 octets",
        (frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, bytes(4)),),
        goaway=FRAME_SIZE_ERROR,
    ),
    *[
        Case(f"D4 {name} inside a field block", (headers(3, POST_BLOCK), MIDDLE, sent), goaway=PROTOCOL_ERROR)
        for name, sent in {
            "PRIORITY": priority(1),
            "PING": PING_FRAME,
            "an unknown type": frame(0xEE, 0, 1),
            "SETTINGS": settings(),
            "DATA": data(3, b"x"),
            "HEADERS": headers(5, POST_BLOCK),
            "HEADERS of the same stream": headers(1, POST_BLOCK),
            "another stream's CONTINUATION": continuation(3),
        }.items()
    ],
    Case("D5 PRIORITY on stream 0", (priority(0, 5),), goaway=PROTOCOL_ERROR),
    Case("D5 length 4", (OPEN, frame(PRIORITY, 0, 1, bytes(4))), resets=((1, FRAME_SIZE_ERROR),)),
    Case("D5 length 6", (OPEN, frame(PRIORITY, 0, 1, bytes(6))), resets=((1, FRAME_SIZE_ERROR),)),
    Case("D5 length 4, idle", (frame(PRIORITY, 0, 1, bytes(4)),), goaway=FRAME_SIZE_ERROR),
    Case("D5 length 4, closed", (OPEN, rst_stream(1), frame(PRIORITY, 0, 1, bytes(4))), goaway=FRAME_SIZE_ERROR),
    Case(
        "D5 weights, exclusive, idle, closed",
        (
            OPEN,
            priority(1, 0, 0),
            priority(1, 0, 255),
            priority(1, 1 << 31 | 3),
            priority(99, 1),
            rst_stream(1),
            priority(1, 5),
        ),
    ),
    Case("D6 PRIORITY", (OPEN, priority(1, 1)), resets=((1, PROTOCOL_ERROR),)),
    Case("D6 PRIORITY, exclusive", (OPEN, priority(1, 1 << 31 | 1)), resets=((1, PROTOCOL_ERROR),)),
    Case("D6 PRIORITY, idle", (priority(3, 3),), goaway=PROTOCOL_ERROR),
    Case(
        "D6 HEADERS",
        (frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, ON_ITSELF + POST_BLOCK),),
        resets=((1, PROTOCOL_ERROR),),
    ),
    Case(
        "D6 HEADERS and CONTINUATION",
        (frame(HEADERS, PRIORITY_FLAG, 1, ON_ITSELF + POST_BLOCK[:4]), continuation(1, POST_BLOCK[4:])),
        resets=((1, PROTOCOL_ERROR),),
    ),
    Case("D7 RST_STREAM on stream 0", (rst_stream(0),), goaway=PROTOCOL_ERROR),
    Case("D7 idle", (OPEN, rst_stream(3)), goaway=PROTOCOL_ERROR),
    Case("D7 length 3", (OPEN, frame(RST_STREAM, 0, 1, bytes(3))), goaway=FRAME_SIZE_ERROR),
    Case("D7 length 5", (OPEN, frame(RST_STREAM, 0, 1, bytes(5))), goaway=FRAME_SIZE_ERROR),
    Case("D7 unknown code", (OPEN, rst_stream(1, 0xFFFF_FFFF))),
    Case("D8 ACK with a payload", (frame(SETTINGS, ACK, 0, bytes(6)),), goaway=FRAME_SIZE_ERROR),
    Case("D8 length 5", (frame(SETTINGS, 0, 0, bytes(5)),), goaway=FRAME_SIZE_ERROR),
    Case("D8 on a stream", (OPEN, frame(SETTINGS, 0, 1)), goaway=PROTOCOL_ERROR),
    Case("D8 unknown id", (settings((0xFF, 1), (0, 5)),)),
    Case("D9 ENABLE_PUSH 2", (settings((ENABLE_PUSH, 2)),), goaway=PROTOCOL_ERROR),
    Case("D9 ENABLE_PUSH 0 and 1", (settings((ENABLE_PUSH, 0), (ENABLE_PUSH, 1)),)),
    Case("D9 INITIAL_WINDOW_SIZE 2^31", (settings((INITIAL_WINDOW_SIZE, 1 << 31)),), goaway=FLOW_CONTROL_ERROR),
    Case("D9 INITIAL_WINDOW_SIZE 2^31-1", (settings((INITIAL_WINDOW_SIZE, (1 << 31) - 1)),)),
    Case("D9 MAX_FRAME_SIZE 16,383", (settings((MAX_FRAME_SIZE, 16_383)),), goaway=PROTOCOL_ERROR),
    Case("D9 MAX_FRAME_SIZE 2^24", (settings((MAX_FRAME_SIZE, 1 << 24)),), goaway=PROTOCOL_ERROR),
    Case("D9 MAX_FRAME_SIZE 2^24-1", (settings((MAX_FRAME_SIZE, (1 << 24) - 1)),)),
    Case("D10 PUSH_PROMISE", (OPEN, frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + POST_BLOCK)), goaway=PROTOCOL_ERROR),
    Case("D10 on stream 0", (frame(PUSH_PROMISE, END_HEADERS, 0, bytes(4) + POST_BLOCK),), goaway=PROTOCOL_ERROR),
    Case("D11 on a stream", (OPEN, frame(PING, 0, 1, bytes(8))), goaway=PROTOCOL_ERROR),
    Case("D11 length 7", (frame(PING, 0, 0, bytes(7)),), goaway=FRAME_SIZE_ERROR),
    Case("D11 length 9", (frame(PING, 0, 0, bytes(9)),), goaway=FRAME_SIZE_ERROR),
    Case("D12 GOAWAY on a stream", (OPEN, frame(GOAWAY, 0, 1, bytes(8))), goaway=PROTOCOL_ERROR),
    Case("D12 length 7", (frame(GOAWAY, 0, 0, bytes(7)),), goaway=FRAME_SIZE_ERROR),
    Case("D14 length 3", (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), goaway=FRAME_SIZE_ERROR),
    Case("D14 length 5", (OPEN, frame(WINDOW_UPDATE, 0, 1, bytes(5))), goaway=FRAME_SIZE_ERROR),
    Case("D14 0 on stream 0", (window_update(0, 0),), goaway=PROTOCOL_ERROR),
    Case("D14 0 on a stream", (OPEN, window_update(1, 0)), resets=((1, PROTOCOL_ERROR),)),
    Case("D14 half-closed", (headers(1, POST_BLOCK, end=True), window_update(1, 1))),
    Case("D14 closed", (OPEN, rst_stream(1), window_update(1, 1), window_update(1, 0))),
    Case("D15 CONTINUATION on stream 0", (continuation(0),), goaway=PROTOCOL_ERROR),
    Case("D15 alone", (continuation(1, POST_BLOCK),), goaway=PROTOCOL_ERROR),
    Case("D15 after END_HEADERS", (OPEN, continuation(1)), goaway=PROTOCOL_ERROR),
    Case("D15 after DATA", (OPEN, data(1, b"x"), continuation(1)), goaway=PROTOCOL_ERROR),
    Case("D15 CONTINUATION on stream 0 inside a field block", (MIDDLE, continuation(0)), goaway=PROTOCOL_ERROR),
    Case("D15 empty with END_HEADERS", (headers(1, POST_BLOCK, flags=0), continuation(1), data(1, b"x"))),
    Case("D15 all in CONTINUATION", (headers(1, b"", flags=0), continuation(1, POST_BLOCK), data(1, b"x"))),
    Case(
        "D15 eight CONTINUATION frames",
        (
            headers(1, POST_BLOCK[:2], flags=0),
            *(continuation(1, POST_BLOCK[place : place + 1], end=False) for place in range(2, 9)),
            continuation(1, POST_BLOCK[9:]),
            data(1, b"x"),
        ),
    ),
]


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    play(case, chunk)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_d2_padding_counts_and_is_not_seen(chunk):
    peer = Peer(chunk=chunk)
    before = peer.credit
    peer.send(OPEN, data(1, b"abc", pad=10), data(1, b"", pad=0), data(1, b"d", pad=255, end=True))
    assert peer.found(DataReceived) == [
        DataReceived(1, b"abc", False),
        DataReceived(1, b"", False),
        DataReceived(1, b"d", True),
    ]
    assert peer.credit == before - (3 + 11) - 1 - (1 + 256)
    window = peer.connection.streams[1].receive_window
    assert window.available + window.unsent == window.size - 257
    assert_alive(peer)


def test_d5_no_state_is_kept():
    peer = Peer()
    peer.send(*(priority(stream_id, 0) for stream_id in range(3, 1003, 2)))
    assert peer.connection.streams == {}
    assert len(peer.connection._table._reset_ids) == 0
    assert_alive(peer)


def test_d7_an_unknown_code_is_a_plain_cancel():
    peer = Peer()
    peer.send(OPEN, rst_stream(1, 77))
    assert peer.found(StreamReset) == [StreamReset(1, 77, "")]


def test_d11_the_answer_does_not_wait_for_credit():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    peer.connection.send_data(1, b"waits")
    back = peer.send(frame(PING, 0, 0, b"12345678"))
    assert [(each.kind, each.flags, each.payload) for each in back] == [(PING, ACK, b"12345678")]
    assert peer.send(frame(PING, ACK, 0, b"12345678")) == []


@pytest.mark.parametrize("chunk", CHUNKS)
def test_d12_running_streams_finish(chunk):
    peer = Peer(chunk=chunk)
    peer.send(OPEN, frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0x99) + b"reason" * 1000), data(1, b"rest", end=True))
    peer.connection.send_data(1, b"answer", end_stream=True)
    peer.collect()
    assert peer.body(1) == b"answer"
    assert peer.connection.streams == {}
    assert not peer.connection.closed


def goaways(peer: Peer) -> list[tuple[int, int]]:
    return [(each.last_id, each.code) for each in peer.of(GOAWAY)]


@pytest.mark.parametrize("opened", [0, 3])
def test_d13_a_drain_in_two_steps_and_a_fault(opened):
    peer = Peer()
    peer.send(*(headers(2 * place + 1, POST_BLOCK) for place in range(opened)))
    last = max(2 * opened - 1, 0)
    peer.connection.shut_down(refuse=False)
    peer.connection.shut_down(refuse=False)
    peer.send(headers(101, POST_BLOCK))
    assert len(peer.found(RequestReceived)) == opened + 1
    peer.connection.shut_down(refuse=True)
    peer.connection.shut_down(refuse=True)
    peer.connection.shut_down(refuse=False)
    peer.send(headers(103, POST_BLOCK))
    assert len(peer.found(RequestReceived)) == opened + 1
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == [(103, REFUSED_STREAM)]
    assert last < 101
    assert goaways(peer) == [(2**31 - 1, NO_ERROR), (101, NO_ERROR)]
    peer.send(data(0))
    assert goaways(peer)[2:] == [(101, PROTOCOL_ERROR)]
    assert peer.connection.closed
    peer.connection.shut_down(refuse=True)
    assert peer.collect() == []


def test_d13_refusing_from_the_first_stream_on():
    peer = Peer()
    peer.connection.shut_down(refuse=True)
    peer.send(headers(1, POST_BLOCK), data(0))
    assert goaways(peer) == [(0, NO_ERROR), (0, PROTOCOL_ERROR)]


def test_d13_running_streams_finish_after_the_goaway():
    peer = Peer()
    peer.send(OPEN)
    peer.connection.shut_down(refuse=True)
    peer.send(data(1, b"more"), headers(1, TRAILER_BLOCK, end=True))
    assert len(peer.found(TrailersReceived)) == 1
    peer.connection.send_data(1, b"answer", end_stream=True)
    assert [each.flags for each in peer.collect()] == [END_STREAM]
    assert_conserved(peer)


@pytest.mark.parametrize("place", range(len(POST_BLOCK) + 1))
def test_d15_a_block_cut_anywhere(place):
    whole = Peer()
    whole.send(OPEN)
    peer = Peer()
    peer.send(*cut_at(place))
    assert peer.events == whole.events
    assert_alive(peer)


def test_d15_nine_continuation_frames_are_too_many():
    peer = Peer(Settings(max_continuations=2))
    peer.send(MIDDLE, continuation(1, b"", end=False), continuation(1, b"", end=False))
    assert not peer.connection.closed
    peer.send(continuation(1, POST_BLOCK[5:]))
    assert_failed(peer, 11)


def test_d7_envoys_code_is_a_plain_cancel_as_well():
    peer = Peer()
    peer.send(OPEN, rst_stream(1, INTERNAL_ERROR))
    assert peer.found(StreamReset) == [StreamReset(1, INTERNAL_ERROR, "")]
    assert_alive(peer)
