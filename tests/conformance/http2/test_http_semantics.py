import pytest

from bbr.http2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.fields import encode
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    GET,
    POST_BLOCK,
    PROTOCOL_ERROR,
    REQUEST,
    TRAILER_BLOCK,
    Fields,
    Peer,
    block,
    data,
    headers,
    literal,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, play, rows

OPEN = headers(1, POST_BLOCK)
MALFORMED = ((1, PROTOCOL_ERROR),)


def plus(*fields: bytes) -> bytes:
    return headers(1, POST_BLOCK + b"".join(fields))


def request(fields: Fields, *, end: bool = False) -> bytes:
    return headers(1, block(fields), end=end)


def without(name: str, base: Fields = REQUEST) -> list[tuple[str, str]]:
    return [field for field in base if field[0] != name]


def length(value: str, *, end: bool = False) -> bytes:
    return headers(1, POST_BLOCK + literal(b"content-length", value.encode()), end=end)


NAMES = {
    f"name with octet {octet:#04x}": b"a" + bytes([octet]) + b"b" for octet in (*range(0x21), *range(0x7F, 0x100, 9))
}
NAMES |= {"upper-case name": b"Name", "name with a colon": b"na:me", "empty name": b"", "name with a quote": b'"'}
VALUES = {
    "NUL": b"a\x00b",
    "CR": b"a\rb",
    "LF": b"a\n",
    "SP before": b" a",
    "SP after": b"a ",
    "HTAB before": b"\ta",
    "HTAB after": b"a\t",
    "SP alone": b" ",
}
MALFORMED_REQUESTS = {
    **{f"G1 {name}": plus(literal(octets, b"x")) for name, octets in NAMES.items()},
    **{f"G1 {name} in a value": plus(literal(b"x-a", value)) for name, value in VALUES.items()},
    "G1 LF in :path": headers(1, block(without(":path", GET)) + literal(b":path", b"/\nx")),
    **{
        f"G2 {name}": plus(literal(name.encode(), b"x"))
        for name in ("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
    },
    "G2 te gzip": plus(literal(b"te", b"gzip")),
    "G2 te, a list": plus(literal(b"te", b"trailers, gzip")),
    "G3 unknown": headers(1, block([*GET, (":protocol", "websocket")])),
    "G3 a colon alone": headers(1, b"\x20" + literal(b":", b"x") + POST_BLOCK[1:]),
    "G3 of a response": headers(1, block([*GET, (":status", "200")])),
    "G3 after a regular field": headers(1, block([("x-a", "b"), *GET])),
    "G3 last one after a regular field": headers(1, block([*GET[:2], ("x-a", "b"), *GET[2:]])),
    **{
        f"G3 {name} twice": headers(1, block([*REQUEST[:4], (name, value), *REQUEST[4:]]))
        for name, value in REQUEST[:4]
    },
    **{f"G3 no {name}": request(without(name)) for name in (":method", ":scheme", ":path")},
    "G3 no fields at all": headers(1, b"\x20"),
    "G3 empty :path": request([*without(":path", GET), (":path", "")]),
    "G4 END_STREAM on HEADERS": length("5", end=True),
    "G4 two values": plus(literal(b"content-length", b"5"), literal(b"content-length", b"6")),
    **{
        f"G4 content-length {value!r}": length(value)
        for value in ("+5", "-5", "5x", "", "0x5", "5, 5", "5 5", "1" * 19, "٣")
    },
    "G6 CONNECT": request([(":method", "CONNECT"), (":authority", "a:1")]),
    "G6 CONNECT with all fields": request([(":method", "CONNECT"), *REQUEST[1:]]),
    "G6 host differs": request([*REQUEST, ("host", "other")]),
    "G6 userinfo": request([*without(":authority")[:3], (":authority", "user@router"), ("te", "trailers")]),
}
CASES = [
    *[Case(name, (sent,), resets=MALFORMED) for name, sent in MALFORMED_REQUESTS.items()],
    Case("G2 te trailers, any case", (plus(literal(b"te", b"Trailers")),)),
    Case("G3 pseudo-field in trailers", (OPEN, headers(1, block([(":path", "/")]), end=True)), resets=MALFORMED),
    Case("G3 no :authority", (request(without(":authority")),)),
    Case("G4 more", (length("5"), data(1, b"123"), data(1, b"456")), resets=MALFORMED),
    Case("G4 less", (length("5"), data(1, b"1234", end=True)), resets=MALFORMED),
    Case(
        "G4 less, and trailers", (length("5"), data(1, b"1234"), headers(1, TRAILER_BLOCK, end=True)), resets=MALFORMED
    ),
    Case("G4 exactly", (length("5"), data(1, b"123", pad=9), data(1, b"45", end=True))),
    Case("G4 exactly, and trailers", (length("5"), data(1, b"12345"), headers(1, TRAILER_BLOCK, end=True))),
    Case("G4 none, and END_STREAM", (length("0", end=True),)),
    Case(
        "G4 the same twice", (plus(literal(b"content-length", b"1"), literal(b"content-length", b"1")), data(1, b"x"))
    ),
    Case("G5 second HEADERS without END_STREAM", (OPEN, headers(1, TRAILER_BLOCK)), resets=MALFORMED),
    Case("G5 malformed trailers", (OPEN, headers(1, literal(b"Upper", b"x"), end=True)), resets=MALFORMED),
    Case("G5 trailers", (OPEN, data(1, b"x"), headers(1, TRAILER_BLOCK, end=True))),
    Case("G6 host is the same", (request([*REQUEST, ("host", "router")]),)),
    Case("G6 host alone", (request([*GET, ("host", "router")]),)),
]


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    peer = play(case, chunk)
    if case.resets and case.sent[0] in MALFORMED_REQUESTS.values():
        # It never reached a handler. What `play` opened after it is another stream.
        assert 1 not in [each.stream_id for each in peer.found(RequestReceived)]


@pytest.mark.parametrize("table_size", [0, 4096])
def test_g1_what_is_good(table_size):
    peer = Peer(Settings(header_table_size=table_size))
    name = b"!#$%&'*+-.^_`|~09az"
    value = b"a \t b\x01\x7f\x80\xff"
    peer.send(plus(literal(name, value), literal(b"x-empty", b"")))
    (found,) = peer.found(RequestReceived)
    assert found.section.fields[-2:] == ((name, value), (b"x-empty", b""))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_g5_trailers(chunk):
    peer = Peer(chunk=chunk)
    peer.send(OPEN, data(1, b"x"), headers(1, TRAILER_BLOCK, end=True))
    (found,) = peer.found(TrailersReceived)
    assert (found.stream_id, found.section.fields) == (1, ((b"grpc-trace", b"x"),))
    assert peer.connection.streams[1].remote_closed
    assert peer.found(StreamReset) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_g7_a_request_is_answered(method, chunk):
    peer = Peer(chunk=chunk)
    peer.send(request([(":method", method), *GET[1:]]), data(1, b"body"), data(1, end=True))
    (found,) = peer.found(RequestReceived)
    assert found.section.get(b":method") == method.encode()
    assert found.section.get(b"x-none") is None
    assert peer.found(DataReceived) == [DataReceived(1, b"body", False), DataReceived(1, b"", True)]
    peer.connection.send_headers(1, encode([(b":status", b"200"), (b"content-length", b"16")]))
    peer.connection.send_data(1, b"sixteen octets.\n", end_stream=True)
    answer = peer.collect()
    assert peer.fields(answer[0]) == [(":status", "200"), ("content-length", "16")]
    assert [(each.payload, each.ends) for each in answer[1:]] == [(b"sixteen octets.\n", True)]
    assert_alive(peer)


def test_g4_of_two_faults_the_first_is_named():
    peer = Peer()
    fields = block([(":method", "POST"), (":scheme", "http"), ("content-length", "1")])
    peer.send(headers(1, fields, end=True))
    assert [each.reason for each in peer.found(StreamReset)] == ["pseudo-field"]
