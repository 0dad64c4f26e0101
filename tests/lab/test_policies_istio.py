"""AuthorizationPolicy and RequestAuthentication of Istio, which are for the Gateway; the router's filter stands first.

docs/istio.md says what is shown here.
"""

import contextlib

import pytest

from deploy.lab import setting
from deploy.lab.istio import AUTHORIZERS
from tests.lab import neighbours
from tests.lab.policies import (
    GATEWAY,
    PHI,
    QWEN,
    ROUTE,
    SPOOFED,
    Issuer,
    applied,
    doctor,
    document,
    released,
    settles,
    status,
)
from tests.lab.traffic import Chat, ask, outcome

pytestmark = [pytest.mark.gateways("istio"), pytest.mark.usefixtures("clean")]

SECURITY = "security.istio.io/v1"


@pytest.fixture(scope="module", autouse=True)
def asked(lab):
    """What external authorization and limits ask."""
    with neighbours.running(lab, [*neighbours.authorizer(), *neighbours.counter()]):
        yield


BASE = "request.headers[x-gateway-base-model-name]"


def test_a_rule_about_the_routing_header_is_enforced_for_models_named_in_bodies(lab, gateway):
    spec = {
        "targetRefs": [GATEWAY],
        "action": "DENY",
        "rules": [{"when": [{"key": BASE, "values": [setting.QWEN]}]}],
    }
    with applied(lab, document("AuthorizationPolicy", "qwen", spec, SECURITY)):
        settles(lab, gateway, 403, QWEN)
        assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
        assert outcome(ask(gateway, Chat(PHI), **SPOOFED), PHI) == "right"


@pytest.mark.parametrize("behind_token_checks", [False, True])
def test_who_may_use_which_model_by_the_subject_of_a_token(lab, gateway, controller, behind_token_checks):
    """The guide's recipe, with the filter where the chart puts it, and behind the check of tokens."""
    place = {"operation": "INSERT_AFTER", "anchorSubFilter": "envoy.filters.http.jwt_authn"}
    provider = {"name": controller.provider, "istio": {"envoyFilter": place}}
    with released(lab, controller, provider=provider) if behind_token_checks else contextlib.nullcontext():
        _who_may_use_which_model(lab, gateway)


def _who_may_use_which_model(lab, gateway):
    issuer = Issuer()
    rule = {"issuer": issuer.NAME, "jwks": issuer.keys()}
    everybody = {"from": [{"source": {"requestPrincipals": [f"{issuer.NAME}/*"]}}]}
    phi = everybody | {"when": [{"key": BASE, "values": [setting.PHI]}]}
    a = {"from": [{"source": {"requestPrincipals": [f"{issuer.NAME}/team-a"]}}]}
    documents = (
        document("RequestAuthentication", "tokens", {"targetRefs": [GATEWAY], "jwtRules": [rule]}, SECURITY),
        document(
            "AuthorizationPolicy",
            "models",
            {"targetRefs": [GATEWAY], "action": "ALLOW", "rules": [phi, a]},
            SECURITY,
        ),
    )
    tokens = {name: {"authorization": f"Bearer {issuer.token(name)}"} for name in ("team-a", "team-b")}
    foreign = {"authorization": f"Bearer {Issuer().token('team-a')}"}
    with applied(lab, *documents):
        settles(lab, gateway, 403, QWEN)
        settles(lab, gateway, 200, QWEN, **tokens["team-a"])
        assert status(gateway, QWEN, **tokens["team-b"]) == 403
        assert status(gateway, QWEN, **tokens["team-b"], **{"x-gateway-base-model-name": setting.PHI}) == 403
        assert outcome(ask(gateway, Chat(PHI), **tokens["team-b"]), PHI) == "right"
        assert status(gateway, QWEN, **foreign) == 401


def asking_about_qwen(authorizer):
    rule = {"when": [{"key": BASE, "values": [setting.QWEN]}]}
    spec = {"targetRefs": [GATEWAY], "action": "CUSTOM", "provider": {"name": authorizer}, "rules": [rule]}
    return document("AuthorizationPolicy", "ask", spec, SECURITY)


@pytest.mark.parametrize("authorizer", AUTHORIZERS)
def test_external_authorization_for_one_model(lab, gateway, controller, authorizer):
    """By a rule about the routing header, with the router's filter where the chart puts it."""
    with applied(lab, asking_about_qwen(authorizer)):
        settles(lab, gateway, 403, QWEN)
        assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
        assert outcome(ask(gateway, Chat(QWEN), **neighbours.LET_IN), QWEN) == "right"
        assert outcome(ask(gateway, Chat(PHI), **SPOOFED), PHI) == "right"
        assert "ERROR" not in doctor(lab, controller)


def test_behind_the_check_of_tokens_external_authorization_for_one_model_is_not_enforced(lab, gateway, controller):
    """It stands before that check, and so before the router: it sees the header as clients send it."""
    place = {"operation": "INSERT_AFTER", "anchorSubFilter": "envoy.filters.http.jwt_authn"}
    provider = {"name": controller.provider, "istio": {"envoyFilter": place}}
    issuer = Issuer()
    tokens = {"targetRefs": [GATEWAY], "jwtRules": [{"issuer": issuer.NAME, "jwks": issuer.keys()}]}
    documents = (
        document("RequestAuthentication", "tokens", tokens, SECURITY),
        asking_about_qwen(next(iter(AUTHORIZERS))),
    )
    with applied(lab, *documents), released(lab, controller, provider=provider):
        settles(lab, gateway, 403, QWEN, **SPOOFED)
        # The EnvoyFilter has reached the data plane once bodies no longer decide.
        settles(lab, gateway, 200, QWEN)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
        assert "policy-skipped" in doctor(lab, controller)


@pytest.mark.parametrize("authorizer", AUTHORIZERS)
def test_external_authorization_of_the_gateway_is_asked_for_every_model(lab, gateway, controller, authorizer):
    custom = {"targetRefs": [GATEWAY], "action": "CUSTOM", "provider": {"name": authorizer}, "rules": [{}]}
    with applied(lab, document("AuthorizationPolicy", "ask", custom, SECURITY)):
        for model in (QWEN, PHI):
            settles(lab, gateway, 403, model)
            assert outcome(ask(gateway, Chat(model), **neighbours.LET_IN), model) == "right"
        assert status(gateway, QWEN, **SPOOFED) == 403
        assert "ERROR" not in doctor(lab, controller)


LIMIT = {
    "stat_prefix": "limit",
    "token_bucket": {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "3600s"},
    "filter_enabled": {"default_value": {"numerator": 100}},
    "filter_enforced": {"default_value": {"numerator": 100}},
}
KIND = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
LIMITER = "envoy.filters.http.local_ratelimit"


LAST = {
    "filterChain": {
        "filter": {
            "name": "envoy.filters.network.http_connection_manager",
            "subFilter": {"name": "envoy.filters.http.router"},
        }
    }
}


def limiter(name, typed_config):
    """Return the patch that puts a filter last."""
    value = {"name": name, "typed_config": typed_config}
    match = {"context": "GATEWAY", "listener": LAST}
    return {"applyTo": "HTTP_FILTER", "match": match, "patch": {"operation": "INSERT_BEFORE", "value": value}}


def merged(route, value):
    """Return the patch of a route, or of all that name none."""
    where = {"vhost": {"route": {"name": route}}} if route else {}
    return {
        "applyTo": "HTTP_ROUTE" if route else "VIRTUAL_HOST",
        "match": {"context": "GATEWAY", "routeConfiguration": where},
        "patch": {"operation": "MERGE", "value": value},
    }


def patched(*patches):
    spec = {"targetRefs": [GATEWAY], "configPatches": list(patches)}
    return document("EnvoyFilter", "limit", spec, "networking.istio.io/v1alpha3")


def limited(route):
    """Return an EnvoyFilter with a local limit, Istio's way to one: for a model's route, or for all."""
    if not route:
        return patched(limiter(LIMITER, {"@type": KIND, **LIMIT}))
    own = {"typed_per_filter_config": {LIMITER: {"@type": KIND, **LIMIT}}}
    return patched(limiter(LIMITER, {"@type": KIND, "stat_prefix": "limit"}), merged(route, own))


def limited_together(route):
    """Return one with a limit of several gateways together, counted by Envoy's rate limit service."""
    cluster = f"outbound|{neighbours.COUNTER_GRPC}||{neighbours.host(neighbours.COUNTER)}"
    typed = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": neighbours.DOMAIN_OF_LIMITS,
        "failure_mode_deny": True,
        "rate_limit_service": {
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            "transport_api_version": "V3",
        },
    }
    key = {"descriptor_key": neighbours.LIMIT_KEY, "descriptor_value": route or "all"}
    limits = {"rate_limits": [{"actions": [{"generic_key": key}]}]}
    return patched(
        limiter("envoy.filters.http.ratelimit", typed), merged(route, {"route": limits} if route else limits)
    )


@pytest.mark.parametrize("kind", [limited, limited_together])
def test_a_limit_on_a_model_s_route_behind_the_router_is_enforced_for_that_model_alone(lab, gateway, controller, kind):
    with applied(lab, kind(f"{setting.NAMESPACE}.qwen-model-route.0")):
        settles(lab, gateway, 429, QWEN)
        assert [status(gateway, PHI) for _ in range(5)] == [200] * 5
        assert "ERROR" not in doctor(lab, controller)


@pytest.mark.parametrize("kind", [limited, limited_together])
def test_a_limit_of_the_gateway_is_one_for_all_models(lab, gateway, kind):
    with applied(lab, kind(None)):
        settles(lab, gateway, 429, QWEN)
        assert status(gateway, PHI) == 429


@pytest.mark.parametrize(
    "action", [{"action": "DENY"}, {"action": "CUSTOM", "provider": {"name": next(iter(AUTHORIZERS))}}]
)
def test_an_authorization_policy_for_a_model_s_route_does_nothing(lab, gateway, action):
    """Istio has none for routes. A later one for the Gateway shows that both have reached the data plane."""
    deny = document("AuthorizationPolicy", "qwen", {"targetRefs": [ROUTE], "rules": [{}], **action}, SECURITY)
    rules = [{"when": [{"key": "request.headers[x-canary]", "values": ["1"]}]}]
    canary = document(
        "AuthorizationPolicy", "canary", {"targetRefs": [GATEWAY], "action": "DENY", "rules": rules}, SECURITY
    )
    with applied(lab, deny), applied(lab, canary):
        settles(lab, gateway, 403, PHI, **{"x-canary": "1"})
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
        assert status(gateway, QWEN, **SPOOFED) == 200
