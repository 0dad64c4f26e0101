import asyncio
from collections import Counter

import uvloop

from bench.harness.steady_load import Report
from bench.trials import soak, soak_requests
from tests.support.tools import needs_envoy


def test_a_soak_that_loses_resets_or_leaves_fails():
    samples = soak.Samples(
        [each * 1.0 for each in range(600)], [10_000_000 + 10_000 * each for each in range(600)], [9]
    )
    report = Report(seconds=600.0, failed=Counter({("chat", "status 500"): 2}))
    outcome = soak.Outcome(report, None, Counter(), samples, ["Call 1, 0 before"], {"upstream_rq_rx_reset": 3}, 0.1)
    assert outcome.faults() == [
        "2 requests failed",
        "upstream_rq_rx_reset is 3",
        "left: Call 1, 0 before",
        "memory grows by 6.00 MB in ten minutes",
    ]


def test_the_slope_of_memory_has_its_spread():
    seconds = [float(each) for each in range(100)]
    slope, error = soak.fit(seconds, [5e7 + 1e6 / 600 * each for each in seconds])
    assert (round(slope, 6), round(error, 6)) == (1.0, 0.0)
    slope, error = soak.fit(seconds, [5e7 + 1e6 / 600 * each + (each % 2) * 1e5 for each in seconds])
    assert 0 < abs(slope - 1) < error < 1


def test_a_misdeed_that_is_cut_off_leaves_no_connection(monkeypatch):
    made, connect = [], soak.RawClient.connect
    begun, ended = asyncio.Event(), asyncio.Event()

    async def recorded(port):
        made.append(await connect(port))
        return made[-1]

    async def silent(reader, writer):
        await reader.readexactly(1)
        begun.set()
        await ended.wait()
        writer.transport.abort()

    async def test():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        misbehaving = asyncio.create_task(soak.misbehave(server.sockets[0].getsockname()[1], Counter()))
        await begun.wait()
        misbehaving.cancel()
        await asyncio.gather(misbehaving, return_exceptions=True)
        (client,) = made
        closing = client.writer.transport.is_closing()
        client.writer.transport.abort()
        ended.set()
        server.close()
        await asyncio.sleep(0)
        assert closing

    monkeypatch.setattr(soak.RawClient, "connect", recorded)
    asyncio.run(test())


class TestWithEnvoy:
    """A short form of `make soak`, with its verdict on answers, resets and what is left. Memory needs the long form."""

    pytestmark = needs_envoy

    # Every kind of request comes within so many.
    RATE = 100.0
    SECONDS = 20.0

    def test_nothing_is_lost_reset_or_left(self):
        outcome = uvloop.run(soak.run(self.SECONDS, self.RATE))
        assert outcome.faults() == [], "\n".join(outcome.lines())
        assert outcome.report.sent.keys() == soak_requests.WEIGHTS.keys()
        assert outcome.misdeeds.keys() == soak.MISDEEDS.keys()
