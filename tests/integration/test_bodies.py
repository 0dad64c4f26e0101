"""Through a real Envoy: uploads, compressed and long bodies, from real clients."""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable

import brotli
import httpx
import openai
import pytest
from backports import zstd

from bbr.verdict import Outcome
from tests.integration.conftest import Setup
from tests.integration.test_edges import until
from tests.support import h1client
from tests.support.envoy import needs_envoy
from tests.support.h2client import H2Client
from tests.support.router import QWEN

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
CHAT = json.dumps({"model": "sql-lora", "messages": [{"role": "user", "content": "hi " * 20_000}]}).encode()
ENCODERS = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress, "br": brotli.compress}


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
    assert_routed(setup, CHAT)  # the upstream's own library has decoded what came


@pytest.mark.parametrize(
    ("coding", "body", "status", "reason"),
    [
        ("gzip", gzip.compress(b" " * (64 << 20)), 413, "decoded-ratio"),
        ("gzip", b"\x1f\x8b" + b"!" * 100, 400, "encoding-corrupt"),
        ("compress", CHAT, 415, "encoding-unknown"),
    ],
    ids=["bomb", "corrupt", "unknown"],
)
def test_refused(setup: Setup, coding: str, body: bytes, status: int, reason: str) -> None:
    headers = [JSON, ("content-encoding", coding)]
    reply = h1client.request(setup.port, "POST", "/v1/chat/completions", headers, body)
    assert reply.status == status
    (verdict,) = setup.router.verdicts()
    assert verdict.reason == reason
    assert not any(got.complete for got in setup.upstreams.received)


def test_form(setup: Setup) -> None:
    body = b"x=1&model=sql%2Dlora&y=2"
    headers = [("content-type", "application/x-www-form-urlencoded")]
    assert h1client.request(setup.port, "POST", "/v1/completions", headers, body).status == 200
    assert_routed(setup, body)


def test_a_fault_behind_the_model_of_a_long_body(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    body = b'{"model":"sql-lora","x":"' + b"y" * 2_000_000 + b'"}}'
    reply = h1client.request(setup.port, "POST", "/v1/completions", [JSON], body)
    assert reply.status == 400
    assert not any(got.complete for got in setup.upstreams.received)


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
def test_a_body_of_60_mib(gateways: Callable[..., Setup], model_first: bool) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    text = b'"x":"' + b"y" * (60 << 20) + b'"'
    body = b'{"model":"sql-lora",%b}' % text if model_first else b'{%b,"model":"sql-lora"}' % text
    assert h1client.request(setup.port, "POST", "/v1/completions", [JSON], body).status == 200
    assert_routed(setup, body)
