"""Routers that come and go under load."""

import pytest

from deploy.lab import lab as stand
from tests.lab.router import DEPLOYMENT, IN_NAMESPACE
from tests.lab.traffic import Load

pytestmark = pytest.mark.gateways


def kill(lab, pod):
    """End a pod by SIGKILL, at once."""
    lab.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", IN_NAMESPACE)


@pytest.mark.core
def test_a_rolling_restart_costs_no_request(lab, gateway, router):
    old = {pod["metadata"]["uid"] for pod in router.pods()}
    with Load(gateway) as load:
        load.until_sent(50)
        lab.kubectl("rollout", "restart", f"deployment/{DEPLOYMENT}", IN_NAMESPACE)
        stand.rollout(lab, DEPLOYMENT)
        load.until_sent(200)
    print(f"rolling restart: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert not old & {pod["metadata"]["uid"] for pod in router.pods()}
    assert load.outcomes == {"right": load.sent}


@pytest.mark.core
@pytest.mark.gateways("envoy-gateway", "istio")
def test_a_router_that_is_killed_costs_no_short_request(lab, gateway, router):
    """Envoy asks another one anew: the filter's retry policy."""
    with Load(gateway) as load:
        load.until_sent(50)
        kill(lab, router.pods()[0])
        load.until_sent(100)
        stand.rollout(lab, DEPLOYMENT)
        load.until_sent(100)
    print(f"killed: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert load.outcomes == {"right": load.sent}


@pytest.mark.gateways("kgateway")
def test_a_router_that_is_killed_fails_requests_where_the_gateway_retries_none(lab, gateway, router):
    """kgateway names no errors to retry on. It misroutes nothing, and all is well again once the pod is gone."""
    with Load(gateway) as load:
        load.until_sent(50)
        kill(lab, router.pods()[0])
        load.until_sent(100)
        stand.rollout(lab, DEPLOYMENT)
        lab.wait("an answer of every model", lambda: stand.answers(lab), 60)
        during, sent = load.failed, load.sent
        load.until_sent(200)
    print(f"killed: {sent} requests, {during} failed; then {load.sent - sent} more, {load.failed - during} failed")
    print(dict(load.outcomes))
    assert all(each == "right" or each.startswith(("500", "503", "504")) for each in load.outcomes), load.outcomes
    assert load.failed == during


@pytest.mark.core
@pytest.mark.gateways("istio")
@pytest.mark.parametrize("pool", ["qwen", "phi"])
def test_a_picker_that_is_killed_misroutes_nothing_and_comes_back(lab, gateway, pool):
    """It is alone: its requests fail until it is back, with an error that says so, and others go on."""
    with Load(gateway) as load:
        load.until_sent(50)
        (picker,) = lab.get("pods", f"--selector=app={pool}-epp", IN_NAMESPACE)["items"]
        kill(lab, picker)
        load.until_sent(50)
        stand.rollout(lab, f"{pool}-epp")
        before = load.sent
        lab.wait("an answer of every model", lambda: stand.answers(lab), 60)
        load.until_sent(before - load.sent + 50)
    print(f"picker killed: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert load.misrouted == []
    assert all(each == "right" or each.startswith(("500", "503", "504")) for each in load.outcomes), load.outcomes
