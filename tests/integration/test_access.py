"""Through a real Envoy: who may use which model, as the gateway's own filters tell who asks."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from bbr.config import policies
from bbr.config.options import asker
from bbr.config.settings import Settings
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
JSON = ("content-type", "application/json")
TEAM = "x-team"
NAMESPACE = "auth"

TABLE, _ = finish(
    merging(
        [
            Declaration(
                Origin(),
                (BaseModel(QWEN, ("sql-lora",)), BaseModel(PHI)),
                (Alias("gpt", "sql-lora"),),
                (Grant(QWEN, frozenset({"team-a"})),),
            )
        ]
    )
)


class Way(NamedTuple):
    """A way in which a gateway tells who asks.

    Attributes:
        where: as --asker has it.
        options: of the router's filter.
    """

    where: str
    options: dict[str, Any]


WAYS = {
    "header": Way(f"header:{TEAM}", {}),
    "metadata": Way(
        f"metadata:{NAMESPACE}:team", {"metadata_options": {"forwarding_namespaces": {"untyped": [NAMESPACE]}}}
    ),
    "attribute": Way("attribute:request.id", {"request_attributes": ["request.id"]}),
}


def authentication(team: str) -> list[dict[str, Any]]:
    """Return filters that do what a gateway's authentication does for a client of a team: header, metadata, attribute.

    The attribute is the request's id, which stands for what a client can't say.
    """
    overwrite = {"header": {"key": TEAM, "value": team}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    mutations = {"request_mutations": [{"append": overwrite}]}
    noted = {"metadata": [{"metadata_namespace": NAMESPACE, "value": {"team": team}}]}
    script = f"function envoy_on_request(handle) handle:headers():replace('x-request-id', '{team}') end"
    return [
        {
            "name": "header",
            "typed_config": {"@type": f"{FILTERS}.header_mutation.v3.HeaderMutation", "mutations": mutations},
        },
        {"name": "metadata", "typed_config": {"@type": f"{FILTERS}.set_metadata.v3.Config", **noted}},
        {
            "name": "attribute",
            "typed_config": {"@type": f"{FILTERS}.lua.v3.Lua", "default_source_code": {"inline_string": script}},
        },
    ]


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture(scope="module", params=["FULL_DUPLEX_STREAMED", "BUFFERED"])
def gateways(
    request: pytest.FixtureRequest, background: Background, upstreams: Upstreams, way: Way
) -> Iterator[dict[str, int]]:
    """Give the port of a gateway for each team; "" is a gateway without authentication."""
    router = Router(background, TABLE, policies.policy(Settings(asker=asker(way.where), serve_models_list=60_000)))
    with ExitStack() as stack:
        found = {}
        for team in ("team-a", "team-b", ""):
            filters = [*(authentication(team) if team else []), envoy.router_filter(request.param, **way.options)]
            config = envoy.configuration(filters, router.port, upstreams.ports)
            found[team] = stack.enter_context(envoy.gateway(config)).port
        yield found
    router.stop()


def ask(port: int, model: str, *headers: tuple[str, str]) -> http1.Reply:
    return http1.request(port, "POST", "/v1/chat/completions", [JSON, *headers], json.dumps({"model": model}).encode())


@pytest.mark.parametrize(("model", "pool"), [(QWEN, QWEN), ("sql-lora", QWEN), ("gpt", QWEN), (PHI, PHI)])
def test_each_team_gets_what_it_may_use(gateways: dict[str, int], model: str, pool: str) -> None:
    assert ask(gateways["team-a"], model).body.decode() == pool
    reply = ask(gateways["team-b"], model)
    if pool == PHI:
        assert reply.body.decode() == PHI
    else:
        assert reply.status == 403
        assert json.loads(reply.body)["error"]["code"] == "model_not_allowed"


@pytest.mark.parametrize("headers", [[(TEAM, "team-a")], [(TEAM, "team-a"), (TEAM, "team-a")], [("X-Team", "team-a")]])
def test_no_client_can_say_who_it_is(gateways: dict[str, int], headers: list[tuple[str, str]]) -> None:
    assert ask(gateways["team-b"], QWEN, *headers, ("x-request-id", "team-a")).status == 403


def test_a_gateway_that_authenticates_nobody_opens_nothing(gateways: dict[str, int]) -> None:
    assert ask(gateways[""], QWEN).status == 403
    assert ask(gateways[""], PHI).status == 200


@pytest.mark.parametrize(("team", "models"), [("team-a", {QWEN, "sql-lora", "gpt", PHI}), ("team-b", {PHI})])
def test_the_list_has_what_the_team_may_use(gateways: dict[str, int], team: str, models: set[str]) -> None:
    reply = http1.request(gateways[team], "GET", "/v1/models", [], b"")
    assert {each["id"] for each in json.loads(reply.body)["data"]} == models
