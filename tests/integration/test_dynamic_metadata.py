"""Through a real Envoy: what the router tells as dynamic metadata stands in the access log."""

import json
import uuid
from collections.abc import Iterator

import pytest

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from tests.integration.conftest import Setup
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

NAMESPACE = "bbr"
FACTS = ("outcome", "requested_model", "base_model")
MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    router = Router(background, policy=Policy(Replies(metadata_namespace=NAMESPACE)), transport=request.param)
    yield router
    router.stop()


@pytest.fixture(scope="module", params=MODES)
def setup(request: pytest.FixtureRequest, router: Router, upstreams: Upstreams) -> Iterator[Setup]:
    receiving = {"receiving_namespaces": {"untyped": [NAMESPACE]}}
    config = envoy.configuration(
        [envoy.router_filter(request.param, metadata_options=receiving)],
        router.port,
        upstreams.ports,
        logged={fact: f"%DYNAMIC_METADATA({NAMESPACE}:{fact})%" for fact in FACTS},
    )
    with envoy.gateway(config) as gateway:
        yield Setup(gateway, router, upstreams)


def facts(setup: Setup, method: str, headers: list[tuple[str, str]], body: bytes | None) -> list[str | None]:
    path = f"/v1/chat/completions?{uuid.uuid4()}"
    http1.request(setup.port, method, path, headers, body)
    line = setup.gateway.logged(path)
    return [line[fact] for fact in FACTS]


def chat(model: object) -> bytes:
    return json.dumps({"model": model, "messages": []}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (chat("sql-lora"), ["routed", "sql-lora", QWEN]),
        (chat(PHI), ["routed", PHI, PHI]),
        (b'{"messages": []}', ["no-model", None, None]),
        (b"", ["no-body", None, None]),
        (chat("llama"), ["model-not-found", "llama", None]),
        (chat(7), ["model-not-string", None, None]),
        (b"{", ["invalid-json", None, None]),
    ],
    ids=["adapter", "base model", "no model", "no body", "unknown model", "no string", "broken JSON"],
)
def test_facts_are_logged(setup: Setup, body: bytes, expected: list[str | None]) -> None:
    assert facts(setup, "POST", [JSON], body) == expected


@pytest.mark.grpcio
def test_facts_of_what_is_not_read(setup: Setup) -> None:
    assert facts(setup, "GET", [], None) == ["no-body", None, None]
    assert facts(setup, "POST", [("content-type", "text/html")], chat(PHI)) == ["not-read", None, None]
