"""The chart as a release of real Helm: installed, tested, upgraded, moved to another gateway, rolled back, removed."""

import json

import pytest
import yaml

from deploy.lab import releases, setting
from deploy.lab.cluster import LabError
from deploy.render import helm as renderer
from deploy.render import tools
from tests.lab.router import IN_NAMESPACE

NAMESPACE = "releases"
RELEASE = "second"
HELM_TEST = (str(tools.BIN / "helm"), "test", setting.RELEASE, IN_NAMESPACE)
# What the cluster itself makes or counts, whatever is installed.
NOT_OURS = ("events", "leases", "endpoints", "endpointslices", "controllerrevisions")


@pytest.fixture
def namespace(lab):
    """A namespace of its own, in which the release may be gone without harm to other tests."""
    lab.apply(yaml.safe_dump(setting.namespace(NAMESPACE)))
    lab.wait("the ServiceAccount", lambda: lab.kubectl_tries("get", "serviceaccount/default", f"-n={NAMESPACE}"))
    yield NAMESPACE
    lab.kubectl("delete", "namespace", NAMESPACE, "--timeout=600s")


def objects(lab):
    """Return all objects of the cluster but those of other namespaces and those that come and go by themselves."""
    found = set()
    for namespaced in ("true", "false"):
        listed = lab.kubectl("api-resources", "--verbs=list", f"--namespaced={namespaced}", "--output=name").split()
        kinds = ",".join(name for name in listed if not name.startswith(NOT_OURS))
        where = f"--namespace={NAMESPACE}" if namespaced == "true" else "--ignore-not-found"
        found |= set(lab.kubectl("get", kinds, where, "--output=name", "--ignore-not-found").split())
    return found


def values(provider="none", **bbr):
    """Return values of a small release: one model whose servers are there, and one router."""
    found = setting.values(provider)
    found["models"] = found["models"][:1]
    found["bbr"] |= {"replicas": 1, "drainDelaySeconds": 0, "drainSeconds": 1, **bbr}
    return found


@pytest.mark.parametrize("helm", renderer.HELMS)
def test_helm_test_asks_the_router_for_each_model(lab, helm):
    told = releases.call(lab, helm, "test", setting.RELEASE, "--logs")
    assert "Succeeded" in told
    assert "POD LOGS: body-based-router-probe" in told
    # The pod stays, to be looked at, until the next test.
    (probe,) = lab.get("pods", "--selector=app.kubernetes.io/name=bbr-probe", IN_NAMESPACE)["items"]
    assert probe["status"]["phase"] == "Succeeded"
    manifest = releases.call(lab, helm, "get", "hooks", setting.RELEASE)
    assert all(f"--model={model}" in manifest for model in setting.MODELS)


def test_helm_test_fails_if_a_model_is_not_in_the_table(lab, router):
    lab.kubectl("label", "configmap", "phi-allowlist", "inference.networking.k8s.io/bbr-managed-", IN_NAMESPACE)
    try:
        router.until_named(setting.PHI, there=False)
        with pytest.raises(LabError, match="failed"):
            releases.call(lab, "helm", "test", setting.RELEASE)
        told = lab.kubectl("logs", "body-based-router-probe", IN_NAMESPACE)
        assert "it answered 404 (bbr:model-not-found) and routed nothing" in told
    finally:
        lab.kubectl("label", "configmap", "phi-allowlist", "inference.networking.k8s.io/bbr-managed=true", IN_NAMESPACE)
    lab.wait("the test to succeed", lambda: lab.tries(*HELM_TEST))


@pytest.mark.parametrize("helm", renderer.HELMS)
def test_a_life_of_a_release(lab, namespace, helm):
    """Install, test, upgrade, another gateway, rollback, uninstall; then nothing is left."""
    before = objects(lab)

    def revision():
        listed = json.loads(releases.call(lab, helm, "history", RELEASE, "-o", "json", namespace=namespace))
        return [(each["revision"], each["status"]) for each in listed]

    def kinds():
        return {name.partition("/")[0] for name in objects(lab) - before}

    releases.install(lab, helm, RELEASE, values(), namespace)
    assert revision() == [(1, "deployed")]
    assert "inferencepool.inference.networking.k8s.io" in kinds()
    assert "Succeeded" in releases.call(lab, helm, "test", RELEASE, namespace=namespace)

    releases.install(lab, helm, RELEASE, values(replicas=2), namespace)
    ready = lab.get("deployment", "body-based-router", f"--namespace={namespace}")["status"]["readyReplicas"]
    assert ready == 2

    releases.install(lab, helm, RELEASE, values("istio"), namespace)
    assert "envoyfilter.networking.istio.io" in kinds()
    releases.install(lab, helm, RELEASE, values("envoy-gateway"), namespace)
    assert "envoyfilter.networking.istio.io" not in kinds()
    assert "envoyextensionpolicy.gateway.envoyproxy.io" in kinds()

    releases.call(lab, helm, "rollback", RELEASE, "1", *releases.WAIT, namespace=namespace)
    assert revision()[-1] == (5, "deployed")
    assert "envoyextensionpolicy.gateway.envoyproxy.io" not in kinds()

    releases.call(lab, helm, "uninstall", RELEASE, *releases.WAIT, namespace=namespace)
    lab.kubectl("delete", "pod", "body-based-router-probe", f"--namespace={namespace}")  # no Helm removes a hook's
    lab.wait("the end of all pods", lambda: not lab.get("pods", f"--namespace={namespace}")["items"])
    assert objects(lab) - before == set()


def test_the_release_has_all_it_asked_for(lab):
    """Conditions of the objects whose controllers run here; these may see the pods a moment after everybody else."""
    for deployment in lab.get("deployments", IN_NAMESPACE)["items"]:
        name = deployment["metadata"]["name"]
        lab.wait(f"all replicas of {name}", lambda name=name: has_all(lab.get("deployment", name, IN_NAMESPACE)))
    lab.wait("the budget", lambda: budget(lab) == {"currentHealthy": 2, "expectedPods": 2, "disruptionsAllowed": 1})


def has_all(deployment):
    status = deployment["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    return conditions["Available"] == "True" and status["readyReplicas"] == deployment["spec"]["replicas"]


def budget(lab):
    (found,) = lab.get("poddisruptionbudgets", IN_NAMESPACE)["items"]
    return {name: found["status"][name] for name in ("currentHealthy", "expectedPods", "disruptionsAllowed")}
