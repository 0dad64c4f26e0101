"""Through a real Envoy: what is not an ordinary request with a JSON body."""

import base64
import hashlib
import json
import socket
from collections.abc import Callable

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Outcome
from bench.harness import http1
from bench.harness.in_process_router import PHI, QWEN
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client, Response
from tests.support.tools import needs_envoy
from tests.support.waiting import until

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SPOOFED = ("x-gateway-base-model-name", PHI)
MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
BODY = json.dumps({"model": "sql-lora", "messages": []}).encode()
UPGRADE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", base64.b64encode(bytes(16)).decode()),
]

FRAME = b"\x81\x85" + bytes(4) + b"hello"
RESPONSE_EVENTS = {
    "FULL_DUPLEX_STREAMED": ("SEND", "FULL_DUPLEX_STREAMED", "SEND"),
    "BUFFERED": ("SEND", "STREAMED", "SEND"),
}


def ended(setup: Setup) -> Exchange:
    """Await the end of this test's one exchange, and return it."""
    until(lambda: bool(setup.router.exchanges) and setup.router.exchanges[0] in setup.router.ended)
    return setup.router.exchanges[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("events", [False, True], ids=["response events off", "response events on"])
def test_sse_is_not_held(gateways: Callable[..., Setup], mode: str, events: bool) -> None:
    setup = gateways(mode, **({"response": RESPONSE_EVENTS[mode]} if events else {}))
    request = http1.head("POST", "/events", [JSON, ("content-length", str(len(BODY)))]) + BODY
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(request)
        seen = b""
        while b"data: first" not in seen:
            octets = connection.recv(65536)
            assert octets, seen
            seen += octets
        assert b"[DONE]" not in seen
        setup.upstreams.let_events_end()
        while b"[DONE]" not in seen:
            octets = connection.recv(65536)
            assert octets, seen
            seen += octets
    assert setup.upstreams.received[0].pool == QWEN


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.grpcio
def test_response_events_are_answered(gateways: Callable[..., Setup], mode: str, method: str) -> None:
    setup = gateways(mode, response=RESPONSE_EVENTS[mode])
    body = BODY if method == "POST" else None
    reply = http1.request(setup.port, method, "/v1/models", [JSON, SPOOFED], body)
    assert (reply.status, reply.body.decode()) == (200, QWEN if body else "default")


@pytest.mark.parametrize(
    ("mode", "fields"),
    [("FULL_DUPLEX_STREAMED", {}), ("BUFFERED", {"allow_mode_override": True})],
    ids=["full duplex", "buffered, mode override allowed"],
)
def test_websocket_passes_stripped(gateways: Callable[..., Setup], mode: str, fields: dict[str, bool]) -> None:
    setup = gateways(mode, **fields)
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(http1.head("GET", "/v1/realtime", [*UPGRADE, SPOOFED]))
        stream = connection.makefile("rb")
        assert stream.readline().split()[1] == b"101"
        while stream.readline().rstrip():
            pass
        connection.sendall(FRAME)
        assert stream.read(len(FRAME)) == FRAME
        stream.close()
    (got,) = setup.upstreams.received
    assert got.pool == "default"
    assert got.header("x-gateway-base-model-name") == []
    assert ended(setup).verdict.outcome is Outcome.NOT_READ


@pytest.mark.parametrize("size", [1, 100_000])
def test_unread_body_passes_while_it_comes(gateways: Callable[..., Setup], size: int) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/echo", [("content-type", "application/grpc"), ("te", "trailers"), SPOOFED])
        for turn in range(3):  # each piece comes back before the next is sent
            client.send(stream, b"x" * size)
            client.wait_body(stream, (turn + 1) * size)
        client.send(stream, b"", end_stream=True)
        response = client.wait(stream)
    assert response.body == b"x" * 3 * size
    assert setup.upstreams.received[0].pool == "default"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_unread_body_has_no_limit(gateways: Callable[..., Setup], mode: str, protocol: str) -> None:
    setup = gateways(mode)
    size = 30_000_000 if mode == "FULL_DUPLEX_STREAMED" else 12_000_000
    body = bytes(size)
    audio = [("content-type", "audio/wav"), SPOOFED]
    if protocol == "h1":
        reply = http1.request(setup.port, "POST", "/upload", audio, body)
        assert reply.status == 200
    else:
        with H2Client(setup.port) as client:
            assert client.request("POST", "/upload", audio, body).status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.digest) == ("default", hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.grpcio
def test_client_that_leaves_in_mid_body(gateways: Callable[..., Setup], mode: str) -> None:
    setup = gateways(mode)
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON])
        client.send(stream, BODY[:20])
        if mode == "FULL_DUPLEX_STREAMED":
            until(lambda: any(exchange.verdict.body_bytes for exchange in setup.router.exchanges))
        else:
            until(lambda: bool(setup.router.exchanges))
        client.reset(stream)
        assert ended(setup).verdict.outcome is Outcome.PENDING
        response = client.request("POST", "/v1/completions", [JSON], BODY)  # the gateway's connection lives
    assert (response.status, response.body.decode()) == (200, QWEN)
    assert len(setup.upstreams.received) == 1


@pytest.mark.parametrize("mode", MODES)
def test_slow_upload(gateways: Callable[..., Setup], mode: str) -> None:
    setup = gateways(mode)
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON, SPOOFED])
        for octet in BODY:
            client.send(stream, bytes((octet,)))
        client.send(stream, b"", end_stream=True)
        response = client.wait(stream)
    assert (response.status, response.body.decode()) == (200, QWEN)


def send_in_pieces(setup: Setup, body: bytes, pieces: int, *, await_router: bool = False) -> Response:
    """Send a body in pieces, the last with END_STREAM; with `await_router` each when the router has the one before."""
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON, SPOOFED])
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            until_read = start + step
            client.send(stream, body[start:until_read], end_stream=until_read >= len(body))
            if await_router and until_read < len(body):
                received = until_read
                until(lambda received=received: sum(e.verdict.body_bytes for e in setup.router.exchanges) >= received)
        return client.wait(stream)


@pytest.mark.parametrize("pieces", [1, 3])
def test_buffered_partial_routes(gateways: Callable[..., Setup], pieces: int) -> None:
    setup = gateways("BUFFERED_PARTIAL")
    response = send_in_pieces(setup, BODY, pieces)
    assert (response.status, response.body.decode()) == (200, QWEN)
    assert setup.upstreams.received[0].digest == hashlib.sha256(BODY).hexdigest()


def test_buffered_partial_names_the_buffer_that_was_too_small(gateways: Callable[..., Setup]) -> None:
    setup = gateways("BUFFERED_PARTIAL", buffer_limit=65_536)
    body = json.dumps({"messages": "x" * 300_000, "model": "sql-lora"}).encode()
    reply = http1.request(setup.port, "POST", "/v1/completions", [JSON, SPOOFED], body)
    assert reply.status == 413
    assert "larger buffer" in json.loads(reply.body)["error"]["message"]
    assert not any(got.complete for got in setup.upstreams.received)


def test_streamed_routes_a_body_that_comes_with_its_headers(gateways: Callable[..., Setup]) -> None:
    setup = gateways("STREAMED")
    reply = http1.request(setup.port, "POST", "/v1/completions", [JSON, SPOOFED], BODY)
    assert reply.status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.digest) == (QWEN, hashlib.sha256(BODY).hexdigest())


def test_streamed_never_routes_by_the_clients_header(gateways: Callable[..., Setup]) -> None:
    setup = gateways("STREAMED")
    response = send_in_pieces(setup, json.dumps({"messages": "x" * 100_000}).encode(), 3)
    assert response.status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.header("x-gateway-base-model-name")) == ("default", [])


def test_streamed_says_that_it_can_not_route_pieces(gateways: Callable[..., Setup]) -> None:
    setup = gateways("STREAMED")
    body = json.dumps({"model": "sql-lora", "messages": "x" * 100_000}).encode()
    response = send_in_pieces(setup, body, 3, await_router=True)
    assert response.status == 500
    assert "STREAMED" in json.loads(response.body)["error"]["message"]
    assert not any(got.complete for got in setup.upstreams.received)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_body_mode_none_is_stripped(gateways: Callable[..., Setup], method: str) -> None:
    setup = gateways("NONE")
    reply = http1.request(setup.port, method, "/v1/models", [JSON, SPOOFED], BODY if method == "POST" else None)
    assert (reply.status, reply.body.decode()) == (200, "default")
    assert setup.upstreams.received[0].header("x-gateway-base-model-name") == []


@pytest.mark.parametrize("mode", MODES)
def test_observability_mode_gets_no_answer_and_needs_none(gateways: Callable[..., Setup], mode: str) -> None:
    setup = gateways(mode if mode == "BUFFERED" else "STREAMED", observability_mode=True)
    reply = http1.request(setup.port, "POST", "/v1/completions", [JSON], BODY)
    assert (reply.status, reply.body.decode()) == (200, "default")
    assert ended(setup).verdict.outcome is Outcome.OBSERVED


def test_headers_not_sent_is_named(gateways: Callable[..., Setup]) -> None:
    mode = {
        "request_header_mode": "SKIP",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SKIP",
    }
    setup = gateways("FULL_DUPLEX_STREAMED", processing_mode=mode)
    reply = http1.request(setup.port, "POST", "/v1/completions", [JSON, SPOOFED], BODY)
    assert reply.status == 500
    assert "request_header_mode SEND" in json.loads(reply.body)["error"]["message"]
    assert not any(got.complete for got in setup.upstreams.received)
