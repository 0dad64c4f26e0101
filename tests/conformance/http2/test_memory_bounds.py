"""The memory of one connection at its worst, measured, against the formula in docs/design/http2.md."""

import pytest

from bbr.http2.fields import MEMO_BYTES
from bbr.http2.settings import Settings
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    DATA,
    INITIAL_WINDOW_SIZE,
    POST_BLOCK,
    WINDOW_UPDATE,
    cut,
    data,
    headers,
    literal,
    rst_stream,
    window_update,
)
from bench.harness.rpc_client import MAX_MESSAGE_BYTES, RpcPeer, Talk, block, fields
from tests.support.connection_memory import octets_held

STREAMS = 10
WINDOW = 65_535
LIMITS = {
    "max_concurrent_streams": STREAMS,
    "stream_window_bytes": WINDOW,
    "wide_streams": 0,
    "connection_window_bytes": 4 * WINDOW,
    "max_queued_bytes": 50_000,
}
# One frame that is not whole, one field block, and the memos of a client whose requests look alike.
FIXED = 64 << 10
FRAME = 9 + (16 << 10)


class Echo(Talk):
    """Sends back and keeps nothing."""

    def receive(self, message):
        return (message,)


def bound(limits: Settings, *, answer: int) -> int:
    """Return the most octets that a connection holds, if an answer has `answer` octets at most.

    For each stream: a message that is not whole; answers up to the mark at which its peer gets no more credit, the one
    that passed it, and those to what the peer had credit for; and for all streams together the bound on that.
    """
    waiting = STREAMS * (limits.max_queued_bytes + limits.stream_window_bytes + answer)
    waiting = min(waiting, limits.max_connection_queued_bytes)
    return STREAMS * (MAX_MESSAGE_BYTES + 5) + waiting + FIXED


class Sender:
    """Sends on all streams what credit allows, and reads nothing."""

    def __init__(self, peer: RpcPeer) -> None:
        self.peer = peer
        self.credit = {0: peer.credit} | dict.fromkeys(range(1, 2 * STREAMS, 2), WINDOW)
        for stream_id in range(1, 2 * STREAMS, 2):
            peer.open(stream_id)

    def send(self, stream_id: int, octets: bytes) -> bool:
        """Send DATA if there is credit for all of it."""
        if len(octets) > min(self.credit[0], self.credit[stream_id]):
            return False
        back = self.peer.send(data(stream_id, octets))
        self.credit[0] -= len(octets)
        self.credit[stream_id] -= len(octets)
        for each in back:
            if each.kind == WINDOW_UPDATE and each.stream_id in self.credit:
                self.credit[each.stream_id] += int.from_bytes(each.payload, "big")
        return True


@pytest.mark.parametrize("chunk", [9, None])
def test_i9_messages_that_never_end(chunk):
    limits = Settings(**LIMITS)
    peer = RpcPeer(limits, chunk=chunk, new_handler=Echo)
    sender = Sender(peer)
    part = framed(bytes(MAX_MESSAGE_BYTES))[:-1]
    for piece in cut(part, 16_000):
        for stream_id in range(1, 2 * STREAMS, 2):
            assert sender.send(stream_id, piece)
    held = octets_held(peer.connection)
    assert STREAMS * len(part) <= held <= STREAMS * (MAX_MESSAGE_BYTES + 5) + FIXED
    # A frame that is not whole comes on top; all of it goes with its streams.
    peer.send(data(1, bytes(16_384))[:-1])
    assert octets_held(peer.connection) <= held + FRAME
    peer.send(b"\x00", *(rst_stream(stream_id) for stream_id in range(1, 2 * STREAMS, 2)))
    assert octets_held(peer.connection) < FIXED


@pytest.mark.parametrize("together", [1 << 26, 100_000])
@pytest.mark.parametrize("size", [200, 1000, 60_000, MAX_MESSAGE_BYTES])
def test_i9_answers_that_nobody_reads(size, together):
    limits = Settings(**LIMITS, max_connection_queued_bytes=together)
    peer = RpcPeer(limits, own=((INITIAL_WINDOW_SIZE, 0),), new_handler=Echo)
    sender = Sender(peer)
    wire = framed(bytes(size))
    pieces = cut(wire, 16_384)
    worst = position = 0
    going = set(range(1, 2 * STREAMS, 2))
    while going:
        going = {each for each in going if sender.send(each, pieces[position % len(pieces)])}
        position += 1
        if position % 200 == 0 or size > 1000:
            worst = max(worst, octets_held(peer.connection))
            assert worst <= bound(limits, answer=len(wire))
        assert position < 200_000
    worst = max(worst, octets_held(peer.connection))
    assert worst <= bound(limits, answer=len(wire))
    assert peer.of(DATA) == []
    # It is a bound that is come near to: each stream holds what it may.
    if together > 100_000 and size >= 1000:
        assert worst >= STREAMS * limits.max_queued_bytes
    # Credit lets all of it go, and the peer may go on.
    queued = sum(each.queued_bytes for each in peer.connection._http2.streams.values())
    peer.send(window_update(0, 1 << 30), *(window_update(each, 1 << 30) for each in range(1, 2 * STREAMS, 2)))
    assert sum(len(each.payload) for each in peer.of(DATA)) == queued
    assert octets_held(peer.connection) <= STREAMS * (MAX_MESSAGE_BYTES + 5) + FIXED


def test_i9_many_small_answers_do_not_outgrow_the_bound_by_their_number():
    limits = Settings(**LIMITS)
    peer = RpcPeer(limits, own=((INITIAL_WINDOW_SIZE, 0),), new_handler=Echo)
    sender = Sender(peer)
    while sender.send(1, framed(b"12345")):
        pass
    # 256 octets are counted for each entry of a queue beside its own: about what it costs.
    queue = peer.connection._http2.streams[1].queue
    assert len(queue) <= limits.max_queued_bytes // 256 + WINDOW // 10 + 1


def test_i20_memos_are_bounded_whatever_the_requests():
    peer = RpcPeer(Settings(**LIMITS))
    for number in range(3000):
        unique = literal(b"x-request-%d" % number, b"%0100d" % number) * 5
        stream_id = 2 * number + 1
        # The last octets of a long section: beyond what a memo keeps, and beyond what it may hold.
        long = b"\x00\x01a\x7f\xe1\x0e" + b"x" * 2000 if number % 2 else b""
        peer.send(headers(stream_id, POST_BLOCK + unique + long), rst_stream(stream_id))
        if peer.connection.closed:
            break
        peer.open(stream_id, b"quiet") if stream_id == 1 else None
    decoder = peer.connection._http2._receiver._decoder
    assert decoder._memo_bytes <= MEMO_BYTES
    assert max(map(len, decoder._blocks)) <= 1024
    assert max(map(len, decoder._literals)) <= 1024
    assert octets_held(peer.connection) <= MEMO_BYTES + FIXED


def test_i7_heads_are_dropped_after_routing():
    peer = RpcPeer(Settings(**LIMITS), new_handler=Echo)
    before = None
    for stream_id in range(1, 2 * STREAMS, 2):
        # Never the same block, and too long for a memo.
        peer.send(headers(stream_id, block([*fields(), ("x-large", f"{stream_id:05}" + "x" * 3000)])))
        held = octets_held(peer.connection)
        before = before or held
        assert held <= before + 100
    assert len(peer.connection.calls) == STREAMS
