"""Behind a real Envoy: the Go routers themselves, where they are built (`make go-parity`), beside ours with --compat.

What reaches the pools is the same, and so is what becomes of the client's request.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from bbr.config import loading, policies
from bbr.models.entries import BaseModel
from bench.harness import envoy, go_router, http1
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from bench.harness.model_tables import merged
from bench.harness.recording import Upstreams
from tests.conformance.go import replay
from tests.conformance.go.corpus import STREAMED, Conversation, body, headers
from tests.conformance.go.replay import TARGETS, Target
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODEL, BASE = "x-gateway-model-name", "x-gateway-base-model-name"
JSON = ("content-type", "application/json")
TABLE, _ = merged([BaseModel(QWEN, ("sql-lora", "1"))])
DATA = {"baseModel": QWEN, "adapters": "- sql-lora\n- 1\n"}


class Asked(NamedTuple):
    """A client's request."""

    octets: bytes
    headers: tuple[tuple[str, str], ...] = (JSON,)
    method: str = "POST"


def named(model: object, size: int = 0) -> bytes:
    return json.dumps({"prompt": "x" * size, "model": model}).encode()


REQUESTS = {
    "a base model": Asked(named(QWEN)),
    "an adapter": Asked(named("sql-lora")),
    "an adapter of digits": Asked(named("1")),
    "a number": Asked(named(1)),
    "a fraction": Asked(named(1e6)),
    "a list": Asked(named(["a", 1])),
    "null": Asked(named(None)),
    "blanks around": Asked(named(" sql-lora ")),
    "unknown": Asked(named("gpt-4")),
    "not ASCII": Asked('{"model":"模型"}'.encode()),
    "empty": Asked(named("")),
    "none": Asked(b'{"x":1}'),
    "an object alone": Asked(b"{}"),
    "null alone": Asked(b"null"),
    "62,000 bytes": Asked(named("sql-lora", 62_000)),
    "600 KB": Asked(named("sql-lora", 600_000)),
    "3 MB": Asked(named("sql-lora", 3_000_000)),
    "no content type": Asked(named("sql-lora"), ()),
    "no body": Asked(b"", (), "GET"),
    "routing headers and a model": Asked(named("sql-lora"), (JSON, (MODEL, "x"), (BASE, "x"))),
    "routing headers and none": Asked(b'{"x":1}', (JSON, (MODEL, "x"), (BASE, QWEN))),
    "routing headers and no body": Asked(b"", ((MODEL, "x"), (BASE, QWEN)), "GET"),
    "broken": Asked(b'{"model"'),
    "two documents": Asked(b"{}{}"),
}

# A way to ask: what came back, and what reached which pool.
Outcome = tuple[object, ...]
Ask = Callable[[Asked], Outcome]


class Pair(NamedTuple):
    """Two gateways, with the Go router and with ours."""

    theirs: Ask
    ours: Ask


@pytest.fixture(scope="module", params=TARGETS, ids=lambda target: target.name)
def pair(request: pytest.FixtureRequest, background: Background, upstreams: Upstreams) -> Iterator[Pair]:
    target: Target = request.param
    if not target.program.built:
        pytest.skip(f"{target.program.module} is not built: make go-parity")
    streaming = target.mode == STREAMED
    flags = {"compat": target.compat} | ({"assume_body_mode": "full-duplex"} if streaming else {})
    ready = Conversation("ready", target.mode, (headers(), body(named(QWEN), end=True)))

    def is_ready(port: int) -> bool:
        return any(f'Base-Model-Name="{QWEN}"' in line for line in replay.ask(port, [ready])["ready"])

    with ExitStack() as stack:
        router = Router(background, TABLE, policies.policy(loading.load(flags, {})))
        stack.callback(router.stop)
        kube_config = stack.enter_context(go_router.api_server(DATA, target.label))
        started = go_router.started(target.program, kube_config, is_ready, streaming=streaming)
        _, (port, *_) = stack.enter_context(started)
        yield Pair(*(gateway(stack, each, streaming, upstreams) for each in (port, router.port)))


def gateway(stack: ExitStack, port: int, streaming: bool, upstreams: Upstreams) -> Ask:
    filters = [envoy.router_filter("FULL_DUPLEX_STREAMED" if streaming else "BUFFERED")]
    settings = envoy.configuration(filters, port, upstreams.ports)
    settings["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 16 << 20
    running = stack.enter_context(envoy.gateway(settings))

    def ask(asked: Asked) -> Outcome:
        upstreams.forget()
        reply = http1.request(running.port, asked.method, "/v1/chat/completions", list(asked.headers), asked.octets)
        received = [(got.pool, got.header(MODEL), got.header(BASE), got.size, got.digest) for got in upstreams.received]
        # An error's words are the parser's own.
        words = reply.body.partition(b"failed to parse request body")[0] if reply.status == 400 else b""
        return reply.status, words, dict(reply.headers).get("content-type"), received

    return ask


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
def test_a_request_comes_to_the_same(pair: Pair, asked: Asked) -> None:
    theirs, ours = pair.theirs(asked), pair.ours(asked)
    assert ours == theirs
    status, _, _, received = theirs
    if status == 200:
        ((_, _, _, *got),) = received  # type: ignore[misc]
        assert got == [len(asked.octets), hashlib.sha256(asked.octets).hexdigest()]
    else:
        assert (status, received) == (400, [])


def test_a_difference_is_seen(pair: Pair) -> None:
    asked = Asked(b'{"model":"gpt-4","model":"sql-lora"}')
    status, _, _, received = pair.theirs(asked)
    ((pool, *_),) = received  # type: ignore[misc]
    assert (status, pool) == (200, QWEN)
    status, _, _, received = pair.ours(asked)
    assert (status, received) == (400, [])
