"""Where a policy on a model's route is not enforced: real filters in a real Envoy, and what `bbr doctor` says of it.

Envoy decides which filters a request meets when it begins, by the route that it has then, and each filter reads its
settings when its turn comes. The router's answer comes later than both, for all that stands before it.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from bench.harness.recording import Upstreams
from tests.support.doctor import (
    SWITCH,
    SWITCHED_ON,
    Config,
    bad,
    cluster,
    diagnose,
    hcm,
    host,
    looking,
    routes,
    switch,
    wrapped,
)
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

HTTP = "type.googleapis.com/envoy.extensions.filters.http"
FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
JSON = ("content-type", "application/json")
BODY = json.dumps({"model": "sql-lora", "prompt": "x" * 1000}).encode()
ALWAYS = {"default_value": {"numerator": 100}}
NEVER = {"default_value": {"numerator": 0}}
# Nobody listens there: what is asked fails.
NOWHERE = {"envoy_grpc": {"cluster_name": "nowhere"}}


def user(name: str) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha1(b"secret", usedforsecurity=False).digest()).decode()
    return {"inline_string": f"{name}:{{SHA}}{digest}"}


def credentials(name: str) -> tuple[str, str]:
    return "authorization", "Basic " + base64.b64encode(f"{name}:secret".encode()).decode()


@dataclass(frozen=True)
class Policy:
    """A filter, and a policy of its that stands on a model's route.

    Attributes:
        config: what the filter says for all routes, which changes nothing.
        policy: what it says on the model's route.
        enforced: the last answer's status if that is enforced, or a field of the answer.
        elsewhere: what it says on the catch-all, if it is on there.
        action: fields of the model's route action.
        headers: of the request.
        times: how many requests are sent.
    """

    config: Config
    policy: Config
    enforced: int | tuple[str, str]
    elsewhere: Config | None = None
    action: Config = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1


def typed(name: str, **fields: Any) -> Config:
    return {"@type": f"{HTTP}.{name}", **fields}


DENY = {"action": "DENY", "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}
KEY = {"kty": "oct", "alg": "HS256", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
PROVIDER = {"issuer": "nobody", "local_jwks": {"inline_string": json.dumps({"keys": [KEY]})}}
BUCKET = {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"}
REFUSE = 'function envoy_on_request(handle) handle:respond({[":status"] = "418"}, "") end'
ADD = {"append": {"header": {"key": "x-policy", "value": "there"}}}

POLICIES = {
    "rbac": Policy(typed("rbac.v3.RBAC"), typed("rbac.v3.RBACPerRoute", rbac={"rules": DENY}), 403),
    "basic_auth": Policy(
        typed("basic_auth.v3.BasicAuth", users=user("all")),
        typed("basic_auth.v3.BasicAuthPerRoute", users=user("few")),
        401,
        headers=(credentials("all"),),
    ),
    "api_key_auth": Policy(
        typed("api_key_auth.v3.ApiKeyAuth", credentials=[{"key": "all", "client": "a"}], key_sources=[{"header": "k"}]),
        typed(
            "api_key_auth.v3.ApiKeyAuthPerRoute",
            credentials=[{"key": "few", "client": "f"}],
            key_sources=[{"header": "k"}],
        ),
        401,
        headers=(("k", "all"),),
    ),
    "jwt_authn": Policy(
        typed(
            "jwt_authn.v3.JwtAuthentication", providers={"p": PROVIDER}, requirement_map={"r": {"provider_name": "p"}}
        ),
        typed("jwt_authn.v3.PerRouteConfig", requirement_name="r"),
        401,
    ),
    "local_ratelimit": Policy(
        typed("local_ratelimit.v3.LocalRateLimit", stat_prefix="limit"),
        typed(
            "local_ratelimit.v3.LocalRateLimit",
            stat_prefix="limit",
            token_bucket=BUCKET,
            filter_enabled=ALWAYS,
            filter_enforced=ALWAYS,
        ),
        429,
        times=2,
    ),
    "ratelimit": Policy(
        typed(
            "ratelimit.v3.RateLimit",
            domain="d",
            failure_mode_deny=True,
            rate_limit_service={"grpc_service": NOWHERE, "transport_api_version": "V3"},
        ),
        {"@type": FILTER_CONFIG, "config": {}},
        500,
        action={"rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "v"}}]}]},
    ),
    "fault": Policy(
        typed("fault.v3.HTTPFault"),
        typed("fault.v3.HTTPFault", abort={"http_status": 418, "percentage": {"numerator": 100}}),
        418,
    ),
    "ext_authz": Policy(
        typed("ext_authz.v3.ExtAuthz", grpc_service=NOWHERE),
        typed("ext_authz.v3.ExtAuthzPerRoute", check_settings={}),
        403,
        elsewhere=typed("ext_authz.v3.ExtAuthzPerRoute", disabled=True),
    ),
    "buffer": Policy(
        typed("buffer.v3.Buffer", max_request_bytes=1 << 20),
        typed("buffer.v3.BufferPerRoute", buffer={"max_request_bytes": 10}),
        413,
    ),
    "lua": Policy(typed("lua.v3.Lua"), typed("lua.v3.LuaPerRoute", source_code={"inline_string": REFUSE}), 418),
    "csrf": Policy(
        typed("csrf.v3.CsrfPolicy", filter_enabled=NEVER), typed("csrf.v3.CsrfPolicy", filter_enabled=ALWAYS), 403
    ),
    "header_mutation": Policy(
        typed("header_mutation.v3.HeaderMutation"),
        typed("header_mutation.v3.HeaderMutationPerRoute", mutations={"response_mutations": [ADD]}),
        ("x-policy", "there"),
    ),
}


@pytest.fixture(scope="module")
def router(background: Background) -> Iterator[Router]:
    router = Router(background)
    yield router
    router.stop()


def placed(router: Router, upstreams: Upstreams, name: str, before: bool, on: bool) -> Config:
    """Return a gateway with a filter before the router or after it, on in the chain or on by a model's route alone."""
    policy = POLICIES[name]
    config = envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)
    cluster(config)["circuit_breakers"]["thresholds"][0]["max_retries"] = 1024
    filters = hcm(config)["http_filters"]
    filters.insert(0 if before else 1, {"name": name, "typed_config": policy.config, "disabled": not on})
    config["static_resources"]["clusters"].append(
        {"name": "nowhere", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "nowhere"}}
    )
    model = next(each for each in routes(config) if QWEN in json.dumps(each["match"]))
    model["typed_per_filter_config"] = {name: policy.policy}
    model["route"] |= policy.action
    if on and policy.elsewhere:
        routes(config)[-1]["typed_per_filter_config"] = {name: policy.elsewhere}
    return config


def enforced(gateway: envoy.Gateway, name: str, *headers: tuple[str, str]) -> bool:
    policy = POLICIES[name]
    for _ in range(policy.times):
        answer = http1.request(gateway.port, "POST", "/", [JSON, *policy.headers, *headers], BODY)
    if isinstance(policy.enforced, int):
        assert answer.status in (200, policy.enforced)
        return answer.status == policy.enforced
    return answer.headers.get(policy.enforced[0]) == policy.enforced[1]


@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
@pytest.mark.parametrize("on", [True, False], ids=["on", "on by route"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_on_a_models_route(router: Router, upstreams: Upstreams, name: str, on: bool, before: bool) -> None:
    with envoy.gateway(placed(router, upstreams, name, before, on)) as gateway:
        # Envoy's buffer filter sees nothing of a body that full duplex sends on behind it.
        blind = name == "buffer" and not before
        assert enforced(gateway, name) == (on and not before and not blind)
        # What a test by hand shows, and proves nothing by.
        assert enforced(gateway, name, ("x-gateway-base-model-name", QWEN)) == (not blind)
        assert ("policy-skipped" in bad(diagnose(gateway))) == (before or not on)


@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
@pytest.mark.parametrize("name", POLICIES)
def test_the_same_policy_on_every_route(router: Router, upstreams: Upstreams, name: str, before: bool) -> None:
    """Off, and on by route, as gateways write it: then it is in force wherever it stands, and nothing is found."""
    config = placed(router, upstreams, name, before, on=False)
    for each in routes(config):
        say(each, name)
    with envoy.gateway(config) as gateway:
        assert enforced(gateway, name) == (name != "buffer" or before)
        assert bad(diagnose(gateway)) - {"buffer-filter-below-body-limit"} == set()


def say(route: Config, name: str) -> None:
    route["typed_per_filter_config"] = {name: POLICIES[name].policy}
    route["route"] |= POLICIES[name].action


# What limits no client's access.
NO_GATES = {"fault", "buffer", "csrf", "header_mutation"}
NO_ROUTING_HEADERS = {
    "name": "envoy.http.early_header_mutation.header_mutation",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [{"remove": "x-gateway-base-model-name"}, {"remove": "x-gateway-model-name"}],
    },
}


@pytest.mark.parametrize("removed", [False, True], ids=["headers kept", "headers removed early"])
@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
@pytest.mark.parametrize("name", [name for name in POLICIES if name not in NO_GATES])
def test_a_policy_on_the_catch_all_alone(
    router: Router, upstreams: Upstreams, name: str, before: bool, removed: bool
) -> None:
    """A client that sends the routing header begins at the model's route, where the filter is off."""
    config = placed(router, upstreams, name, before, on=False)
    for each in routes(config):
        each.pop("typed_per_filter_config", None)
        each["route"].pop("rate_limits", None)
    say(routes(config)[-1], name)
    if removed:
        hcm(config)["early_header_mutation_extensions"] = [NO_ROUTING_HEADERS]
    with envoy.gateway(config) as gateway:
        if before:
            assert enforced(gateway, name)
            assert enforced(gateway, name, ("x-gateway-base-model-name", QWEN)) == removed
        assert ("policy-bypassed" in bad(diagnose(gateway))) == (not removed)


WAYS = {"ext_authz": looking, "rbac": wrapped}


@pytest.mark.parametrize("removed", [False, True], ids=["headers kept", "headers removed early"])
@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
@pytest.mark.parametrize("name", WAYS)
def test_a_policy_that_another_filter_turns_off_on_the_models_route(
    router: Router, upstreams: Upstreams, name: str, before: bool, removed: bool
) -> None:
    """As kgateway writes `disable`: the other filter decides where a request begins, and the policy obeys it later."""
    config = placed(router, upstreams, name, before, on=False)
    filters = hcm(config)["http_filters"]
    own = POLICIES[name].config | ({"rules": DENY} if name == "rbac" else {})
    next(each for each in filters if each["name"] == name)["typed_config"] = WAYS[name](own)
    filters.insert(0, switch())
    host(config)["typed_per_filter_config"] = {name: SWITCHED_ON}
    for each in routes(config):
        each["typed_per_filter_config"] = {SWITCH: SWITCHED_ON} if QWEN in json.dumps(each["match"]) else {}
    if removed:
        hcm(config)["early_header_mutation_extensions"] = [NO_ROUTING_HEADERS]
    with envoy.gateway(config) as gateway:
        assert enforced(gateway, name)
        assert enforced(gateway, name, ("x-gateway-base-model-name", QWEN)) == removed
        assert bad(diagnose(gateway)) == (set() if removed else {"policy-bypassed"})


@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
def test_a_rule_about_the_model_for_all_routes(router: Router, upstreams: Upstreams, before: bool) -> None:
    """As Istio has them. Before the router it is about what clients say of the model."""
    config = placed(router, upstreams, "rbac", before, on=True)
    for each in routes(config):
        each.pop("typed_per_filter_config", None)
    header = {"name": "x-gateway-base-model-name", "string_match": {"exact": QWEN}}
    denied = {"permissions": [{"header": header}], "principals": [{"any": True}]}
    (rbac,) = (each for each in hcm(config)["http_filters"] if each["name"] == "rbac")
    rbac["typed_config"] |= {"rules": {"action": "DENY", "policies": {"models": denied}}}
    with envoy.gateway(config) as gateway:
        assert enforced(gateway, "rbac") == (not before)
        assert enforced(gateway, "rbac", ("x-gateway-base-model-name", QWEN))
        assert enforced(gateway, "rbac", ("x-gateway-base-model-name", "another")) == (not before)
        assert ("policy-skipped" in bad(diagnose(gateway))) == before


CORS = {
    "@type": f"{HTTP}.cors.v3.CorsPolicy",
    "allow_origin_string_match": [{"exact": "https://app.example"}],
    "allow_methods": "POST",
}
ORIGIN = ("origin", "https://app.example")
# Where the policy stands, and what the catch-all is -> the preflight's status.
PREFLIGHTS = {
    ("models", "cluster"): None,  # goes to the catch-all's server, which knows nothing of it
    ("models", "direct"): 404,
    ("models", "none"): 404,
    ("both", "direct"): 404,
    ("host", "direct"): 404,
    ("both", "cluster"): 200,
    ("host", "cluster"): 200,
}


@pytest.mark.parametrize("before", [True, False], ids=["before the router", "after it"])
@pytest.mark.parametrize(("where", "catch_all"), PREFLIGHTS)
def test_a_browsers_preflight(router: Router, upstreams: Upstreams, where: str, catch_all: str, before: bool) -> None:
    config = envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)
    cluster(config)["circuit_breakers"]["thresholds"][0]["max_retries"] = 1024
    name = "envoy.filters.http.cors"
    hcm(config)["http_filters"].insert(0 if before else 1, {"name": name, "typed_config": typed("cors.v3.Cors")})
    places = {"models": routes(config)[:-1], "both": routes(config), "host": [host(config)]}[where]
    for place in places:
        place["typed_per_filter_config"] = {name: CORS}
    if catch_all == "none":
        routes(config).pop()
    elif catch_all == "direct":
        del routes(config)[-1]["route"]
        routes(config)[-1]["direct_response"] = {"status": 404}
    works = PREFLIGHTS[where, catch_all] == 200
    with envoy.gateway(config) as gateway:
        fields = [ORIGIN, ("access-control-request-method", "POST")]
        answer = http1.request(gateway.port, "OPTIONS", "/", fields, b"")
        assert PREFLIGHTS[where, catch_all] in (None, answer.status)
        assert ("access-control-allow-origin" in answer.headers) == works
        assert ("cors-preflight-fails" in bad(diagnose(gateway))) == (not works)
