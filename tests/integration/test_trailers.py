"""Through a real Envoy: a body that ends by trailers in BUFFERED, when the gateway shows the router the trailers."""

import gzip
import hashlib
from collections.abc import Callable

import pytest

from bench.harness.in_process_router import PHI, QWEN
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SPOOFED = ("x-gateway-base-model-name", PHI)
MODE = {
    "request_header_mode": "SEND",
    "request_body_mode": "BUFFERED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SKIP",
}


@pytest.mark.parametrize(
    ("body", "pool"),
    [(b'{"model": "sql-lora"}', QWEN), (b'{"messages": []}', "default"), (None, "default")],
    ids=["model", "no model", "no DATA"],
)
@pytest.mark.grpcio
def test_buffered_with_trailers(gateways: Callable[..., Setup], body: bytes | None, pool: str) -> None:
    setup = gateways("BUFFERED", processing_mode=MODE)
    with H2Client(setup.port) as client:
        response = client.request("POST", "/v1/completions", [JSON, SPOOFED], body, trailers=[SPOOFED])
    assert (response.status, response.body.decode()) == (200, pool)
    (got,) = setup.upstreams.received
    assert got.digest == hashlib.sha256(body or b"").hexdigest()
    assert got.header("x-gateway-base-model-name") == ([] if pool == "default" else [pool])


FORM = ("content-type", "application/x-www-form-urlencoded")
LONG = b'{"prompt": "%s", "model": "sql-lora"}' % (b"x" * 400_000)
LONG_BODIES = {
    "JSON over the threshold": (JSON, LONG, QWEN),
    "JSON over the threshold without a model": (JSON, b'{"prompt": "%s"}' % (b"x" * 400_000), "default"),
    "a form": (FORM, b"model=sql-lora&prompt=x", QWEN),
    "an encoded body": (JSON, LONG, QWEN),
}


@pytest.mark.parametrize("case", LONG_BODIES)
@pytest.mark.grpcio
def test_buffered_with_trailers_and_a_body_that_is_read_as_it_comes(gateways: Callable[..., Setup], case: str) -> None:
    kind, body, pool = LONG_BODIES[case]
    headers = [kind, SPOOFED]
    if case == "an encoded body":
        body = gzip.compress(body)
        headers.append(("content-encoding", "gzip"))
    setup = gateways("BUFFERED", processing_mode=MODE)
    with H2Client(setup.port) as client:
        for _ in range(3):
            response = client.request("POST", "/v1/completions", headers, body, trailers=[SPOOFED])
            assert (response.status, response.body.decode()) == (200, pool)
    for got in setup.upstreams.received:
        assert got.digest == hashlib.sha256(body).hexdigest()
        assert got.header("x-gateway-base-model-name") == ([] if pool == "default" else [pool])
