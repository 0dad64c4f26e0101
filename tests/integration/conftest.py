"""One router and one set of pools for each module; one Envoy for each configuration that a module asks for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from bench.harness import envoy
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Upstreams
from deploy.local.stack import Stack
from tests.support.reference import choose_transports
from tests.support.stack import running

# Of a request, in the stack that clients share.
MAX_BODY_BYTES = 1 << 20


@dataclass
class Setup:
    """A gateway, the router behind it and the pools behind both."""

    gateway: envoy.Gateway
    router: Router
    upstreams: Upstreams

    @property
    def port(self) -> int:
        """The gateway's port."""
        return self.gateway.port


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that have a router or a transport over our own, or over both."""
    choose_transports(metafunc, "router", "transport")


@pytest.fixture(scope="session", params=["FULL_DUPLEX_STREAMED", "BUFFERED"])
def limited_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give the local stack in each body mode, for the clients that share it (tests/support/together.py)."""
    limit = f"--max-body-bytes={MAX_BODY_BYTES}"
    with running(tmp_path_factory.mktemp("stack"), body_mode=request.param, router_args=[limit]) as stack:
        yield stack


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    router = Router(background, transport=request.param)
    yield router
    router.stop()


@pytest.fixture(scope="module")
def upstreams(background: Background) -> Iterator[Upstreams]:
    upstreams = Upstreams(background)
    upstreams.start(QWEN, PHI, "default")
    yield upstreams
    upstreams.stop()


@pytest.fixture(scope="module")
def gateways(router: Router, upstreams: Upstreams) -> Iterator[Callable[..., Setup]]:
    """Give a function that runs (once) an Envoy whose router filter has the given settings."""
    running: dict[str, envoy.Gateway] = {}
    with ExitStack() as stack:

        def get(body_mode: str = "FULL_DUPLEX_STREAMED", *, buffer_limit: int = 16 << 20, **fields: Any) -> Setup:
            key = f"{body_mode} {buffer_limit} {sorted(fields.items())}"
            if key not in running:
                filters = [envoy.router_filter(body_mode, **fields)]
                config = envoy.configuration(filters, router.port, upstreams.ports)
                listener = config["static_resources"]["listeners"][0]
                listener["per_connection_buffer_limit_bytes"] = buffer_limit
                running[key] = stack.enter_context(envoy.gateway(config))
            router.verdicts()
            upstreams.forget()
            return Setup(running[key], router, upstreams)

        yield get
