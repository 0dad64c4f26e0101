import os
import signal

import pytest

from deploy.lab import lab as stand
from deploy.lab import network
from tests.lab.policies import PHI, QWEN, settles
from tests.lab.router import Router


def pytest_configure(config):
    """Tell pytest of the mark."""
    config.addinivalue_line("markers", "gateways(*names): runs with these gateways of make lab-test, or with each one")
    config.addinivalue_line("markers", "core: runs with the lab's own Envoy too")


def pytest_collection_modifyitems(config, items):
    """Skip these tests, unless `make lab-test` runs them, and leave out those that are not for its gateway."""
    gateway = os.environ.get(stand.GATEWAY_VARIABLE, "")
    left_out = []
    for item in items:
        if "tests/lab/" not in str(item.path):
            continue
        if not _is_for(item, gateway):
            left_out.append(item)
        elif os.environ.get(stand.VARIABLE) != "1":
            item.add_marker(pytest.mark.skip(reason="needs the lab: make lab-test"))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_for(item, gateway):
    """Tell whether a test is for a gateway; "" is the lab's own Envoy. The closest mark counts."""
    mark = item.get_closest_marker("gateways")
    if not gateway:
        return mark is None or item.get_closest_marker("core") is not None
    return mark is not None and (not mark.args or gateway in mark.args)


@pytest.fixture(scope="session")
def lab():
    """The core lab; this process moves into its network."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it is taken down then too
    with stand.lab() as there:
        network.enter()
        yield there


@pytest.fixture(scope="session")
def gateway(lab):
    """Host and port of the gateway."""
    return stand.gateway_address(lab)


@pytest.fixture(scope="session")
def controller(lab):
    """The gateway's controller."""
    return stand.controller()


@pytest.fixture
def clean(lab, gateway):
    """Requests go through without any policy, before and after."""
    for model in (QWEN, PHI):
        settles(lab, gateway, 200, model)
    yield
    for model in (QWEN, PHI):
        settles(lab, gateway, 200, model)


@pytest.fixture(scope="session")
def router(lab):
    """The router's pods, and what they show to those who may look."""
    return Router(lab)
