"""What the tests of gateways' policies share: documents, how they are applied and awaited, keys and tokens."""

import contextlib
import json
import sys
from base64 import b64encode, urlsafe_b64encode

import httpx
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from deploy.lab import controllers, releases, setting
from tests.lab.traffic import CHAT, Chat, ask, outcome

QWEN, PHI = "sql-lora", "phi-lora"
ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "qwen-model-route"}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": controllers.GATEWAY}
# What a request can have at first: the catch-all's route, or a model's by a header of its client's own.
EVERY_ROUTE = "body-based-router-catch-all", "qwen-model-route", "phi-model-route"
# Policies of which it is awaited that the gateway accepts them.
WITH_STATUS = ("gateway.envoyproxy.io/", "gateway.kgateway.dev/")
# How a client of old headers would name the route by itself.
SPOOFED = {"x-gateway-base-model-name": setting.QWEN}


def document(kind, name, spec, api="gateway.envoyproxy.io/v1alpha1"):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": setting.NAMESPACE}, "spec": spec}


def secret(name="keys", **data):
    """Return a Secret: of keys, the client's name and its key."""
    encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": name, "namespace": setting.NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded}


@contextlib.contextmanager
def applied(lab, *documents):
    """Apply documents, wait for each policy to be accepted, and delete them at the end."""
    text = yaml.safe_dump_all(documents)
    try:
        lab.apply(text)
        for each in documents:
            if each["apiVersion"].startswith(WITH_STATUS) and each["kind"].endswith("Policy"):
                lab.wait(f"{each['kind']} accepted", lambda each=each: is_accepted(lab, each))
        yield
    finally:
        lab.kubectl("delete", "--wait", "--ignore-not-found", "--filename=-", text=text)


def is_accepted(lab, document):
    meta = document["metadata"]
    found = lab.get(document["kind"], meta["name"], f"--namespace={meta['namespace']}")
    told = controllers.conditions(found)
    return any(name.endswith("/Accepted") and value.startswith("True ") for name, value in told.items())


def status(gateway, model, **headers):
    return ask(gateway, Chat(model), **headers).status_code


def settles(lab, gateway, wanted, model, **headers):
    """Wait until the gateway answers with a status, as its policies have it: they come behind their conditions."""
    lab.wait(f"a {wanted} for {model}", lambda: status(gateway, model, **headers) == wanted)


def preflight(gateway, **headers):
    """Return what a browser's question whether a page of another origin may call the models gets."""
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    return httpx.options(f"http://{gateway}{CHAT}", headers=asked | headers, timeout=60)


def allows(answer):
    return answer.headers.get("access-control-allow-origin") == "https://app.example"


def assert_skipped(lab, gateway, controller, refused):
    """Hold that only clients that send the routing header meet a policy of Qwen's route, and that the doctor says so.

    With the routing header a request has the route from the start: such a test proves nothing.
    """
    settles(lab, gateway, refused, QWEN, **SPOOFED)
    assert [status(gateway, QWEN) for _ in range(5)] == [200] * 5
    assert "policy-skipped" in doctor(lab, controller)


def assert_enforced(lab, gateway, controller, refused, let_in=None):
    """Hold that a policy refuses requests for any model, however they begin, but those with the headers `let_in`."""
    settles(lab, gateway, refused, QWEN)
    settles(lab, gateway, refused, QWEN, **SPOOFED)
    settles(lab, gateway, refused, PHI)
    for model in (QWEN, PHI) if let_in else ():
        assert outcome(ask(gateway, Chat(model), **let_in), model) == "right"
    assert "ERROR" not in doctor(lab, controller)


def doctor(lab, controller):
    """Return what the doctor says of the data plane, once Envoy has found the routers healthy.

    Envoy asks hosts that had no request only once a minute, and it may know the first routers before they listen.
    """
    told = []

    def healthy():
        told.append(_doctor(lab, controller))
        return "endpoints-unhealthy" not in told[-1]

    lab.wait("healthy routers", healthy)
    return told[-1]


def _doctor(lab, controller):
    """Return what the doctor says; it ends with 1 if it finds something."""
    url = f"--envoy-admin=http://127.0.0.1:{controller.admin_port}"
    words = sys.executable, "-m", "bbr", "doctor", url, f"--secure-serving={json.dumps(controller.secure)}"
    uid = controller.pods(lab)[0]["metadata"]["uid"]
    return lab.call_in_pod(uid, "sh", "-c", '"$@" || test $? = 1', "sh", *words)


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
def released(lab, controller, **more):
    """Have the router's chart installed with more values; `controller` is None for the lab's own Envoy."""
    values = setting.values(controller.provider) | controller.values() if controller else setting.values()
    releases.install(lab, "helm", setting.RELEASE, values | more)
    try:
        yield
    finally:
        releases.install(lab, "helm", setting.RELEASE, values)
