"""Attaching the router to a gateway that serves a model already, and taking it off: docs/attach.md."""

import pytest

from deploy.lab import releases, setting
from tests.lab.policies import GATEWAY, PHI, applied, document, settles
from tests.lab.traffic import POOLS, Load

pytestmark = pytest.mark.gateways

OWN = "own"
NAMES = [name for name, pool in POOLS.items() if pool == "qwen"]


@pytest.fixture
def own_model(lab, controller):
    """A Service and a route of the operator's own, which takes every request that no model's route takes."""
    ports = [{"name": "http", "port": 80, "targetPort": 8000}]
    service = document("Service", OWN, {"selector": {"app": "qwen-server"}, "ports": ports}, "v1")
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": OWN, "port": 80}]}
    route = document("HTTPRoute", OWN, {"parentRefs": [GATEWAY], "rules": [rule]}, "gateway.networking.k8s.io/v1")
    with applied(lab, service, route):
        yield


@pytest.fixture
def install(lab, controller, own_model):
    """What upgrades the release with provider.attach true or false; the lab's own values come back afterwards."""
    values = setting.values(controller.provider) | controller.values()
    # The operator's own route is the catch-all.
    page = values | {"catchAll": {"enabled": False}}

    def upgrade(attach):
        provider = {"name": controller.provider, "attach": attach}
        releases.install(lab, "helm", setting.RELEASE, page | {"provider": provider})

    yield upgrade
    releases.install(lab, "helm", setting.RELEASE, values)


def test_attaching_a_router_that_runs_and_taking_it_off_cost_no_request(lab, gateway, install):
    install(attach=False)
    settles(lab, gateway, 404, PHI)  # of the own model's servers
    with Load(gateway, models=NAMES) as attached:
        attached.until_sent(50)
        install(attach=True)
        settles(lab, gateway, 200, PHI)
        attached.until_sent(200)
    with Load(gateway, models=NAMES) as taken_off:
        taken_off.until_sent(50)
        install(attach=False)
        settles(lab, gateway, 404, PHI)
        taken_off.until_sent(200)
    for what, load in {"attached": attached, "taken off": taken_off}.items():
        print(f"{what}: {load.sent} requests, {load.failed} failed: {dict(load.outcomes)}")
    assert attached.outcomes == {"right": attached.sent}
    assert taken_off.outcomes == {"right": taken_off.sent}
