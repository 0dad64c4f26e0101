import pytest

from bbr.exchange.ledger import Ledger
from bbr.transports.room import BULK_BYTES, STEP_BYTES, Account, Room, Unbounded

MIB = 1 << 20


class Kept:
    """An account whose owner gives way by so much at a time, and remembers for how much it was asked."""

    def __init__(self, room: Room, gives: int = 0) -> None:
        self.asked: list[int] = []
        self.bulk = 0
        self.gives = gives
        self.account = Account(room, self.give_way)

    def hold(self, bulk: int) -> int:
        self.bulk = bulk
        return self.account.settle(0, bulk)

    def give_way(self, octets: int) -> bool:
        self.asked.append(octets)
        self.bulk -= min(self.gives, self.bulk)
        self.account.settle(0, self.bulk)
        return self.gives > 0


def test_the_first_octets_are_the_ports_own():
    ledger = Ledger(10 * MIB)
    account = Account(Room(ledger, 4 * MIB), lambda octets: False)
    assert account.settle(3 * MIB, 0) == 0
    assert ledger.held_bytes == 0
    assert account.settle(6 * MIB, 0) == 0
    assert ledger.held_bytes == 2 * MIB
    assert account.settle(MIB, 0) == 0
    assert ledger.held_bytes == 0


def test_beyond_the_ledgers_room_there_is_none():
    ledger = Ledger(10 * MIB)
    account = Account(Room(ledger, 4 * MIB), lambda octets: False)
    assert ledger.take(9 * MIB)
    assert account.settle(6 * MIB, 0) == 6 * MIB
    assert ledger.held_bytes == 9 * MIB
    assert account.settle(5 * MIB, 0) == 0
    assert account.settle(5 * MIB + 1, 0) == 1


def test_long_bodies_and_messages_shut_neither_connections_nor_calls_out():
    ledger = Ledger(8 * MIB)
    room = Room(ledger, MIB)
    assert ledger.take(7 * MIB, long=True)
    assert Account(room, lambda octets: False).settle(MIB + 3 * MIB // 4, 0) == 0
    assert Account(room, lambda octets: False).settle(0, BULK_BYTES + 1) == BULK_BYTES + 1


def test_a_little_bulk_is_none():
    ledger = Ledger(MIB)
    account = Account(Room(ledger, 0), lambda octets: False)
    account.settle(1000, BULK_BYTES)
    assert (account.bulk_bytes, ledger.long_bytes, ledger.held_bytes) == (0, 0, BULK_BYTES + STEP_BYTES)
    account.settle(1000, BULK_BYTES + 1)
    assert (account.bulk_bytes, ledger.long_bytes) == (BULK_BYTES + STEP_BYTES, BULK_BYTES + STEP_BYTES)
    assert ledger.held_bytes == BULK_BYTES + 2 * STEP_BYTES
    account.close()
    account.close()
    assert (ledger.held_bytes, ledger.long_bytes) == (0, 0)


@pytest.mark.parametrize("kind", ["fixed", "bulk"])
def test_an_account_moves_in_steps(kind):
    ledger = Ledger(64 * MIB)
    account = Account(Room(ledger, 0), lambda octets: False)
    for octets in (BULK_BYTES + 1, 3 * BULK_BYTES, 5 * MIB, 4 * BULK_BYTES):
        assert account.settle(*((octets, 0) if kind == "fixed" else (0, octets))) == 0
        assert 0 <= ledger.held_bytes - octets < (STEP_BYTES if octets < MIB else 16 * STEP_BYTES)
        assert account.lowest < octets <= account.highest == ledger.held_bytes
        assert account.highest - account.lowest >= 4 * STEP_BYTES


def test_what_lacks_room_is_told_and_what_was_reserved_stays():
    ledger = Ledger(8 * BULK_BYTES)
    account = Account(Room(ledger, 0), lambda octets: False)
    assert account.settle(0, 2 * BULK_BYTES) == 0
    assert account.settle(0, 9 * BULK_BYTES) == 7 * BULK_BYTES
    assert ledger.held_bytes == 2 * BULK_BYTES
    assert account.settle(0, 3 * BULK_BYTES) == 0


class TestGivingWay:
    """What finds no room asks who holds the most, and more than itself."""

    def test_the_heaviest_does(self):
        room = Room(Ledger(16 * MIB), 0)
        light, heavy, other = (Kept(room, gives=2 * MIB) for _ in range(3))
        assert (light.hold(4 * MIB), heavy.hold(7 * MIB), other.hold(2 * MIB)) == (0, 0, 0)
        assert other.hold(3 * MIB + STEP_BYTES) == 0
        assert (light.asked, len(heavy.asked)) == ([], 1)
        assert heavy.account.bulk_bytes == 5 * MIB

    def test_more_than_once_if_need_be(self):
        room = Room(Ledger(16 * MIB), 0)
        heavy, other = Kept(room, gives=MIB), Kept(room)
        heavy.hold(13 * MIB)
        assert other.hold(4 * MIB) == 0
        assert heavy.account.bulk_bytes == 10 * MIB

    def test_the_heaviest_itself_has_no_one_to_ask(self):
        room = Room(Ledger(16 * MIB), 0)
        light, heavy = Kept(room, gives=MIB), Kept(room)
        light.hold(6 * MIB)
        assert heavy.hold(9 * MIB) == 9 * MIB
        assert heavy.hold(8 * MIB) == 0
        assert heavy.hold(9 * MIB) == MIB
        assert light.asked == []

    def test_one_that_gives_nothing_is_asked_once(self):
        room = Room(Ledger(16 * MIB), 0)
        heavy, other = Kept(room), Kept(room)
        heavy.hold(13 * MIB)
        assert other.hold(4 * MIB) == 4 * MIB
        assert len(heavy.asked) == 1

    def test_calls_and_connections_have_the_room_of_any(self):
        ledger = Ledger(16 * MIB)
        room = Room(ledger, 0)
        heavy, new = Kept(room, gives=MIB), Kept(room)
        heavy.hold(MIB)
        assert ledger.take(15 * MIB)
        assert new.account.settle(STEP_BYTES, 0) == 0
        assert heavy.account.bulk_bytes == 0
        assert new.account.settle(2 * MIB, 0) == 2 * MIB - STEP_BYTES


@pytest.mark.parametrize("octets", [1, 70_000])
def test_what_is_borrowed_is_given_back(octets):
    ledger = Ledger(80_000)
    account = Account(Room(ledger, 0), lambda octets: False)
    assert account.borrow(octets)
    assert ledger.held_bytes == octets
    assert not account.borrow(70_001 - octets)
    account.give_back(octets)
    assert ledger.held_bytes == 0


class Slow:
    """A body that stands still."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        assert ledger.take(12 * MIB, self, long=True)
        ledger.enter(self)

    def rate(self) -> float:
        return 0.0

    def may_give_way(self) -> bool:
        return True

    def give_up(self) -> None:
        self.ledger.give_back(12 * MIB, long=True)


def test_bodies_that_stand_still_give_way_to_messages():
    ledger = Ledger(16 * MIB)
    Slow(ledger)
    assert Kept(Room(ledger, 0)).hold(3 * MIB) == 0
    assert ledger.held_bytes == 3 * MIB


def test_without_a_ledger_there_is_room_for_all():
    account = Account(Room(Unbounded(), 0), lambda octets: False)
    assert account.settle(1 << 40, 1 << 40) == 0
    account.close()


def test_calls_that_stay_open_leave_room_for_bodies():
    ledger = Ledger(16 * MIB)
    room = Room(ledger, MIB)
    accounts = [Account(room, lambda octets: False) for _ in range(400)]
    lacking = [account.settle(50_000, 0) for account in accounts]
    assert lacking[0] == 0
    assert lacking[-1] > 0
    assert ledger.held_bytes == ledger.calls_bytes <= ledger.max_calls_bytes
    assert ledger.take(MIB)
    for account in accounts:
        account.close()
    assert (ledger.held_bytes, ledger.calls_bytes) == (MIB, 0)
