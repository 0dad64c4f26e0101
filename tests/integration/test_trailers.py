"""Through a real Envoy: a body that ends by trailers in BUFFERED, when the gateway shows the router the trailers."""

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
