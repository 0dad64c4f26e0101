"""Through a real Envoy: the whole answer in one CONTINUE_AND_REPLACE message, where a gateway takes it."""

import hashlib
import json
from collections.abc import Callable, Iterator

import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES, Replies
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.envoy import needs_envoy
from bench.harness.in_process_router import PHI, QWEN, TRANSPORTS, Router
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SPOOFED = [("x-gateway-base-model-name", PHI), ("x-gateway-model-name", PHI)]
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module", params=list(TRANSPORTS))
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    policy = Policy(Replies(), single_reply_bytes=MAX_BODY_CHUNK_BYTES)
    router = Router(background, policy=policy, transport=request.param)
    yield router
    router.stop()


@pytest.fixture
def setup(gateways: Callable[..., Setup]) -> Setup:
    return gateways()


@pytest.mark.parametrize("size", [0, 1000, 61_000, 62_000, 200_000])
@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize(("model", "pool"), [("sql-lora", QWEN), (PHI, PHI), (None, "default")])
def test_routed_and_unaltered(setup: Setup, protocol: str, size: int, model: str | None, pool: str) -> None:
    document = {"prompt": "x" * size} | ({} if model is None else {"model": model})
    body = json.dumps(document).encode()
    if protocol == "h1":
        reply = http1.request(setup.port, "POST", PATH, [JSON, *SPOOFED], body)
        status, answer = reply.status, reply.body
    else:
        with H2Client(setup.port) as client:
            response = client.request("POST", PATH, [JSON, *SPOOFED], body)
            status, answer = response.status, response.body
    assert (status, answer.decode()) == (200, pool)
    (got,) = setup.upstreams.received
    assert (got.size, got.digest) == (len(body), hashlib.sha256(body).hexdigest())
    assert got.header("x-gateway-model-name") == ([] if model is None else [model])
    assert got.header("x-gateway-base-model-name") == ([] if model is None else [pool])


def test_an_error_is_an_error(setup: Setup) -> None:
    reply = http1.request(setup.port, "POST", PATH, [JSON], b'{"model": "unknown"}')
    assert (reply.status, setup.upstreams.received) == (404, [])
