"""What a real gateway's controller says of the chart's objects, and what its data plane is told."""

import re

import pytest
import yaml

from deploy.lab import controllers, releases, setting
from deploy.lab.cluster import LabError
from tests.lab.policies import doctor
from tests.lab.traffic import Chat, ask, outcome

pytestmark = pytest.mark.gateways
IN_NAMESPACE = f"--namespace={setting.NAMESPACE}"
# What other tests do to the router stays in Envoy's counters.
HISTORY = {"streams-failed"}
# kgateway names no errors to retry on.
KNOWN = {"kgateway": {"no-retry-policy"}}


def settled(lab, kind, wanted):
    """Wait until all objects of a kind have these conditions, and return their names.

    What the test before has changed, the controller sees in its own time.
    """
    found = {}

    def right():
        found.update(listed(lab, kind))
        return bool(found) and all(wanted.items() <= told.items() for told in found.values())

    try:
        lab.wait(f"the conditions of all {kind}", right)
    except LabError as error:
        raise AssertionError(found) from error
    return found.keys()


def of(parent, **conditions):
    return {f"{parent}/{kind}": f"True {reason}" for kind, reason in conditions.items()}


def listed(lab, kind):
    """Return the objects of a kind: name -> conditions."""
    return {each["metadata"]["name"]: controllers.conditions(each) for each in lab.get(kind, IN_NAMESPACE)["items"]}


def test_the_gateway_and_its_listener_are_accepted_and_programmed(lab):
    found = listed(lab, "gateways")[controllers.GATEWAY]
    listener = controllers.LISTENER
    for condition in ("Accepted", "Programmed", f"{listener}/Accepted", f"{listener}/Programmed"):
        assert found[condition].startswith("True "), found
    assert found[f"{listener}/ResolvedRefs"] == "True ResolvedRefs"


RESOLVED = of(controllers.GATEWAY, Accepted="Accepted", ResolvedRefs="ResolvedRefs")


def test_each_route_is_accepted_and_all_that_it_refers_to_is_there(lab, controller):
    routes = settled(lab, "httproutes", RESOLVED)
    assert {f"{pool}-model-route" for pool, _ in setting.MODELS.values()} <= routes


@pytest.mark.gateways("envoy-gateway")
def test_the_policy_by_which_the_router_is_called_is_accepted(lab):
    policies = settled(lab, "envoyextensionpolicies", of(controllers.GATEWAY, Accepted="Accepted"))
    assert len(policies) == 1


@pytest.mark.gateways("kgateway")
@pytest.mark.parametrize(
    ("kind", "target"), [("trafficpolicies", controllers.GATEWAY), ("backendconfigpolicies", "body-based-router")]
)
def test_the_policies_about_the_router_are_accepted_and_attached(lab, kind, target):
    policies = settled(lab, f"{kind}.gateway.kgateway.dev", of(target, Accepted="Valid", Attached="Attached"))
    assert len(policies) == 1


@pytest.mark.gateways("istio")
def test_each_pool_is_accepted_with_its_picker(lab):
    pools = settled(lab, "inferencepools.inference.networking.k8s.io", RESOLVED)
    assert pools == {f"{pool}-pool" for pool, _ in setting.MODELS.values()}


def test_the_doctor_finds_nothing_wrong_with_the_data_plane(lab, controller):
    told = doctor(lab, controller)
    assert "calls cluster" in told
    found = set(re.findall(r"(?m)^(?:ERROR|WARNING)  ([a-z-]+)", told))
    assert found <= KNOWN.get(controller.provider, set()) | HISTORY, told


@pytest.mark.gateways("envoy-gateway")
def test_envoy_gateway_alone_answers_a_route_to_a_pool_with_a_500(lab, gateway, controller):
    values = setting.values(controller.provider) | controller.values()
    try:
        releases.install(lab, "helm", setting.RELEASE, values | {"backends": "pools"})
        route = "qwen-model-route"
        lab.wait(
            "a route that is not resolved",
            lambda: listed(lab, "httproutes")[route][f"{controllers.GATEWAY}/ResolvedRefs"].startswith("False "),
        )
        assert listed(lab, "httproutes")[route][f"{controllers.GATEWAY}/Accepted"] == "True Accepted"
        lab.wait("a 500", lambda: ask(gateway, Chat("sql-lora")).status_code == 500)
    finally:
        releases.install(lab, "helm", setting.RELEASE, values)
        for name in ("sql-lora", "phi-lora"):
            lab.wait(f"an answer of {name}", lambda name=name: outcome(ask(gateway, Chat(name)), name) == "right")


@pytest.mark.gateways("kgateway")
def test_kgateway_resolves_no_route_to_a_pool(lab, gateway):
    """Why the chart's routes point at Services there."""
    parent = {"name": controllers.GATEWAY}
    backend = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "qwen-pool"}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/pool"}}], "backendRefs": [backend]}
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "to-a-pool", "namespace": setting.NAMESPACE},
        "spec": {"parentRefs": [parent], "rules": [rule]},
    }
    lab.apply(yaml.safe_dump(route))
    try:
        lab.wait(
            "its conditions", lambda: f"{controllers.GATEWAY}/ResolvedRefs" in listed(lab, "httproutes")["to-a-pool"]
        )
        found = listed(lab, "httproutes")["to-a-pool"]
        assert found[f"{controllers.GATEWAY}/ResolvedRefs"] == "False InvalidKind"
        assert found[f"{controllers.GATEWAY}/Accepted"] == "True Accepted"
    finally:
        lab.kubectl("delete", "httproute", "to-a-pool", IN_NAMESPACE)
