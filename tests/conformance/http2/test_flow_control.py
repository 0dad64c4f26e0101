import random

import pytest

from bbr.http2.events import DataReceived, StreamReset
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    POST_BLOCK,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
    Peer,
    block,
    cut,
    data,
    headers,
    rst_stream,
    settings,
    window_update,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, assert_conserved, assert_failed, play, rows

OPEN = headers(1, POST_BLOCK)
TOP = 2**31 - 1
STATUS = block([(":status", "200")])
END = block([("grpc-status", "0")])
SMALL = Settings(stream_window_bytes=65_535, wide_streams=0, connection_window_bytes=65_535)


def window(size: int) -> bytes:
    return settings((INITIAL_WINDOW_SIZE, size))


def sent(count: int, stream_id: int = 1) -> tuple[bytes, ...]:
    return tuple(data(stream_id, piece) for piece in cut(bytes(count), 16_384))


CASES = [
    Case("E3 connection", (window_update(0, TOP - 65_535 + 1),), goaway=FLOW_CONTROL_ERROR),
    Case("E3 connection, exactly", (window_update(0, TOP - 65_535),)),
    Case("E3 connection, in two", (window_update(0, TOP - 65_535), window_update(0, 1)), goaway=FLOW_CONTROL_ERROR),
    Case("E3 stream", (OPEN, window_update(1, TOP)), resets=((1, FLOW_CONTROL_ERROR),)),
    Case("E3 stream, exactly", (OPEN, window_update(1, TOP - 65_535))),
    Case("E4 overflow by SETTINGS", (OPEN, window_update(1, 1), window(TOP)), goaway=FLOW_CONTROL_ERROR),
    Case("E4 overflow by SETTINGS, exactly", (OPEN, window(TOP), window(0), window(TOP))),
    Case("E6 stream, exactly", (OPEN, *sent(65_535)), limits=Settings(stream_window_bytes=65_535, wide_streams=0)),
]


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    play(case, chunk)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_e1_a_window_of_one_octet(chunk):
    peer = Peer(chunk=chunk)
    peer.send(window(1), OPEN)
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"abc", end_stream=True)
    assert [(each.kind, each.payload) for each in peer.collect()] == [(HEADERS, STATUS), (DATA, b"a")]
    assert [(each.payload, each.ends) for each in peer.send(window_update(1, 1))] == [(b"b", False)]
    back = peer.send(window_update(1, 100))
    assert [(each.kind, each.payload, each.ends) for each in back[:1]] == [(DATA, b"c", True)]
    assert [(each.kind, each.code) for each in back[1:]] == [(RST_STREAM, NO_ERROR)]


@pytest.mark.parametrize("ending", ["trailers", "empty DATA"])
def test_e1_a_window_of_none(ending):
    peer = Peer()
    peer.send(window(0), headers(1, POST_BLOCK, end=True), headers(3, POST_BLOCK))
    peer.connection.send_headers(1, STATUS)
    if ending == "trailers":
        peer.connection.send_headers(1, END, end_stream=True)
    else:
        peer.connection.send_data(1, b"", end_stream=True)
    back = peer.collect()
    assert [each.flags & END_STREAM for each in back] == [0, END_STREAM]
    assert sum(len(each.payload) for each in back if each.kind == DATA) == 0
    peer.connection.send_data(3, b"x")
    assert peer.collect() == []
    assert list(peer.connection.streams) == [3]


@pytest.mark.parametrize("seed", range(40))
def test_e2_credit_is_honoured(seed):
    source = random.Random(seed)
    initial = source.choice([0, 1, 100, 65_535])
    peer = Peer(own=((INITIAL_WINDOW_SIZE, initial),))
    ids = [1, 3, 5, 7]
    peer.send(*(headers(stream_id, POST_BLOCK) for stream_id in ids))
    credit = dict.fromkeys(ids, initial)
    connection = 65_535
    given = dict.fromkeys(ids, b"")

    def account() -> None:
        nonlocal connection
        for each in peer.collect():
            if each.kind == DATA:
                credit[each.stream_id] -= len(each.payload)
                connection -= len(each.payload)
                assert credit[each.stream_id] >= 0
                assert connection >= 0

    def from_peer(octets: bytes) -> None:
        peer.connection.receive(octets, 0.0)
        account()

    for _ in range(300):
        stream_id = source.choice(ids)
        more = source.choice([1, 10, 1000, 20_000])
        match source.randrange(5):
            case 0 | 1:
                octets = source.randbytes(source.randrange(30_000))
                given[stream_id] += octets
                peer.connection.send_data(stream_id, octets)
            case 2:
                credit[stream_id] += more
                from_peer(window_update(stream_id, more))
            case 3:
                connection += more
                from_peer(window_update(0, more))
            case 4:
                lower = source.choice([0, 1, 100, 65_535])
                for each in ids:
                    credit[each] += lower - initial
                initial = lower
                from_peer(window(lower))
        account()
    for stream_id in ids:
        peer.connection.receive(window_update(stream_id, 1 << 30) + window_update(0, 1 << 28), 0.0)
    peer.collect()
    assert {stream_id: peer.body(stream_id) for stream_id in ids} == given
    assert_alive(peer)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_e4_a_window_below_zero(chunk):
    peer = Peer(chunk=chunk)
    peer.send(window(10), OPEN, headers(3, POST_BLOCK))
    peer.connection.send_data(1, b"0123456789")
    peer.connection.send_data(1, b"abc")
    peer.collect()
    assert peer.send(window(4))[1:] == []
    assert peer.connection.streams[1].send_window.available == -6
    assert peer.connection.streams[3].send_window.available == 4
    assert peer.send(window_update(1, 6)) == []
    assert [each.payload for each in peer.send(window_update(1, 1))] == [b"a"]
    assert [each.payload for each in peer.send(window(5)) if each.kind == DATA] == [b"b"]
    peer.connection.send_data(3, b"vwxyz-")
    peer.collect()
    assert peer.body(3) == b"vwxyz"


@pytest.mark.parametrize("chunk", CHUNKS)
def test_e5_the_connections_window_is_its_own(chunk):
    peer = Peer(chunk=chunk)
    peer.send(window(1 << 20), OPEN)
    peer.connection.send_data(1, bytes(100_000))
    peer.collect()
    assert len(peer.body(1)) == 65_535
    peer.send(window(0), window_update(0, 50_000))
    assert len(peer.body(1)) == 65_535
    peer.send(window(1 << 20))
    assert len(peer.body(1)) == 100_000


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("pad", [None, 0, 200])
@pytest.mark.parametrize("over", [0, 1])
def test_e6_the_streams_window(chunk, pad, over):
    peer = Peer(chunk=chunk)
    peer.send(OPEN)
    peer.connection.streams[1].receive_window.available = 1000
    peer.send(data(1, bytes(1000 + over - (0 if pad is None else pad + 1)), pad=pad))
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == [(1, FLOW_CONTROL_ERROR)] * over
    assert peer.found(StreamReset) == [StreamReset(1, FLOW_CONTROL_ERROR, "stream-window")] * over
    assert len(peer.found(DataReceived)) == 1 - over
    assert_alive(peer)


def test_e6_one_octet_over_the_streams_window_in_good_faith():
    # An answer that the peer does not take holds the credit of its stream back: then the window really ends.
    limits = Settings(stream_window_bytes=65_535, wide_streams=0, max_queued_bytes=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN, headers(3, POST_BLOCK))
    for stream_id in (1, 3):
        peer.connection.send_data(stream_id, b"stuck")
        peer.send(*sent(65_535, stream_id))
    assert peer.of(RST_STREAM) == []
    assert [each.stream_id for each in peer.of(WINDOW_UPDATE) if each.stream_id] == []
    peer.send(data(3, b"x"))
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == [(3, FLOW_CONTROL_ERROR)]
    back = peer.send(window_update(1, 100))
    assert [(each.kind, each.stream_id) for each in back] == [(DATA, 1), (WINDOW_UPDATE, 1)]
    assert int.from_bytes(back[1].payload, "big") == 65_535
    assert_alive(peer)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_e6_one_octet_over_the_connections_window(chunk):
    peer = Peer(SMALL, chunk=chunk)
    peer.send(OPEN, headers(3, POST_BLOCK))
    peer.connection._receiver._window.available = 20_000
    peer.send(data(1, bytes(10_000)), data(3, bytes(10_000)))
    assert not peer.connection.closed
    peer.connection._receiver._window.available = 20_000
    peer.send(data(1, bytes(10_000)), data(3, bytes(10_001)))
    assert_failed(peer, FLOW_CONTROL_ERROR)


SPENT = {
    "read": (OPEN, data(1, bytes(10_000)), data(1, bytes(10_000), end=True)),
    "padded": (OPEN, data(1, b"x", pad=255), data(1, b"", pad=255)),
    "half-closed": (headers(1, POST_BLOCK, end=True), data(1, bytes(10_000))),
    "reset by a fault": (OPEN, window_update(1, 0), data(1, bytes(10_000)), data(1, b"", pad=255)),
    "reset by the peer": (OPEN, data(1, bytes(10_000)), rst_stream(1)),
    "too long a body": (headers(1, POST_BLOCK + b"\x0f\x0d\x011"), data(1, bytes(10_000)), data(1, bytes(10_000))),
    "refused": (
        *(headers(stream_id, POST_BLOCK) for stream_id in range(1, 11, 2)),
        data(9, bytes(10_000)),
        data(9, bytes(10_000), end=True),
    ),
}


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", SPENT)
def test_e7_credit_comes_back(name, chunk):
    peer = Peer(Settings(max_concurrent_streams=4), chunk=chunk)
    peer.send(*SPENT[name])
    if name == "refused":
        assert (9, REFUSED_STREAM) in [(each.stream_id, each.code) for each in peer.of(RST_STREAM)]
        peer.send(rst_stream(1))
    assert_conserved(peer)
    assert_alive(peer)


def test_e7_credit_comes_back_after_our_reset():
    peer = Peer(SMALL)
    peer.send(OPEN)
    peer.connection.reset(1, ErrorCode.CANCEL)
    for _ in range(20):
        peer.send(data(1, bytes(10_000)))
        assert_conserved(peer)
    assert_alive(peer)


@pytest.mark.parametrize("limit", [65_535, 1 << 20])
def test_e7_a_long_body_through_a_small_window(limit):
    peer = Peer(Settings(stream_window_bytes=limit, wide_streams=0, connection_window_bytes=limit))
    peer.send(OPEN)
    stream_credit = limit
    for piece in cut(bytes(1 << 20), 16_384):
        assert min(stream_credit, peer.credit) >= len(piece)
        stream_credit -= len(piece)
        stream_credit += sum(
            int.from_bytes(each.payload, "big") for each in peer.send(data(1, piece)) if each.stream_id == 1
        )
    assert sum(len(each.data) for each in peer.found(DataReceived)) == 1 << 20
    assert_alive(peer)


def test_e8_a_blocked_stream_blocks_no_other():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 5),))
    peer.send(OPEN, headers(3, POST_BLOCK))
    peer.connection.send_data(1, b"stuck because of its window")
    peer.connection.send_data(3, b"flows")
    peer.collect()
    assert (peer.body(1), peer.body(3)) == (b"stuck", b"flows")


def test_e8_streams_take_turns_and_keep_their_order():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 1 << 20),))
    peer.send(*(headers(stream_id, POST_BLOCK) for stream_id in (1, 3, 5, 7)))
    peer.connection.send_data(7, bytes(65_535))
    peer.collect()
    want = {stream_id: bytes([stream_id]) * 20_000 + bytes([stream_id + 64]) * 20_000 for stream_id in (1, 3, 5)}
    for stream_id, octets in want.items():
        for piece in cut(octets, 20_000):
            peer.connection.send_data(stream_id, piece)
    assert peer.collect() == []
    turns = [each.stream_id for _ in range(4) for each in peer.send(window_update(0, 16_384))]
    # 20,000 octets are a whole frame and a part of one; what a part leaves of the credit goes to the next.
    assert turns == [1, 3, 5, 1, 3, 5, 1]
    peer.send(window_update(0, 1 << 20))
    assert {stream_id: peer.body(stream_id) for stream_id in want} == want


def test_e8_who_had_a_turn_goes_behind_the_others():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 1 << 20),))
    peer.send(*(headers(stream_id, POST_BLOCK) for stream_id in (1, 3, 5, 7)))
    peer.connection.send_data(7, bytes(65_535))
    peer.collect()
    for stream_id in (1, 3, 5):
        peer.connection.send_data(stream_id, bytes(100))
    assert [each.stream_id for _ in range(7) for each in peer.send(window_update(0, 1))] == [1, 3, 5, 1, 3, 5, 1]


def test_e9_trailers_wait_for_data():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 2),))
    peer.send(headers(1, POST_BLOCK, end=True))
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"abcd")
    peer.connection.send_headers(1, END, end_stream=True)
    assert [each.kind for each in peer.collect()] == [HEADERS, DATA]
    assert list(peer.connection.streams) == [1]
    back = peer.send(window_update(1, 2))
    assert [(each.kind, each.payload, each.ends) for each in back] == [(DATA, b"cd", False), (HEADERS, END, True)]
    assert peer.connection.streams == {}


@pytest.mark.parametrize("whose", ["ours", "the peer's"])
def test_e9_a_reset_drops_the_queue(whose):
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 2),))
    peer.send(headers(1, POST_BLOCK))
    stream = peer.connection.streams[1]
    peer.connection.send_data(1, b"abcd")
    peer.connection.send_headers(1, END, end_stream=True)
    if whose == "ours":
        peer.connection.reset(1, ErrorCode.CANCEL)
    else:
        peer.send(rst_stream(1))
    assert (len(stream.queue), stream.queued_bytes, stream.trailers) == (0, 0, None)
    assert len(peer.connection._sender._waiting) == 0
    peer.collect()
    assert peer.send(window_update(0, 100), window(100))[1:] == []


def test_e10_updates_are_batched():
    peer = Peer(SMALL)
    peer.send(OPEN)
    for piece in cut(bytes(1 << 20), 100):
        back = peer.send(data(1, piece))
        assert [each.stream_id for each in back] in ([], [0], [1], [0, 1])
        assert {int.from_bytes(each.payload, "big") >= 32_767 for each in back} <= {True}
    assert len(peer.of(WINDOW_UPDATE)) <= 2 * (1 << 20) // 32_767
