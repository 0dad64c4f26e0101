import os
import signal

import pytest

from deploy.lab import lab as stand
from deploy.lab import network
from tests.lab.router import Router


def pytest_collection_modifyitems(items):
    """Skip these tests, unless `make lab-test` runs them: the lab is no part of `make test`."""
    if os.environ.get(stand.VARIABLE) != "1":
        for item in items:
            if "tests/lab/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs the lab: make lab-test"))


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
def router(lab):
    """The router's pods, and what they show to those who may look."""
    return Router(lab)
