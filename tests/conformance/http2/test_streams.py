import random

import pytest

from bbr.http2.events import RequestReceived, StreamReset
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GET_BLOCK,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    POST_BLOCK,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    STREAM_CLOSED,
    TRAILER_BLOCK,
    WINDOW_UPDATE,
    Peer,
    block,
    data,
    frame,
    headers,
    priority,
    rst_stream,
    window_update,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, assert_conserved, assert_failed, play, rows

OPEN = headers(1, POST_BLOCK)
ENDED = headers(1, POST_BLOCK, end=True)
LAST_ID = 2**31 - 1
STATUS = block([(":status", "200")])


def continuation(stream_id: int, fragment: bytes = b"") -> bytes:
    return frame(CONTINUATION, END_HEADERS, stream_id, fragment)


CASES = [
    Case("C1 idle: DATA", (data(1, b"x"),), goaway=PROTOCOL_ERROR),
    Case("C1 idle: RST_STREAM", (rst_stream(1),), goaway=PROTOCOL_ERROR),
    Case("C1 idle: WINDOW_UPDATE", (window_update(1, 1),), goaway=PROTOCOL_ERROR),
    Case("C1 idle: CONTINUATION", (continuation(1),), goaway=PROTOCOL_ERROR),
    Case("C1 idle: PRIORITY", (priority(1), OPEN)),
    Case("C2 half-closed: DATA", (ENDED, data(1, b"x")), resets=((1, STREAM_CLOSED),)),
    Case("C2 half-closed by DATA: DATA", (OPEN, data(1, end=True), data(1, b"x")), resets=((1, STREAM_CLOSED),)),
    Case("C2 half-closed: HEADERS", (ENDED, headers(1, TRAILER_BLOCK, end=True)), resets=((1, STREAM_CLOSED),)),
    Case("C2 half-closed: CONTINUATION", (ENDED, continuation(1)), goaway=PROTOCOL_ERROR),
    Case("C2 half-closed: WINDOW_UPDATE", (ENDED, window_update(1, 5))),
    Case("C2 half-closed: PRIORITY", (ENDED, priority(1))),
    Case("C2 half-closed: RST_STREAM", (ENDED, rst_stream(1))),
    Case("C3 reset by the peer: DATA", (OPEN, rst_stream(1), data(1, b"x")), goaway=STREAM_CLOSED),
    Case("C3 reset by the peer: HEADERS", (OPEN, rst_stream(1), headers(1, POST_BLOCK)), goaway=STREAM_CLOSED),
    Case("C3 reset by the peer: CONTINUATION", (OPEN, rst_stream(1), continuation(1)), goaway=PROTOCOL_ERROR),
    Case("C3 reset by the peer: PRIORITY", (OPEN, rst_stream(1), priority(1))),
    Case("C3 reset by the peer: WINDOW_UPDATE", (OPEN, rst_stream(1), window_update(1, 1))),
    Case("C6 even id", (headers(2, POST_BLOCK),), goaway=PROTOCOL_ERROR),
    Case(
        "C6 lower id that was skipped",
        (headers(5, POST_BLOCK), headers(3, POST_BLOCK)),
        goaway=PROTOCOL_ERROR,
    ),
    Case("C6 lower id that was used", (OPEN, rst_stream(1), headers(3, POST_BLOCK), OPEN), goaway=STREAM_CLOSED),
    Case("C6 DATA on a skipped id", (headers(5, POST_BLOCK), data(3, b"x")), goaway=STREAM_CLOSED),
    Case(
        "C8 one stream too many",
        (OPEN, headers(3, POST_BLOCK), headers(5, POST_BLOCK), rst_stream(1)),
        resets=((5, REFUSED_STREAM),),
        limits=Settings(max_concurrent_streams=2),
    ),
    Case("C9 RST_STREAM again", (OPEN, rst_stream(1), rst_stream(1), rst_stream(1))),
]


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    play(case, chunk)


@pytest.mark.parametrize("late", [data(1, b"x"), headers(1, TRAILER_BLOCK, end=True), continuation(1)])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_c4_closed_by_both_ends(late, chunk):
    peer = Peer(chunk=chunk)
    peer.send(ENDED)
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"", end_stream=True)
    assert [each.ends for each in peer.collect()] == [False, True]
    assert peer.connection.streams == {}
    peer.send(late)
    assert_failed(peer, PROTOCOL_ERROR if late == continuation(1) else STREAM_CLOSED)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_c5_closed_by_our_reset(chunk):
    peer = Peer(Settings(header_table_size=4096), chunk=chunk)
    peer.send(headers(1, GET_BLOCK[1:]))  # without the update to size 0
    peer.connection.reset(1, ErrorCode.CANCEL)
    peer.collect()
    assert peer.connection.streams == {}
    before = peer.credit
    # An entry for the dynamic table in the late trailers: the request after them refers to it.
    late = b"\x40\x07x-trace\x03abc"
    back = peer.send(
        data(1, bytes(1000)),
        data(1, b"", end=True, pad=100),
        window_update(1, 9),
        window_update(1, 0),
        headers(1, late, end=True),
        rst_stream(1),
        data(1, bytes(20)),
    )
    assert [each for each in back if each.kind != WINDOW_UPDATE] == []
    assert peer.credit == before - 1000 - 101 - 20
    assert_conserved(peer)
    peer.send(headers(3, GET_BLOCK[1:] + b"\xbe", end=True))
    (request,) = peer.found(RequestReceived)[1:]
    assert request.section.get(b"x-trace") == b"abc"
    assert peer.found(StreamReset) == []


def test_c5_resets_of_ours_are_remembered_within_bounds():
    limits = Settings(max_concurrent_streams=5)
    peer = Peer(limits)
    for stream_id in range(1, 41, 2):
        peer.send(headers(stream_id, POST_BLOCK))
        peer.connection.reset(stream_id, ErrorCode.CANCEL)
    peer.send(data(39, b"late"), data(21, b"later"))
    assert_alive(peer)
    peer.send(data(19, b"too late"))
    assert_failed(peer, STREAM_CLOSED)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_c7_the_last_id(chunk):
    peer = Peer(chunk=chunk)
    back = peer.send(headers(LAST_ID, POST_BLOCK, end=True))
    assert [(each.kind, each.code, each.last_id) for each in back] == [(GOAWAY, NO_ERROR, LAST_ID)]
    peer.connection.send_headers(LAST_ID, STATUS)
    peer.connection.send_data(LAST_ID, b"served", end_stream=True)
    peer.collect()
    assert peer.body(LAST_ID) == b"served"
    assert not peer.connection.closed
    assert peer.connection.streams == {}


def finish(peer: Peer, how: str) -> None:
    if how == "both ends":
        peer.send(data(1, b"", end=True))
        peer.connection.send_headers(1, STATUS, end_stream=True)
    elif how == "our end first":
        peer.connection.send_headers(1, STATUS, end_stream=True)
    elif how == "our reset":
        peer.connection.reset(1, ErrorCode.CANCEL)
    else:
        peer.send(rst_stream(1))
    peer.collect()


@pytest.mark.parametrize("how", ["both ends", "our end first", "our reset", "the peer's reset"])
def test_c8_a_slot_is_free_again(how):
    peer = Peer(Settings(max_concurrent_streams=1))
    peer.send(OPEN, headers(3, POST_BLOCK))
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == [(3, REFUSED_STREAM)]
    assert [each.stream_id for each in peer.found(RequestReceived)] == [1]
    finish(peer, how)
    peer.send(headers(5, POST_BLOCK))
    assert [each.stream_id for each in peer.found(RequestReceived)] == [1, 5]


def test_c8_frames_of_a_refused_stream():
    peer = Peer(Settings(max_concurrent_streams=1))
    peer.send(OPEN, headers(3, POST_BLOCK), data(3, bytes(5000)), headers(3, TRAILER_BLOCK, end=True), rst_stream(3))
    peer.send(rst_stream(1))
    assert_alive(peer)


@pytest.mark.parametrize("code", [0, 5, 8, 99])
def test_c9_a_reset_is_never_answered(code):
    peer = Peer()
    assert peer.send(OPEN, rst_stream(1, code)) == []
    assert peer.found(StreamReset) == [StreamReset(1, code, "")]
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"x", end_stream=True)
    peer.connection.reset(1, ErrorCode.CANCEL)
    assert peer.collect() == []


@pytest.mark.parametrize("seed", range(40))
def test_c10_nothing_is_sent_on_a_closed_stream(seed):
    source = random.Random(seed)
    limits = Settings(max_concurrent_streams=6, max_queued_bytes=1000, stream_window_bytes=65_535, wide_streams=0)
    peer = Peer(limits, own=((4, source.choice([0, 10, 65_535])),))
    next_id = 1
    remote_open: set[int] = set()
    answered: set[int] = set()
    for _ in range(300):
        known = list(peer.connection.streams)
        stream_id = source.choice(known) if known else 0
        match source.randrange(9):
            case 0 | 1:
                peer.send(headers(next_id, POST_BLOCK))
                remote_open.add(next_id)
                next_id += 2
            case 2 if stream_id in remote_open:
                end = source.random() < 0.4
                peer.send(data(stream_id, source.randbytes(200), end=end))
                remote_open -= {stream_id} if end else set()
            case 3 if stream_id:
                peer.send(rst_stream(stream_id))
            case 4 if stream_id and stream_id not in answered:
                end = source.random() < 0.2
                peer.connection.send_data(stream_id, bytes(source.randrange(900)), end_stream=end)
                answered |= {stream_id} if end else set()
            case 5 if stream_id and stream_id not in answered:
                answered.add(stream_id)
                peer.connection.send_headers(stream_id, STATUS, end_stream=True)
            case 6 if stream_id:
                peer.send(window_update(stream_id, source.randrange(0, 2000)))
            case 7:
                peer.send(window_update(0, source.randrange(1, 2000)))
            case 8 if stream_id:
                peer.connection.reset(stream_id, ErrorCode.CANCEL)
        peer.collect()
        assert_conserved(peer)
    assert not peer.connection.closed
    ended: set[int] = set()
    for each in peer.frames:
        assert each.stream_id not in ended
        if each.kind == RST_STREAM:
            ended.add(each.stream_id)
        elif each.ends:
            # Only RST_STREAM may follow, if the peer has not ended.
            after = [
                late.kind for late in peer.frames[peer.frames.index(each) + 1 :] if late.stream_id == each.stream_id
            ]
            assert after in ([], [RST_STREAM])
    assert {each.kind for each in peer.frames}.isdisjoint({PUSH_PROMISE, CONTINUATION})
    assert peer.of(DATA)
    assert peer.of(HEADERS)
    assert CANCEL in {each.code for each in peer.of(RST_STREAM)}
