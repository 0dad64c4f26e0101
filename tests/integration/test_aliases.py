"""Through a real Envoy: aliases, of one model and of several, and what an endpoint picker behind is told of them."""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.policy import AliasRewrite
from bbr.headers import REWRITE_HEADERS
from bbr.models.registry import Alias, BaseModel, Declaration, Origin, finish, merging
from bbr.reading.uri import parse_templates
from bench.harness import http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
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
