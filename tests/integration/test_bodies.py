"""Through a real Envoy: uploads, compressed and long bodies, from real clients."""

import gzip
import hashlib
import io
import json
import socket
import zlib
from collections.abc import Callable, Iterator

import brotli
import httpx
import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.reading.zstd import zstd
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from tests.integration.conftest import Setup
from tests.integration.test_edges import UPGRADE, ended, until
from tests.support.h2_client import H2Client
from tests.support.late import late
from tests.support.tools import needs_envoy

openai = late("openai")

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
CHAT = json.dumps({"model": "sql-lora", "messages": [{"role": "user", "content": "hi " * 20_000}]}).encode()
ENCODERS = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress, "br": brotli.compress}


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    policy = Policy(Replies(), query_model_paths=frozenset([b"/v1/realtime"]))
    router = Router(background, policy=policy, transport=request.param)
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def setup(request: pytest.FixtureRequest, gateways: Callable[..., Setup]) -> Setup:
    return gateways(request.param)


def assert_routed(setup: Setup, body: bytes | None = None) -> None:
    """One request came to the model's pool, routed, with its octets as they were sent."""
    (got,) = setup.upstreams.received
    assert (got.pool, got.header("x-gateway-model-name")) == (QWEN, ["sql-lora"])
    if body is not None:
        assert got.digest == hashlib.sha256(body).hexdigest()
    (verdict,) = setup.router.verdicts()
    assert (verdict.outcome, verdict.model) == (Outcome.ROUTED, "sql-lora")


def test_transcription_by_the_openai_client(setup: Setup) -> None:
    speech = io.BytesIO(b"RIFF" + bytes(range(256)) * 4_000)
    base_url = f"http://127.0.0.1:{setup.port}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, http_client=httpx.Client()) as client:
        raw = client.audio.transcriptions.with_raw_response.create(
            model="sql-lora", file=("speech.wav", speech), response_format="text"
        )
    assert raw.status_code == 200
    assert_routed(setup)


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("coding", ENCODERS)
def test_compressed_chat(setup: Setup, protocol: str, coding: str) -> None:
    body = ENCODERS[coding](CHAT)
    with httpx.Client(http1=protocol == "h1", http2=protocol == "h2") as client:
        headers = [JSON, ("content-encoding", coding)]
        url = f"http://127.0.0.1:{setup.port}/v1/chat/completions"
        assert client.post(url, content=body, headers=headers).status_code == 200
    assert setup.upstreams.received[0].header("content-encoding") == [coding]
    assert_routed(setup, body)


@pytest.mark.parametrize(
    ("coding", "body", "status", "reason"),
    [
        ("gzip", lambda: gzip.compress(b" " * (64 << 20)), 413, "decoded-ratio"),
        ("gzip", lambda: b"\x1f\x8b" + b"!" * 100, 400, "encoding-corrupt"),
        ("compress", lambda: CHAT, 415, "encoding-unknown"),
    ],
    ids=["bomb", "corrupt", "unknown"],
)
def test_refused(setup: Setup, coding: str, body: Callable[[], bytes], status: int, reason: str) -> None:
    headers = [JSON, ("content-encoding", coding)]
    reply = http1.request(setup.port, "POST", "/v1/chat/completions", headers, body())
    assert reply.status == status
    assert ("accept-encoding" in reply.headers) == (status == 415)
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == reason
    assert setup.upstreams.received == []  # it never came as far as its model


@pytest.mark.grpcio
def test_form(setup: Setup) -> None:
    body = b"x=1&model=sql%2Dlora&y=2"
    headers = [("content-type", "application/x-www-form-urlencoded")]
    assert http1.request(setup.port, "POST", "/v1/completions", headers, body).status == 200
    assert_routed(setup, body)


def test_a_fault_behind_the_model_of_a_long_body(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON])
        client.send(stream, b'{"model":"sql-lora","x":"' + b"y" * 600_000)
        until(lambda: len(setup.upstreams.received) == 1)
        client.send(stream, b'"}}', end_stream=True)
        assert client.wait(stream).status == 400
    (got,) = setup.upstreams.received
    until(lambda: got.broken)
    assert not got.complete


@pytest.mark.grpcio
def test_the_upstream_gets_a_long_body_before_it_has_ended(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    body = b'{"model":"sql-lora","x":"' + b"y" * 1_000_000 + b'"}'
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON])
        client.send(stream, body[:600_000])
        until(lambda: len(setup.upstreams.received) == 1)
        assert not setup.upstreams.received[0].complete
        client.send(stream, body[600_000:], end_stream=True)
        assert client.wait(stream).status == 200
    assert_routed(setup, body)


@pytest.mark.parametrize("model_first", [True, False])
def test_a_body_of_64_mib(gateways: Callable[..., Setup], model_first: bool) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    text = b'"x":"' + b"y" * ((64 << 20) - 100) + b'"'
    body = b'{"model":"sql-lora",%b}' % text if model_first else b'{%b,"model":"sql-lora"}' % text
    assert http1.request(setup.port, "POST", "/v1/completions", [JSON], body).status == 200
    assert_routed(setup, body)


def test_a_body_over_the_limit_is_refused_before_it_is_sent(setup: Setup) -> None:
    headers = [JSON, ("content-length", str((64 << 20) + 1))]
    reply = http1.exchange(setup.port, http1.head("POST", "/v1/completions", headers))
    assert reply.status == 413
    assert setup.upstreams.received == []


@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.grpcio
def test_a_client_that_leaves_in_mid_body_leaves_nothing(gateways: Callable[..., Setup], model_first: bool) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    begun = b'{"model":"sql-lora","x":"' if model_first else b'{"x":"'
    with H2Client(setup.port) as client:
        stream = client.start("POST", "/v1/completions", [JSON])
        client.send(stream, begun + b"y" * 600_000)
        ledger = setup.router.ledger
        until(lambda: len(setup.upstreams.received) == 1 if model_first else ledger.held_bytes > 500_000)
        client.reset(stream)
        assert ended(setup).verdict.early is model_first
        assert ledger.held_bytes == 0
        assert client.request("POST", "/v1/completions", [JSON], CHAT).status == 200


def test_a_websocket_is_routed_by_its_query(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    with socket.create_connection(("127.0.0.1", setup.port), 90) as connection:
        connection.sendall(http1.head("GET", "/v1/realtime?model=sql-lora", UPGRADE))
        assert http1.read(connection).status == 101
    assert_routed(setup)


def test_a_transcription_whose_model_stands_behind_its_file(setup: Setup) -> None:
    file = [("file", ("speech.wav", b"RIFF" + bytes(3_000_000), "audio/wav"))]
    request = httpx.Request("POST", "http://x/", files=[*file, ("model", (None, b"sql-lora"))])
    body = request.read()
    headers = [("content-type", request.headers["content-type"])]
    assert http1.request(setup.port, "POST", "/v1/audio/transcriptions", headers, body).status == 200
    assert_routed(setup, body)
