import asyncio

from bbr.transports.busy_poll import BusyPoll
from tests.support.clock import Clock


async def turns(clock: Clock) -> int:
    """Count the loop's next five turns in which the poll looked at the clock."""
    before = clock.looks
    for _ in range(5):
        await asyncio.sleep(0)
    return clock.looks - before


def test_the_loop_stays_awake_until_nothing_has_come_for_the_time():
    async def run():
        clock = Clock(100.0)
        poll = BusyPoll(0.5, clock)
        assert await turns(clock) == 0
        poll.touch()
        assert await turns(clock) == 5
        clock.now += 0.4
        poll.touch()  # asks for nothing by itself: the loop is awake
        clock.now += 0.4
        assert await turns(clock) == 5
        clock.now += 0.2
        assert await turns(clock) == 1  # the one that finds that the time is over
        assert await turns(clock) == 0
        poll.touch()
        assert await turns(clock) == 5

    asyncio.run(run())
