"""Whatever frames come and whatever the owner does: no DATA beyond credit, nothing after RST_STREAM, no credit lost.

An input is a program: an octet for what to do, one for the flags, one for the stream, one for a length, the payload.
"""

import io

from hyperframe import frame as wire

from bbr.http2.connection import Connection
from bbr.http2.frames import ErrorCode
from tests.fuzz.octets import LIMITS, STATUS
from tests.support import h2_scripts as scripts

REQUEST, UPDATE, INITIAL_WINDOW, SEND, RESET, HOLD, SHUT_DOWN = range(11, 18)


def peer_frame(action: int, flags: int, stream_id: int, length: int, payload: bytes) -> bytes:
    if action == REQUEST:
        return scripts.request(stream_id, end_stream=bool(flags & 1))
    if action == UPDATE:
        return scripts.window_update(stream_id, length << (flags & 7))
    if action == INITIAL_WINDOW:
        return scripts.settings((4, length << (flags & 7)))
    return scripts.frame(action, flags, stream_id, payload)


def act(connection: Connection, action: int, flags: int, stream_id: int, length: int) -> None:
    if action == SEND:
        connection.send_headers(stream_id, STATUS)
        connection.send_data(stream_id, bytes(length << (flags >> 4)), end_stream=bool(flags & 1))
    elif action == RESET:
        connection.reset(stream_id, ErrorCode.CANCEL)
    elif action == HOLD:
        connection.hold(bool(flags & 1))
    else:
        connection.shut_down(refuse=bool(flags & 1))


def assert_sound(connection: Connection, output: bytes, gone: set[int], last_ids: list[int]) -> None:
    for frame in scripts.parsed(output):
        assert frame.stream_id not in gone
        if isinstance(frame, wire.RstStreamFrame):
            gone.add(frame.stream_id)
        elif isinstance(frame, wire.GoAwayFrame):
            last_ids.append(frame.last_stream_id)
    assert last_ids == sorted(last_ids, reverse=True)
    whole = connection._receiver._window
    assert whole.available + whole.unsent == whole.size
    assert connection._sender.window.available >= 0
    for stream in connection.streams.values():
        assert stream.queued_bytes == sum(map(len, stream.queue or ()))
        window = stream.receive_window
        assert stream.remote_closed or window.available + window.unsent + stream.withheld_bytes == window.size
        stuck = connection._sender.held or min(connection._sender.window.available, stream.send_window.available) <= 0
        assert stuck or not stream.queue


def check(octets: bytes) -> None:
    connection = Connection(LIMITS, 0.0)
    connection.receive(scripts.PREFACE + scripts.settings() + scripts.request(1), 0.0)
    program, gone, last_ids = io.BytesIO(octets), set[int](), list[int]()
    while len(step := program.read(4)) == 4 and not connection.closed:
        action, flags, stream_id, length = step[0] % 18, step[1], step[2] % 12, step[3]
        if action >= SEND:
            if stream_id not in connection.streams or not connection.streams[stream_id].queue_ends:
                act(connection, action, flags, stream_id, length)
        else:
            payload = program.read(length) if action < REQUEST else b""
            connection.receive(peer_frame(action, flags, stream_id, length, payload), 0.0)
        assert_sound(connection, connection.take_output(), gone, last_ids)
