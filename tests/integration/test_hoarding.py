"""Through a real Envoy: uploads that announce much and bring little keep nobody else out, and hold nothing for ever."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.telemetry import observed
from bench.harness import envoy, http1
from bench.harness.background import Background
from bench.harness.in_process_router import Router
from bench.harness.recording import Upstreams
from tests.integration.conftest import Setup
from tests.integration.test_bodies import until
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SHORT = json.dumps({"model": "sql-lora", "messages": []}).encode()
LONG = b'{"prompt": "%s", "model": "sql-lora"}' % (b"x" * 600_000)
HALF = b'{"prompt": "' + b"y" * 300_000
PATH = "/v1/completions"


@pytest.fixture(scope="module")
def router(request: pytest.FixtureRequest, background: Background) -> Iterator[Router]:
    policy = Policy(Replies(), ledger=Ledger(512 << 20))
    router = Router(background, policy=policy, transport=request.param)
    yield router
    router.stop()


def served(setup: Setup) -> list[int]:
    """Return how another client's requests end."""
    return [http1.request(setup.port, "POST", PATH, [JSON], body).status for body in (SHORT, LONG) * 20]


def test_what_is_announced_is_not_reserved(gateways: Callable[..., Setup]) -> None:
    setup = gateways()
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(H2Client(setup.port))
            stream = client.start("POST", PATH, [JSON, ("content-length", str(64 << 20))])
            client.send(stream, HALF)
        until(lambda: setup.router.ledger.held_bytes >= 8 * 300_000)
        assert served(setup) == [200] * 40
        assert setup.router.ledger.peak_bytes < 32 << 20
    until(lambda: setup.router.ledger.held_bytes == 0)


def test_what_a_decoder_might_take_is_not_reserved(gateways: Callable[..., Setup]) -> None:
    setup = gateways()
    with H2Client(setup.port) as client:
        for _ in range(90):
            stream = client.start("POST", PATH, [JSON, ("content-encoding", "br")])
            client.send(stream, b"\x1b\xff\xff\xf8\x2d\x00\x9e\x7b")
        until(lambda: len(setup.router.exchanges) >= 90)
        assert served(setup) == [200] * 40
        assert setup.router.ledger.peak_bytes < 32 << 20
    until(lambda: setup.router.ledger.held_bytes == 0)


def test_uploads_that_have_stopped_give_way_and_are_told(
    background: Background, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed, "clock", lambda: 50 * time.perf_counter())  # so a rate is known after 0.1 s
    ledger = Ledger(2 << 20)
    router = Router(background, policy=Policy(Replies(), ledger=ledger))
    with ExitStack() as stack:
        stack.callback(router.stop)
        config = envoy.configuration([envoy.router_filter("FULL_DUPLEX_STREAMED")], router.port, upstreams.ports)
        gateway = stack.enter_context(envoy.gateway(config))
        slow = [stack.enter_context(H2Client(gateway.port)) for _ in range(3)]
        streams = [client.start("POST", PATH, [JSON]) for client in slow]
        for client, stream in zip(slow, streams, strict=True):
            client.send(stream, b'{"prompt": "' + b"y" * 550_000)
        until(lambda: ledger.held_bytes > 1_600_000)
        # What has come of them stands still: another client's are served, whatever their length.
        statuses = []
        for _ in range(20):
            statuses += [http1.request(gateway.port, "POST", PATH, [JSON], body).status for body in (SHORT, LONG)]
            time.sleep(0.02)
        assert statuses[0::2] == [200] * 20
        assert statuses[-20:] == [200] * 20
        until(lambda: any(each.verdict.reason == "no-room" for each in router.ended))
        assert ledger.held_bytes < 1_200_000


def test_a_body_that_drips_is_refused(background: Background, upstreams: Upstreams) -> None:
    policy = Policy(Replies(), min_body_rate=1000, duplex_idle_seconds=0.5)
    router = Router(background, policy=policy)
    with ExitStack() as stack:
        stack.callback(router.stop)
        config = envoy.configuration([envoy.router_filter("FULL_DUPLEX_STREAMED")], router.port, upstreams.ports)
        gateway = stack.enter_context(envoy.gateway(config))
        client = stack.enter_context(H2Client(gateway.port))
        # A machine that does much else may keep the drops from coming: then the body stands still.
        until(lambda: dripped(client, router) != "body-timeout")
        assert [each.verdict.reason for each in router.ended] == ["body-too-slow"]
        assert router.ledger.held_bytes == 0


def dripped(client: H2Client, router: Router) -> str:
    """Send half a body and then octet by octet until that is refused; return why it was."""
    router.verdicts()
    stream = client.start("POST", PATH, [JSON])
    client.send(stream, HALF)
    while not router.ended:
        client.send(stream, b"y")
        time.sleep(0.05)
    assert client.wait(stream).status == 408
    return router.ended[0].verdict.reason
