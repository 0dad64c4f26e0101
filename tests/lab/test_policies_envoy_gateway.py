"""SecurityPolicy, BackendTrafficPolicy and ClientTrafficPolicy of Envoy Gateway: which hold, although the body routes.

docs/envoy-gateway.md says what is shown here.
"""

import hashlib
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
    secret,
    settles,
    status,
)
from tests.lab.traffic import Chat, ask, outcome

pytestmark = [pytest.mark.gateways("envoy-gateway"), pytest.mark.usefixtures("clean")]


def key_auth(target, **more):
    spec = {
        "targetRefs": [target],
        "apiKeyAuth": {
            "credentialRefs": [{"group": "", "kind": "Secret", "name": "keys"}],
            "extractFrom": [{"headers": ["x-api-key"]}],
            "forwardClientIDHeader": "x-client-id",
            "sanitize": True,
        },
    }
    return document("SecurityPolicy", target["kind"].lower(), spec | more)


def password_of(name, password):
    digest = b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
    return f"{name}:{{SHA}}{digest}"


def backend(port):
    return {"backendRefs": [{"name": neighbours.AUTHORIZER, "port": port}]}


@pytest.fixture(scope="module", autouse=True)
def asked(lab):
    """What external authorization asks."""
    with neighbours.running(lab, neighbours.authorizer()):
        yield


ISSUER = Issuer()
# What authenticates -> the Secret that it needs, what the policy says, a client's headers, and the status without them.
KINDS = {
    "API keys": (
        secret(**{"team-a": "key-a"}),
        {
            "apiKeyAuth": {
                "credentialRefs": [{"group": "", "kind": "Secret", "name": "keys"}],
                "extractFrom": [{"headers": ["x-api-key"]}],
            }
        },
        {"x-api-key": "key-a"},
        401,
    ),
    "basic": (
        secret("users", **{".htpasswd": password_of("team-a", "secret")}),
        {"basicAuth": {"users": {"name": "users"}}},
        {"authorization": "Basic " + b64encode(b"team-a:secret").decode()},
        401,
    ),
    "JWT": (
        secret(),
        {
            "jwt": {
                "providers": [
                    {"name": "p", "issuer": Issuer.NAME, "localJWKS": {"type": "Inline", "inline": ISSUER.keys()}}
                ]
            }
        },
        {"authorization": f"Bearer {ISSUER.token('team-a')}"},
        401,
    ),
    "ext auth, gRPC": (
        secret(),
        {"extAuth": {"grpc": backend(neighbours.AUTHORIZER_GRPC), "headersToExtAuth": list(neighbours.LET_IN)}},
        neighbours.LET_IN,
        403,
    ),
    "ext auth, HTTP": (
        secret(),
        {"extAuth": {"http": backend(neighbours.AUTHORIZER_HTTP), "headersToExtAuth": list(neighbours.LET_IN)}},
        neighbours.LET_IN,
        403,
    ),
    # Nobody is logged in, since there is no provider here: it sends browsers to the login.
    "OIDC": (
        secret("oidc", **{"client-secret": "secret"}),
        {
            "oidc": {
                "provider": {
                    "issuer": Issuer.NAME,
                    "authorizationEndpoint": f"{Issuer.NAME}/authorize",
                    "tokenEndpoint": f"{Issuer.NAME}/token",
                },
                "clientID": "client",
                "clientSecret": {"name": "oidc"},
                "redirectURL": "https://models.example/oauth2/callback",
                "logoutPath": "/logout",
            }
        },
        None,
        302,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_authentication_on_a_model_s_route_alone_is_not_enforced(lab, gateway, controller, kind):
    kept, spec, _, refused = KINDS[kind]
    with applied(lab, kept, document("SecurityPolicy", "route", {"targetRefs": [ROUTE], **spec})):
        assert_skipped(lab, gateway, controller, refused)


@pytest.mark.parametrize("kind", KINDS)
def test_authentication_on_the_gateway_is_enforced_for_every_model(lab, gateway, controller, kind):
    kept, spec, headers, refused = KINDS[kind]
    with applied(lab, kept, document("SecurityPolicy", "gateway", {"targetRefs": [GATEWAY], **spec})):
        assert_enforced(lab, gateway, controller, refused, headers)


@pytest.mark.parametrize("kind", KINDS)
def test_authentication_on_every_route_is_enforced_as_on_the_gateway(lab, gateway, controller, kind):
    """The catch-all's is for what is named in bodies, those of the models' routes for clients' own headers."""
    kept, spec, headers, refused = KINDS[kind]
    targets = [ROUTE | {"name": name} for name in EVERY_ROUTE]
    with applied(lab, kept, document("SecurityPolicy", "routes", {"targetRefs": targets, **spec})):
        assert_enforced(lab, gateway, controller, refused, headers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_route_s_policy_without_authentication_opens_it_to_clients_that_send_the_header(
    lab, gateway, controller, kind
):
    """Why the recipe merges: the route's policy takes the place of the Gateway's, and clients can begin there."""
    kept, spec, _, refused = KINDS[kind]
    allowed = [{"action": "Allow", "principal": {"headers": [{"name": "x-client-id", "values": ["team-a"]}]}}]
    route = {"targetRefs": [ROUTE], "authorization": {"defaultAction": "Deny", "rules": allowed}}
    documents = (
        kept,
        document("SecurityPolicy", "gateway", {"targetRefs": [GATEWAY], **spec}),
        document("SecurityPolicy", "route", route),
    )
    with applied(lab, *documents):
        settles(lab, gateway, refused, QWEN)
        settles(lab, gateway, 200, QWEN, **SPOOFED, **{"x-client-id": "team-a"})
        assert "policy-bypassed" in doctor(lab, controller)


def test_who_may_use_which_model_by_the_subject_of_a_token(lab, gateway, controller):
    """The recipe for tokens: the Gateway checks them, and so does the route's policy, which looks at their claims."""
    _, spec, *_ = KINDS["JWT"]
    principal = {"jwt": {"provider": "p", "claims": [{"name": "sub", "values": ["team-a"]}]}}
    rules = [{"action": "Allow", "principal": principal}]
    route = {"targetRefs": [ROUTE], **spec, "authorization": {"defaultAction": "Deny", "rules": rules}}
    documents = (
        document("SecurityPolicy", "gateway", {"targetRefs": [GATEWAY], **spec}),
        document("SecurityPolicy", "route", route),
    )
    tokens = {name: {"authorization": f"Bearer {ISSUER.token(name)}"} for name in ("team-a", "team-b")}
    with applied(lab, *documents):
        settles(lab, gateway, 401, QWEN)
        settles(lab, gateway, 403, QWEN, **tokens["team-b"])
        assert outcome(ask(gateway, Chat(QWEN), **tokens["team-a"]), QWEN) == "right"
        assert outcome(ask(gateway, Chat(PHI), **tokens["team-b"]), PHI) == "right"
        assert status(gateway, QWEN, **tokens["team-b"], **SPOOFED) == 403
        assert status(gateway, QWEN, **SPOOFED) == 401
        assert "ERROR" not in doctor(lab, controller)


# Others that can refuse a request -> the kind of policy, what it says, and the status.
OTHERS = {
    "CSRF": ("SecurityPolicy", {"csrf": {"additionalOrigins": ["https://app.example"]}}, 403),
    "fault": ("BackendTrafficPolicy", {"faultInjection": {"abort": {"httpStatus": 418, "percentage": 100}}}, 418),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_policy_on_a_model_s_route_alone_is_not_enforced(lab, gateway, controller, name):
    kind, spec, refused = OTHERS[name]
    with applied(lab, document(kind, "route", {"targetRefs": [ROUTE], **spec})):
        assert_skipped(lab, gateway, controller, refused)


@pytest.mark.parametrize("name", OTHERS)
def test_another_policy_on_the_gateway_is_enforced_for_every_model(lab, gateway, controller, name):
    kind, spec, refused = OTHERS[name]
    with applied(lab, document(kind, "gateway", {"targetRefs": [GATEWAY], **spec})):
        assert_enforced(lab, gateway, controller, refused)


def test_cors_on_a_model_s_route_is_of_no_use_to_a_browser(lab, gateway, controller):
    """Its preflight request names no model. What works is shown by test_cors.py."""
    cors = {"allowOrigins": ["https://app.example"], "allowMethods": ["POST"], "allowHeaders": ["content-type"]}
    with applied(lab, document("SecurityPolicy", "route", {"targetRefs": [ROUTE], "cors": cors})):
        lab.wait("an answer to a preflight request", lambda: allows(preflight(gateway, **SPOOFED)))
        assert not allows(preflight(gateway))
        assert "cors-preflight-fails" in doctor(lab, controller)


def test_authorization_on_a_model_s_route_is_enforced(lab, gateway):
    deny = {"targetRefs": [ROUTE], "authorization": {"defaultAction": "Deny"}}
    with applied(lab, document("SecurityPolicy", "deny", deny)):
        settles(lab, gateway, 403, QWEN)
        assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
        assert outcome(ask(gateway, Chat(PHI)), PHI) == "right"


def test_a_limit_on_a_model_s_route_is_enforced_for_that_model_alone(lab, gateway):
    rules = [{"limit": {"requests": 3, "unit": "Hour"}}]
    spec = {"targetRefs": [ROUTE], "rateLimit": {"local": {"rules": rules}}}
    with applied(lab, document("BackendTrafficPolicy", "limit", spec)):
        settles(lab, gateway, 429, QWEN)
        assert [status(gateway, PHI) for _ in range(5)] == [200] * 5


def test_a_limit_of_several_gateways_on_a_model_s_route_is_enforced_for_that_model_alone(lab, gateway, controller):
    rules = [{"limit": {"requests": 3, "unit": "Hour"}}]
    spec = {"targetRefs": [ROUTE], "rateLimit": {"type": "Global", "global": {"rules": rules}}}
    with applied(lab, document("BackendTrafficPolicy", "limit", spec)):
        settles(lab, gateway, 429, QWEN)
        assert [status(gateway, PHI) for _ in range(5)] == [200] * 5
        assert "ERROR" not in doctor(lab, controller)


def test_a_limit_on_the_gateway_is_one_for_each_route_that_a_request_ends_at(lab, gateway):
    rules = [{"limit": {"requests": 3, "unit": "Hour"}}]
    spec = {"targetRefs": [GATEWAY], "rateLimit": {"local": {"rules": rules}}}
    with applied(lab, document("BackendTrafficPolicy", "limit", spec)):
        settles(lab, gateway, 429, QWEN)
        assert [status(gateway, PHI) for _ in range(4)] == [200, 200, 200, 429]


def test_who_may_use_which_model_holds_against_clients_own_headers(lab, gateway, controller):
    """The recipe: keys on the Gateway, merged into the route's policy, and no routing headers from outside."""
    allowed = [{"action": "Allow", "principal": {"headers": [{"name": "x-client-id", "values": ["team-a"]}]}}]
    spec = {
        "targetRefs": [ROUTE],
        "mergeType": "StrategicMerge",
        "authorization": {"defaultAction": "Deny", "rules": allowed},
    }
    names = ["x-gateway-base-model-name", "x-gateway-model-name", "x-client-id"]
    early = {"targetRefs": [GATEWAY], "headers": {"earlyRequestHeaders": {"remove": names}}}
    documents = (
        secret(**{"team-a": "key-a", "team-b": "key-b"}),
        key_auth(GATEWAY),
        document("SecurityPolicy", "qwen", spec),
        document("ClientTrafficPolicy", "no-routing-headers", early),
    )
    with applied(lab, *documents):
        settles(lab, gateway, 401, QWEN)
        settles(lab, gateway, 403, QWEN, **{"x-api-key": "key-b"})
        a, b = {"x-api-key": "key-a"}, {"x-api-key": "key-b"}
        own = {"x-client-id": "team-a"}
        assert outcome(ask(gateway, Chat(QWEN), **a), QWEN) == "right"
        assert outcome(ask(gateway, Chat(PHI), **b), PHI) == "right"
        for headers in (SPOOFED, own, SPOOFED | own):
            assert status(gateway, QWEN, **headers) == 401, headers
            assert status(gateway, QWEN, **headers, **b) == 403, headers
        assert "ERROR" not in doctor(lab, controller)
