"""Each rule on rendered objects: it finds nothing as they are, and what it is for once they are broken."""

import copy
import functools

import pytest

from deploy.render import helm
from deploy.render.findings import RULES, findings
from deploy.render.findings import Objects as Rendered
from tests.support.tools import needs

pytestmark = needs("helm")

CASES = dict(helm.cases())


@functools.cache
def _rendered(provider, case):
    return helm.documents(helm.render("helm", [CASES[case]], {"provider.name": provider}))


class Objects:
    def __init__(self, documents):
        self.documents = documents

    def __call__(self, where):
        kind, name = where.split("/")
        (found,) = (each for each in self.documents if each["kind"] == kind and each["metadata"]["name"] == name)
        return found

    def remove(self, *wheres):
        self.documents[:] = [each for each in self.documents if each not in [self(where) for where in wheres]]

    def container(self, name):
        return self(f"Deployment/{name}")["spec"]["template"]["spec"]["containers"][0]

    def argument(self, deployment, old, new):
        arguments = self.container(deployment)["args"]
        arguments[arguments.index(old)] = new

    def hcm(self):
        return self("EnvoyFilter/body-based-router")["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]


# A rule's finding, of which object, and what brings it about.
ROUTER = "body-based-router"
BREAKS = [
    ("picker-shared", "InferencePool/phi-3-mini-4k-instruct-pool", "gke", lambda o: _picker(o).update(name="qwen-epp")),
    ("picker-missing", "InferencePool/qwen-pool", "gke", lambda o: o.remove("Service/qwen-epp")),
    ("picker-missing", "InferencePool/qwen-pool", "gke", lambda o: o.remove("Deployment/qwen-epp")),
    (
        "picker-of-another",
        "Deployment/qwen-epp",
        "gke",
        lambda o: o.argument("qwen-epp", "--pool-name=qwen-pool", "--pool-name=phi-pool"),
    ),
    (
        "picker-of-another",
        "Deployment/qwen-epp",
        "gke",
        lambda o: o.argument("qwen-epp", "--pool-namespace=models", "--pool-namespace=default"),
    ),
    (
        "port-mismatch",
        "InferencePool/phi-3-mini-4k-instruct-pool",
        "gke",
        lambda o: _picker(o)["port"].update(number=9003),
    ),
    (
        "fails-open",
        "InferencePool/phi-3-mini-4k-instruct-pool",
        "gke",
        lambda o: _picker(o).update(failureMode="FailOpen"),
    ),
    ("table-unreadable", "ConfigMap", "gke", lambda o: o("ConfigMap/qwen-allowlist")["data"].pop("baseModel")),
    ("table-unreadable", "ConfigMap", "gke", lambda o: o("ConfigMap/qwen-allowlist")["data"].update(adapters="a: b")),
    ("route-unknown-model", "HTTPRoute/qwen-model-route", "gke", lambda o: _header(o).update(value="qwen/Qwen2.5")),
    ("route-unknown-model", "HTTPRoute/qwen-model-route", "gke", lambda o: _header(o).update(value="sql-lora")),
    ("route-unknown-header", "HTTPRoute/qwen-model-route", "gke", lambda o: _header(o).update(name="x-model-name")),
    ("route-without-pool", "HTTPRoute/qwen-model-route", "gke", lambda o: _rule(o)["backendRefs"][0].update(name="q")),
    ("model-unrouted", "HTTPRoute", "gke", lambda o: o.remove("HTTPRoute/qwen-model-route")),
    (
        "selector-mismatch",
        "Service/qwen-epp",
        "gke",
        lambda o: o("Service/qwen-epp")["spec"].update(selector={"a": "b"}),
    ),
    (
        "selector-mismatch",
        f"PodDisruptionBudget/{ROUTER}",
        "gke",
        lambda o: o(f"PodDisruptionBudget/{ROUTER}")["spec"]["selector"]["matchLabels"].update(app="bbr"),
    ),
    (
        "selector-mismatch",  # of two Deployments
        f"Service/{ROUTER}",
        "gke",
        lambda o: o("Deployment/qwen-epp")["spec"]["template"]["metadata"]["labels"].update(app=ROUTER),
    ),
    (
        "port-mismatch",
        f"Deployment/{ROUTER}",
        "gke",
        lambda o: o.container(ROUTER)["readinessProbe"]["grpc"].update(port=9006),
    ),
    (
        "port-mismatch",
        f"Service/{ROUTER}",
        "gke",
        lambda o: o(f"Service/{ROUTER}")["spec"]["ports"][0].update(targetPort="grpc"),
    ),
    (
        "port-mismatch",
        f"GCPRoutingExtension/{ROUTER}",
        "gke",
        lambda o: _extension(o)["backendRef"].update(port=9006),
    ),
    (
        "port-mismatch",
        f"EnvoyFilter/{ROUTER}",
        "istio",
        lambda o: o.hcm()["grpc_service"]["envoy_grpc"].update(
            cluster_name="outbound|9004||bbr.models.svc.cluster.local"
        ),
    ),
    (
        "port-mismatch",
        f"EnvoyExtensionPolicy/{ROUTER}",
        "envoy-gateway",
        lambda o: o(f"EnvoyExtensionPolicy/{ROUTER}")["spec"]["extProc"][0]["backendRefs"][0].update(port=80),
    ),
    (
        "port-mismatch",
        f"GatewayExtension/{ROUTER}",
        "kgateway",
        lambda o: o(f"GatewayExtension/{ROUTER}")["spec"]["extProc"]["grpcService"]["backendRef"].update(name="bbr"),
    ),
    ("port-mismatch", f"AgentgatewayPolicy/{ROUTER}", "agentgateway", lambda o: _agent(o)["backendRef"].update(port=1)),
    (
        "port-mismatch",
        f"HealthCheckPolicy/{ROUTER}",
        "gke",
        lambda o: _check(o, ROUTER)["grpcHealthCheck"].update(port=9006),
    ),
    (
        "port-mismatch",
        "HealthCheckPolicy/qwen-pool",
        "gke",
        lambda o: _check(o, "qwen-pool")["httpHealthCheck"].update(port=8080),
    ),
    (
        "reference-missing",
        "HealthCheckPolicy/qwen-pool",
        "gke",
        lambda o: o("HealthCheckPolicy/qwen-pool")["spec"]["targetRef"].update(kind="Service"),
    ),
    (
        "reference-missing",
        "DestinationRule/qwen-epp",
        "istio",
        lambda o: o("DestinationRule/qwen-epp")["spec"].update(host="epp.models.svc.cluster.local"),
    ),
    ("reference-missing", f"TrafficPolicy/{ROUTER}", "kgateway", lambda o: o.remove(f"GatewayExtension/{ROUTER}")),
    (
        "reference-missing",
        f"HTTPRoute/{ROUTER}-catch-all",
        "envoy-gateway",
        lambda o: o.remove(f"HTTPRouteFilter/{ROUTER}-catch-all"),
    ),
    ("fails-open", f"GCPRoutingExtension/{ROUTER}", "gke", lambda o: _extension(o).update(failOpen=True)),
    ("fails-open", f"EnvoyFilter/{ROUTER}", "istio", lambda o: o.hcm().update(failure_mode_allow=True)),
    ("fails-open", f"AgentgatewayPolicy/{ROUTER}", "agentgateway", lambda o: _agent(o).update(failureMode="FailOpen")),
    (
        "fails-open",
        f"EnvoyExtensionPolicy/{ROUTER}",
        "envoy-gateway",
        lambda o: o(f"EnvoyExtensionPolicy/{ROUTER}")["spec"]["extProc"][0].update(failOpen=True),
    ),
    (
        "fails-open",  # as it does if nothing is said
        f"GatewayExtension/{ROUTER}",
        "kgateway",
        lambda o: o(f"GatewayExtension/{ROUTER}")["spec"]["extProc"].pop("failOpen"),
    ),
    (
        "response-events",
        f"GCPRoutingExtension/{ROUTER}",
        "gke",
        lambda o: _extension(o)["supportedEvents"].append("ResponseHeaders"),
    ),
    (
        "response-events",
        f"EnvoyFilter/{ROUTER}",
        "istio",
        lambda o: o.hcm()["processing_mode"].update(response_header_mode="SEND"),
    ),
    (
        "response-events",
        f"EnvoyExtensionPolicy/{ROUTER}",
        "envoy-gateway",
        lambda o: o(f"EnvoyExtensionPolicy/{ROUTER}")["spec"]["extProc"][0]["processingMode"].update(response={}),
    ),
    (
        "response-events",
        f"GatewayExtension/{ROUTER}",
        "kgateway",
        lambda o: o(f"GatewayExtension/{ROUTER}")["spec"]["extProc"]["processingMode"].update(
            responseBodyMode="STREAMED"
        ),
    ),
    (
        "response-events",
        f"AgentgatewayPolicy/{ROUTER}",
        "agentgateway",
        lambda o: _agent(o)["processingOptions"].update(responseHeaderMode="Send"),
    ),
    (
        "response-events",  # as it has it if nothing is said
        f"EnvoyFilter/{ROUTER}",
        "istio",
        lambda o: o.hcm()["processing_mode"].pop("response_header_mode"),
    ),
    *(
        ("catch-all-missing", "HTTPRoute", provider, lambda o: o.remove(f"HTTPRoute/{ROUTER}-catch-all"))
        for provider in ("envoy-gateway", "kgateway")
    ),
    (
        "catch-all-missing",  # for the host, which the catch-all without hosts does not cover
        "HTTPRoute",
        "envoy-gateway",
        lambda o: o("HTTPRoute/qwen-model-route")["spec"].update(hostnames=["llm.example.com"]),
    ),
    ("account-missing", "Deployment/qwen-epp", "gke", lambda o: o.remove("ServiceAccount/qwen-epp")),
    ("right-missing", f"Deployment/{ROUTER}", "gke", lambda o: _rights(o)[0]["verbs"].remove("watch")),
    ("right-missing", f"Deployment/{ROUTER}", "gke", lambda o: _rights(o).pop()),
    ("right-missing", f"Deployment/{ROUTER}", "gke", lambda o: _rights(o)[0].update(apiGroups=["apps"])),
    (
        "right-missing",
        f"Deployment/{ROUTER}",
        "gke",
        lambda o: o(f"RoleBinding/{ROUTER}-bbr-reader")["subjects"][0].update(name="default"),
    ),
    ("right-missing", f"Deployment/{ROUTER}", "gke", lambda o: o.container(ROUTER).update(env=[])),
    ("right-missing", "Deployment/qwen-epp", "gke", lambda o: o.remove("Role/qwen-epp-pods")),
    ("right-missing", "Deployment/qwen-epp", "gke", lambda o: o("Role/qwen-epp-pool")["rules"].pop()),
    ("name-unfit", f"Service/{'a' * 64}", "none", lambda o: o("Service/qwen-epp")["metadata"].update(name="a" * 64)),
    (
        "name-unfit",
        "Service/qwen-epp",
        "none",
        lambda o: o("Service/qwen-epp")["metadata"]["labels"].update(model="Qwen/Qwen2.5"),
    ),
    ("object-twice", "Service/qwen-epp", "none", lambda o: o.documents.append(o("Service/qwen-epp"))),
    ("flag-unknown", f"Deployment/{ROUTER}", "none", lambda o: o.container(ROUTER)["args"].append("--replicas=2")),
    (
        "flag-unusable",
        f"Deployment/{ROUTER}",
        "none",
        lambda o: o.container(ROUTER)["args"].append("--max-body-bytes=x"),
    ),
]


def _picker(objects):
    return objects("InferencePool/phi-3-mini-4k-instruct-pool")["spec"]["endpointPickerRef"]


def _rule(objects):
    return objects("HTTPRoute/qwen-model-route")["spec"]["rules"][0]


def _header(objects):
    return _rule(objects)["matches"][0]["headers"][0]


def _extension(objects):
    return objects(f"GCPRoutingExtension/{ROUTER}")["spec"]["extensionChains"][0]["extensions"][0]


def _agent(objects):
    return objects(f"AgentgatewayPolicy/{ROUTER}")["spec"]["traffic"]["extProc"]


def _check(objects, name):
    return objects(f"HealthCheckPolicy/{name}")["spec"]["default"]["config"]


def _rights(objects):
    return objects(f"Role/{ROUTER}-bbr-reader")["rules"]


@pytest.mark.parametrize("provider", helm.PROVIDERS)
def test_what_is_rendered_has_no_findings(provider):
    assert findings(_rendered(provider, "two-models")) == []


@pytest.mark.parametrize(
    ("rule", "where", "provider", "broken"),
    BREAKS,
    ids=[f"{number}-{rule}-{where}".replace("/", "-") for number, (rule, where, *_) in enumerate(BREAKS)],
)
def test_finds_what_is_broken(rule, where, provider, broken):
    documents = copy.deepcopy(_rendered(provider, "two-models"))
    broken(Objects(documents))
    assert (rule, where) in {(finding.rule, finding.where) for finding in findings(documents)}


def test_reviews_of_tokens_need_rights_of_the_cluster():
    documents = copy.deepcopy(_rendered("none", "everything"))
    Objects(documents).remove("ClusterRoleBinding/router-models-auth-delegator")
    missing = [finding.what for finding in findings(documents)]
    assert missing == [
        "router-bbr may not create authentication.k8s.io/tokenreviews in all namespaces",
        "router-bbr may not create authorization.k8s.io/subjectaccessreviews in all namespaces",
    ]


@pytest.mark.parametrize(
    ("where", "broken"),
    [
        (
            "HorizontalPodAutoscaler/router",
            lambda o: o("HorizontalPodAutoscaler/router")["spec"]["scaleTargetRef"].update(name="bbr"),
        ),
        (
            "NetworkPolicy/router",
            lambda o: o("NetworkPolicy/router")["spec"]["podSelector"]["matchLabels"].update(app="b"),
        ),
        ("PodMonitor/router", lambda o: o("PodMonitor/router")["spec"]["selector"]["matchLabels"].update(app="b")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_off_by_default_selects_the_router_too(where, broken):
    documents = copy.deepcopy(_rendered("none", "everything"))
    broken(Objects(documents))
    assert [(finding.rule, finding.where) for finding in findings(documents)] == [("selector-mismatch", where)]


def test_a_picker_of_somebody_elses_is_not_missed_if_that_is_said():
    documents = _rendered("none", "by-model")
    assert {finding.rule for finding in findings(documents)} == {"picker-missing", "route-without-pool"}
    assert findings(documents, {"outside-epp", "outside-pool"}) == []


def test_each_rule_has_a_break():
    # A rule that no break makes speak could find nothing at all.
    silent = set(RULES)
    for _, _, provider, broken in BREAKS:
        documents = copy.deepcopy(_rendered(provider, "two-models"))
        broken(Objects(documents))
        silent -= {rule for rule in silent if list(rule(Rendered(documents)))}
    assert silent == set()


CONFIG_BREAKS = {
    "another name": lambda o: o("ConfigMap/payload-processor-config")["metadata"].update(name="other"),
    "another key": lambda o: o("ConfigMap/payload-processor-config").update(data={"other.yaml": ""}),
    "another plugin": lambda o: o("ConfigMap/payload-processor-config").update(
        data={"custom-ipp-config.yaml": "{apiVersion: llm-d.ai/v1alpha1, plugins: [{type: headers-guard}]}"}
    ),
    "no volume": lambda o: o("Deployment/payload-processor")["spec"]["template"]["spec"].update(volumes=[]),
}


@pytest.mark.parametrize("broken", CONFIG_BREAKS.values(), ids=CONFIG_BREAKS)
def test_a_configuration_that_is_mounted_is_read(broken):
    documents = copy.deepcopy(_rendered("none", "ipp"))
    assert findings(documents) == []
    broken(Objects(documents))
    (finding,) = findings(documents)
    assert (finding.rule, finding.where) == ("flag-unusable", "Deployment/payload-processor")
    assert finding.what.startswith("--config-")
