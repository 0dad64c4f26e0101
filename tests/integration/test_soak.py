"""A short form of `make soak`, with its verdict on answers, resets and what is left. Memory needs the long form."""

import uvloop

from bench.harness.envoy import needs_envoy
from bench.trials import soak, soak_requests

pytestmark = needs_envoy

# Every kind of request comes within so many.
RATE = 100.0
SECONDS = 20.0


def test_nothing_is_lost_reset_or_left():
    outcome = uvloop.run(soak.run(SECONDS, RATE))
    assert outcome.faults() == [], "\n".join(outcome.lines())
    assert outcome.report.sent.keys() == soak_requests.WEIGHTS.keys()
    assert outcome.misdeeds.keys() == soak.MISDEEDS.keys()
