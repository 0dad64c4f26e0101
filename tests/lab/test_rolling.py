"""Routers that come and go under load."""

import contextlib
import os
import signal

import pytest

from deploy.lab import lab as stand
from deploy.lab import network, setting
from deploy.lab.kubelet import NODES
from tests.lab.policies import doctor, released
from tests.lab.router import DEPLOYMENT, IN_NAMESPACE
from tests.lab.traffic import Load

pytestmark = pytest.mark.gateways
# How often Envoy may try a router that is gone before it is back: at its end, then after 10 s and 20 s more.
TRIES = 3


@contextlib.contextmanager
def kill(lab, pod):
    """End a pod by SIGKILL, at once."""
    lab.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", IN_NAMESPACE)
    yield


@contextlib.contextmanager
def crash(lab, pod):
    """End a pod's processes by SIGKILL, as the kernel does that is out of memory."""
    with processes(lab, pod) as handles:
        for handle in handles:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        yield


@contextlib.contextmanager
def hang(lab, pod):
    """Stop a pod's processes: its connections stay, and nothing comes out of them. A liveness probe ends it at last."""
    with processes(lab, pod) as handles:
        for handle in handles:
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
        try:
            yield
        finally:  # whatever happens, so that the next test has two routers
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            stand.rollout(lab, DEPLOYMENT)


@contextlib.contextmanager
def processes(lab, pod):
    """Have a handle of each process of a pod: a number may be that of another one later."""
    pids = lab.call("ip", "netns", "pids", network.of_pod(pod["metadata"]["uid"])).split()
    with contextlib.ExitStack() as stack:
        handles = [os.pidfd_open(int(pid)) for pid in pids]
        for handle in handles:
            stack.callback(os.close, handle)
        yield handles


@pytest.fixture(autouse=True)
def _healthy(lab, controller):
    """Wait until Envoy has found routers healthy, a minute at most: before that it sends requests to any."""
    if controller is not None:
        doctor(lab, controller)


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
def test_an_upgrade_of_the_chart_and_the_way_back_cost_no_request(lab, gateway, controller):
    """By real Helm: other arguments of the routers, one more of them, and another policy of the gateway."""
    values = setting.values(controller.provider if controller else "none")
    bbr = values["bbr"] | {"replicas": 3, "drainSeconds": values["bbr"]["drainSeconds"] + 1}
    provider = values["provider"] | {"streamSeconds": 601}
    with Load(gateway) as load:
        load.until_sent(50)
        with released(lab, controller, bbr=bbr, provider=provider):
            load.until_sent(200)
        load.until_sent(200)
    print(f"upgraded: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert load.outcomes == {"right": load.sent}


@pytest.mark.core
def test_draining_each_node_costs_no_request(lab, gateway, router):
    """As for an upgrade of the nodes: routers are evicted as their budget allows, and begin on the other node."""
    with Load(gateway) as load:
        load.until_sent(50)
        for node in NODES:
            try:
                lab.kubectl("drain", node, f"--pod-selector=app={DEPLOYMENT}", "--timeout=600s")
                stand.rollout(lab, DEPLOYMENT)
                assert node not in {pod["spec"]["nodeName"] for pod in router.pods()}
            finally:
                lab.kubectl("uncordon", node)
        load.until_sent(200)
    print(f"nodes drained: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert load.outcomes == {"right": load.sent}


@pytest.mark.core
@pytest.mark.parametrize("end", [kill, crash, hang])
def test_a_router_that_dies_costs_no_short_request(lab, gateway, controller, router, end):
    """Envoy asks another one anew: the filter's retry policy.

    kgateway has none. It loses what the router is reading, and three more each time that Envoy tries the router again.
    """
    dead = router.pods()[0]
    with Load(gateway) as load:
        load.until_sent(50)
        with end(lab, dead):
            load.until_sent(100)
            lab.wait("the end of its processes", lambda: is_started_anew(router, dead))
        stand.rollout(lab, DEPLOYMENT)
        lab.wait("answers without a failure", lambda: is_steady(load))
    print(f"{end.__name__}: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    if controller is not None and controller.provider == "kgateway":
        assert all(each == "right" or each.startswith(("500", "503", "504")) for each in load.outcomes), load.outcomes
        assert load.failed <= TRIES * (load.clients + 3), load.outcomes
    else:
        assert load.outcomes == {"right": load.sent}


def is_started_anew(router, dead):
    """Tell whether a pod is gone, or its container has been started again."""
    (found,) = [each for each in router.pods() if each["metadata"]["uid"] == dead["metadata"]["uid"]] or [None]
    return found is None or restarts(found) > restarts(dead)


def restarts(pod):
    (container,) = pod["status"]["containerStatuses"]
    return container["restartCount"]


def is_steady(load):
    before = load.failed
    load.until_sent(100)
    return load.failed == before


@pytest.mark.core
@pytest.mark.gateways("istio")
@pytest.mark.parametrize("pool", ["qwen", "phi"])
def test_a_picker_that_is_killed_misroutes_nothing_and_comes_back(lab, gateway, pool):
    """It is alone: its requests fail until it is back, with an error that says so, and others go on."""
    with Load(gateway) as load:
        load.until_sent(50)
        (picker,) = lab.get("pods", f"--selector=app={pool}-epp", IN_NAMESPACE)["items"]
        with kill(lab, picker):
            load.until_sent(50)
        stand.rollout(lab, f"{pool}-epp")
        before = load.sent
        lab.wait("an answer of every model", lambda: stand.answers(lab))
        load.until_sent(before - load.sent + 50)
    print(f"picker killed: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert load.misrouted == []
    assert all(each == "right" or each.startswith(("500", "503", "504")) for each in load.outcomes), load.outcomes
