"""K5 of the cases: what a real Envoy makes of a GOAWAY and of a close of ours in the middle of a body."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bbr.http2.frames import ErrorCode
from bench.harness import envoy
from bench.harness.background import Background
from bench.harness.in_process_router import QWEN, Router
from bench.harness.recording import Upstreams
from tests.support.connection_memory import octets_held
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy
from tests.support.waiting import until

pytestmark = needs_envoy

HEADERS = [("content-type", "application/json")]
BODY = b'{"model": "%s", "prompt": "%s"}' % (QWEN.encode(), b"x" * 300_000)


class Setup:
    """A router on our own transport behind an Envoy that fails open where it can, and one upload to it, half sent."""

    def __init__(self, stack: ExitStack) -> None:
        self.background = stack.enter_context(Background())
        self.router = Router(self.background, transport="uv")
        stack.callback(self.router.stop)
        self.upstreams = Upstreams(self.background)
        stack.callback(self.upstreams.stop)
        self.upstreams.start(QWEN, "default")
        filters = [envoy.router_filter(failure_mode_allow=True)]
        config = envoy.configuration(filters, self.router.port, self.upstreams.ports)
        self.gateway = stack.enter_context(envoy.gateway(config))

    def connections(self) -> list:
        return list(self.router._server.roster.connections)

    def upload(self, client: H2Client, size: int) -> int:
        """Send a part of BODY, and await it at the router."""
        stream = client.start("POST", f"/v1/completions?{uuid.uuid4()}", HEADERS)
        client.send(stream, BODY[:size])
        until(lambda: any(octets_held(each) >= size for each in self.router.exchanges))
        return stream


@pytest.fixture
def setup() -> Iterator[Setup]:
    with ExitStack() as stack:
        yield Setup(stack)


def test_k5_a_graceful_goaway_in_mid_body_loses_nothing(setup: Setup) -> None:
    with H2Client(setup.gateway.port) as client:
        stream = setup.upload(client, 200_000)
        (connection,) = setup.connections()
        setup.background.loop.call_soon_threadsafe(lambda: connection.drain(refuse=False))
        other = client.request("POST", "/v1/completions", HEADERS, BODY)
        setup.background.loop.call_soon_threadsafe(lambda: connection.drain(refuse=True))
        client.send(stream, BODY[200_000:], end_stream=True)
        response = client.wait(stream)
    assert (response.status, response.body) == (200, QWEN.encode())
    assert (other.status, other.body) == (200, QWEN.encode())
    assert [(each.size, each.complete) for each in setup.upstreams.received] == [(len(BODY), True)] * 2


@pytest.mark.parametrize("how", ["close", "GOAWAY(INTERNAL_ERROR)"])
def test_k5_a_close_in_mid_body_never_sends_half_a_request_on(setup: Setup, how: str) -> None:
    with H2Client(setup.gateway.port) as client:
        stream = setup.upload(client, 200_000)
        (connection,) = setup.connections()

        def end() -> None:
            if how == "close":
                connection.abort()
            else:
                connection._rpc._http2.fail(ErrorCode.INTERNAL_ERROR, "internal-error")
                connection._flush()

        setup.background.loop.call_soon_threadsafe(end)
        response = client.wait(stream)
        # Beyond the 64 KiB that Envoy would replay, failing open is none, and an error is what the client must get.
        assert response.status == 500
        again = client.request("POST", "/v1/completions", HEADERS, BODY)
    assert (again.status, again.body) == (200, QWEN.encode())
    assert [each.size for each in setup.upstreams.received if each.complete] == [len(BODY)]


def test_k5_a_small_request_is_replayed(setup: Setup) -> None:
    with H2Client(setup.gateway.port) as client:
        stream = setup.upload(client, 30_000)
        (connection,) = setup.connections()
        setup.background.loop.call_soon_threadsafe(connection.abort)
        until(lambda: len(setup.router.exchanges) == 2)
        client.send(stream, BODY[30_000:], end_stream=True)
        response = client.wait(stream)
    assert (response.status, response.body) == (200, QWEN.encode())
    assert [(each.size, each.complete) for each in setup.upstreams.received] == [(len(BODY), True)]
