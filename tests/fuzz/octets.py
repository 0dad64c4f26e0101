"""Any octets after the preface end in events, RST_STREAM or GOAWAY, and in the same ones however they are cut."""

from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, Event, RequestReceived, StreamReset
from bbr.http2.settings import Settings
from tests.support import h2_scripts as scripts

LIMITS = Settings(
    stream_window_bytes=65_535,
    wide_streams=0,
    connection_window_bytes=65_535,
    max_concurrent_streams=3,
    max_queued_bytes=1_000,
)
# One request, whose answer waits for credit.
BEFORE = scripts.PREFACE + scripts.settings((4, 10)) + scripts.request(1)
STATUS = scripts.block([(b":status", b"200")])


def play(pieces: list[bytes]) -> tuple[list[Event], bytes]:
    connection = Connection(LIMITS, 0.0)
    connection.receive(BEFORE, 0.0)
    connection.send_headers(1, STATUS)
    connection.send_data(1, bytes(5_000), end_stream=True)
    events, output = [], connection.take_output()
    for piece in pieces:
        events += connection.receive(piece, 0.0)
        output += connection.take_output()
        assert len(connection.streams) <= LIMITS.max_concurrent_streams
    assert connection.closed == any(isinstance(event, ConnectionFailed) for event in events)
    return events, output


def check(octets: bytes) -> None:
    events, output = play([octets])
    assert (events, output) == play([octets[at : at + 1] for at in range(len(octets))])
    assert (events, output) == play([octets[at : at + 9] for at in range(0, len(octets), 9)])
    opened = {1} | {event.stream_id for event in events if isinstance(event, RequestReceived)}
    ended: set[int] = set()
    for event in events:
        if isinstance(event, StreamReset):
            ended.add(event.stream_id)
        elif not isinstance(event, ConnectionFailed):
            assert event.stream_id in opened - ended
    list(scripts.parsed(output))
