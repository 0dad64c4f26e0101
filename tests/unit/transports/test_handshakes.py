import asyncio

import pytest

from bbr.transports.handshakes import Handshakes, network
from tests.support.clock import Clock


class Handshaking:
    """Shakes hands in so many steps, each of which takes 0.4 ms."""

    def __init__(self, name: str, address: str, clock: Clock, done: list[str], *, steps: int = 1) -> None:
        self.scheduled = False
        self.worked_at = 0.0
        self.address = address
        self.has_replied = False
        self._left = steps
        self._name = name
        self._clock = clock
        self._done = done

    def work(self) -> bool:
        self._clock.now += 0.0004
        self._left -= 1
        self._done.append(self._name)
        return self._left > 0


class Stage:
    """Handshakes whose clock the connections move, and what they have done."""

    def __init__(self, work_seconds: float = 0.0005) -> None:
        self.clock = Clock(0.0)
        self.done: list[str] = []
        self.handshakes = Handshakes(self.clock, lambda connection: self.handshakes.schedule(connection), work_seconds)

    def connection(self, name: str, address: str = "192.0.2.1", *, steps: int = 1) -> Handshaking:
        return Handshaking(name, address, self.clock, self.done, steps=steps)


def test_a_newcomer_does_not_wait_for_all_half_open_handshakes_of_another():
    async def run():
        stage = Stage()
        for number in range(1500):
            stage.handshakes.schedule(stage.connection(f"flood {number}"))
        await asyncio.sleep(0)
        assert stage.done == ["flood 0", "flood 1"]
        newcomer = stage.connection("new", "192.0.2.2", steps=2)
        stage.handshakes.schedule(newcomer)
        for _ in range(4):
            await asyncio.sleep(0)
        assert [place for place, name in enumerate(stage.done) if name == "new"] == [3, 5]

    asyncio.run(run())


def test_the_event_loop_goes_on_between_two_moments():
    async def run():
        stage = Stage()
        for number in range(6):
            stage.handshakes.schedule(stage.connection(str(number), f"192.0.2.{number}"))
        lengths = []
        for _ in range(4):
            await asyncio.sleep(0)
            lengths.append(len(stage.done))
        assert lengths == [2, 4, 6, 6]

    asyncio.run(run())


def test_of_one_address_who_has_replied_goes_first_and_else_who_came_first():
    async def run():
        stage = Stage(1.0)
        connections = [stage.connection(name) for name in "abcd"]
        for each in connections[2:]:
            each.has_replied = True
        for each in connections:
            stage.handshakes.schedule(each)
            stage.handshakes.schedule(each)  # it keeps its place
        await asyncio.sleep(0)
        assert stage.done == ["c", "d", "a", "b"]
        assert not any(each.scheduled for each in connections)
        stage.handshakes.schedule(connections[0])
        await asyncio.sleep(0)
        assert stage.done[4:] == ["a"]

    asyncio.run(run())


def test_a_handshake_that_fails_ends_no_other():
    class Broken(Handshaking):
        def work(self) -> bool:
            raise MemoryError

    async def run():
        stage, told = Stage(1.0), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        broken = Broken("broken", "192.0.2.2", stage.clock, stage.done)
        for each in (broken, stage.connection("good")):
            stage.handshakes.schedule(each)
        for _ in range(2):
            await asyncio.sleep(0)
        assert stage.done == ["good"]
        assert [type(each) for each in told] == [MemoryError]
        assert not broken.scheduled

    asyncio.run(run())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
        ("fe80::1%eth0", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
def test_addresses_of_two_peers(one, other):
    assert network(one) != network(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_addresses_of_one_peer(one, other):
    assert network(one) == network(other)
