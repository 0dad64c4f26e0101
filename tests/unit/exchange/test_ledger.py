from functools import partial

import pytest

from bbr.exchange.ledger import Ledger


def test_what_is_taken_is_held_until_it_is_given_back() -> None:
    ledger = Ledger(10)
    assert ledger.take(7)
    assert not ledger.take(4)
    assert (ledger.held_bytes, ledger.peak_bytes, ledger.refused) == (7, 7, 1)
    assert ledger.take(3)
    ledger.give_back(10)
    assert (ledger.held_bytes, ledger.peak_bytes, ledger.refused) == (0, 10, 1)


def test_a_body_that_is_under_way_goes_a_little_beyond_the_bound_and_keeps_others_out() -> None:
    ledger = Ledger(10)
    assert ledger.take_in_flight(12)
    assert ledger.held_bytes == ledger.peak_bytes == 12
    assert not ledger.take(1)
    assert ledger.take_in_flight((4 << 20) - 2)
    assert not ledger.take_in_flight(1)
    assert (ledger.held_bytes, ledger.refused) == (10 + (4 << 20), 2)


class Stub:
    def __init__(self, ledger: Ledger, rate: float, octets: int, *, known: bool = True) -> None:
        self.ledger, self.speed, self.octets, self.known = ledger, rate, octets, known
        if octets:
            assert ledger.take(octets, self, long=True)
            ledger.enter(self)

    def rate(self) -> float:
        return self.speed

    def may_give_way(self) -> bool:
        return self.known

    def give_up(self) -> None:
        self.ledger.give_back(self.octets, long=True)
        self.octets = 0


def test_long_bodies_leave_a_part_to_short_ones() -> None:
    ledger = Ledger(800)
    assert ledger.take(700, long=True)
    assert not ledger.take(1, long=True)
    assert ledger.take(100)
    assert (ledger.held_bytes, ledger.long_bytes, ledger.refused) == (800, 700, 1)
    ledger.give_back(50)
    ledger.lengthen(50)
    assert (ledger.held_bytes, ledger.long_bytes) == (750, 750)


def test_the_slowest_gives_way_to_one_that_is_faster_by_far() -> None:
    ledger = Ledger(800)
    slow, slowest, fast = Stub(ledger, 10, 200), Stub(ledger, 5, 200), Stub(ledger, 1000, 200)
    asking = Stub(ledger, 1000, 0)
    assert ledger.take(200, asking, long=True)
    assert [each.octets for each in (slow, slowest, fast)] == [200, 0, 200]
    assert ledger.take(200, asking, long=True)
    assert [each.octets for each in (slow, slowest, fast)] == [0, 0, 200]
    assert not ledger.take(200, asking, long=True)
    assert (fast.octets, ledger.refused) == (200, 3)


def test_who_asks_may_be_the_slow_one() -> None:
    ledger = Ledger(800)
    slow, fast = Stub(ledger, 1, 200), Stub(ledger, 1000, 400)
    assert not ledger.take(200, slow, long=True)
    assert (slow.octets, fast.octets) == (200, 400)


def test_who_has_just_begun_does_not_give_way() -> None:
    ledger = Ledger(800)
    Stub(ledger, 1, 700, known=False)
    assert not ledger.take(200, Stub(ledger, 1000, 0), long=True)


def test_a_few_are_compared_at_a_time_and_others_the_next_time() -> None:
    ledger = Ledger(8000)
    for _ in range(200):
        Stub(ledger, 1000, 30)
    slow = Stub(ledger, 1, 500)
    asking = Stub(ledger, 1000, 0)
    taken = [ledger.take(600, asking, long=True) for _ in range(2)]
    assert (taken, slow.octets) == ([False, True], 0)


def test_calls_leave_a_part_to_bodies():
    ledger = Ledger(16 << 20)
    assert ledger.max_calls_bytes == 15 << 20
    assert ledger.take_for_calls(15 << 20)
    assert not ledger.take_for_calls(1)
    assert (ledger.held_bytes, ledger.calls_bytes, ledger.refused) == (15 << 20, 15 << 20, 1)
    assert ledger.take(1 << 20)
    assert not ledger.take(1)
    ledger.give_back_for_calls(2 << 20)
    assert ledger.take(1 << 20)
    assert ledger.take_for_calls(1 << 20)
    assert not ledger.take_for_calls(1)
    assert (ledger.held_bytes, ledger.calls_bytes) == (16 << 20, 14 << 20)


@pytest.mark.parametrize("calls_first", [False, True])
def test_calls_and_long_bodies_together_leave_room_for_short_ones(calls_first: bool) -> None:
    ledger = Ledger(320)
    first, second = (ledger.take_for_calls, partial(ledger.take, long=True))[:: 1 if calls_first else -1]
    assert first(200)
    assert not second(111)
    assert second(110)
    assert not first(1)
    assert ledger.take(10)
    assert ledger.held_bytes == 320
