"""TrafficPolicy and ListenerPolicy of kgateway: which hold, although the body chooses the route.

docs/kgateway.md says what is shown here.
"""

from base64 import b64encode

import pytest

from deploy.lab import setting
from tests.lab.policies import (
    GATEWAY,
    PHI,
    QWEN,
    ROUTE,
    SPOOFED,
    applied,
    doctor,
    document,
    released,
    secret,
    settles,
    status,
)
from tests.lab.traffic import Chat, ask, outcome

pytestmark = [pytest.mark.gateways("kgateway"), pytest.mark.usefixtures("clean")]

API = "gateway.kgateway.dev/v1alpha1"
KEYS = {
    "apiKeyAuth": {
        "keySources": [{"header": "x-api-key"}],
        "clientIdHeader": "x-client-id",
        "secretRef": {"name": "keys"},
    }
}
DENY = {"rbac": {"action": "Deny", "policy": {"matchExpressions": ["true"]}}}


def policy(target, **spec):
    return document("TrafficPolicy", f"of-{target['kind'].lower()}", {"targetRefs": [target], **spec}, API)


def limit(tokens):
    return {
        "rateLimit": {"local": {"tokenBucket": {"maxTokens": tokens, "tokensPerFill": tokens, "fillInterval": "3600s"}}}
    }


BASIC = {"basicAuth": {"users": ["team-a:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="]}}  # "secret"


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        pytest.param(KEYS, 401, id="API keys"),
        pytest.param(BASIC, 401, id="basic"),
        pytest.param(DENY, 403, id="RBAC"),
        pytest.param(limit(1), 429, id="limit"),
    ],
)
def test_a_policy_on_a_model_s_route_alone_is_not_enforced(lab, gateway, controller, spec, refused):
    with applied(lab, secret(**{"team-a": "key-a"}), policy(ROUTE, **spec)):
        # With the routing header the request has the route from the start: that test proves nothing.
        settles(lab, gateway, refused, QWEN, **SPOOFED)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
        assert "policy-skipped" in doctor(lab, controller)


@pytest.mark.parametrize(
    ("spec", "headers"),
    [
        pytest.param(KEYS, {"x-api-key": "key-a"}, id="API keys"),
        pytest.param(BASIC, {"authorization": "Basic " + b64encode(b"team-a:secret").decode()}, id="basic"),
    ],
)
def test_authentication_on_the_gateway_is_enforced_for_every_model(lab, gateway, controller, spec, headers):
    with applied(lab, secret(**{"team-a": "key-a"}), policy(GATEWAY, **spec)):
        settles(lab, gateway, 401, QWEN)
        assert status(gateway, PHI) == 401
        assert status(gateway, QWEN, **SPOOFED) == 401
        for model in (QWEN, PHI):
            assert outcome(ask(gateway, Chat(model), **headers), model) == "right"
        assert "ERROR" not in doctor(lab, controller)


def test_a_limit_on_the_gateway_is_one_for_all_models(lab, gateway):
    with applied(lab, policy(GATEWAY, **limit(3))):
        settles(lab, gateway, 429, QWEN)
        assert status(gateway, PHI) == 429


def test_a_route_without_the_gateway_s_authentication_is_open_to_clients_that_send_the_header(lab, gateway, controller):
    """It opens the route for nobody else, since requests begin at the catch-all."""
    names = ["x-gateway-base-model-name", "x-gateway-model-name"]
    settings = {"earlyRequestHeaderModifier": {"remove": names}}
    early = document("ListenerPolicy", "early", {"targetRefs": [GATEWAY], "default": {"httpSettings": settings}}, API)
    documents = secret(**{"team-a": "key-a"}), policy(GATEWAY, **KEYS), policy(ROUTE, apiKeyAuth={"disable": {}})
    with applied(lab, *documents):
        settles(lab, gateway, 401, QWEN)
        settles(lab, gateway, 200, QWEN, **SPOOFED)
        assert "policy-bypassed" in doctor(lab, controller)
        with applied(lab, early):
            settles(lab, gateway, 401, QWEN, **SPOOFED)
            assert "ERROR" not in doctor(lab, controller)


@pytest.fixture(scope="module")
def first(lab, controller):
    """The router's filter stands before all others."""
    stage = {"name": controller.provider, "kgateway": {"filterStage": {"stage": "Fault", "predicate": "Before"}}}
    with released(lab, controller, provider=stage):
        yield


@pytest.mark.usefixtures("first")
class TestRouterFirst:
    """What the router says of the model is there before authentication and authorization."""

    def test_authorization_on_a_model_s_route_is_enforced(self, lab, gateway):
        with applied(lab, policy(ROUTE, **DENY)):
            settles(lab, gateway, 403, QWEN)
            assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
            assert outcome(ask(gateway, Chat(PHI), **SPOOFED), PHI) == "right"

    def test_who_may_use_which_model_holds_against_clients_own_headers(self, lab, gateway, controller):
        """The recipe: keys on the Gateway, and a rule of the route about the client that they name."""
        rule = {"action": "Allow", "policy": {"matchExpressions": ["request.headers['x-client-id'] == 'team-a'"]}}
        documents = (
            secret(**{"team-a": "key-a", "team-b": "key-b"}),
            policy(GATEWAY, **KEYS),
            policy(ROUTE, rbac=rule),
        )
        a, b, own = {"x-api-key": "key-a"}, {"x-api-key": "key-b"}, {"x-client-id": "team-a"}
        with applied(lab, *documents):
            settles(lab, gateway, 401, QWEN)
            settles(lab, gateway, 403, QWEN, **b)
            assert outcome(ask(gateway, Chat(QWEN), **a), QWEN) == "right"
            assert outcome(ask(gateway, Chat(PHI), **b), PHI) == "right"
            for headers in (SPOOFED, own, SPOOFED | own, {"x-gateway-base-model-name": setting.PHI} | own):
                assert status(gateway, QWEN, **headers) == 401, headers
                assert status(gateway, QWEN, **headers, **b) == 403, headers
            assert "ERROR" not in doctor(lab, controller)
