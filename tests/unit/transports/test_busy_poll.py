import asyncio

from bbr.transports import busy_poll
from bbr.transports.busy_poll import BusyPoll


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


async def turns(loop, poll) -> int:
    """Count the loop's next five turns in which the poll asked for another."""
    before = loop.asked
    for _ in range(5):
        await asyncio.sleep(0)
    return loop.asked - before


class Counting:
    """A running loop whose calls from a BusyPoll are counted."""

    def __init__(self, loop) -> None:
        self._loop = loop
        self.asked = 0

    def call_soon(self, callback, *arguments):
        self.asked += 1
        return self._loop.call_soon(callback, *arguments)


def test_the_loop_stays_awake_until_nothing_has_come_for_the_time(monkeypatch):
    async def run():
        clock = Clock()
        loop = Counting(asyncio.get_running_loop())
        monkeypatch.setattr(busy_poll, "time", clock)
        monkeypatch.setattr(busy_poll.asyncio, "get_running_loop", lambda: loop)
        poll = BusyPoll(0.5)
        assert await turns(loop, poll) == 0
        poll.touch()
        assert await turns(loop, poll) == 5
        clock.now += 0.4
        poll.touch()  # asks for nothing by itself: the loop is awake
        clock.now += 0.4
        assert await turns(loop, poll) == 5
        clock.now += 0.2
        assert await turns(loop, poll) == 0
        poll.touch()
        assert await turns(loop, poll) == 5

    asyncio.run(run())
