"""Adapters that the router learns from the model servers, with the rights that the chart gives for it."""

import contextlib
import json

import pytest
import yaml

from bench.harness.certificates import Authority
from deploy.lab import lab as stand
from deploy.lab import parts, releases, setting
from tests.lab import neighbours, servers
from tests.lab.policies import document, secret
from tests.lab.router import ACCOUNT, DEPLOYMENT, IN_NAMESPACE, config_map
from tests.lab.traffic import Chat, answered_model, ask

ROLE = f"{ACCOUNT}-reader"
READS = ["list", "watch"]
POOLS = ["inference.networking.k8s.io", "inference.networking.x-k8s.io"]
# All that the router may do, with discovery and without it.
ALWAYS = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": READS},
    {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": READS},
]
FOR_DISCOVERY = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": READS},
    {"apiGroups": POOLS, "resources": ["inferencepools"], "verbs": READS},
]


@pytest.fixture(scope="module", autouse=True)
def discovering(lab, router):
    """The router asks the model servers each second."""
    values = setting.values()
    bbr = values["bbr"] | {"discoverAdapters": {"enabled": True, "intervalSeconds": 1}}
    without = rules(lab)
    releases.install(lab, "helm", setting.RELEASE, values | {"bbr": bbr})
    try:
        yield without
    finally:
        releases.install(lab, "helm", setting.RELEASE, values)
        router.until_named(setting.SPARE, there=False)


def rules(lab):
    """Return the rules of the router's Role."""
    return lab.get("role", ROLE, IN_NAMESPACE)["rules"]


def patch(lab, wanted):
    operation = [{"op": "replace", "path": "/rules", "value": wanted}]
    lab.kubectl("patch", "role", ROLE, IN_NAMESPACE, "--type=json", f"--patch={json.dumps(operation)}")


@contextlib.contextmanager
def without(lab, verb, resources):
    """Take a right away, and have all routers begin anew."""
    before = rules(lab)
    left = [
        rule | {"verbs": [each for each in rule["verbs"] if each != verb]}
        if resources & set(rule["resources"])
        else rule
        for rule in before
    ]
    assert left != before
    try:
        patch(lab, [rule for rule in left if rule["verbs"]])
        lab.kubectl("rollout", "restart", f"deployment/{DEPLOYMENT}", IN_NAMESPACE)
        stand.rollout(lab, DEPLOYMENT)
        yield
    finally:
        patch(lab, before)


def test_what_the_servers_have_and_nobody_has_declared_is_routed(router, gateway):
    router.until_named(setting.SPARE)
    for table in router.page("/debug/models"):
        (found,) = [each for each in table.json()["models"] if each["name"] == setting.SPARE]
        pool = {"kind": "the servers of InferencePool", "namespace": setting.NAMESPACE, "name": "qwen-pool"}
        assert found["declared_by"] == pool | {"line": None}
    for _ in range(4):
        answer = ask(gateway, Chat(setting.SPARE))
        assert (answer.status_code, answered_model(answer)) == (200, setting.SPARE)
        assert answer.headers["x-inference-pod"].startswith("qwen-server-")


def test_an_adapter_is_known_as_soon_as_the_servers_have_loaded_it_and_until_they_have_unloaded_it(
    lab, router, gateway
):
    name = "fresh-lora"
    assert "model_not_found" in ask(gateway, Chat(name)).text
    servers.load(lab, "phi", name)
    try:
        router.until_named(name)
        answer = ask(gateway, Chat(name))
        assert (answer.status_code, answered_model(answer)) == (200, name)
        assert answer.headers["x-inference-pod"].startswith("phi-server-")
    finally:
        servers.unload(lab, "phi", name)
    router.until_named(name, there=False)
    assert "model_not_found" in ask(gateway, Chat(name)).text


def test_the_servers_of_one_model_cannot_take_over_another_s_name(lab, router, gateway):
    """Declared, or routed already: it stays where it is, and the router says so."""
    router.until_named(setting.SPARE)
    for name in ("sql-lora", setting.SPARE):
        servers.load(lab, "phi", name)
    try:
        lab.wait(
            "the routers say that it is contested",
            lambda: all(f"{setting.SPARE}" in told for told in problems(router)),
        )
        for name in ("sql-lora", setting.SPARE):
            for _ in range(4):
                assert ask(gateway, Chat(name)).headers["x-inference-pod"].startswith("qwen-server-")
    finally:
        for name in ("sql-lora", setting.SPARE):
            servers.unload(lab, "phi", name)


def problems(router):
    """Return what each router says is wrong with its sources."""
    statuses = [answer.raise_for_status().json() for answer in router.page("/status.json")]
    assert statuses
    return [json.dumps(status["sources"]) for status in statuses]


def test_the_chart_gives_the_rights_that_are_needed_and_no_others(lab, discovering):
    def by_name(rules):
        return sorted(json.dumps(rule, sort_keys=True) for rule in rules)

    assert by_name(discovering) == by_name(ALWAYS)
    assert by_name(rules(lab)) == by_name(ALWAYS + FOR_DISCOVERY)


@pytest.mark.parametrize(
    ("verb", "resources"),
    [
        ("list", {"pods"}),
        ("list", {"inferencepools", "httproutes"}),
        ("watch", {"pods", "inferencepools", "httproutes"}),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(sorted(given)),
)
def test_without_one_of_them_the_router_says_which(lab, router, gateway, verb, resources):
    with without(lab, verb, resources):
        for resource in resources:
            router.until_logged(f'cannot {verb} resource \\"{resource}\\"')
            lab.wait(
                f"{resource} among the problems",
                lambda resource=resource: all(
                    f"cannot {verb}" in told and resource in told for told in problems(router)
                ),
            )
        # What is declared is routed all the same.
        assert ask(gateway, Chat("sql-lora")).status_code == 200
    router.until_named(setting.SPARE)


SECURE, SECURE_BASE, SECURE_ADAPTER, CERTIFIED = "secure", "secure/base", "secure-lora", "vllm.models.svc"


def secure_pool(authority):
    """Return a pool of one model server that speaks TLS, its certificate, and the authorities' for the router."""
    issued = authority.issue(CERTIFIED)
    files = {"tls.crt": issued.chain_pem.decode(), "tls.key": issued.key_pem.decode()}
    _, deployment = neighbours.server(
        f"{SECURE}-server",
        f"lab/llm-d-inference-sim:{parts.SIMULATOR.version}",
        [(servers.PORT, None)],
        {"tcpSocket": {"port": servers.PORT}},
        args=[
            f"--model={SECURE_BASE}",
            f"--port={servers.PORT}",
            "--lora-modules",
            json.dumps({"name": SECURE_ADAPTER}),
            "--ssl-certfile=/tls/tls.crt",
            "--ssl-keyfile=/tls/tls.key",
        ],
        volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
        volumes=[{"name": "tls", "secret": {"secretName": "secure-tls"}}],
    )
    match = {"type": "Exact", "name": "X-Gateway-Base-Model-Name", "value": SECURE_BASE}
    group = "inference.networking.k8s.io"
    pool = {
        "selector": {"matchLabels": {"app": f"{SECURE}-server"}},
        "targetPorts": [{"number": servers.PORT}],
        "endpointPickerRef": {"name": "qwen-epp", "port": {"number": 9002}},
    }
    route = {
        "parentRefs": [{"name": "no-gateway"}],
        "rules": [
            {
                "matches": [{"headers": [match]}],
                "backendRefs": [{"group": group, "kind": "InferencePool", "name": SECURE}],
            }
        ],
    }
    return [
        secret("secure-tls", **files),
        secret("servers-ca", **{"ca.crt": authority.root_pem.decode()}),
        yaml.safe_load(config_map(SECURE, [], base=SECURE_BASE)),
        document("InferencePool", SECURE, pool, f"{group}/v1"),
        document("HTTPRoute", SECURE, route, "gateway.networking.k8s.io/v1"),
        deployment,
    ]


def test_servers_are_asked_over_https_and_believed_only_with_a_certificate(lab, router):
    values = setting.values()
    asking = {"enabled": True, "intervalSeconds": 1, "https": True, "caSecretName": "servers-ca"}
    named = {"discoverAdapters": asking | {"serverName": CERTIFIED}}
    unnamed = {"discoverAdapters": asking}
    back = {"discoverAdapters": {"enabled": True, "intervalSeconds": 1}}
    with neighbours.running(lab, secure_pool(Authority())):
        try:
            releases.install(lab, "helm", setting.RELEASE, values | {"bbr": values["bbr"] | unnamed})
            router.until_logged("its certificate is not accepted: IP address mismatch")
            releases.install(lab, "helm", setting.RELEASE, values | {"bbr": values["bbr"] | named})
            router.until_named(SECURE_ADAPTER)
            # The other pools' servers speak plaintext.
            router.until_logged("no TLS with it")
        finally:
            releases.install(lab, "helm", setting.RELEASE, values | {"bbr": values["bbr"] | back})
            router.until_named(setting.SPARE)
