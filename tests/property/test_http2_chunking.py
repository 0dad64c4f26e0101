"""Reads cut a connection's octets anywhere: for any split the events and the octets sent are the same."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, Event
from bbr.http2.settings import Settings
from tests.support import h2_scripts as scripts
from tests.support.examples import examples

EXAMPLES = 100

HELLO = scripts.PREFACE + scripts.settings()
STATUS = scripts.block([(b":status", b"200")])


def started(*, answers: int) -> Connection:
    """A connection with streams 1, 3 and 5, and answers on the first of them that wait for the stream's window."""
    connection = Connection(
        Settings(stream_window_bytes=65_535, wide_streams=0, connection_window_bytes=65_535, max_concurrent_streams=4),
        0.0,
    )
    requests = b"".join(map(scripts.request, (1, 3, 5)))
    connection.receive(scripts.PREFACE + scripts.settings((4, 50)) + requests, 0.0)
    for stream_id in (1, 3, 5)[:answers]:
        connection.send_headers(stream_id, STATUS)
        connection.send_data(stream_id, bytes(30_000), end_stream=stream_id == 3)
        if stream_id == 1:
            connection.send_headers(stream_id, scripts.block(scripts.TRAILERS), end_stream=True)
    connection.take_output()
    return connection


def outcome(connection: Connection, pieces: list[bytes]) -> tuple[list[Event], bytes, bool]:
    events, output = [], b""
    for piece in pieces:
        events += connection.receive(piece, 0.0)
        output += connection.take_output()
    return events, output, connection.closed


def split(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(octets)) for place in places), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 200) | st.integers(0, 60_000), max_size=12)


@examples(EXAMPLES)
@given(script=scripts.scripts.map(b"".join).flatmap(scripts.mutated), answers=st.integers(0, 3), places=cuts)
def test_j1_any_split_of_frames_means_the_same(script: bytes, answers: int, places: list[int]) -> None:
    whole = outcome(started(answers=answers), [script])
    assert outcome(started(answers=answers), split(script, places)) == whole
    if len(script) < 3_000:
        assert outcome(started(answers=answers), split(script, list(range(len(script))))) == whole
    assert whole[2] == any(isinstance(event, ConnectionFailed) for event in whole[0])
    assert sum(isinstance(event, ConnectionFailed) for event in whole[0]) <= 1
    list(scripts.parsed(whole[1]))


@examples(EXAMPLES)
@given(
    octets=st.integers(0, len(HELLO)).flatmap(lambda length: scripts.mutated(HELLO[:length])),
    places=cuts,
)
def test_j1_any_split_of_the_preface_means_the_same(octets: bytes, places: list[int]) -> None:
    whole = outcome(Connection(Settings(), 0.0), [octets])
    for pieces in (split(octets, places), split(octets, list(range(len(octets))))):
        assert outcome(Connection(Settings(), 0.0), pieces) == whole
