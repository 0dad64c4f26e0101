"""Through a real Envoy: both body modes over both HTTP versions, from ENVOY behaviour and the issue's own list."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator

import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SPOOFED = [("x-gateway-base-model-name", PHI), ("X-Gateway-Model-Name", PHI)]
PATH = "/v1/chat/completions"

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
PROTOCOLS = ["h1", "h2"]


# So that a body over the limit is quickly sent.
LIMIT_BYTES = 8 << 20


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    router = Router(background, policy=Policy(Replies(), max_body_bytes=LIMIT_BYTES), transport=request.param)
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def setup(request: pytest.FixtureRequest, gateways: Callable[..., Setup]) -> Setup:
    return gateways(request.param)


def send(
    setup: Setup, protocol: str, method: str, headers: list[tuple[str, str]], body: bytes | None, path: str = PATH
) -> tuple[int, bytes]:
    if protocol == "h1":
        reply = http1.request(setup.port, method, path, headers, body)
        return reply.status, reply.body
    with H2Client(setup.port) as client:
        lower = [(key.lower(), value) for key, value in headers]
        response = client.request(method, path, lower, body)
        return response.status, response.body


def chat(model: str | None, size: int = 0, *, last: bool = False) -> bytes:
    document: dict[str, object] = {"messages": [{"role": "user", "content": "x" * size}]}
    if model is not None:
        document = {**document, "model": model} if last else {"model": model, **document}
    return json.dumps(document).encode()


ROUTES = [
    pytest.param(QWEN, QWEN, id="base model"),
    pytest.param("sql-lora", QWEN, id="adapter"),
    pytest.param(PHI, PHI, id="other base model"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("model", "pool"), ROUTES)
@pytest.mark.parametrize("spoofed", [[], SPOOFED], ids=["plain", "spoofed"])
def test_model_picks_its_pool(
    setup: Setup, protocol: str, model: str, pool: str, spoofed: list[tuple[str, str]]
) -> None:
    status, body = send(setup, protocol, "POST", [JSON, *spoofed], chat(model))
    assert (status, body.decode()) == (200, pool)
    (got,) = setup.upstreams.received
    assert got.header("x-gateway-model-name") == [model]
    assert got.header("x-gateway-base-model-name") == [pool]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [0, 16_000, 62_000, 100_000, 1_000_000, 8_000_000])
@pytest.mark.parametrize("last", [False, True], ids=["model first", "model last"])
def test_body_arrives_unaltered(setup: Setup, protocol: str, size: int, last: bool) -> None:
    body = chat(QWEN, size, last=last)
    status, pool = send(setup, protocol, "POST", [JSON], body)
    assert (status, pool.decode()) == (200, QWEN)
    (got,) = setup.upstreams.received
    assert (got.size, got.digest) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_json_that_a_browser_calls_text_is_routed(setup: Setup, protocol: str) -> None:
    fields = [("content-type", "text/plain;charset=UTF-8"), *SPOOFED]
    body = chat(QWEN)
    if protocol == "h2":  # where this client announces no length by itself
        fields.append(("content-length", str(len(body))))
    status, pool = send(setup, protocol, "POST", fields, body)
    assert (status, pool.decode()) == (200, QWEN)


PASSED = [
    pytest.param("POST", [JSON], chat(None), Outcome.NO_MODEL, id="no model"),
    pytest.param("POST", [JSON], b"[1, 2]", Outcome.NO_MODEL, id="an array"),
    pytest.param("POST", [("content-type", "text/html")], chat(PHI), Outcome.NOT_READ, id="text/html"),
    pytest.param("POST", [("content-type", "text/plain")], b'{"x": 1}, hello', Outcome.NOT_READ, id="text/plain"),
    pytest.param("POST", [JSON], b"", Outcome.NO_BODY, id="content-length 0"),
    pytest.param("GET", [], None, Outcome.NO_BODY, id="GET"),
    pytest.param("DELETE", [], None, Outcome.NO_BODY, id="DELETE"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("method", "headers", "body", "outcome"), PASSED)
def test_spoofed_header_never_routes_what_names_no_model(
    setup: Setup, protocol: str, method: str, headers: list[tuple[str, str]], body: bytes | None, outcome: Outcome
) -> None:
    status, pool = send(setup, protocol, method, [*headers, *SPOOFED], body)
    assert (status, pool.decode()) == (200, "default")
    (got,) = setup.upstreams.received
    assert got.header("x-gateway-model-name") == []
    assert got.header("x-gateway-base-model-name") == []
    assert got.digest == hashlib.sha256(body or b"").hexdigest()
    (verdict,) = setup.router.verdicts()
    # Over HTTP/2 an empty body is a DATA frame: read, and nothing in it.
    assert verdict.outcome is outcome or (body == b"" and verdict.outcome is Outcome.NO_MODEL)


REFUSED = [
    pytest.param(chat("llama"), 404, "model-not-found", "llama", id="unknown model"),
    pytest.param(b'{"model": 7}', 400, "model-not-string", "a number", id="not a string"),
    pytest.param(b'{"model": "a\\nb"}', 400, "model-illegal", "control character", id="control character"),
    pytest.param(b'{"model": ', 400, "invalid-json", "at byte", id="broken JSON"),
    pytest.param(chat(QWEN, 9 << 20), 413, "body-too-large", str(LIMIT_BYTES), id="too large"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("body", "status", "reason", "word"), REFUSED)
def test_refusal_reaches_the_client_in_openai_shape(
    setup: Setup, protocol: str, body: bytes, status: int, reason: str, word: str
) -> None:
    path = f"{PATH}?{uuid.uuid4()}"
    got, reply = send(setup, protocol, "POST", [JSON, *SPOOFED], body, path)
    assert got == status
    error = json.loads(reply)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert word in error["message"]
    assert not any(received.complete for received in setup.upstreams.received)
    (verdict,) = setup.router.verdicts()
    assert (verdict.outcome, verdict.reason) == (Outcome.REFUSED, reason)
    assert setup.gateway.logged(path)["details"] == f"bbr:{reason}"


@pytest.mark.parametrize("body", [chat("sql-lora"), chat(PHI, 200_000)], ids=["small", "large"])
@pytest.mark.grpcio
def test_body_ended_by_trailers(setup: Setup, body: bytes) -> None:
    with H2Client(setup.port) as client:
        response = client.request("POST", PATH, [JSON, *lower(SPOOFED)], body, trailers=[("x-checksum", "1")])
    assert response.status == 200
    (got,) = setup.upstreams.received
    assert got.pool == (PHI if len(body) > 100_000 else QWEN)
    assert got.digest == hashlib.sha256(body).hexdigest()


def test_headers_then_trailers_without_data(setup: Setup) -> None:
    with H2Client(setup.port) as client:
        response = client.request("POST", PATH, [JSON, *lower(SPOOFED)], trailers=[("x-checksum", "1")])
    assert (response.status, response.body) == (200, b"default")
    (got,) = setup.upstreams.received
    assert got.header("x-gateway-base-model-name") == []


def test_empty_data_frame_ends_the_request(setup: Setup) -> None:
    with H2Client(setup.port) as client:
        response = client.request("POST", PATH, [JSON, *lower(SPOOFED)], empty_data=True)
    assert (response.status, response.body) == (200, b"default")


@pytest.mark.grpcio
def test_chunked_body_over_http1(setup: Setup) -> None:
    body = chat("sql-lora", 100_000, last=True)
    pieces = [body[start : start + 7_000] for start in range(0, len(body), 7_000)]
    head = http1.head("POST", PATH, [JSON, ("transfer-encoding", "chunked")])
    reply = http1.exchange(setup.port, head + http1.chunked(*pieces))
    assert (reply.status, reply.body.decode()) == (200, QWEN)
    assert setup.upstreams.received[0].digest == hashlib.sha256(body).hexdigest()


def lower(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(key.lower(), value) for key, value in headers]
