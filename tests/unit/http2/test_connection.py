import itertools

import pytest

from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, DataReceived, RequestReceived, StreamReset
from bbr.http2.fields import encode
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PING_FRAME,
    POST_BLOCK,
    PREFACE,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    data,
    frame,
    headers,
    settings,
    window_update,
)

OPEN = headers(1, POST_BLOCK)
STATUS = encode([(b":status", b"200")])
TRAILERS = encode([(b"grpc-status", b"0")])


@pytest.fixture
def peer() -> Peer:
    return Peer()


def kinds(peer: Peer) -> list[int]:
    return [each.kind for each in peer.collect()]


def test_the_preface_is_the_first_output():
    peer = Peer(Settings(connection_window_bytes=65_535), preface=False)
    assert [each.kind for each in peer.frames] == [SETTINGS]
    assert [each.kind for each in Peer(preface=False).frames] == [SETTINGS, WINDOW_UPDATE]


def test_a_call(peer):
    peer.send(OPEN, data(1, b"request"), data(1, b"", end=True))
    assert [type(each) for each in peer.events] == [RequestReceived, DataReceived, DataReceived]
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"answer")
    peer.connection.send_headers(1, TRAILERS, end_stream=True)
    assert kinds(peer) == [HEADERS, DATA, HEADERS]
    assert peer.connection.streams == {}


def test_an_answer_that_ends_before_its_request(peer):
    peer.send(OPEN)
    peer.connection.send_headers(1, STATUS, end_stream=True)
    ended, reset = peer.collect()
    assert ended.ends
    assert (reset.kind, reset.code) == (RST_STREAM, NO_ERROR)
    assert peer.send(data(1, b"late"), data(1, b"later", end=True)) == []
    assert peer.found(DataReceived) == []
    assert peer.found(StreamReset) == []


@pytest.mark.parametrize("stream_id", [1, 3, 99])
def test_what_is_sent_on_a_stream_that_is_not_open_is_nothing(peer, stream_id):
    peer.send(OPEN)
    peer.connection.reset(1, ErrorCode.CANCEL)
    assert [each.code for each in peer.collect()] == [CANCEL]
    peer.connection.send_headers(stream_id, STATUS)
    peer.connection.send_data(stream_id, b"x", end_stream=True)
    peer.connection.reset(stream_id, ErrorCode.CANCEL)
    assert peer.collect() == []


def test_an_answer_that_ends_before_its_request_in_one_read_needs_no_reset(peer):
    peer.connection.feed(OPEN + data(1, b"the end", end=True) + headers(3, POST_BLOCK) + headers(5, POST_BLOCK), 0.0)
    for event in peer.connection.events():
        if isinstance(event, RequestReceived):
            peer.connection.send_headers(event.stream_id, STATUS, end_stream=True)
            # Until the output is taken the stream is there, and nothing more can be sent on it.
            peer.connection.send_data(event.stream_id, b"x")
            peer.connection.send_headers(event.stream_id, STATUS)
            peer.connection.reset(event.stream_id, ErrorCode.CANCEL)
    assert list(peer.connection.streams) == [1, 3, 5]
    peer.connection.receive(frame(RST_STREAM, 0, 5, bytes(4)), 0.0)
    found = [(each.kind, each.stream_id) for each in peer.collect()]
    assert found == [(HEADERS, 1), (HEADERS, 3), (HEADERS, 5), (RST_STREAM, 3)]
    assert peer.connection.streams == {}


def test_what_is_answered_makes_room_before_its_end_has_come():
    peer = Peer(Settings(max_concurrent_streams=1))
    peer.connection.feed(OPEN + headers(3, POST_BLOCK) + headers(5, POST_BLOCK), 0.0)
    begun = []
    for event in peer.connection.events():
        if isinstance(event, RequestReceived):
            begun.append(event.stream_id)
            if event.stream_id == 1:
                peer.connection.send_headers(1, STATUS, end_stream=True)
    assert begun == [1, 3]
    assert [(each.stream_id, each.code) for each in peer.collect() if each.kind == RST_STREAM] == [(1, 0), (5, 7)]


def test_while_held_no_data_leaves_and_control_frames_do(peer):
    peer.send(OPEN, headers(3, POST_BLOCK, end=True))
    peer.connection.hold(True)
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, b"waits")
    peer.connection.send_data(3, b"waits", end_stream=True)
    peer.connection.send_headers(1, TRAILERS, end_stream=True)
    assert kinds(peer) == [HEADERS]
    assert len(peer.send(PING_FRAME, window_update(0, 10), window_update(1, 10))) == 1
    peer.connection.hold(False)
    assert [(each.kind, each.stream_id) for each in peer.collect()] == [
        (DATA, 1),
        (HEADERS, 1),
        (DATA, 3),
        (RST_STREAM, 1),
    ]
    assert peer.connection.streams == {}


def test_events_and_output_of_a_connection_that_is_closed(peer):
    peer.send(OPEN, data(0))
    assert peer.connection.closed
    assert peer.found(StreamReset) == [StreamReset(1, PROTOCOL_ERROR, "idle-stream")]
    assert peer.found(ConnectionFailed) == [ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "idle-stream")]
    peer.connection.send_data(1, b"x")
    peer.connection.reset(1, ErrorCode.CANCEL)
    peer.connection.shut_down(refuse=True)
    peer.connection.hold(True)
    peer.connection.hold(False)
    assert peer.connection.receive(OPEN, 0.0) == []
    assert peer.connection.expire(1e9) == []
    assert peer.collect() == []


def test_what_came_before_a_fault_is_received(peer):
    peer.send(OPEN + data(1, b"good") + data(0))
    assert [type(each) for each in peer.events] == [RequestReceived, DataReceived, StreamReset, ConnectionFailed]


def test_credit_that_was_held_back_is_lost_with_its_stream():
    limits = Settings(stream_window_bytes=65_535, wide_streams=0, max_queued_bytes=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    peer.connection.send_data(1, b"stuck")
    peer.connection.send_headers(1, TRAILERS, end_stream=True)
    peer.send(*(data(1, bytes(16_000)) for _ in range(4)))
    assert peer.connection.streams[1].withheld_bytes == 64_000
    back = peer.send(window_update(1, 5))
    assert [each.kind for each in back] == [DATA, HEADERS, RST_STREAM]


def test_credit_that_was_held_back_is_of_no_use_after_the_end():
    limits = Settings(stream_window_bytes=65_535, wide_streams=0, max_queued_bytes=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    peer.connection.send_data(1, b"stuck")
    peer.send(*(data(1, bytes(16_000)) for _ in range(4)), data(1, b"", end=True))
    assert [each.kind for each in peer.send(window_update(1, 5))] == [DATA]
    assert list(peer.connection.streams) == [1]


def test_a_window_that_does_not_change_wakes_nobody(peer):
    peer.send(settings((INITIAL_WINDOW_SIZE, 65_535)), OPEN)
    assert peer.connection.streams[1].send_window.available == 65_535


def test_timeouts_count_from_the_beginning():
    limits = Settings(preface_seconds=5.0, settings_seconds=9.0)
    connection = Connection(limits, 100.0)
    assert connection.expire(105.0) == []
    assert connection.expire(105.1) == [ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "preface-timeout")]
    peer = Peer(limits, preface=False)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings(), OPEN)
    assert peer.connection.expire(9.0) == []
    assert [type(each) for each in peer.connection.expire(9.1)] == [StreamReset, ConnectionFailed]
    assert [each.code for each in peer.collect() if each.kind == GOAWAY] == [4]


HALF_BLOCK = headers(3, b"", flags=0)
DRIPS = {
    "a frame's header": [data(1, b"abc")[:1]] * 2,
    "a frame": [data(1, bytes(9))[:9], b"x", b"x", b"x"],
    "a field block": [HALF_BLOCK, *[frame(CONTINUATION, 0, 3, b"")] * 3],
    "a field block's frame": [HALF_BLOCK + frame(CONTINUATION, 0, 3, b"abc")[:9], b"a", b"b"],
}


@pytest.mark.parametrize("drips", DRIPS.values(), ids=DRIPS)
def test_what_has_begun_must_end_however_often_its_peer_says_a_bit(drips):
    peer = Peer(Settings(frame_seconds=30.0))
    peer.send(OPEN)
    for octets in drips:
        peer.send(octets)
        assert peer.connection.expire(peer.now) == []
        peer.now += 30.0 / len(drips)
    assert peer.connection.expire(30.0) == []
    assert peer.connection.expire(30.1)[-1] == ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "frame-timeout")
    assert peer.connection.streams == {}


def test_frames_that_end_may_be_cut_anywhere_for_ever():
    peer = Peer(Settings(frame_seconds=3.0))
    peer.send(OPEN)
    half = data(1, b"abc")[:5], data(1, b"abc")[5:] + data(1, b"abc")[:5]
    peer.send(half[0])
    for _ in range(10):
        peer.now += 2.0
        assert peer.connection.expire(peer.now) == []
        peer.send(half[1])
    assert not peer.connection.closed


def test_a_silent_peer_is_asked_once_and_may_answer_with_anything():
    peer = Peer(Settings(keepalive_seconds=30.0, keepalive_timeout_seconds=5.0))
    assert (peer.connection.expire(30.0), peer.collect()) == ([], [])
    assert peer.connection.expire(30.1) == []
    assert [(each.kind, each.flags, len(each.payload)) for each in peer.collect()] == [(PING, 0, 8)]
    assert (peer.connection.expire(35.0), peer.collect()) == ([], [])
    peer.now = 35.0
    peer.send(OPEN)
    assert (peer.connection.expire(65.0), peer.collect()) == ([], [])
    assert peer.connection.expire(65.1) == []
    ping = peer.collect()[0]
    peer.now = 66.0
    assert peer.send(frame(PING, ACK, 0, ping.payload)) == []
    assert (peer.connection.expire(96.0), peer.collect()) == ([], [])


def test_a_peer_that_does_not_answer_is_given_up():
    peer = Peer(Settings(keepalive_seconds=30.0, keepalive_timeout_seconds=5.0))
    peer.send(OPEN)
    assert peer.connection.expire(31.0) == []
    assert peer.connection.expire(36.0) == []
    events = peer.connection.expire(36.1)
    assert events == [
        StreamReset(1, ErrorCode.NO_ERROR, "keepalive-timeout"),
        ConnectionFailed(ErrorCode.NO_ERROR, "keepalive-timeout"),
    ]
    assert [each.kind for each in peer.collect()] == [PING, GOAWAY]


def stuck(*, streams: int = 1, waiting: int = 20_000, **limits: float) -> Peer:
    """Return a peer that gives no stream credit, with an answer waiting on each stream."""
    quiet = {"keepalive_seconds": 1e9, "stall_seconds": 10.0, "min_progress_bytes": 1000}
    peer = Peer(Settings(**quiet | limits), own=((INITIAL_WINDOW_SIZE, 0),))
    for number in range(streams):
        peer.send(headers(2 * number + 1, POST_BLOCK))
        peer.connection.send_headers(2 * number + 1, STATUS)
        peer.connection.send_data(2 * number + 1, bytes(waiting))
    peer.collect()
    assert peer.connection.expire(0.0) == []
    return peer


def test_a_stream_whose_answer_does_not_get_away_is_reset():
    peer = stuck(streams=2)
    peer.send(window_update(3, 1000))
    assert peer.connection.expire(10.0) == []
    assert peer.connection.expire(10.1) == [StreamReset(1, ErrorCode.CANCEL, "stream-stalled")]
    assert [(each.kind, each.code) for each in peer.collect()] == [(RST_STREAM, CANCEL)]
    assert list(peer.connection.streams) == [3]
    assert peer.connection.expire(20.0) == []
    assert peer.connection.expire(20.2) == [StreamReset(3, ErrorCode.CANCEL, "stream-stalled")]


def test_a_drip_of_credit_is_no_progress():
    peer = stuck()
    peer.send(window_update(1, 999))
    assert peer.connection.expire(10.0) == []
    assert peer.connection.expire(10.1) == [StreamReset(1, ErrorCode.CANCEL, "stream-stalled")]


def test_what_is_added_is_no_lack_of_progress():
    peer = stuck()
    peer.send(window_update(1, 1500))
    peer.connection.send_data(1, bytes(5000))
    assert peer.connection.expire(9.0) == []
    assert peer.connection.expire(18.9) == []
    assert [each.reason for each in peer.connection.expire(19.1)] == ["stream-stalled"]


def test_an_answer_that_is_gone_does_not_count_for_the_next():
    peer = stuck()
    peer.send(window_update(1, 20_000))
    assert peer.connection.expire(9.0) == []
    peer.connection.send_data(1, bytes(5000))
    assert peer.connection.expire(11.0) == []
    assert peer.connection.expire(21.0) == []
    assert [each.reason for each in peer.connection.expire(21.1)] == ["stream-stalled"]


def test_a_connection_on_which_nothing_gets_away_is_closed():
    peer = stuck(streams=2)
    peer.send(settings((INITIAL_WINDOW_SIZE, 100_000)), headers(5, POST_BLOCK))
    peer.connection.send_data(5, bytes(30_000))
    assert peer.connection._sender.window.available == 0
    assert peer.connection.expire(1.0) == []
    assert peer.connection.expire(11.0) == []
    assert peer.connection.expire(11.1)[-1] == ConnectionFailed(ErrorCode.FLOW_CONTROL_ERROR, "connection-stalled")


def test_a_busy_connection_is_not_closed_for_one_slow_stream():
    peer = stuck(streams=1)
    peer.send(window_update(0, 1 << 20), headers(3, POST_BLOCK), window_update(3, 1 << 21))
    peer.connection.send_data(3, bytes((1 << 20) + 170_000))
    for now in (5.0, 10.0):
        assert peer.connection.expire(now) == []
        peer.send(window_update(0, 2000))
    assert peer.connection._sender.window.available == 0
    assert peer.connection.expire(10.5) == [StreamReset(1, ErrorCode.CANCEL, "stream-stalled")]
    assert not peer.connection.closed


def in_parts(connection: Connection, stream_id: int, octets: bytes) -> None:
    connection.send_parts(stream_id, [octets[:5], octets[5:]], len(octets))


@pytest.mark.parametrize("send", [Connection.send_data, in_parts])
def test_answers_that_find_no_room_end_their_stream_only(send):
    peer = stuck(streams=3, waiting=10_000, max_connection_queued_bytes=35_000)
    send(peer.connection, 3, bytes(10_000))
    assert [(each.kind, each.stream_id, each.code) for each in peer.collect()] == [(RST_STREAM, 3, ENHANCE_YOUR_CALM)]
    assert peer.connection.receive(b"", 0.0) == [StreamReset(3, ErrorCode.ENHANCE_YOUR_CALM, "queued-bytes")]
    assert list(peer.connection.streams) == [1, 5]
    send(peer.connection, 5, bytes(10_000))
    assert peer.collect() == []
    assert peer.connection._sender.queued_bytes == 30_000 + 3 * 256
    # What can leave at once needs no room.
    peer.send(headers(7, POST_BLOCK), window_update(7, 50_000))
    send(peer.connection, 7, bytes(34_000))
    assert [each.kind for each in peer.collect()] == [DATA, DATA, DATA]


def test_parts_come_behind_their_field_block_and_on_no_closed_stream():
    peer = Peer()
    peer.send(headers(1, POST_BLOCK), headers(3, POST_BLOCK))
    peer.collect()
    peer.connection.send_parts(1, [b"a", b"b"], 2, b"block")
    peer.connection.send_parts(1, [b"c"], 1)
    peer.connection.send_headers(1, b"trailers", end_stream=True)
    peer.connection.send_parts(1, [b"late"], 4)
    peer.connection.send_parts(99, [b"never"], 5, b"block")
    assert [(each.kind, each.stream_id, each.payload) for each in peer.collect()][:4] == [
        (HEADERS, 1, b"block"),
        (DATA, 1, b"ab"),
        (DATA, 1, b"c"),
        (HEADERS, 1, b"trailers"),
    ]


def test_what_waits_is_counted_until_it_is_gone():
    peer = stuck(streams=2)
    sender = peer.connection._sender
    peer.send(window_update(1, 5000))
    assert sender.queued_bytes == 35_000 + 2 * 256
    peer.send(window_update(1, 15_000))
    assert (sender.queued_bytes, list(sender.queued)) == (20_256, [3])
    peer.connection.reset(3, ErrorCode.CANCEL)
    assert (sender.queued_bytes, sender.queued) == (0, {})


class TestPaused:
    """A stream whose owner is busy gets no credit; all others, and the connection, do."""

    LIMITS = Settings(stream_window_bytes=65_535, wide_streams=0, connection_window_bytes=65_535)

    def updates(self, peer: Peer) -> list[int]:
        return [each.stream_id for each in peer.collect() if each.kind == WINDOW_UPDATE]

    def test_credit_is_withheld_until_it_is_resumed(self):
        peer = Peer(self.LIMITS)
        peer.send(OPEN)
        peer.connection.pause(1)
        came = peer.send(*(data(1, bytes(10_000)) for _ in range(5)))
        assert [each.stream_id for each in came if each.kind == WINDOW_UPDATE] == [0]
        peer.connection.resume(1)
        assert self.updates(peer) == [1]
        peer.connection.resume(1)
        assert self.updates(peer) == []

    def test_closed_streams_are_nothing(self):
        peer = Peer(self.LIMITS)
        peer.connection.pause(1)
        peer.connection.resume(1)
        assert not peer.connection.is_stuck(1)

    def test_no_credit_for_a_stream_that_has_ended_meanwhile(self):
        peer = Peer(self.LIMITS)
        peer.send(OPEN)
        peer.connection.pause(1)
        peer.send(*(data(1, bytes(10_000)) for _ in range(4)), data(1, b"", end=True))
        self.updates(peer)
        peer.connection.resume(1)
        assert self.updates(peer) == []


class TestStuck:
    """An answer that waits for its peer should not grow."""

    def test_until_it_has_left(self):
        peer = Peer(Settings(max_queued_bytes=1000))
        peer.send(OPEN)
        peer.connection.send_headers(1, STATUS)
        peer.connection.send_data(1, bytes(65_535 + 500))
        assert not peer.connection.is_stuck(1)
        peer.connection.send_data(1, bytes(1_000))
        assert peer.connection.is_stuck(1)
        assert peer.connection.take_unstuck() == []
        peer.send(window_update(0, 10_000), window_update(1, 10_000))
        assert peer.connection.take_unstuck() == [1]
        assert peer.connection.take_unstuck() == []
        assert not peer.connection.is_stuck(1)

    def test_while_too_much_waits_on_all_streams_together(self):
        peer = Peer(Settings(max_connection_queued_bytes=10_000))
        peer.send(OPEN, headers(3, POST_BLOCK), headers(5, POST_BLOCK))
        peer.connection.send_headers(1, STATUS)
        peer.connection.send_data(1, bytes(65_535 + 6_000))
        assert peer.connection.is_stuck(3)
        assert not peer.connection.is_stuck(7)
        peer.send(window_update(0, 100))
        assert peer.connection.take_unstuck() == []
        peer.send(window_update(0, 10_000), window_update(1, 3_000))
        assert peer.connection.take_unstuck() == [3]
        assert not peer.connection.is_stuck(3)


def test_frames_are_received_some_at_a_time(peer):
    connection = peer.connection
    sent = OPEN + data(1, b"one") + data(1, b"two") + data(1, b"three")[:-2]
    connection.feed(sent, 1.0)
    assert [type(each) for each in itertools.islice(connection.events(), 2)] == [RequestReceived, DataReceived]
    assert connection.more
    assert [each.data for each in connection.events()] == [b"two"]
    assert not connection.more
    # With octets before the rest has been looked at: first that rest.
    connection.feed(b"ee" + data(1, b"4") + data(1, b"5"), 1.0)
    assert next(connection.events()).data == b"three"
    assert connection.more
    assert [each.data for each in connection.receive(data(1, b"6"), 1.0)] == [b"4", b"5", b"6"]
    assert not connection.more


def test_a_frame_that_is_no_event_gives_none(peer):
    peer.connection.feed(PING_FRAME + OPEN + window_update(1, 1), 1.0)
    assert [None if each is None else type(each) for each in peer.connection.events()] == [None, RequestReceived, None]


def test_a_connection_that_has_failed_has_no_more(peer):
    peer.connection.feed(OPEN + data(1, b"x") + frame(DATA, 0, 0, b"") + data(1, b"y"), 1.0)
    assert len(list(itertools.islice(peer.connection.events(), 2))) == 2
    assert peer.connection.more
    (*_, failed) = peer.connection.events()
    assert isinstance(failed, ConnectionFailed)
    assert not peer.connection.more
    assert list(peer.connection.events()) == []
    assert peer.connection.receive(data(1, b"z"), 1.0) == []


def test_long_data_where_none_may_come_yet():
    connection = Connection(Settings(), 0.0)
    events = connection.receive(PREFACE + data(1, bytes(10_000)), 0.0)
    assert events == [ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "no-settings-first")]


def test_padding_is_taken_off_long_data(peer):
    peer.send(OPEN, frame(DATA, PADDED, 1, b"\x03" + b"x" * 9_000 + bytes(3)))
    assert peer.found(DataReceived) == [DataReceived(1, b"x" * 9_000, False)]
