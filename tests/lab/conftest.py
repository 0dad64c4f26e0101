import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.lab import lab as stand
from deploy.lab import network
from tests.lab.policies import PHI, QWEN, settles
from tests.lab.router import IN_NAMESPACE, Router

# What no program of a lab may reach: on a machine without free memory all of them stand still.
MOST_MEGABYTES = 2000


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
        megabytes, program = max(sizes())
        print(f"the largest program: {program}, {megabytes} MB")
        assert megabytes < MOST_MEGABYTES, program


def sizes():
    """Yield the most memory that each program of the lab has had, in MB, and its name."""
    for namespace in network.namespaces():
        listed = subprocess.run(["ip", "netns", "pids", namespace], check=True, capture_output=True, text=True).stdout
        for pid in set(listed.split()) - {str(os.getpid())}:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                told = Path(f"/proc/{pid}/status").read_text("utf-8")
                if peak := re.search(r"^VmHWM:\s+(\d+) kB$", told, re.MULTILINE):
                    yield int(peak[1]) // 1000, Path(f"/proc/{pid}/cmdline").read_text("utf-8").replace("\0", " ")


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


@pytest.fixture
def extra(lab, router):
    """The name of a ConfigMap that is gone afterwards, and that no router remembers."""
    name = "lab-extra"
    yield name
    lab.kubectl("delete", "configmap", name, IN_NAMESPACE, "--ignore-not-found")
    lab.wait(f"tables without {name}", lambda: all(name not in page.text for page in router.page("/debug/models")))
