"""TrafficPolicy and ListenerPolicy of kgateway: which hold, although the body chooses the route.

docs/kgateway.md says what is shown here.
"""

import pytest

from tests.lab.policies import (
    GATEWAY,
    PHI,
    QWEN,
    ROUTE,
    SPOOFED,
    applied,
    document,
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


def test_authentication_on_a_model_s_route_alone_is_not_enforced(lab, gateway):
    with applied(lab, secret(**{"team-a": "key-a"}), policy(ROUTE, **KEYS)):
        settles(lab, gateway, 401, QWEN, **SPOOFED)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5


def test_authentication_on_the_gateway_is_enforced_for_every_model(lab, gateway):
    with applied(lab, secret(**{"team-a": "key-a"}), policy(GATEWAY, **KEYS)):
        settles(lab, gateway, 401, QWEN)
        assert status(gateway, PHI) == 401
        assert status(gateway, QWEN, **SPOOFED) == 401
        for model in (QWEN, PHI):
            assert outcome(ask(gateway, Chat(model), **{"x-api-key": "key-a"}), model) == "right"


def test_authorization_on_a_model_s_route_is_not_enforced(lab, gateway):
    with applied(lab, policy(ROUTE, **DENY)):
        settles(lab, gateway, 403, QWEN, **SPOOFED)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5


def test_a_limit_on_a_model_s_route_alone_is_not_enforced(lab, gateway):
    limit = {"tokenBucket": {"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"}}
    with applied(lab, policy(ROUTE, rateLimit={"local": limit})):
        settles(lab, gateway, 429, QWEN, **SPOOFED)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5


def test_a_limit_on_the_gateway_is_one_for_all_models(lab, gateway):
    limit = {"tokenBucket": {"maxTokens": 3, "tokensPerFill": 3, "fillInterval": "3600s"}}
    with applied(lab, policy(GATEWAY, rateLimit={"local": limit})):
        settles(lab, gateway, 429, QWEN)
        assert status(gateway, PHI) == 429
