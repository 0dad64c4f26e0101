"""Through a real Envoy: what a standing body comes to, and what may stand or move as slowly as it likes."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from bench.harness.recording import Upstreams
from tests.integration.conftest import Setup
from tests.integration.test_edges import FRAME, RESPONSE_EVENTS, UPGRADE, ended
from tests.support.h2_client import H2Client, Response
from tests.support.tools import needs_envoy
from tests.support.waiting import until

pytestmark = needs_envoy

DEADLINE_SECONDS = 0.3
LONGER_SECONDS = 2 * DEADLINE_SECONDS

# For what must be sent within the deadline again and again, on a machine that has other things to do.
SLOW_DEADLINE_SECONDS = 1.0
PIECE_SECONDS = 0.2

JSON = ("content-type", "application/json")
TEXT = ("content-type", "text/plain")
MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
BODY = json.dumps({"model": "sql-lora", "messages": []}).encode()


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    limits = {"duplex_idle_seconds": DEADLINE_SECONDS, "buffered_wait_seconds": DEADLINE_SECONDS}
    router = Router(background, policy=Policy(Replies(), **limits), transport=request.param)
    yield router
    router.stop()


def read_until(connection: socket.socket, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        octets = connection.recv(65536)
        assert octets, seen
        seen += octets
    return seen


def assert_silent(connection: socket.socket) -> None:
    """Assert that for longer than the deadline nothing comes on a connection and nobody closes it."""
    patience = connection.gettimeout()
    connection.settimeout(LONGER_SECONDS)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(patience)


def assert_timed_out(setup: Setup, path: str, body: bytes) -> None:
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")
    assert f"within {DEADLINE_SECONDS:g} seconds" in error["message"]
    assert setup.gateway.logged(path)["details"] == "bbr:body-timeout"
    assert setup.upstreams.received == []
    verdict = ended(setup).verdict
    assert (verdict.outcome, verdict.reason) == (Outcome.REFUSED, "body-timeout")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sent", [0, 10], ids="{} bytes sent".format)
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_body_that_stands_still_over_http1(gateways: Callable[..., Setup], mode: str, sent: int, chunked: bool) -> None:
    setup = gateways(mode)
    path = f"/v1/completions?{uuid.uuid4()}"
    framing = ("transfer-encoding", "chunked") if chunked else ("content-length", str(len(BODY)))
    part = b"%x\r\n%s\r\n" % (sent, BODY[:sent]) if chunked and sent else BODY[:sent]
    reply = http1.exchange(setup.port, http1.head("POST", path, [JSON, framing]) + part)
    assert reply.status == 408
    assert_timed_out(setup, path, reply.body)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sent", [0, 10], ids="{} bytes sent".format)
@pytest.mark.grpcio
def test_body_that_stands_still_over_http2(gateways: Callable[..., Setup], mode: str, sent: int) -> None:
    setup = gateways(mode)
    path = f"/v1/completions?{uuid.uuid4()}"
    with H2Client(setup.port) as client:
        stream = client.start("POST", path, [JSON])
        if sent:
            client.send(stream, BODY[:sent])
        response = client.wait(stream)
        assert response.status == 408
        assert_timed_out(setup, path, response.body)
        setup.router.verdicts()
        answers = []  # of the connection, which lives

        def answered() -> bool:
            answers.append(client.request("POST", "/v1/completions", [JSON], BODY))
            return answers[-1].status != 408  # else this machine has kept the body from coming within the deadline

        until(answered)
    assert (answers[-1].status, answers[-1].body.decode()) == (200, QWEN)


def test_form_of_blanks_alone_that_stands_still(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    path = f"/v1/completions?{uuid.uuid4()}"
    headers = [("content-type", "application/x-www-form-urlencoded"), ("content-length", "100")]
    reply = http1.exchange(setup.port, http1.head("POST", path, headers) + b"  \r\n")
    assert reply.status == 408
    assert_timed_out(setup, path, reply.body)


@pytest.mark.parametrize(
    ("mode", "fields"),
    [("FULL_DUPLEX_STREAMED", {}), ("BUFFERED", {"allow_mode_override": True})],
    ids=["full duplex", "buffered, mode override allowed"],
)
def test_websocket_may_stand_still(gateways: Callable[..., Setup], mode: str, fields: dict[str, bool]) -> None:
    setup = gateways(mode, **fields)
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(http1.head("GET", "/v1/realtime", UPGRADE))
        assert read_until(connection, b"\r\n\r\n").split()[1] == b"101"
        assert_silent(connection)
        connection.sendall(FRAME)
        assert read_until(connection, FRAME) == FRAME


def test_unread_body_may_stand_still(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(http1.head("POST", "/echo", [TEXT, ("transfer-encoding", "chunked")]))
        read_until(connection, b"\r\n\r\n")
        for _ in range(2):
            assert_silent(connection)
            connection.sendall(b"5\r\nhello\r\n")
            read_until(connection, b"hello")
        connection.sendall(b"0\r\n\r\n")
        read_until(connection, b"0\r\n\r\n")
    assert ended(setup).verdict.outcome is Outcome.NOT_READ


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("events", [False, True], ids=["response events off", "response events on"])
def test_answer_may_take_longer(gateways: Callable[..., Setup], mode: str, events: bool) -> None:
    setup = gateways(mode, **({"response": RESPONSE_EVENTS[mode]} if events else {}))
    request = http1.head("POST", "/events", [JSON, ("content-length", str(len(BODY)))]) + BODY
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(request)
        read_until(connection, b"data: first\n\n\r\n")
        assert_silent(connection)
        setup.upstreams.let_events_end()
        read_until(connection, b"[DONE]")
    assert ended(setup).verdict.outcome is Outcome.ROUTED


@pytest.fixture
def slow_gateway(background: Background, upstreams: Upstreams) -> Iterator[envoy.Gateway]:
    policy = Policy(Replies(), duplex_idle_seconds=SLOW_DEADLINE_SECONDS)
    router = Router(background, policy=policy)
    upstreams.forget()
    with envoy.gateway(envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)) as gateway:
        yield gateway
    router.stop()


def send_slowly(port: int, pieces: list[bytes]) -> tuple[Response, float]:
    """Send a body in pieces; return the response, and the longest time that none was sent."""
    longest = 0.0
    with H2Client(port) as client:
        stream = client.start("POST", "/v1/completions", [JSON])
        last = time.monotonic()
        for piece in pieces:
            threading.Event().wait(PIECE_SECONDS)
            client.send(stream, piece, end_stream=piece is pieces[-1])
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        return client.wait(stream), longest


def test_upload_that_moves_is_not_cut(slow_gateway: envoy.Gateway) -> None:
    pieces = [BODY[start : start + 5] for start in range(0, len(BODY), 5)]
    assert len(pieces) * PIECE_SECONDS > SLOW_DEADLINE_SECONDS
    responses = []

    def moved() -> bool:
        response, longest = send_slowly(slow_gateway.port, pieces)
        responses.append(response)
        return longest < SLOW_DEADLINE_SECONDS / 2  # else this machine has kept the client from moving

    until(moved)
    assert (responses[-1].status, responses[-1].body.decode()) == (200, QWEN)
