"""Policies of real gateways on a model's route and on the Gateway: which hold, although the body chooses the route.

Each gateway's guide says what is shown here.
"""

import contextlib
import json
from base64 import b64encode, urlsafe_b64encode

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from deploy.lab import controllers, setting
from deploy.lab import lab as stand
from tests.lab.traffic import Chat, ask, outcome

QWEN, PHI = "sql-lora", "phi-lora"
ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "qwen-model-route"}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": controllers.GATEWAY}
# How a client of old headers would name the route by itself.
SPOOFED = {"x-gateway-base-model-name": setting.QWEN}


def document(kind, name, spec, api="gateway.envoyproxy.io/v1alpha1"):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": setting.NAMESPACE}, "spec": spec}


def keys(**of_clients):
    data = {client: b64encode(key.encode()).decode() for client, key in of_clients.items()}
    meta = {"name": "keys", "namespace": setting.NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}


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


@contextlib.contextmanager
def applied(lab, *documents):
    """Apply documents, wait for each policy to be accepted, and delete them at the end."""
    text = yaml.safe_dump_all(documents)
    lab.apply(text)
    try:
        for each in documents:
            if each["apiVersion"].startswith("gateway.envoyproxy.io/") and each["kind"].endswith("Policy"):
                lab.wait(f"{each['kind']} accepted", lambda each=each: is_accepted(lab, each), seconds=60)
        yield
    finally:
        lab.kubectl("delete", "--wait", "--filename=-", text=text)


def is_accepted(lab, document):
    meta = document["metadata"]
    found = lab.get(document["kind"], meta["name"], f"--namespace={meta['namespace']}")
    return "True Accepted" in controllers.conditions(found).values()


def status(gateway, model, **headers):
    return ask(gateway, Chat(model), **headers).status_code


def settles(lab, gateway, wanted, model, **headers):
    """Wait until the gateway answers with a status, as its policies have it: they come behind their conditions."""
    lab.wait(f"a {wanted} for {model}", lambda: status(gateway, model, **headers) == wanted, seconds=60)


@pytest.fixture
def clean(lab, gateway):
    """Requests go through without any policy, before and after."""
    for model in (QWEN, PHI):
        settles(lab, gateway, 200, model)
    yield
    for model in (QWEN, PHI):
        settles(lab, gateway, 200, model)


@pytest.mark.gateways("envoy-gateway")
@pytest.mark.usefixtures("clean")
class TestEnvoyGateway:
    """SecurityPolicy, BackendTrafficPolicy and ClientTrafficPolicy of Envoy Gateway."""

    def test_authentication_on_a_model_s_route_alone_is_not_enforced(self, lab, gateway):
        with applied(lab, keys(**{"team-a": "key-a"}), key_auth(ROUTE)):
            # With the routing header the request has the route from the start: that test proves nothing.
            settles(lab, gateway, 401, QWEN, **SPOOFED)
            assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5

    def test_authentication_on_the_gateway_is_enforced_for_every_model(self, lab, gateway):
        with applied(lab, keys(**{"team-a": "key-a"}), key_auth(GATEWAY)):
            settles(lab, gateway, 401, QWEN)
            assert status(gateway, PHI) == 401
            assert status(gateway, QWEN, **SPOOFED) == 401
            for model in (QWEN, PHI):
                assert outcome(ask(gateway, Chat(model), **{"x-api-key": "key-a"}), model) == "right"

    def test_authorization_on_a_model_s_route_is_enforced(self, lab, gateway):
        deny = {"targetRefs": [ROUTE], "authorization": {"defaultAction": "Deny"}}
        with applied(lab, document("SecurityPolicy", "deny", deny)):
            settles(lab, gateway, 403, QWEN)
            assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
            assert outcome(ask(gateway, Chat(PHI)), PHI) == "right"

    def test_a_limit_on_a_model_s_route_is_enforced_for_that_model_alone(self, lab, gateway):
        rules = [{"limit": {"requests": 3, "unit": "Hour"}}]
        spec = {"targetRefs": [ROUTE], "rateLimit": {"local": {"rules": rules}}}
        with applied(lab, document("BackendTrafficPolicy", "limit", spec)):
            settles(lab, gateway, 429, QWEN)
            assert [status(gateway, PHI) for _ in range(5)] == [200] * 5

    def test_who_may_use_which_model_holds_against_clients_own_headers(self, lab, gateway):
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
            keys(**{"team-a": "key-a", "team-b": "key-b"}),
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

    def test_a_route_s_policy_takes_the_place_of_the_gateway_s_and_opens_it_to_clients_own_headers(self, lab, gateway):
        """Why the recipe merges: a route's policy without authentication has none, and clients can begin there."""
        allowed = [{"action": "Allow", "principal": {"headers": [{"name": "x-client-id", "values": ["team-a"]}]}}]
        spec = {"targetRefs": [ROUTE], "authorization": {"defaultAction": "Deny", "rules": allowed}}
        documents = keys(**{"team-a": "key-a"}), key_auth(GATEWAY), document("SecurityPolicy", "qwen", spec)
        with applied(lab, *documents):
            settles(lab, gateway, 401, QWEN)
            settles(lab, gateway, 200, QWEN, **SPOOFED, **{"x-client-id": "team-a"})


def base64url(octets):
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


class Issuer:
    """Signs tokens, and shows the key by which they are verified."""

    NAME = "https://issuer.example"

    def __init__(self):
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def keys(self):
        numbers = self._key.public_key().public_numbers()
        n, e = (base64url(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.n, numbers.e))
        return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": n, "e": e}]})

    def token(self, subject):
        parts = {"alg": "RS256", "typ": "JWT", "kid": "1"}, {"iss": self.NAME, "sub": subject, "exp": 4102444800}
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{text}.{base64url(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@contextlib.contextmanager
def placed(lab, controller, *, behind_token_checks):
    """Have the router's filter behind Istio's check of tokens, or where it is."""
    if not behind_token_checks:
        yield
        return
    values = setting.values(controller.provider) | controller.values()
    place = {"operation": "INSERT_AFTER", "anchorSubFilter": "envoy.filters.http.jwt_authn"}
    provider = {"name": controller.provider, "istio": {"envoyFilter": place}}
    stand.release(lab, "helm", setting.RELEASE, values | {"provider": provider})
    try:
        yield
    finally:
        stand.release(lab, "helm", setting.RELEASE, values)


@pytest.mark.gateways("istio")
@pytest.mark.usefixtures("clean")
class TestIstio:
    """AuthorizationPolicy and RequestAuthentication of Istio, which are for the Gateway; the filter stands first."""

    SECURITY = "security.istio.io/v1"
    BASE = "request.headers[x-gateway-base-model-name]"

    def test_a_rule_about_the_routing_header_is_enforced_for_models_named_in_bodies(self, lab, gateway):
        spec = {
            "targetRefs": [GATEWAY],
            "action": "DENY",
            "rules": [{"when": [{"key": self.BASE, "values": [setting.QWEN]}]}],
        }
        with applied(lab, document("AuthorizationPolicy", "qwen", spec, self.SECURITY)):
            settles(lab, gateway, 403, QWEN)
            assert status(gateway, QWEN, **{"x-gateway-base-model-name": setting.PHI}) == 403
            assert outcome(ask(gateway, Chat(PHI), **SPOOFED), PHI) == "right"

    @pytest.mark.parametrize("behind_token_checks", [False, True])
    def test_who_may_use_which_model_by_the_subject_of_a_token(self, lab, gateway, controller, behind_token_checks):
        """The guide's recipe, with the filter where the chart puts it, and behind the check of tokens."""
        with placed(lab, controller, behind_token_checks=behind_token_checks):
            self._who_may_use_which_model(lab, gateway)

    def _who_may_use_which_model(self, lab, gateway):
        issuer = Issuer()
        rule = {"issuer": issuer.NAME, "jwks": issuer.keys()}
        everybody = {"from": [{"source": {"requestPrincipals": [f"{issuer.NAME}/*"]}}]}
        phi = everybody | {"when": [{"key": self.BASE, "values": [setting.PHI]}]}
        a = {"from": [{"source": {"requestPrincipals": [f"{issuer.NAME}/team-a"]}}]}
        documents = (
            document("RequestAuthentication", "tokens", {"targetRefs": [GATEWAY], "jwtRules": [rule]}, self.SECURITY),
            document(
                "AuthorizationPolicy",
                "models",
                {"targetRefs": [GATEWAY], "action": "ALLOW", "rules": [phi, a]},
                self.SECURITY,
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
