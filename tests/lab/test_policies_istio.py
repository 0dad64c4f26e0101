"""AuthorizationPolicy and RequestAuthentication of Istio, which are for the Gateway; the router's filter stands first.

docs/istio.md says what is shown here.
"""

import contextlib

import pytest

from deploy.lab import setting
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


LIMIT = {
    "stat_prefix": "limit",
    "token_bucket": {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "3600s"},
    "filter_enabled": {"default_value": {"numerator": 100}},
    "filter_enforced": {"default_value": {"numerator": 100}},
}
KIND = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
LIMITER = "envoy.filters.http.local_ratelimit"


def limited(per_route):
    """Return an EnvoyFilter with a local limit, Istio's way to one: for a model's route, or for all."""
    last = {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}
    last["filterChain"]["filter"]["subFilter"] = {"name": "envoy.filters.http.router"}
    own = {"stat_prefix": "limit"} if per_route else LIMIT
    patches = [
        {
            "applyTo": "HTTP_FILTER",
            "match": {"context": "GATEWAY", "listener": last},
            "patch": {
                "operation": "INSERT_BEFORE",
                "value": {"name": LIMITER, "typed_config": {"@type": KIND, **own}},
            },
        }
    ]
    if per_route:
        patches.append(
            {
                "applyTo": "HTTP_ROUTE",
                "match": {
                    "context": "GATEWAY",
                    "routeConfiguration": {"vhost": {"route": {"name": per_route}}},
                },
                "patch": {
                    "operation": "MERGE",
                    "value": {"typed_per_filter_config": {LIMITER: {"@type": KIND, **LIMIT}}},
                },
            }
        )
    spec = {"targetRefs": [GATEWAY], "configPatches": patches}
    return document("EnvoyFilter", "limit", spec, "networking.istio.io/v1alpha3")


def test_a_limit_on_a_model_s_route_behind_the_router_is_enforced_for_that_model_alone(lab, gateway, controller):
    with applied(lab, limited(f"{setting.NAMESPACE}.qwen-model-route.0")):
        settles(lab, gateway, 429, QWEN)
        assert [status(gateway, PHI) for _ in range(5)] == [200] * 5
        assert "ERROR" not in doctor(lab, controller)


def test_a_limit_of_the_gateway_is_one_for_all_models(lab, gateway):
    with applied(lab, limited(None)):
        settles(lab, gateway, 429, QWEN)
        assert status(gateway, PHI) == 429


def test_an_authorization_policy_for_a_model_s_route_does_nothing(lab, gateway):
    """Istio has none for routes. A later one for the Gateway shows that both have reached the data plane."""
    deny = document("AuthorizationPolicy", "qwen", {"targetRefs": [ROUTE], "action": "DENY", "rules": [{}]}, SECURITY)
    rules = [{"when": [{"key": "request.headers[x-canary]", "values": ["1"]}]}]
    canary = document(
        "AuthorizationPolicy", "canary", {"targetRefs": [GATEWAY], "action": "DENY", "rules": rules}, SECURITY
    )
    with applied(lab, deny), applied(lab, canary):
        settles(lab, gateway, 403, PHI, **{"x-canary": "1"})
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
        assert status(gateway, QWEN, **SPOOFED) == 200
