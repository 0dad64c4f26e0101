"""Through a real Envoy: aliases, of one model and of several, and what an endpoint picker behind is told of them."""

import gzip
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.policy import AliasRewrite
from bbr.headers import REWRITE_HEADERS
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.reading.templates import parse_templates
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from tests.integration.conftest import Setup
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
JSON = ("content-type", "application/json")
PATH = "/v1/chat/completions"
ALIASES = (Alias("gpt", QWEN), Alias("sql", "sql-lora"), Alias("chat", "sql-lora", (("sql-lora", 70), (PHI, 30))))
MODELS = (BaseModel(QWEN, ("sql-lora",)), BaseModel(PHI))
TABLE, _ = finish(merging([Declaration(Origin(), MODELS, ALIASES)]))
COUNT = 600


@pytest.fixture(scope="module", params=AliasRewrite, ids=lambda how: how.value)
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(
        alias_rewrite=request.param,
        alias_sticky_header="x-session-id",
        path_template=parse_templates("/model/{model}/invoke"),
    )


@pytest.fixture(scope="module")
def router(background: Background, settings: Settings) -> Iterator[Router]:
    router = Router(background, TABLE, policies.policy(settings))
    yield router
    router.stop()


@pytest.fixture(scope="module")
def rewriting(background: Background, upstreams: Upstreams) -> Iterator[dict[str, Setup]]:
    """A router that replaces models in bodies and decodes them, behind a gateway in each body mode."""
    router = Router(background, TABLE, policies.policy(Settings(alias_rewrite=AliasRewrite.BODY, forward_decoded=True)))
    with ExitStack() as stack:
        found = {}
        for mode in MODES:
            config = envoy.configuration([envoy.router_filter(mode)], router.port, upstreams.ports)
            config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 16 << 20
            found[mode] = Setup(stack.enter_context(envoy.gateway(config)), router, upstreams)
        yield found
    router.stop()


def ask(setup: Setup, model: str, *headers: tuple[str, str], path: str = PATH) -> str:
    """Send a request for a model, and return the pool that it got to."""
    reply = http1.request(setup.port, "POST", path, [JSON, *headers], json.dumps({"model": model}).encode())
    assert reply.status == 200
    return reply.body.decode()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("asked", "model", "pool"),
    [
        ("gpt", QWEN, QWEN),
        ("sql", "sql-lora", QWEN),
        (QWEN, QWEN, QWEN),
        ("sql-lora", "sql-lora", QWEN),
        (PHI, PHI, PHI),
    ],
)
@pytest.mark.parametrize("spoofed", [False, True], ids=["", "spoofed"])
def test_a_picker_is_told_what_an_alias_stands_for_and_by_nobody_else(
    gateways: Callable[..., Setup], settings: Settings, mode: str, asked: str, model: str, pool: str, spoofed: bool
) -> None:
    setup = gateways(mode)
    headers = [(name, "another-model") for name in REWRITE_HEADERS for _ in range(2)] if spoofed else []
    assert ask(setup, asked, *headers) == pool
    (got,) = setup.upstreams.received
    assert got.header("x-gateway-model-name") == [model]
    body = json.dumps({"model": model if settings.alias_rewrite is AliasRewrite.BODY else asked}).encode()
    assert (got.size, got.digest) == (len(body), hashlib.sha256(body).hexdigest())
    told = [model] if asked != model and settings.alias_rewrite is AliasRewrite.HEADER else []
    assert [got.header(name) for name in REWRITE_HEADERS] == [told, told]


@pytest.mark.parametrize("mode", MODES)
def test_an_alias_of_several_is_split_by_its_weights(gateways: Callable[..., Setup], mode: str) -> None:
    setup = gateways(mode)
    counts = Counter(ask(setup, "chat") for _ in range(COUNT))
    # Five standard deviations of a binomial distribution: one run in a million fails without a fault.
    assert abs(counts[PHI] - 0.3 * COUNT) <= 5 * math.sqrt(COUNT * 0.3 * 0.7)
    assert counts[QWEN] + counts[PHI] == COUNT
    served = {QWEN: "sql-lora", PHI: PHI}
    assert all(got.header("x-gateway-model-name") == [served[got.pool]] for got in setup.upstreams.received)


def test_equal_values_of_the_sticky_header_get_the_same_model(gateways: Callable[..., Setup]) -> None:
    rng = random.Random(7)
    sessions = [str(number) for number in range(40)]
    setups = [gateways(mode) for mode in MODES]
    seen: dict[str, set[str]] = {session: set() for session in sessions}
    for session in rng.choices(sessions, k=200):
        seen[session].add(ask(rng.choice(setups), "chat", ("X-Session-Id", session)))
    assert max(map(len, seen.values())) == 1
    assert {pool for pools in seen.values() for pool in pools} == {QWEN, PHI}


def test_an_alias_in_a_url_is_routed_and_stays_there(gateways: Callable[..., Setup]) -> None:
    setup = gateways()
    reply = http1.request(setup.port, "POST", "/model/sql/invoke", [JSON], b"{}")
    assert (reply.status, reply.body.decode()) == (200, QWEN)
    (got,) = setup.upstreams.received
    assert got.header("x-gateway-model-name") == ["sql-lora"]


# Documents with the alias, and the same with what it stands for: not an octet else may change.
DOCUMENTS = {
    "spaced": (
        b'{ "a" : {"model": "gpt"} ,\n\t"model"\t: "gpt" , "b":"gpt" }\n',
        b'"gpt" ,',
        b'"%s" ,' % QWEN.encode(),
    ),
    "escaped": (b'{"\\u006dodel":"\\u0067pt","x":1.0e2,"y":"\\/"}', b'"\\u0067pt"', b'"%s"' % QWEN.encode()),
    "last": (b'{"x":[1,  2],"model":"gpt"}', b'"gpt"', b'"%s"' % QWEN.encode()),
}
SIZES = {"short": 0, "long": 1_000_000}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", DOCUMENTS)
def test_one_string_of_the_body_is_replaced_and_nothing_else(
    rewriting: dict[str, Setup], mode: str, size: int, encoded: bool, case: str
) -> None:
    setup = rewriting[mode]
    setup.upstreams.forget()
    setup.router.verdicts()
    body, alias, model = DOCUMENTS[case]
    text = random.Random(7).randbytes(size // 2).hex().encode()
    for sent in (body.replace(b"{", b'{"text":"%s",' % text, 1), body[: body.rindex(b"}")] + b',"text":"%s"}' % text):
        setup.upstreams.forget()
        headers = [JSON, ("content-digest", "sha-256=:x:"), *([("content-encoding", "gzip")] if encoded else [])]
        octets = gzip.compress(sent, 1) if encoded else sent
        reply = http1.request(setup.port, "POST", PATH, headers, octets)
        assert (reply.status, reply.body.decode()) == (200, QWEN)
        (got,) = setup.upstreams.received
        expected = sent.replace(alias, model, 1)
        assert (got.size, got.digest) == (len(expected), hashlib.sha256(expected).hexdigest())
        assert got.header("content-length") == ([] if got.header("transfer-encoding") else [str(len(expected))])
        assert got.header("content-digest") == got.header("content-encoding") == []
    assert all(verdict.rewritten for verdict in setup.router.verdicts())
    assert setup.router.ledger.held_bytes == 0


@pytest.mark.parametrize("mode", MODES)
def test_an_alias_that_can_not_be_replaced_is_refused(rewriting: dict[str, Setup], mode: str) -> None:
    setup = rewriting[mode]
    setup.upstreams.forget()
    for model, status in (("gpt", 400), (QWEN, 200)):
        headers = [("content-type", "application/x-www-form-urlencoded")]
        reply = http1.request(setup.port, "POST", PATH, headers, b"x=1&model=" + model.encode())
        assert reply.status == status
        assert status == 200 or json.loads(reply.body)["error"]["code"] == "alias_not_replaced"
    assert [got.pool for got in setup.upstreams.received] == [QWEN]
