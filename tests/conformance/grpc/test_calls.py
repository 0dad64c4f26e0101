"""gRPC over HTTP/2 (section H of the cases), by frames of our own making and without a socket."""

import itertools
import string
import urllib.parse

import pytest

from bbr.http2.settings import Settings
from bbr.rpc.status import Status, StatusCode
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    CANCEL,
    DATA,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    TRAILER_BLOCK,
    cut,
    data,
    headers,
    rst_stream,
)
from bench.harness.rpc_client import MAX_MESSAGE_BYTES, REFUSED, RpcPeer, Talk
from tests.support.h2_cases import CHUNKS

CODES = StatusCode


@pytest.fixture(params=CHUNKS, ids=lambda chunk: f"reads of {chunk or 'any size'}")
def chunk(request):
    return request.param


def assert_works(peer: RpcPeer) -> None:
    """The connection is up, and the next call on it is answered."""
    assert not peer.connection.closed
    stream_id = max([each.stream_id for each in peer.frames] + [2001]) + 2
    peer.open(stream_id, b"still here", end=True)
    assert peer.body(stream_id) == framed(b"still here")
    assert peer.of(HEADERS, stream_id)[-1].ends
    assert peer.connection.calls == {}


def assert_refused(peer: RpcPeer, code: int, received: list[bytes] | None = None) -> dict[str, str]:
    """Stream 1 has ended with this status, and its handler saw these messages; return the last field section."""
    (*_, last) = peer.heads()
    assert last["grpc-status"] == str(int(code))
    assert peer.of(HEADERS, 1)[-1].ends
    assert [each.messages for each in peer.handlers] == ([] if received is None else [received])
    assert peer.ended == peer.handlers
    assert peer.failed == []
    assert_works(peer)
    return last


THREE = (b"", b"a message", b"x" * 300)
WIRE = b"".join(map(framed, THREE))
SPLITS = {
    "H1 in one DATA": [WIRE],
    **{f"H1 prefix cut at {at}": [WIRE[: 5 + at], WIRE[5 + at :]] for at in range(6)},
    "H1 in DATA of 1 octet": cut(WIRE, 1),
    "H1 in DATA of 7 octets": cut(WIRE, 7),
    "H1 with empty DATA between": [WIRE[:7], b"", b"", WIRE[7:]],
    "H1 one message over many DATA": [framed(b"")[:3], framed(b"")[3:], *cut(WIRE[5:], 100)],
}


@pytest.mark.parametrize("end", ["with the last", "in an empty DATA", "in trailers"])
@pytest.mark.parametrize("pieces", SPLITS.values(), ids=SPLITS)
def test_messages_in_any_split(pieces, end, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open()
    for index, piece in enumerate(pieces):
        peer.send(data(1, piece, end=end == "with the last" and index == len(pieces) - 1))
    if end == "in an empty DATA":
        peer.send(data(1, b"", end=True))
    if end == "in trailers":
        peer.send(headers(1, TRAILER_BLOCK, end=True))
    assert peer.handlers[0].messages == list(THREE)
    assert peer.body(1) == WIRE
    assert [sorted(each) for each in peer.heads()] == [[":status", "content-type"], ["grpc-status"]]
    assert peer.handlers[0].finished == 1
    assert_works(peer)


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_h2_a_prefix_above_the_limit(length, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"quiet")
    reader = peer.connection.calls[1].reader
    peer.send(data(1, b"\x00" + length.to_bytes(4, "big")))
    assert reader._parts == []
    assert 1 not in peer.connection.calls
    peer.send(*(data(1, bytes(16_384)) for _ in range(10)))  # what was under way
    assert_refused(peer, CODES.RESOURCE_EXHAUSTED, [b"quiet"])
    assert reader._parts == []


def test_h2_a_message_of_exactly_the_limit(chunk):
    peer = RpcPeer(chunk=chunk)
    message = b"quiet" + bytes(MAX_MESSAGE_BYTES - 5)
    peer.open()
    pieces = cut(framed(message), 16_384)
    peer.send(*(data(1, piece, end=piece is pieces[-1]) for piece in pieces))
    assert peer.handlers[0].messages == [message]
    assert peer.status() == "0"


@pytest.mark.parametrize("end", ["DATA", "empty DATA", "trailers"])
@pytest.mark.parametrize("size", [1, 4, 5, 6, 12])
def test_h3_an_end_inside_of_a_message(size, end, chunk):
    peer = RpcPeer(chunk=chunk)
    part = framed(b"cut off!")[:size]
    peer.open(1, b"quiet")
    peer.send(data(1, part, end=end == "DATA"))
    if end == "empty DATA":
        peer.send(data(1, end=True))
    if end == "trailers":
        peer.send(headers(1, TRAILER_BLOCK, end=True))
    assert_refused(peer, CODES.INTERNAL, [b"quiet"])


@pytest.mark.parametrize(
    ("flag", "encoding", "code"),
    [
        (1, None, CODES.INTERNAL),
        (1, "identity", CODES.INTERNAL),
        (1, "gzip", CODES.UNIMPLEMENTED),
        *((flag, encoding, CODES.INTERNAL) for flag in (2, 128, 255) for encoding in (None, "gzip")),
    ],
)
def test_h4_compressed_flags(flag, encoding, code, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, grpc_encoding=encoding)
    peer.send(data(1, bytes([flag]) + framed(b"compressed")[1:], end=True))
    last = assert_refused(peer, code, [])
    assert last.get("grpc-accept-encoding") == ("identity" if code == CODES.UNIMPLEMENTED else None)


def test_h4_every_flag_above_1():
    for flag in range(2, 256):
        peer = RpcPeer()
        peer.open()
        peer.send(data(1, bytes([flag]) + bytes(4)))
        assert peer.status() == "13"


@pytest.mark.parametrize("end", [True, False], ids=["whole", "unfinished"])
@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"content_type": None}, {":status": "415"}),
        ({"content_type": "application/json"}, {":status": "415"}),
        ({"content_type": "application/grpcx"}, {":status": "415"}),
        ({"content_type": "application/grpc-web"}, {":status": "415"}),
        ({"method": "GET"}, {":status": "405"}),
        ({"method": "HEAD"}, {":status": "405"}),
        ({"path": "/test.Talk/Other"}, {":status": "200", "grpc-status": "12"}),
        ({"path": "/"}, {":status": "200", "grpc-status": "12"}),
    ],
)
def test_h5_what_is_no_call(changes, answer, end, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"a message", end=end, **changes)
    (head,) = peer.heads()
    assert answer.items() <= head.items()
    assert peer.of(HEADERS, 1)[0].ends
    # A client whose end has not been read yet is told to stop.
    assert [each.code for each in peer.of(RST_STREAM, 1)] == ([] if end and not chunk else [NO_ERROR])
    assert len(peer.last()) == 1 + len(peer.of(RST_STREAM, 1))
    assert peer.handlers == []
    assert_works(peer)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_h5_what_is_one(kind, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"a", end=True, content_type=kind)
    assert peer.status() == "0"


TIMEOUTS = [("1n", 1e-9), ("250u", 250e-6), ("99999999m", 99_999.999), ("3S", 3), ("2M", 120), ("99999999H", 3.6e11)]


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS)
def test_h6_deadlines(value, seconds, chunk):
    peer = RpcPeer(Settings(max_concurrent_streams=1, keepalive_seconds=float("inf")), chunk=chunk)
    peer.open(1, b"quiet", grpc_timeout=value)
    peer.expire(0)
    peer.expire(seconds * 0.999)
    assert peer.last() == []
    peer.expire(seconds * 0.002)
    assert_refused(peer, CODES.DEADLINE_EXCEEDED, [b"quiet"])  # and the one slot is free


@pytest.mark.parametrize("value", ["123456789S", "+1S", "-1S", "1", "S", "", "1s", "1.5S", "1 S", "1x", "\u0661S"])
def test_h6_what_is_no_timeout(value, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"a", grpc_timeout=value)
    assert_refused(peer, CODES.INTERNAL)


def test_h7_messages_of_a_status_survive(chunk):
    text = string.printable + "100% \x00\x7f\u00e9\u20ac\U0001f600"

    class Ends(Talk):
        def receive(self, message):
            self.end = Status(CODES.UNKNOWN, text)
            return ()

    peer = RpcPeer(chunk=chunk, new_handler=Ends)
    peer.open(1, b"a", end=True)
    (head,) = peer.heads()
    assert all(" " <= each <= "~" for each in head["grpc-message"])
    assert urllib.parse.unquote(head["grpc-message"], errors="strict") == text
    assert "%25" in head["grpc-message"]
    assert " !" not in head["grpc-message"]  # percent-encoding is for what needs it alone
    assert "abc" in head["grpc-message"]


@pytest.mark.parametrize(("sent", "status"), [(b"a", "0"), (b"end", "9")])
def test_h7_the_status_is_in_the_trailers(sent, status, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, sent, end=True)
    head, trailers = peer.heads()
    assert head == {":status": "200", "content-type": "application/grpc"}
    assert trailers.pop("grpc-status") == status
    assert trailers == ({"grpc-message": REFUSED.message} if status == "9" else {})
    assert [(each.kind, each.ends) for each in peer.last()] == [(HEADERS, False), (DATA, False), (HEADERS, True)]


def test_h8_trailers_before_the_clients_end(chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"end")
    assert [each.kind for each in peer.last()] == [HEADERS, DATA, HEADERS, RST_STREAM]
    assert peer.of(RST_STREAM, 1)[0].code == NO_ERROR
    assert peer.connection.idle
    peer.send(data(1, framed(b"late"), end=True), rst_stream(1))
    assert len(peer.last()) == 4
    assert_refused(peer, CODES.FAILED_PRECONDITION, [b"end"])


@pytest.mark.parametrize("sent", [(), (b"quiet",), (b"a", b"b")])
@pytest.mark.parametrize("part", [b"", b"\x00\x00", framed(b"cut off")[:8]])
def test_h9_a_client_that_cancels(sent, part, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, *sent)
    if part:
        peer.send(data(1, part))
    before = len(peer.frames)
    peer.send(rst_stream(1, CANCEL))
    assert len(peer.frames) == before
    assert peer.ended == peer.handlers
    assert peer.handlers[0].finished == 0
    assert peer.failed == []
    assert peer.connection.idle
    assert_works(peer)


@pytest.mark.parametrize("value", ["YWI=", "YWI", "", "YQ==,Yg"])
def test_h9_binary_metadata(value, chunk):
    peer = RpcPeer(chunk=chunk)
    peer.open(1, b"a", end=True, grpc_trace_bin=value)
    assert peer.body(1) == framed(b"a")
    assert peer.status() == "0"


@pytest.mark.parametrize("order", list(itertools.permutations([1, 3, 5]))[:4])
def test_h1_calls_side_by_side(order, chunk):
    peer = RpcPeer(chunk=chunk)
    for stream_id in (1, 3, 5):
        peer.open(stream_id)
    wire = {stream_id: framed(b"quiet") + framed(b"%d" % stream_id) for stream_id in order}
    for at in range(0, 16, 4):
        peer.send(*(data(stream_id, wire[stream_id][at : at + 4], end=at == 12) for stream_id in order))
    assert {stream_id: peer.body(stream_id) for stream_id in order} == {
        stream_id: framed(b"%d" % stream_id) for stream_id in order
    }
    assert all(each.finished == 1 for each in peer.handlers)
    assert peer.connection.idle
