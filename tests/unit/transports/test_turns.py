import asyncio

from bbr.transports.turns import Moments, Turns
from tests.support.clock import Clock


class Worker:
    """Has so many bits to do, each of which takes its time."""

    def __init__(self, name: str, bits: int, clock: Clock, done: list[str], seconds: float = 0.0) -> None:
        self.scheduled = False
        self.put_off = False
        self.worked_at = clock.now
        self.left = bits
        self.name = name
        self._clock = clock
        self._done = done
        self._seconds = seconds

    def work(self) -> bool:
        self._clock.now += self._seconds
        self.left -= 1
        self._done.append(self.name)
        return self.left > 0


def test_workers_take_turns_until_nothing_is_left():
    async def run():
        clock, done = Clock(0.0), []
        turns = Turns(clock)
        workers = [Worker("a", 3, clock, done), Worker("b", 1, clock, done)]
        for each in workers:
            turns.schedule(each)
            turns.schedule(each)  # it keeps its place
        await asyncio.sleep(0)
        assert done == ["a", "b", "a", "a"]
        assert not any(each.scheduled for each in workers)
        turns.schedule(workers[1])
        await asyncio.sleep(0)
        assert done[4:] == ["b"]

    asyncio.run(run())


def test_who_is_put_off_has_one_turn_in_each_of_the_event_loops():
    async def run():
        clock, done = Clock(0.0), []
        turns = Turns(clock)
        workers = [Worker("a", 3, clock, done), Worker("b", 3, clock, done)]
        workers[0].put_off = True
        for each in workers:
            turns.schedule(each)
        await asyncio.sleep(0)
        assert done == ["a", "b", "b", "b"]
        turns.schedule(workers[0])  # it keeps its place
        await asyncio.sleep(0)
        assert done[4:] == ["a"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done[5:] == ["a"]
        assert not workers[0].scheduled

    asyncio.run(run())


def test_the_loop_goes_on_between_two_moments():
    async def run():
        clock, done = Clock(0.0), []
        turns = Turns(clock, work_seconds=1.0)
        turns.schedule(Worker("slow", 4, clock, done, seconds=0.6))
        lengths = []
        for _ in range(3):
            await asyncio.sleep(0)
            lengths.append(len(done))
        assert lengths == [2, 4, 4]

    asyncio.run(run())


def test_whose_last_turn_was_longest_ago_goes_first():
    async def run():
        clock, done = Clock(0.0), []
        turns = Turns(clock, work_seconds=10.0)
        workers = []
        for name in "abc":
            workers.append(Worker(name, 1, clock, done, seconds=0.1))
            clock.now += 1.0
        for again in range(3):
            for each in reversed(workers):
                each.left = 1
                turns.schedule(each)
            await asyncio.sleep(0)
            assert done[3 * again :] == ["a", "b", "c"]
        workers[0].left, workers[1].left = 1, 2
        turns.schedule(workers[1])
        turns.schedule(workers[0])
        await asyncio.sleep(0)
        assert done[9:] == ["a", "b", "b"]

    asyncio.run(run())


def test_a_worker_that_fails_loses_its_turn_and_the_others_keep_theirs():
    class Broken(Worker):
        def work(self) -> bool:
            raise MemoryError

    async def run():
        clock, done, told = Clock(0.0), [], []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        turns = Turns(clock)
        broken, good = Broken("broken", 1, clock, done), Worker("good", 2, clock, done)
        turns.schedule(broken)
        turns.schedule(good)
        for _ in range(2):
            await asyncio.sleep(0)
        assert done == ["good", "good"]
        assert [type(each) for each in told] == [MemoryError]
        assert not broken.scheduled

    asyncio.run(run())


def test_a_worker_that_schedules_others_gets_them_no_second_moment_in_a_turn():
    clock, done = Clock(0.0), []
    turns = Turns(clock, work_seconds=1.0)

    class First(Worker):
        def work(self) -> bool:
            for each in others:
                turns.schedule(each)
            return super().work()

    async def run():
        turns.schedule(First("first", 1, clock, done, seconds=1.0))
        lengths = []
        for _ in range(4):
            await asyncio.sleep(0)
            lengths.append(len(done))
        assert lengths == [1, 3, 5, 5]

    others = [Worker("a", 2, clock, done, seconds=0.6), Worker("b", 2, clock, done, seconds=0.6)]
    asyncio.run(run())


def test_nothing_is_called_once_all_is_done():
    clock, steps = Clock(0.0), []

    def step(now: float) -> bool:
        steps.append(now)
        return False

    async def run():
        moments = Moments(clock, 1.0, step, lambda: False)
        moments.wake()
        moments.wake()
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(steps) == 1
        moments.wake()
        await asyncio.sleep(0)
        assert len(steps) == 2

    asyncio.run(run())
