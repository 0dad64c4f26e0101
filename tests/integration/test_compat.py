"""Through a real Envoy: what --compat makes of requests is what the Go routers' users have."""

import hashlib
from collections.abc import Callable, Iterator

import pytest

from bbr.config import loading, policies
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.integration.conftest import Setup
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODEL, BASE = "x-gateway-model-name", "x-gateway-base-model-name"
JSON = ("content-type", "application/json")
MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    settings = loading.load({"compat": "gie"}, {})
    router = Router(background, policy=policies.policy(settings), transport=request.param)
    yield router
    router.stop()


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def setup(mode: str, gateways: Callable[..., Setup]) -> Setup:
    return gateways(mode)


def post(setup: Setup, octets: bytes, *headers: tuple[str, str]) -> http1.Reply:
    return http1.request(setup.port, "POST", "/v1/chat/completions", [JSON, *headers], octets)


ROUTED = {
    "an adapter": (b'{"model":"sql-lora"}', QWEN, ["sql-lora"], [QWEN]),
    "blanks around": (b'{"model":"sql-lora "}', QWEN, ["sql-lora"], [QWEN]),
    "unknown": (b'{"model":"gpt-4"}', "default", ["gpt-4"], [""]),
    "a number": (b'{"model":1e6}', "default", ["1e+06"], [""]),
    "empty": (b'{"model":""}', "default", [], [""]),
    "none": (b'{"x":1}', "default", [], []),
    "long": (b'{"x":"%s","model":"sql-lora"}' % (b"x" * 600_000), QWEN, ["sql-lora"], [QWEN]),
    "no body": (b"", "default", [], []),
}


@pytest.mark.parametrize(("octets", "pool", "models", "bases"), ROUTED.values(), ids=ROUTED)
def test_routed(setup: Setup, mode: str, octets: bytes, pool: str, models: list[str], bases: list[str]) -> None:
    assert post(setup, octets).status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.header(MODEL), got.header(BASE)) == (pool, models, bases)
    assert (got.size, got.digest) == (len(octets), hashlib.sha256(octets).hexdigest())
    # Envoy 1.40 takes no Content-Length from a router in full duplex: what goes upstream is chunked all the same.
    chunked = octets and mode == "FULL_DUPLEX_STREAMED"
    assert got.header("content-length") == ([] if chunked else [str(len(octets))])
    assert got.header("transfer-encoding") == (["chunked"] if chunked else [])


def test_a_client_that_names_no_model_picks_its_own_pool(setup: Setup) -> None:
    assert post(setup, b'{"x":1}', (BASE, PHI)).status == 200
    assert [got.pool for got in setup.upstreams.received] == [PHI]


def test_and_one_that_names_one_does_not(setup: Setup) -> None:
    assert post(setup, b'{"model":"sql-lora"}', (BASE, PHI), (MODEL, "x")).status == 200
    (got,) = setup.upstreams.received
    assert (got.pool, got.header(MODEL), got.header(BASE)) == (QWEN, ["sql-lora"], [QWEN])


@pytest.mark.grpcio
def test_errors_are_text(setup: Setup) -> None:
    reply = post(setup, b'{"model"')
    text = b"inference error: BadRequest - failed to parse request body: unexpected end of data at byte 8."
    assert (reply.status, reply.body) == (400, text)
    assert dict(reply.headers)["content-type"] == "text/plain"
    assert setup.upstreams.received == []
