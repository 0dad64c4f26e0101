import pytest

from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, DataReceived, RequestReceived, StreamReset
from bbr.http2.fields import encode
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from tests.support.frames import (
    CANCEL,
    DATA,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    PING_FRAME,
    POST_BLOCK,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    data,
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


def test_the_greeting_is_the_first_output():
    peer = Peer(Settings(connection_window_bytes=65_535), greet=False)
    assert [each.kind for each in peer.frames] == [SETTINGS]
    assert [each.kind for each in Peer(greet=False).frames] == [SETTINGS, WINDOW_UPDATE]


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
    limits = Settings(stream_window_bytes=65_535, max_queued_bytes=0)
    peer = Peer(limits, own=((INITIAL_WINDOW_SIZE, 0),))
    peer.send(OPEN)
    peer.connection.send_data(1, b"stuck")
    peer.connection.send_headers(1, TRAILERS, end_stream=True)
    peer.send(*(data(1, bytes(16_000)) for _ in range(4)))
    assert peer.connection.streams[1].withheld_bytes == 64_000
    back = peer.send(window_update(1, 5))
    assert [each.kind for each in back] == [DATA, HEADERS, RST_STREAM]


def test_credit_that_was_held_back_is_of_no_use_after_the_end():
    limits = Settings(stream_window_bytes=65_535, max_queued_bytes=0)
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
    peer = Peer(limits, greet=False)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings(), OPEN)
    assert peer.connection.expire(9.0) == []
    assert [type(each) for each in peer.connection.expire(9.1)] == [StreamReset, ConnectionFailed]
    assert [each.code for each in peer.collect() if each.kind == GOAWAY] == [4]
