import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from bbr.http2 import fields as fields_module
from bbr.http2 import huffman
from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, DataReceived, RequestReceived, StreamReset
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GET_BLOCK,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    NO_ERROR,
    PING_FRAME,
    POST_BLOCK,
    PRIORITY,
    PRIORITY_FLAG,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    block,
    data,
    frame,
    headers,
    literal,
    odd_ids,
    priority,
    rst_stream,
    settings,
    window_update,
)
from tests.support.connection_memory import Held, held
from tests.support.h2_cases import assert_alive, assert_conserved, assert_failed

Test = TypeVar("Test", bound=Callable[..., None])

OPEN = headers(1, POST_BLOCK)
STATUS = block([(":status", "200")])
MALFORMED = POST_BLOCK + literal(b"Upper", b"x")
BAD_LENGTH = POST_BLOCK + literal(b"content-length", b"1")


# What a peer can make a connection hold, at most, in a case that does not state a ceiling of its own: live streams,
# octets of output, octets of input that is not whole. docs/design/http2.md has the formula of what Settings allow.
CEILING = Held(streams=2, queued=2 << 10, input=9 + (16 << 10))


def ceiling(**limits: int) -> Callable[[Test], Test]:
    """State what a case may hold instead."""

    def mark(test: Test) -> Test:
        test.ceiling = CEILING._replace(**limits)  # type: ignore[attr-defined]
        return test

    return mark


@pytest.fixture(autouse=True)
def within_its_ceiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure each connection of a case after all that it is told, by peer and owner."""
    peak = Held(0, 0, 0)

    def measured(name: str) -> None:
        do = getattr(Connection, name)

        def call(connection: Connection, *arguments: Any, **named: Any) -> Any:
            nonlocal peak
            result = do(connection, *arguments, **named)
            peak = peak.most(held(connection))
            return result

        monkeypatch.setattr(Connection, name, call)

    for name in ("receive", "send_headers", "send_data"):
        measured(name)
    yield
    limit = getattr(request.function, "ceiling", CEILING)
    assert peak.streams <= limit.streams
    assert peak.queued <= limit.queued
    assert peak.input <= limit.input


def reason(peer: Peer) -> str:
    return "".join(each.reason for each in peer.found(ConnectionFailed))


def flood(peer: Peer, octets: bytes, limit: int) -> int:
    """Send the same frames until the connection is closed; return how often that took."""
    for count in range(limit):
        peer.send(octets)
        if peer.connection.closed:
            return count
        assert len(peer.connection.streams) <= peer.limits.max_concurrent_streams
    return limit


def answer(peer: Peer, stream_id: int) -> None:
    peer.connection.send_headers(stream_id, STATUS)
    peer.connection.send_data(stream_id, b"answer")


def test_i0_resets_of_answered_streams_cost_nothing():
    peer = Peer()
    peer.send(window_update(0, 1 << 30))
    ids = odd_ids()
    for _ in range(30_000):
        stream_id = next(ids)
        peer.connection.receive(headers(stream_id, POST_BLOCK) + data(stream_id, b"request message"), 0.0)
        answer(peer, stream_id)
        peer.connection.receive(rst_stream(stream_id, INTERNAL_ERROR), 0.0)
        assert len(peer.connection.take_output()) < 200
    assert not peer.connection.closed
    assert peer.connection.streams == {}
    assert len(peer.connection._table._reset_ids) == 0
    assert peer.connection._budgets.cancels.tokens == peer.connection._budgets.cancels.capacity


def test_i0_cancels_beside_good_requests():
    peer = Peer()
    ids = odd_ids()
    answered = 0
    for tick in range(20 * 100):
        now = tick / 100
        for _ in range(20):
            stream_id = next(ids)
            peer.connection.receive(headers(stream_id, POST_BLOCK) + rst_stream(stream_id), now)
        for _ in range(5):
            stream_id = next(ids)
            events = peer.connection.receive(headers(stream_id, POST_BLOCK), now)
            assert [type(each) for each in events] == [RequestReceived]
            answer(peer, stream_id)
            peer.connection.receive(rst_stream(stream_id, INTERNAL_ERROR), now)
            answered += 1
        peer.connection.take_output()
    assert answered == 10_000
    assert not peer.connection.closed
    assert peer.connection._control._last_id is None


def test_i0_far_too_many_cancels_end_gracefully():
    peer = Peer()
    ids = odd_ids()
    good = next(ids)
    peer.send(headers(good, POST_BLOCK))
    answer(peer, good)
    peer.collect()
    running = next(ids)
    peer.send(headers(running, POST_BLOCK))
    while not peer.of(GOAWAY):
        stream_id = next(ids)
        assert stream_id < 20_000
        peer.send(headers(stream_id, POST_BLOCK), rst_stream(stream_id))
    assert [(each.code, each.last_id) for each in peer.of(GOAWAY)] == [(NO_ERROR, stream_id)]
    assert not peer.connection.closed
    refused = next(ids)
    peer.send(headers(refused, POST_BLOCK))
    assert peer.found(StreamReset)[-1].reason == "going-away"
    peer.send(data(running, b"end", end=True))
    peer.connection.send_data(running, b"finished", end_stream=True)
    peer.collect()
    assert peer.body(running) == b"finished"
    # More of them, and more refusals than any peer has under way, end it at once.
    for stream_id in ids:
        peer.send(headers(stream_id, POST_BLOCK))
        if peer.connection.closed:
            break
        assert stream_id < 40_000
    assert reason(peer) == "control-flood"
    assert [each.code for each in peer.of(GOAWAY)] == [NO_ERROR, ENHANCE_YOUR_CALM]


@ceiling(streams=0)
@pytest.mark.parametrize("body", [b"", b"a whole request"], ids=["I1 HEADERS", "I2 HEADERS and DATA"])
def test_rapid_reset(body):
    peer = Peer()
    for stream_id in odd_ids():
        peer.send(headers(stream_id, POST_BLOCK), *([data(stream_id, body)] if body else []), rst_stream(stream_id))
        assert peer.connection.streams == {}
        if peer.connection.closed:
            break
        assert stream_id < 200_000
    assert len(peer.found(RequestReceived)) == 1001
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert reason(peer) == "rapid-reset"


@pytest.mark.parametrize("answered", ["DATA", "trailers alone"])
def test_i1_one_answer_is_enough(answered):
    peer = Peer()
    peer.send(headers(1, POST_BLOCK, end=True))
    if answered == "DATA":
        peer.connection.send_data(1, b"x")
    peer.connection.send_headers(1, STATUS, end_stream=True)
    for stream_id in range(3, 4003, 2):
        peer.send(headers(stream_id, POST_BLOCK), rst_stream(stream_id))
    assert_alive(peer)


@ceiling(streams=0)
def test_i1_in_one_read():
    peer = Peer(Settings(max_concurrent_streams=10))
    peer.send(*(headers(stream_id, POST_BLOCK) + rst_stream(stream_id) for stream_id in range(1, 200_001, 2)))
    assert len(peer.found(RequestReceived)) == 1001
    assert_failed(peer, ENHANCE_YOUR_CALM)


# Each makes us reset a good request's stream.
PRIMITIVES = {
    "I3 WINDOW_UPDATE of 0": lambda each: headers(each, POST_BLOCK) + window_update(each, 0),
    "I3 WINDOW_UPDATE overflow": lambda each: headers(each, POST_BLOCK) + window_update(each, 2**31 - 1),
    "I3 PRIORITY of 4 octets": lambda each: headers(each, POST_BLOCK) + frame(PRIORITY, 0, each, bytes(4)),
    "I3 PRIORITY on itself": lambda each: headers(each, POST_BLOCK) + priority(each, each),
    "I3 HEADERS on itself": lambda each: frame(
        HEADERS, END_HEADERS | PRIORITY_FLAG, each, struct.pack(">IB", each, 0) + POST_BLOCK
    ),
    "I3 HEADERS after the end": lambda each: headers(each, POST_BLOCK, end=True) + headers(each, POST_BLOCK, end=True),
    "I3 DATA after the end": lambda each: headers(each, POST_BLOCK, end=True) + data(each, b"much too late"),
    "I4 malformed": lambda each: headers(each, MALFORMED),
    "I4 content-length": lambda each: headers(each, BAD_LENGTH) + data(each, b"more than one octet"),
    "I4 content-length on HEADERS": lambda each: headers(each, BAD_LENGTH, end=True),
    "I16 empty name": lambda each: headers(each, POST_BLOCK + literal(b"", b"x") * 20),
}


@ceiling(streams=0)
@pytest.mark.parametrize("attack", PRIMITIVES.values(), ids=PRIMITIVES)
def test_resets_of_ours(attack):
    peer = Peer()
    for stream_id in odd_ids():
        peer.send(attack(stream_id))
        assert peer.connection.streams == {}
        if peer.connection.closed:
            break
        assert peer.found(StreamReset)[-1].stream_id == stream_id
        assert stream_id < 20_000
    assert len(peer.of(RST_STREAM)) == 1000
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert reason(peer) == "faults"


def test_i4_a_few_faults_a_second_are_forgiven():
    peer = Peer()
    for stream_id in range(1, 6001, 2):
        peer.now += 0.1
        peer.send(headers(stream_id, MALFORMED))
    assert_alive(peer)


CONTINUATIONS = {
    "1 octet": b"\x82",
    "empty": b"",
    "1,000 octets": bytes(1000),
    "16,384 octets": bytes(16_384),
}


@ceiling(streams=0, input=(16 << 10) + (16 << 10))  # twice the header list limit, and the frame that exceeds it
@pytest.mark.parametrize("fragment", CONTINUATIONS.values(), ids=CONTINUATIONS)
def test_i5_continuation_flood(fragment, monkeypatch):
    decoded: list[bytes] = []
    monkeypatch.setattr(fields_module.FieldDecoder, "decode", lambda _, octets: decoded.append(octets))
    peer = Peer()
    peer.send(headers(1, b"", flags=0))
    assert flood(peer, frame(CONTINUATION, 0, 1, fragment), 100) <= 8
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert reason(peer) == "continuation-flood"
    assert decoded == []


def traced(peer: Peer, *sent: bytes) -> int:
    """Return by how much the memory in use grew at its peak while these were received."""
    everything = b"".join(sent)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        peer.connection.receive(everything, 0.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before - len(everything)


def test_i6_hpack_bomb():
    peer = Peer(preface=False)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings())
    entry = b"\x40\x01a" + b"\x7f" + bytes([(4000 - 127) & 0x7F | 0x80, (4000 - 127) >> 7]) + b"x" * 4000
    peer.send(headers(1, GET_BLOCK[1:] + entry))
    assert traced(peer, headers(3, GET_BLOCK[1:] + b"\xbe" * 16_000)) < 64 << 10
    peer.collect()
    assert [each.code for each in peer.of(GOAWAY)] == [ENHANCE_YOUR_CALM]


BOMBS = {
    "static fields": b"\x90" * 16_000,
    "tiny literals": literal(b"a", b"") * 4000,
    "cookie crumbs": b"\x0f\x11\x01c" * 4000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_i7_bomb_of_tiny_fields(bomb):
    peer = Peer()
    peer.send(headers(1, POST_BLOCK))
    assert traced(peer, headers(3, GET_BLOCK + bomb)) < 64 << 10
    peer.collect()
    assert [each.code for each in peer.of(GOAWAY)] == [ENHANCE_YOUR_CALM]
    assert peer.connection.streams == {}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_i7_within_twice_the_limit_only_the_stream_is_lost(bomb):
    peer = Peer()
    size = len(bomb) // 4000
    peer.send(headers(1, GET_BLOCK + bomb[: size // (4 if size == 4 and bomb[0] == 0x90 else 1) * 130]))
    assert [each.code for each in peer.of(RST_STREAM)] == [1]
    assert peer.found(RequestReceived) == []
    assert_alive(peer)


def test_i8_the_work_of_huffman_code_is_a_step_for_each_octet(monkeypatch):
    steps = 0
    step = huffman._State.__missing__

    def counted(state: huffman._State, octet: int) -> tuple[bytes, huffman._State]:
        nonlocal steps
        steps += 1
        return step(state, octet)

    monkeypatch.setattr(huffman._State, "__missing__", counted)
    coded = b"\xf8" * 64  # one symbol, again and again
    for _ in range(100):
        huffman.decode(coded)
    assert steps <= 256
    assert len(huffman._states) <= 256


@ceiling(queued=10_000 + 65_535)
def test_i9_a_window_of_none_for_ever():
    limits = Settings(max_queued_bytes=10_000, stream_window_bytes=65_535, wide_streams=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    received = 0
    credit = 65_535
    while credit >= 1000:
        back = peer.send(data(1, bytes(1000)))
        credit += sum(int.from_bytes(each.payload, "big") for each in back if each.stream_id == 1) - 1000
        received += 1000
        assert received < 10 * 65_535
        for each in peer.found(DataReceived)[-1:]:
            peer.connection.send_data(1, bytes(len(each.data)))
    stream = peer.connection.streams[1]
    # What waits is no more than the limit and what the peer had credit for already.
    assert stream.queued_bytes <= 10_000 + 65_535
    assert_conserved(peer)
    # When the answer flows so does the request.
    back = peer.send(window_update(1, 1 << 20), window_update(0, 1 << 20))
    assert len(peer.body(1)) == received
    assert [each.stream_id for each in back if each.kind == WINDOW_UPDATE] == [1]
    assert stream.withheld_bytes == 0
    assert stream.receive_window.available == 65_535


def test_i9_many_small_answers_count_what_they_take():
    limits = Settings(max_queued_bytes=1 << 16, stream_window_bytes=65_535, wide_streams=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    for _ in range(3000):
        peer.send(data(1, bytes(20)))
        if peer.connection.streams[1].withheld_bytes:
            break
        peer.connection.send_data(1, b"tiny")
    assert len(peer.connection.streams[1].queue) <= 260


@ceiling(queued=(64 << 10) + 100)
def test_i9_a_drip_of_credit():
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    peer.connection.send_data(1, bytes(1 << 16))
    taken = flood(peer, window_update(1, 1), 20_000)
    assert taken <= 8100
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert sum(each.kind == DATA for each in peer.frames) == taken


@ceiling(streams=100)
def test_i9_a_drip_wakes_only_its_stream(monkeypatch):
    peer = Peer(own=((INITIAL_WINDOW_SIZE, 0),))
    for stream_id in range(1, 201, 2):
        peer.send(headers(stream_id, POST_BLOCK))
        peer.connection.send_data(stream_id, b"waits")
    assert len(peer.connection._sender._waiting) == 0
    assert [(each.stream_id, each.payload) for each in peer.send(window_update(7, 1))] == [(7, b"w")]
    assert len(peer.connection._sender._waiting) <= 1


@ceiling(streams=0, queued=17 << 10)  # a thousand answers to PING
@pytest.mark.parametrize("kind", ["PING", "SETTINGS"])
def test_i11_answers_that_are_not_read(kind):
    peer = Peer()
    octets = PING_FRAME if kind == "PING" else settings()
    for _ in range(1000):
        peer.connection.receive(octets, peer.now)
        peer.now += 1
    assert not peer.connection.closed
    peer.events += peer.connection.receive(octets, peer.now)
    assert peer.connection.closed
    assert reason(peer) == "unread-control-frames"
    assert len(peer.collect()) == 1002
    assert len(peer.of(GOAWAY)) == 1


CONTROL_FLOODS = {
    "I11 PING": PING_FRAME,
    "I11 PING ACK": frame(6, ACK, 0, bytes(8)),
    "I11 SETTINGS": settings(),
    "I11 SETTINGS ACK": frame(SETTINGS, ACK),
    "I11 GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
    "I13 empty DATA": data(1),
    "I13 padding alone": data(1, b"", pad=255),
    "I14 DATA of 1 octet": data(1, b"x"),
    "I14 DATA of 7 octets": data(1, bytes(7)),
    "I15 PRIORITY": priority(99, 7),
    "I15 WINDOW_UPDATE": window_update(0, 1),
    "I15 WINDOW_UPDATE on a closed stream": window_update(3, 1),
    "I17 unknown": frame(0x0B, 0, 0, bytes(16_384)),
    "I17 RST_STREAM on a closed stream": rst_stream(3),
    "I20 HEADERS on a stream that we reset": headers(5, GET_BLOCK, end=True),
}


@pytest.mark.parametrize("octets", CONTROL_FLOODS.values(), ids=CONTROL_FLOODS)
def test_control_floods(octets):
    peer = Peer()
    peer.send(OPEN, headers(3, POST_BLOCK), rst_stream(3), headers(5, POST_BLOCK), window_update(5, 0))
    taken = flood(peer, octets, 40_000)
    assert taken < 16_100
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert reason(peer) == "control-flood"
    # Nothing has piled up: what was sent is what was read.
    assert peer.connection._sender.control_frames == 0


@pytest.mark.parametrize("octets", CONTROL_FLOODS.values(), ids=CONTROL_FLOODS)
def test_i11_a_modest_rate_is_no_flood(octets):
    peer = Peer()
    peer.send(OPEN, headers(3, POST_BLOCK), rst_stream(3), headers(5, POST_BLOCK), window_update(5, 0))
    for _ in range(4000):
        peer.now += 1 / 400
        peer.send(octets)
    assert not peer.connection.closed


@ceiling(streams=0, queued=34 << 10)  # what the budget lets pass before the read is over
def test_i11_in_one_read_there_is_one_failure():
    peer = Peer()
    peer.send(PING_FRAME * 3000)
    assert len(peer.of(GOAWAY)) == 1
    assert len(peer.found(ConnectionFailed)) == 1
    assert len(peer.frames) < 2100


def test_i12_settings_of_2700_entries():
    peer = Peer()
    peer.send(settings(*[(99, 1)] * 128))
    assert_alive(peer)
    peer.send(settings(*[(99, 1)] * 2700))
    assert_failed(peer, ENHANCE_YOUR_CALM)
    assert reason(peer) == "settings-flood"


@ceiling(streams=100)
def test_i12_a_window_that_flips():
    peer = Peer()
    peer.send(*(headers(stream_id, POST_BLOCK) for stream_id in range(1, 201, 2)))
    # Within one frame it may flip as often as there is room for: no stream's window is touched but for the last value.
    budget = peer.connection._budgets.control
    before = budget.tokens
    peer.send(settings(*[(INITIAL_WINDOW_SIZE, size) for _ in range(64) for size in (0, 65_535)]))
    assert before - budget.tokens == 1
    taken = flood(peer, settings((INITIAL_WINDOW_SIZE, 0)) + settings((INITIAL_WINDOW_SIZE, 65_535)), 10_000)
    assert taken <= 1300
    assert_failed(peer, ENHANCE_YOUR_CALM)


def test_i14_small_messages_at_a_high_rate():
    # What a gateway sends for a client that trickles its body: a message of ten octets each.
    peer = Peer()
    peer.send(OPEN)
    for _ in range(20_000):
        peer.connection.receive(data(1, bytes(10)), 0.0)
    peer.collect()
    assert not peer.connection.closed


@pytest.mark.parametrize(("size", "end"), [(8, False), (16_384, False), (0, True), (1, True)])
def test_i14_data_that_costs_nothing(size, end):
    peer = Peer()
    budget = peer.connection._budgets.control
    peer.send(*[PING_FRAME] * 10, OPEN)
    before = budget.tokens
    assert before < budget.capacity - 5
    peer.send(data(1, bytes(size), end=end))
    assert budget.tokens == before


def test_i14_one_octet_at_a_time_within_the_ceiling():
    peer = Peer()
    peer.send(OPEN)
    assert flood(peer, data(1, b"x"), 1 << 20) <= 2300


def test_i15_credit_in_return_for_data_is_no_flood():
    peer = Peer()
    peer.send(OPEN)
    for _ in range(30_000):
        peer.connection.send_data(1, bytes(1000))
        back = window_update(0, 1000) + window_update(1, 1000) + PING_FRAME
        peer.connection.receive(back, 0.0)
        peer.connection.take_output()
    assert not peer.connection.closed


def test_i17_unknown_frames_are_not_held():
    peer = Peer(chunk=4096)
    peer.send(frame(0x0B, 0, 0, bytes(16_384))[:-1])
    reader = peer.connection._reader
    assert sum(map(sys.getsizeof, reader._parts)) == 0
    peer.send(b"\x00")
    assert_alive(peer)


def test_i18_windows_never_exceed_31_bits():
    peer = Peer()
    peer.send(OPEN, settings((INITIAL_WINDOW_SIZE, 2**31 - 1)), settings((INITIAL_WINDOW_SIZE, 0)))
    for _ in range(3):
        peer.send(window_update(1, 2**29))
    stream = peer.connection.streams[1]
    assert stream.send_window.available == 3 * 2**29
    peer.send(settings((INITIAL_WINDOW_SIZE, 2**29)))
    assert stream.send_window.available <= 2**31 - 1
    assert_failed(peer, FLOW_CONTROL_ERROR)


@ceiling(streams=10)
def test_i20_refused_streams_cost():
    peer = Peer(Settings(max_concurrent_streams=10))
    for stream_id in odd_ids():
        peer.send(headers(stream_id, POST_BLOCK))
        assert len(peer.connection.streams) <= 10
        if peer.connection.closed:
            break
        assert stream_id < 20_000
    assert len(peer.found(RequestReceived)) == 10
    assert len(peer.of(RST_STREAM)) == 1000
    assert len(peer.connection._table._reset_ids) <= 20
    assert_failed(peer, ENHANCE_YOUR_CALM)


def test_i20_closed_streams_leave_nothing():
    peer = Peer()
    peer.send(OPEN)
    sizes = set()
    for stream_id in range(3, 40_003, 2):
        peer.connection.receive(headers(stream_id, POST_BLOCK, end=True), 0.0)
        peer.connection.send_headers(stream_id, STATUS)
        peer.connection.send_data(stream_id, b"x", end_stream=True)
        peer.connection.take_output()
        sizes.add(
            (
                len(peer.connection.streams),
                len(peer.connection._table._reset_ids),
                len(peer.connection._sender._waiting),
            )
        )
    assert sizes == {(1, 0, 0)}
    assert CANCEL not in {each.code for each in peer.of(RST_STREAM)}
