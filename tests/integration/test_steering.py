"""Through a real Envoy: headers by which a client could steer what stands behind the router never get there."""

import gzip
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.policy import ClientSteering
from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, STEERING_HEADERS
from bbr.reading.header_names import MAX_STRAYS
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
NAMES = [DESTINATION_HEADER, *STEERING_HEADERS, *PRIORITY_HEADERS]
NAMED = b'{"model": "sql-lora"}'
# What a client says by them; an endpoint that nobody listens on, for those that name one.
SPOOFED = [(spelled, PHI if "model" in name else "127.0.0.1:1") for name in NAMES for spelled in (name, name.title())]

# The requests, by what becomes of their bodies: path, headers, body, pool.
REQUESTS = {
    "routed": ("/v1/chat/completions", [JSON], NAMED, QWEN),
    "long": ("/v1/chat/completions", [JSON], b'{"model": "sql-lora", "x": "%s"}' % (b"x" * 400_000), QWEN),
    "encoded": ("/v1/chat/completions", [JSON, ("content-encoding", "gzip")], gzip.compress(NAMED), QWEN),
    "without a model": ("/v1/chat/completions", [JSON], b"{}", "default"),
    "of another type": ("/v1/files", [("content-type", "audio/wav")], b"RIFF", "default"),
    "without a body": ("/v1/models", [], b"", "default"),
}


@pytest.fixture(scope="module", params=["defaults", "a prefix", "priority"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return {
        "defaults": Settings(),
        "a prefix": Settings(strip_header=("x-llm-d-*", "x-tenant")),
        "priority": Settings(client_steering=ClientSteering.PRIORITY),
    }[request.param]


@pytest.fixture(scope="module")
def router(background: Background, settings: Settings) -> Iterator[Router]:
    router = Router(background, policy=policies.policy(settings))
    yield router
    router.stop()


def removed(settings: Settings) -> list[str]:
    return NAMES if settings.client_steering is ClientSteering.NONE else [DESTINATION_HEADER, *STEERING_HEADERS]


TRAILERS_SENT = {"request_header_mode": "SEND", "request_trailer_mode": "SEND", "response_header_mode": "SKIP"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_nothing_that_steers_gets_behind_the_router(
    gateways: Callable[..., Setup], settings: Settings, request_: str, mode: str
) -> None:
    setup = gateways(mode)
    path, headers, body, pool = REQUESTS[request_]
    sent = [*headers, *SPOOFED, ("x-llm-d-video-fps", "1"), ("x-session-token", "kept")]
    reply = http1.request(setup.port, "POST" if body else "GET", path, sent, body)
    assert (reply.status, reply.body.decode()) == (200, pool)
    (got,) = setup.upstreams.received
    assert {name: got.header(name) for name in removed(settings)} == {name: [] for name in removed(settings)}
    assert got.header("x-session-token") == ["kept"]
    assert len(got.header("x-llm-d-video-fps")) == (not settings.strip_header)
    if settings.client_steering is ClientSteering.PRIORITY:
        assert all(got.header(name) for name in PRIORITY_HEADERS)
        return
    spelled = [(name.replace("-", "_"), "a") for name in NAMES]
    setup.upstreams.forget()
    http1.request(setup.port, "POST" if body else "GET", path, [*headers, *spelled], body)
    (got,) = setup.upstreams.received
    assert [name for name, _ in spelled if got.header(name)] == []


@pytest.mark.parametrize("mode", MODES)
def test_trailers_steer_nothing_either(gateways: Callable[..., Setup], settings: Settings, mode: str) -> None:
    setup = gateways(mode, processing_mode={**TRAILERS_SENT, "request_body_mode": mode})
    trailers = [(name.lower(), value) for name, value in SPOOFED] + [("x_llm_d_model_name_rewrite", PHI)]
    with H2Client(setup.port) as client:
        response = client.request("POST", "/v1/completions", [JSON], NAMED, trailers=trailers)
    assert response.status == 200
    (got,) = setup.upstreams.received
    assert [name for name in (*removed(settings), "x_llm_d_model_name_rewrite") if got.header(name)] == []


@pytest.mark.parametrize("mode", MODES)
def test_more_spellings_in_headers_and_trailers_than_a_gateway_can_be_told_to_remove(
    gateways: Callable[..., Setup], mode: str
) -> None:
    setup = gateways(mode, processing_mode={**TRAILERS_SENT, "request_body_mode": mode})
    spelled = [(f"x{a}gateway{b}model-name", "a") for a in "!#$%&'*+._" for b in "!#$%&'"]
    # Together 51 of them: without a count of both, the gateway rejects an answer that removes more than it allows.
    for count, status in ((20, 200), (21, 431), (30, 431)):
        with H2Client(setup.port) as client:
            trailers = spelled[30 : 30 + count]
            response = client.request("POST", "/v1/completions", [JSON, *spelled[:30]], NAMED, trailers=trailers)
        assert response.status == status
    (got,) = setup.upstreams.received
    assert [name for name, _ in spelled if got.header(name)] == []


def test_more_spellings_than_a_gateway_can_be_told_to_remove(gateways: Callable[..., Setup]) -> None:
    setup = gateways()
    spelled = [f"x{a}llm{b}d{c}model{d}name{e}rewrite" for a, b, c, d, e in product("-_", repeat=5)][1:]
    spelled += [name.replace("_", ".") for name in spelled]
    for count, status in ((MAX_STRAYS, 200), (MAX_STRAYS + 1, 431)):
        reply = http1.request(setup.port, "POST", "/", [JSON, *((name, "a") for name in spelled[:count])], NAMED)
        assert reply.status == status
    (got,) = setup.upstreams.received
    assert [name for name in spelled if got.header(name)] == []
