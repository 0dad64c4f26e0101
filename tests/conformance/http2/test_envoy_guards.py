"""Living with Envoy's own guards (section K of the cases): what it counts, and what costs it a whole connection."""

import itertools
import random

import h2.config
import h2.connection
import h2.events
import hpack
import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bbr.rpc import calls
from bbr.rpc.messages import COMPRESSED
from bbr.rpc.status import Status, StatusCode
from bench.harness import messages
from bench.harness.conversation import TABLE
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    CONTINUATION,
    DATA,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    MAX_FRAME_SIZE,
    PING_FRAME,
    POST_BLOCK,
    TRAILER_BLOCK,
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
from bench.harness.rpc_client import RpcPeer, Talk, fields
from tests.support.h2_cases import CHUNKS

# Envoy's defaults, and the smallest windows that the RFC knows.
ENVOY = ((INITIAL_WINDOW_SIZE, 16 << 20), (3, 1024))
SMALL = Settings(stream_window_bytes=65_535, wide_streams=0, connection_window_bytes=65_535)
STATUS = block([(":status", "200"), ("content-type", "application/grpc")])
END = block([("grpc-status", "0")])


@pytest.fixture(params=CHUNKS, ids=lambda chunk: f"reads of {chunk or 'any size'}")
def chunk(request):
    return request.param


def assert_within_the_guard(peer: Peer, streams: int, data_frames: int) -> None:
    """Hold WINDOW_UPDATEs against max_inbound_window_update_frames_per_data_frame_sent, 10 by default."""
    assert len(peer.of(WINDOW_UPDATE)) <= 5 + 2 * (streams + 10 * data_frames)


@pytest.mark.parametrize("limits", [Settings(), SMALL], ids=["own windows", "windows of 65,535"])
@pytest.mark.parametrize("size", [1, 100, 16_384])
def test_k1_window_updates_of_ours_are_few(size, limits, chunk):
    peer = RpcPeer(limits, chunk=chunk, own=ENVOY)
    assert_within_the_guard(peer, 0, 0)
    sent = 0
    for stream_id in range(1, 41, 2):
        peer.open(stream_id)
        message = framed(b"quiet" + bytes(max(size - 10, 0)))[:-1]
        for piece in cut(message, size):
            peer.send(data(stream_id, piece))
            sent += 1
        peer.send(data(stream_id, b"\x00", end=True))
        sent += 1
        assert_within_the_guard(peer, stream_id // 2 + 1, sent)
        # What h2 would do for each DATA frame, two WINDOW_UPDATEs, is allowed; ours are fewer by far.
        assert len(peer.of(WINDOW_UPDATE)) <= 1 + sent * size // 32_000
    assert len(peer.ended) == 20


def test_k1_nothing_but_data_brings_window_updates(chunk):
    peer = RpcPeer(chunk=chunk, own=ENVOY)
    for stream_id in range(1, 2001, 2):
        peer.open(stream_id)
        peer.send(rst_stream(stream_id, INTERNAL_ERROR))
    peer.send(*[PING_FRAME, settings(*ENVOY), window_update(0, 1)] * 100)
    assert [each.stream_id for each in peer.of(WINDOW_UPDATE)] == [0]  # the preface's


def empty_in_a_row(peer: Peer) -> int:
    """Return the longest run of empty frames without END_STREAM, as Envoy counts them."""
    empty = [
        each.kind in (DATA, HEADERS, CONTINUATION) and not each.payload and not each.ends
        for each in peer.frames
        if each.kind in (DATA, HEADERS, CONTINUATION)
    ]
    return max((len(list(run)) for is_empty, run in itertools.groupby(empty) if is_empty), default=0)


@pytest.mark.parametrize("seed", range(20))
def test_k2_never_two_empty_frames_in_a_row(seed):
    rng = random.Random(seed)
    peer = Peer(own=((INITIAL_WINDOW_SIZE, rng.choice([0, 1, 100, 65_535])),))
    peer.send(*(headers(stream_id, POST_BLOCK) for stream_id in range(1, 21, 2)))
    for _ in range(300):
        stream_id = rng.randrange(1, 21, 2)
        step = rng.randrange(6)
        if step < 3:
            # Empty DATA in particular, which an answer of no octets asks for.
            end = rng.random() < 0.02
            peer.connection.send_data(stream_id, bytes(rng.choice([0, 0, 1, 50, 20_000])), end_stream=end)
        elif step == 3:
            peer.send(window_update(rng.choice([0, stream_id]), rng.choice([1, 2, 16_384, 16_385])))
        elif step == 4:
            peer.connection.hold(rng.random() < 0.3)
        else:
            peer.send(settings((INITIAL_WINDOW_SIZE, rng.choice([0, 1, 100, 65_535]))))
        peer.collect()
    assert not peer.connection.closed
    assert any(each.payload for each in peer.of(DATA))
    assert empty_in_a_row(peer) == 0


def test_k2_messages_of_no_octets(chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"", b"", b"", end=True)
    assert peer.body(1) == framed(b"") * 3
    assert empty_in_a_row(peer) == 0


REFUSALS = {
    "405": {"method": "GET"},
    "415": {"content_type": "text/plain"},
    "no such method": {"path": "/no"},
    "timeout": {"grpc_timeout": "soon"},
    "compressed": {"grpc_encoding": "gzip"},
}
TEXTS = ("", "a message", "100% caf\u00e9\n\x00 \U0001f600", "x" * 5000)


def emitted_blocks() -> dict[str, bytes]:
    found = {"HEADERS": calls.HEADERS, "compressed": calls.trailers(COMPRESSED, alone=False)}
    for code, text, alone in itertools.product(StatusCode, TEXTS, (False, True)):
        found[f"{code.name} {text[:9]!r} {alone}"] = calls.trailers(Status(code, text), alone=alone)
    return found


BLOCKS = emitted_blocks()


@pytest.mark.parametrize("table_size", [0, 64, 4096])
def test_k3_every_block_is_decoded_by_hpack(table_size):
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 4096
    decoder.header_table_size = table_size
    for name, octets in BLOCKS.items():
        decoded = decoder.decode(octets)
        names = [each for each, _ in decoded]
        assert not decoder.header_table.dynamic_entries, name
        assert len(set(names)) == len(names)
        assert sorted(names, key=lambda each: each[0] != ":") == names
        for field, value in decoded:
            assert field == field.lower()
            assert value == value.strip()
            assert all(" " <= character <= "~" for character in value)
        begins = ":status" in names
        assert begins or names[0] == "grpc-status"


@pytest.mark.parametrize("changes", [{}, *REFUSALS.values()], ids=["a call", *REFUSALS])
def test_k3_a_strict_client_takes_every_answer(changes):
    class Ends(Talk):
        def receive(self, message):
            self.messages.append(message)
            self.end = Status(StatusCode.INTERNAL, TEXTS[2]) if len(self.messages) == 2 else None
            return (message,)

    for kind in (Talk, Ends):
        server = RpcPeer(new_handler=kind).connect()
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        client.initiate_connection()
        for stream_id in (1, 3):
            client.send_headers(stream_id, list(fields(**changes)))
            flag = b"\x01" if "grpc_encoding" in changes else b"\x00"
            client.send_data(stream_id, flag + framed(b"a")[1:] + framed(b"b"), end_stream=True)
        server.receive(client.data_to_send(), 0.0)
        got = client.receive_data(server.take_output())
        ended = [each.stream_id for each in got if isinstance(each, h2.events.StreamEnded)]
        assert ended == [1, 3]
        assert not server.closed


def test_k3_every_answer_of_an_exchange_passes_h2():
    # ext_proc's own: routed, refused, cut off and faulty calls, one after another on one connection.
    head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    whole = messages.request_body(b'{"model": "sql-lora-sheddable"}', end_of_stream=True)
    unknown = messages.request_body(b'{"model": "not there"}', end_of_stream=True)
    server = RpcPeer(new_handler=lambda: Exchange(Policy(Replies()), TABLE)).connect()
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    stream_id = -1
    for sent in ((head, whole), (head, unknown), (head,), (b"\xff",), (head, head), ()):
        stream_id += 2
        client.send_headers(stream_id, list(fields()))
        client.send_data(stream_id, b"".join(map(framed, sent)), end_stream=True)
        server.receive(client.data_to_send(), 0.0)
        got = client.receive_data(server.take_output())
        assert h2.events.StreamEnded in [type(each) for each in got]
    assert not server.closed


@pytest.mark.parametrize("step", [1 << 10, 65_535])
def test_k4_a_body_of_1_mib_through_windows_of_65535(step, chunk):
    """Both ways at once: the peer sends as its credit allows, and gives credit in steps as it reads the echo."""
    body = random.Random(4).randbytes(1 << 20)
    pieces = cut(body, 50_000)
    wire = b"".join(map(framed, pieces))
    peer = RpcPeer(SMALL, chunk=None if chunk == 1 else chunk, own=((INITIAL_WINDOW_SIZE, 65_535),))
    peer.open()
    credit = {0: 65_535, 1: 65_535}  # ours for the request
    position = taken = given = 0
    frames_sent = 0
    while position < len(wire) or taken < len(wire):
        size = min(16_384, *credit.values(), len(wire) - position)
        back = []
        if size > 0:
            end = position + size == len(wire)
            back = peer.send(data(1, wire[position : position + size], end=end))
            position += size
            frames_sent += 1
            for each in credit:
                credit[each] -= size
        elif taken - given >= min(step, len(wire) - given):
            back = peer.send(window_update(0, taken - given), window_update(1, taken - given))
            given = taken
        else:
            raise AssertionError(f"neither side can go on at {position} and {taken} of {len(wire)}")
        for each in back:
            if each.kind == WINDOW_UPDATE and each.stream_id in credit:
                credit[each.stream_id] += int.from_bytes(each.payload, "big")
            elif each.kind == DATA:
                taken += len(each.payload)
                assert taken - given <= 65_535
    assert peer.body(1) == wire
    assert peer.handlers[0].messages == pieces
    assert peer.status() == "0"
    assert_within_the_guard(peer, 1, frames_sent)


def test_k4_many_calls_share_windows_of_65535(chunk):
    peer = RpcPeer(SMALL, chunk=None if chunk == 1 else chunk, own=((INITIAL_WINDOW_SIZE, 65_535),))
    wire = framed(bytes(range(256)) * 100)
    ids = range(1, 101, 2)
    for stream_id in ids:
        peer.open(stream_id)
        peer.send(*(data(stream_id, piece, end=False) for piece in cut(wire, 16_384)))
        peer.send(data(stream_id, b"", end=True))
    credit = 65_535
    while sum(len(peer.body(each)) for each in ids) < len(ids) * len(wire):
        back = peer.send(window_update(0, 65_535))
        credit += 65_535
        assert back
        assert sum(len(each.payload) for each in peer.of(DATA)) <= credit
    assert all(peer.body(each) == wire for each in ids)
    assert [peer.status(each) for each in ids] == ["0"] * len(ids)


@pytest.mark.parametrize("frame_size", [16_384, 100_000])
def test_k4_a_single_answer_of_1_mib(frame_size, chunk):
    peer = Peer(SMALL, chunk=chunk, own=((INITIAL_WINDOW_SIZE, 65_535), (MAX_FRAME_SIZE, frame_size)))
    peer.send(headers(1, POST_BLOCK, end=True))
    body = random.Random(5).randbytes(1 << 20)
    peer.connection.send_headers(1, STATUS)
    peer.connection.send_data(1, body)
    peer.connection.send_headers(1, END, end_stream=True)
    peer.collect()
    while len(peer.body(1)) < len(body):
        before = len(peer.body(1))
        assert all(len(each.payload) <= frame_size for each in peer.of(DATA))
        peer.send(window_update(1, 65_535), window_update(0, 65_535))
        assert before < len(peer.body(1)) <= before + 65_535
    assert peer.body(1) == body
    assert peer.of(HEADERS, 1)[-1].ends


@pytest.mark.parametrize("end", ["a message", "trailers", "nothing"])
def test_k6_headers_leave_with_the_first_message(end, chunk):
    peer = RpcPeer(chunk=chunk, own=ENVOY)
    peer.open(1, b"quiet")
    peer.send(data(1, framed(b"quiet too")))
    assert peer.last() == []
    if end == "a message":
        peer.send(data(1, framed(b"loud")))
        assert [each.kind for each in peer.last()] == [HEADERS, DATA]
        assert len(peer.heads()) == 1
    elif end == "trailers":
        peer.send(headers(1, TRAILER_BLOCK, end=True))
        (head,) = peer.heads()  # Trailers-Only: the gateway may still try another replica
        assert head["grpc-status"] == "0"
    else:
        peer.send(rst_stream(1))
        assert peer.last() == []


def test_k6_a_replica_that_goes_away_has_sent_nothing(chunk):
    peer = RpcPeer(chunk=chunk, own=ENVOY)
    peer.open(1, b"quiet")
    peer.connection.shut_down(refuse=True)
    peer.open(3, b"late")
    assert [(each.kind, each.code) for each in peer.last(3)] == [(3, ErrorCode.REFUSED_STREAM)]
    assert peer.last(1) == []
