"""What becomes of requests while the routers behind a real Envoy are restarted, killed and changed: a short form of
`make rolling`, at a rate that any machine reaches.
"""

import asyncio

import pytest

from bench.trials import rolling
from deploy.local.topology import DEFAULT_PORTS
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

RATE = 100.0
SECONDS = 5.0


@pytest.mark.parametrize(("phase", "tls"), [("rolling", True), ("kill", False)], ids=rolling.PHASES)
def test_no_request_is_lost(phase, tls):
    done: list[str] = []
    with rolling.scene(dict(DEFAULT_PORTS), direct=True, tls=tls, age=1.0, patience=60.0) as scene:
        report = asyncio.run(rolling.run(scene, phase, RATE, SECONDS, done.append))
        told = "\n".join([*report.lines(), *rolling.gateway_tells(scene), *done])
    assert report.sent.total() > 0.9 * RATE * SECONDS
    assert rolling.lost(report, phase) == 0, told
    assert any("is back" in line for line in done), told
    assert any("certificates rotated: new connections get the new one" in line for line in done) == tls, told
