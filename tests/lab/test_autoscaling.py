"""Replicas that somebody else sets, an autoscaler or a person, beside real Helm."""

import pytest
import yaml

from deploy.lab import releases, setting
from deploy.lab.cluster import LabError
from deploy.render import helm as renderer

NAMESPACE = "replicas"
IN_NAMESPACE = f"--namespace={NAMESPACE}"
RELEASE = "scaled"
ROUTER = "deployment/body-based-router"


@pytest.fixture
def namespace(lab):
    lab.apply(yaml.safe_dump(setting.namespace(NAMESPACE)))
    lab.wait("the ServiceAccount", lambda: lab.kubectl_tries("get", "serviceaccount/default", IN_NAMESPACE))
    yield NAMESPACE
    lab.kubectl("delete", "namespace", NAMESPACE, "--timeout=600s")


def values(**bbr):
    return {"bbr": {"image": {"repository": "lab/bbr"}, "drainDelaySeconds": 0, "drainSeconds": 1, **bbr}}


def scale(lab, replicas):
    lab.kubectl("scale", ROUTER, f"--replicas={replicas}", IN_NAMESPACE)


def wanted(lab):
    """Return how many replicas the router's Deployment wants, and how often what it wants was changed."""
    there = lab.get(ROUTER, IN_NAMESPACE)
    return there["spec"]["replicas"], there["metadata"]["generation"]


@pytest.mark.parametrize("helm", renderer.HELMS)
def test_an_autoscaler_that_is_turned_on_keeps_the_replicas(lab, namespace, helm):
    scaling = values(replicas=3, autoscaling={"enabled": True, "maxReplicas": 4})
    releases.install(lab, helm, RELEASE, values(replicas=3), namespace)
    assert wanted(lab) == (3, 1)
    releases.install(lab, helm, RELEASE, scaling, namespace)
    assert wanted(lab) == (3, 1)  # not changed, not even for a moment
    scale(lab, 4)
    releases.install(lab, helm, RELEASE, scaling, namespace)
    assert wanted(lab) == (4, 2)
    releases.call(lab, helm, "uninstall", RELEASE, *releases.WAIT, namespace=namespace)


@pytest.mark.parametrize("helm", renderer.HELMS)
def test_a_new_deployment_has_what_the_autoscaler_wants(lab, namespace, helm):
    releases.install(lab, helm, RELEASE, values(autoscaling={"enabled": True, "minReplicas": 2}), namespace)
    lab.wait("the least replicas", lambda: wanted(lab)[0] == 2)
    releases.call(lab, helm, "uninstall", RELEASE, *releases.WAIT, namespace=namespace)


def test_helm_3_sets_the_values_number_over_kubectls(lab, namespace):
    releases.install(lab, "helm", RELEASE, values(replicas=1), namespace)
    scale(lab, 2)
    releases.install(lab, "helm", RELEASE, values(replicas=1), namespace)
    assert wanted(lab)[0] == 1


def test_helm_4_refuses_until_it_is_told_to_force(lab, namespace):
    """As docs/troubleshooting.md has it."""
    releases.install(lab, "helm4", RELEASE, values(replicas=1), namespace)
    scale(lab, 2)
    told = 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    with pytest.raises(LabError, match=told):
        releases.install(lab, "helm4", RELEASE, values(replicas=1), namespace)
    assert wanted(lab)[0] == 2
    words = ("upgrade", RELEASE, str(renderer.CHART), "--reuse-values", "--force-conflicts", *releases.WAIT)
    releases.call(lab, "helm4", *words, namespace=namespace)
    assert wanted(lab)[0] == 1
    releases.install(lab, "helm4", RELEASE, values(replicas=2), namespace)  # nobody else has the field any more
    assert wanted(lab)[0] == 2
