"""Through a real Envoy: encoded bodies go on decoded (--forward-decoded), in every coding and both body modes."""

import gzip
import hashlib
import io
import json
import random
import socket
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import brotli
import httpx
import pytest

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.policy import InvalidJson, OverLimit
from bbr.reading.zstd import zstd
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.integration.conftest import Setup
from tests.integration.test_edges import until
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
PATH = "/v1/chat/completions"
LIMIT = 8 << 20
# The router reads any quality in the same way, and the default takes a second for a megabyte.
br = partial(brotli.compress, quality=4)
ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": br,
    "zstd": zstd.compress,
    "gzip, br": lambda body: br(gzip.compress(body)),
}


@pytest.fixture(scope="module")
def router(background: Background) -> Iterator[Router]:
    settings = Settings(
        forward_decoded=True,
        max_body_bytes=LIMIT,
        over_limit=OverLimit.PASS,
        on_invalid_json=InvalidJson.REJECT,
    )
    router = Router(background, policy=policies.policy(settings))
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def setup(request: pytest.FixtureRequest, gateways: Callable[..., Setup]) -> Setup:
    return gateways(request.param)


def noise(size: int) -> str:
    """Return text that does not get much shorter when it is encoded."""
    return random.Random(7).randbytes(size // 2).hex()


def chat(size: int, *, last: bool = False) -> bytes:
    text = {"messages": [{"role": "user", "content": noise(size)}]}
    return json.dumps(text | {"model": "sql-lora"} if last else {"model": "sql-lora"} | text).encode()


def assert_decoded(setup: Setup, body: bytes, pool: str = QWEN) -> None:
    """One request came to a pool, as though its client had not encoded it."""
    (got,) = setup.upstreams.received
    assert (got.pool, got.complete, got.size) == (pool, True, len(body))
    assert got.digest == hashlib.sha256(body).hexdigest()
    assert got.header("content-encoding") == got.header("content-digest") == []
    assert got.header("content-length") == ([] if got.header("transfer-encoding") else [str(len(body))])
    (verdict,) = setup.router.verdicts()
    assert verdict.decoded


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("last", [False, True], ids=["model first", "model last"])
@pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
def test_the_body_goes_on_decoded(setup: Setup, coding: str, size: int, last: bool) -> None:
    body = chat(size, last=last)
    headers = [JSON, ("content-encoding", coding), ("content-digest", "sha-256=:x:")]
    reply = http1.request(setup.port, "POST", PATH, headers, ENCODERS[coding](body))
    assert (reply.status, reply.body.decode()) == (200, QWEN)
    assert_decoded(setup, body)


@pytest.mark.parametrize("coding", ENCODERS)
def test_by_http_2_and_with_trailers(setup: Setup, coding: str) -> None:
    body = chat(300_000)
    for trailers in (None, [("x-checksum", "1")]):
        setup.upstreams.forget()
        setup.router.verdicts()
        with H2Client(setup.port) as client:
            headers = [JSON, ("content-encoding", coding)]
            response = client.request("POST", PATH, headers, ENCODERS[coding](body), trailers=trailers)
        assert response.status == 200
        assert_decoded(setup, body)


def test_forms_go_on_decoded_too(setup: Setup) -> None:
    request = httpx.Request(
        "POST", "http://x", data={"model": "sql-lora"}, files={"file": ("a.wav", io.BytesIO(b"RIFF" * 50_000))}
    )
    multipart = request.read()
    for kind, body in (
        (request.headers["content-type"], multipart),
        ("application/x-www-form-urlencoded", b"prompt=x&model=sql-lora"),
    ):
        setup.upstreams.forget()
        setup.router.verdicts()
        headers = [("content-type", kind), ("content-encoding", "gzip")]
        assert http1.request(setup.port, "POST", PATH, headers, gzip.compress(body)).status == 200
        assert_decoded(setup, body)


def test_a_body_that_names_no_model_goes_on_decoded_to_the_default_route(setup: Setup) -> None:
    body = json.dumps({"x": noise(100_000)}).encode()
    headers = [JSON, ("content-encoding", "zstd"), ("x-gateway-base-model-name", PHI)]
    assert http1.request(setup.port, "POST", PATH, headers, zstd.compress(body)).status == 200
    assert_decoded(setup, body, "default")


AS_IT_CAME = {
    "another type": ([("content-type", "audio/wav"), ("content-encoding", "gzip")], gzip.compress(b"RIFF" * 100)),
    "identity": ([JSON, ("content-encoding", "identity")], b'{"x": 1}'),
    "not encoded": ([JSON], b'{"x": 1}'),
}


@pytest.mark.parametrize(("headers", "body"), AS_IT_CAME.values(), ids=AS_IT_CAME)
def test_what_goes_on_as_it_came(setup: Setup, headers: list[tuple[str, str]], body: bytes) -> None:
    assert http1.request(setup.port, "POST", PATH, headers, body).status == 200
    (got,) = setup.upstreams.received
    assert got.digest == hashlib.sha256(body).hexdigest()
    assert got.header("content-encoding") == [value for name, value in headers if name == "content-encoding"]
    assert [verdict.decoded for verdict in setup.router.verdicts()] == [False]


REFUSED = {
    "corrupt": ("gzip", b"\x1f\x8b" + b"!" * 100, 400, "encoding-corrupt"),
    "cut off": ("br", br(chat(100_000))[:-10], 400, "encoding-cut-off"),
    "a bomb": ("gzip", gzip.compress(b" " * (4 << 20)) * 16, 413, "decoded-ratio"),
    "two models": ("zstd", zstd.compress(b'{"model": "sql-lora", "model": "x"}'), 400, "model-duplicate"),
    "an unknown model": ("deflate", zlib.compress(b'{"model": "x"}'), 404, "model-not-found"),
}


@pytest.mark.parametrize(("coding", "body", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_reaches_nobody(setup: Setup, coding: str, body: bytes, status: int, reason: str) -> None:
    reply = http1.request(setup.port, "POST", PATH, [JSON, ("content-encoding", coding)], body)
    assert (reply.status, setup.router.verdicts()[0].reason) == (status, reason)
    assert not any(got.complete for got in setup.upstreams.received)


def test_a_decoded_body_beyond_the_limit_is_refused_where_it_cannot_go_on_as_it_came(
    gateways: Callable[..., Setup],
) -> None:
    body = gzip.compress(json.dumps({"x": noise(LIMIT + 1_000_000)}).encode(), 1)
    headers = [JSON, ("content-encoding", "gzip")]
    setup = gateways("FULL_DUPLEX_STREAMED")
    assert http1.request(setup.port, "POST", PATH, headers, body).status == 413
    setup = gateways("BUFFERED")
    assert http1.request(setup.port, "POST", PATH, headers, body).status == 200
    (got,) = setup.upstreams.received
    assert (got.digest, got.header("content-encoding")) == (hashlib.sha256(body).hexdigest(), ["gzip"])


def test_the_first_octets_are_upstream_before_the_last_have_come(gateways: Callable[..., Setup]) -> None:
    setup = gateways("FULL_DUPLEX_STREAMED")
    body = chat(2_000_000)
    sent = gzip.compress(body, 1)
    half = len(sent) // 2
    head = http1.head("POST", PATH, [JSON, ("content-encoding", "gzip"), ("content-length", str(len(sent)))])
    with socket.create_connection(("127.0.0.1", setup.port), 90) as client:
        client.sendall(head + sent[:half])
        until(lambda: bool(setup.upstreams.received) and setup.upstreams.received[0].size > len(body) // 4)
        (got,) = setup.upstreams.received
        assert not got.complete
        # What is held is what has not gone on yet, and the decoder.
        until(lambda: setup.router.ledger.held_bytes < 600_000)
        client.sendall(sent[half:])
        assert http1.read(client).status == 200
    assert_decoded(setup, body)
    until(lambda: setup.router.ledger.held_bytes == 0)


@pytest.mark.parametrize(("size", "status"), [(100_000, 200), (400_000, 413)])
def test_what_a_buffering_gateway_can_not_hold_is_refused_by_it(
    gateways: Callable[..., Setup], size: int, status: int
) -> None:
    setup = gateways("BUFFERED", buffer_limit=200_000)
    body = json.dumps({"model": "sql-lora", "x": "hi " * (size // 3)}).encode()
    reply = http1.request(setup.port, "POST", PATH, [JSON, ("content-encoding", "gzip")], gzip.compress(body))
    assert reply.status == status
