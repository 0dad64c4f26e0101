"""TrafficPolicy and ListenerPolicy of kgateway: which hold, although the body chooses the route.

docs/kgateway.md says what is shown here.
"""

from base64 import b64encode

import pytest

from deploy.lab import setting
from tests.lab import neighbours
from tests.lab.policies import (
    EVERY_ROUTE,
    GATEWAY,
    PHI,
    QWEN,
    ROUTE,
    SPOOFED,
    Issuer,
    allows,
    applied,
    assert_enforced,
    assert_skipped,
    doctor,
    document,
    preflight,
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
LOGIN = {
    "backendRef": {"name": neighbours.AUTHORIZER, "port": neighbours.AUTHORIZER_HTTP},
    "authorizationEndpoint": f"{Issuer.NAME}/authorize",
    "tokenEndpoint": f"{Issuer.NAME}/token",
    "credentials": {"clientID": "client", "clientSecretRef": {"name": "login"}},
}
ABOUT_QWEN = f"request.headers['x-gateway-base-model-name'] == '{setting.QWEN}'"
DENY = {"rbac": {"action": "Deny", "policy": {"matchExpressions": ["true"]}}}
BASIC = {"basicAuth": {"users": ["team-a:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="]}}  # "secret"
ISSUER = Issuer()


def policy(target, **spec):
    return document("TrafficPolicy", f"of-{target['kind'].lower()}", {"targetRefs": [target], **spec}, API)


def limit(tokens):
    bucket = {"maxTokens": tokens, "tokensPerFill": tokens, "fillInterval": "3600s"}
    return {"rateLimit": {"local": {"tokenBucket": bucket}}}


def global_limit(name):
    """Return a limit of several gateways together, whose count is of this name."""
    entry = {"type": "Generic", "generic": {"key": neighbours.LIMIT_KEY, "value": name}}
    return {"rateLimit": {"global": {"descriptors": [{"entries": [entry]}], "extensionRef": {"name": "limits"}}}}


def extension(name, **spec):
    return document("GatewayExtension", name, spec, API)


def backend(name, port):
    return {"backendRef": {"name": name, "port": port}}


PROVIDER = {"name": "p", "issuer": Issuer.NAME, "jwks": {"local": {"inline": ISSUER.keys()}}}
LIMITS = {"grpcService": backend(neighbours.COUNTER, neighbours.COUNTER_GRPC), "domain": neighbours.DOMAIN_OF_LIMITS}
EXTENSIONS = [
    extension("tokens", jwt={"providers": [PROVIDER]}),
    extension("grpc", extAuth={"grpcService": backend(neighbours.AUTHORIZER, neighbours.AUTHORIZER_GRPC)}),
    extension(
        "http",
        extAuth={
            "httpService": backend(neighbours.AUTHORIZER, neighbours.AUTHORIZER_HTTP),
            "headersToForward": list(neighbours.LET_IN),
        },
    ),
    extension("limits", rateLimit=LIMITS),
    # Nobody is logged in, since there is no provider here: it sends browsers to the login.
    secret("login", **{"client-secret": "secret"}),
    extension("login", oauth2=LOGIN),
]


@pytest.fixture(scope="module", autouse=True)
def asked(lab):
    """The servers that policies may name, and their GatewayExtensions."""
    with neighbours.running(lab, [*neighbours.authorizer(), *neighbours.counter(), *EXTENSIONS]):
        yield


# What authenticates -> what the policy says, a client's headers, and the status without them.
KINDS = {
    "API keys": (KEYS, {"x-api-key": "key-a"}, 401),
    "basic": (BASIC, {"authorization": "Basic " + b64encode(b"team-a:secret").decode()}, 401),
    "JWT": (
        {"jwtAuth": {"extensionRef": {"name": "tokens"}}},
        {"authorization": f"Bearer {ISSUER.token('team-a')}"},
        401,
    ),
    "ext auth, gRPC": ({"extAuth": {"extensionRef": {"name": "grpc"}}}, neighbours.LET_IN, 403),
    "ext auth, HTTP": ({"extAuth": {"extensionRef": {"name": "http"}}}, neighbours.LET_IN, 403),
}
# The others of those that can refuse a request -> what the policy says, and the status.
OTHERS = {
    "RBAC": (DENY, 403),
    "OAuth2": ({"oauth2": {"extensionRef": {"name": "login"}}}, 302),
    "local limit": (limit(1), 429),
    "global limit": (global_limit("route"), 429),
    "CSRF": ({"csrf": {"percentageEnabled": 100}}, 403),
    "fault": ({"faultInjection": {"abort": {"httpStatus": 418, "percentage": 100}}}, 418),
}
ON_ROUTES = {kind: (spec, refused) for kind, (spec, _, refused) in KINDS.items()} | OTHERS


@pytest.mark.parametrize("kind", ON_ROUTES)
def test_a_policy_on_a_model_s_route_alone_is_not_enforced(lab, gateway, controller, kind):
    spec, refused = ON_ROUTES[kind]
    with applied(lab, secret(**{"team-a": "key-a"}), policy(ROUTE, **spec)):
        assert_skipped(lab, gateway, controller, refused)


@pytest.mark.parametrize("kind", KINDS)
def test_authentication_on_the_gateway_is_enforced_for_every_model(lab, gateway, controller, kind):
    spec, headers, refused = KINDS[kind]
    with applied(lab, secret(**{"team-a": "key-a"}), policy(GATEWAY, **spec)):
        assert_enforced(lab, gateway, controller, refused, headers)


@pytest.mark.parametrize("kind", OTHERS)
def test_another_policy_on_the_gateway_is_one_for_all_models(lab, gateway, kind):
    spec, refused = OTHERS[kind]
    own = global_limit("gateway") if kind == "global limit" else spec
    with applied(lab, policy(GATEWAY, **own)):
        settles(lab, gateway, refused, QWEN)
        assert status(gateway, PHI) == refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_on_every_route_is_enforced_as_on_the_gateway(lab, gateway, controller, kind):
    """The catch-all's is for what is named in bodies, those of the models' routes for clients' own headers."""
    spec, headers, refused = KINDS[kind]
    targets = {"targetRefs": [ROUTE | {"name": name} for name in EVERY_ROUTE]}
    with applied(lab, secret(**{"team-a": "key-a"}), document("TrafficPolicy", "of-routes", targets | spec, API)):
        assert_enforced(lab, gateway, controller, refused, headers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_route_without_the_gateway_s_authentication_is_open_to_clients_that_send_the_header(
    lab, gateway, controller, kind
):
    """It opens the route for nobody else, since requests begin at the catch-all."""
    spec, _, refused = KINDS[kind]
    names = ["x-gateway-base-model-name", "x-gateway-model-name"]
    settings = {"earlyRequestHeaderModifier": {"remove": names}}
    early = document("ListenerPolicy", "early", {"targetRefs": [GATEWAY], "default": {"httpSettings": settings}}, API)
    (name,) = spec
    documents = secret(**{"team-a": "key-a"}), policy(GATEWAY, **spec), policy(ROUTE, **{name: {"disable": {}}})
    with applied(lab, *documents):
        settles(lab, gateway, refused, QWEN)
        settles(lab, gateway, 200, QWEN, **SPOOFED)
        assert "policy-bypassed" in doctor(lab, controller)
        with applied(lab, early):
            settles(lab, gateway, refused, QWEN, **SPOOFED)
            assert "ERROR" not in doctor(lab, controller)


def no_qwen(target):
    return policy(target, rbac={"action": "Deny", "policy": {"matchExpressions": [ABOUT_QWEN]}})


def test_a_rule_of_the_gateway_about_the_model_sees_the_header_as_clients_send_it(lab, gateway, controller):
    with applied(lab, no_qwen(GATEWAY)):
        settles(lab, gateway, 403, PHI, **SPOOFED)
        assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
        assert "policy-skipped" in doctor(lab, controller)


def test_cors_on_a_model_s_route_is_of_no_use_to_a_browser(lab, gateway, controller):
    """Its preflight request names no model. What works is shown by test_cors.py."""
    cors = {"allowOrigins": ["https://app.example"], "allowMethods": ["POST"], "allowHeaders": ["content-type"]}
    with applied(lab, policy(ROUTE, cors=cors)):
        lab.wait("an answer to a preflight request", lambda: allows(preflight(gateway, **SPOOFED)))
        assert not allows(preflight(gateway))
        assert "cors-preflight-fails" in doctor(lab, controller)


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

    def test_a_rule_of_the_gateway_about_the_model_is_enforced(self, lab, gateway, controller):
        with applied(lab, no_qwen(GATEWAY)):
            settles(lab, gateway, 403, QWEN)
            assert outcome(ask(gateway, Chat(PHI), **SPOOFED), PHI) == "right"
            assert "ERROR" not in doctor(lab, controller)

    @pytest.mark.parametrize("kind", [kind for kind in ON_ROUTES if kind != "RBAC"])
    def test_any_other_policy_on_a_model_s_route_is_still_not_enforced(self, lab, gateway, controller, kind):
        """Its filter is in no chain but that of requests that begin there."""
        spec, refused = ON_ROUTES[kind]
        with applied(lab, secret(**{"team-a": "key-a"}), policy(ROUTE, **spec)):
            assert_skipped(lab, gateway, controller, refused)

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
