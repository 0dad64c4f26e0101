import asyncio
from typing import Any, cast

import pytest

from bbr.transports.beginners import SHELTERED
from bbr.transports.roster import Roster
from bbr.transports.serving import ConnectionLimits
from bbr.transports.uv_connection import UvConnection
from tests.support.loops import in_loop


class Seat:
    """What a roster sees of a connection."""

    address = ""
    beginning = False
    handshaking = True

    def __init__(self, rank: int = UvConnection.BUSY, heard_at: float = 0.0) -> None:
        self.retire_at: float | None = None
        self.sheltered_until = 0.0
        self.idleness = (rank, heard_at)
        self.gave_way = False
        self.leaves = False
        self.left = False
        self.busy = False

    def leave(self) -> bool:
        self.left = self.leaves
        return self.leaves

    def give_way(self) -> None:
        self.gave_way = True


def seats(count: int) -> list[UvConnection]:
    return [cast(UvConnection, Seat()) for _ in range(count)]


def full(*taken: Seat, **limits: Any) -> Roster:
    """Return a roster whose seats are all taken by these."""
    roster = Roster(ConnectionLimits(max_connections=len(taken), **limits))
    for each in taken:
        assert roster.admit(cast(UvConnection, each), 0.0)
    return roster


def admitted(roster: Roster, *newcomers: Seat) -> list[bool]:
    return [roster.admit(cast(UvConnection, each), 0.0) for each in newcomers]


def test_as_many_as_there_is_room_for(caplog):
    roster = Roster(ConnectionLimits(max_connections=2))
    one, two, three = seats(3)
    assert [roster.admit(each, 0.0) for each in (one, two, three)] == [True, True, False]
    assert (roster.connections, roster.total, roster.turned_away.total) == ({one, two}, 2, 1)
    roster.gone(one)
    assert roster.admit(three, 0.0)
    assert caplog.messages == ["a connection over --max-connections=2 was closed"]


class TestWhoHasBeenIdleTheLongest:
    def test_makes_room(self):
        taken = [Seat(0, 5.0), Seat(0, 3.0), Seat(0, 4.0)]
        roster = full(*taken)
        newcomers = [Seat(0, 9.0 + place) for place in range(4)]
        assert admitted(roster, *newcomers[:2]) == [True, True]
        assert [each.gave_way for each in taken] == [False, True, True]
        # Those that leave are there until they are gone, and are not asked twice.
        assert len(roster.connections) == 5
        for each in taken[1:]:
            roster.gone(cast(UvConnection, each))
        assert admitted(roster, *newcomers[2:]) == [True, True]
        assert [each.gave_way for each in (*taken, *newcomers)] == [True, True, True, True, False, False, False]
        assert roster.turned_away.total == 4

    def test_is_looked_for_anew_if_it_has_said_something(self):
        taken = [Seat(0, 1.0), Seat(0, 2.0), Seat(0, 3.0)]
        roster = full(*taken)
        assert admitted(roster, Seat(0, 4.0)) == [True]
        taken[1].idleness = (0, 5.0)
        assert admitted(roster, Seat(0, 6.0)) == [True]
        assert [each.gave_way for each in taken] == [True, False, True]

    def test_is_one_without_calls_or_else_without_an_answer(self):
        busy, beginning, never_answered, idle = taken = [
            Seat(UvConnection.BUSY, 1.0),
            Seat(UvConnection.BEGINNING, 2.0),
            Seat(1, 3.0),
            Seat(0, 4.0),
        ]
        roster = full(*taken)
        assert admitted(roster, Seat(), Seat()) == [True, True]
        assert [each.gave_way for each in (busy, beginning, never_answered, idle)] == [False, False, True, True]
        assert admitted(roster, Seat(), Seat()) == [True, False]
        assert [each.gave_way for each in (busy, beginning)] == [False, True]

    def test_is_another_than_the_one_that_needs_the_room(self, caplog):
        taken = [Seat(0, 1.0), Seat(0, 2.0), Seat(0, 3.0)]
        roster = full(*taken)
        assert roster.make_room(1, 0.0, "what there is room for", cast(UvConnection, taken[0]))
        assert [each.gave_way for each in taken] == [False, True, False]
        assert caplog.messages == ["a connection over what there is room for was closed"]
        assert roster.make_room(1, 0.0)
        assert [each.gave_way for each in taken] == [False, True, True]

    def test_is_any_where_calls_are_worth_no_more(self):
        one, other = Seat(heard_at=2.0), Seat(heard_at=1.0)
        roster = full(one, other, busy_give_way=True)
        assert admitted(roster, Seat(heard_at=3.0)) == [True]
        assert (one.gave_way, other.gave_way) == (False, True)

    @in_loop
    async def test_goes_after_the_newcomers_were_read_where_there_are_spare_seats(self):
        taken = [Seat(0, 1.0), Seat(0, 2.0)]
        roster = full(*taken, spare_connections=2)
        newcomers = [Seat(0, 3.0), Seat(0, 4.0), Seat(0, 5.0)]
        assert admitted(roster, *newcomers[:2]) == [True, True]
        assert not any(each.gave_way for each in taken)
        assert admitted(roster, newcomers[2]) == [True]  # beyond the spare ones at once
        assert [each.gave_way for each in taken] == [True, False]
        newcomers[0].idleness = (0, 6.0)  # it has asked for something
        for _ in range(3):
            await asyncio.sleep(0)
        assert [each.gave_way for each in (*taken, *newcomers)] == [True, True, False, True, False]
        assert not roster._trims

    @in_loop
    async def test_stays_if_others_have_left_meanwhile(self):
        taken = [Seat(0, 1.0), Seat(0, 2.0)]
        roster = full(*taken, spare_connections=2)
        assert admitted(roster, Seat(0, 3.0)) == [True]
        roster.gone(cast(UvConnection, taken[1]))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not taken[0].gave_way


def leaving(count: int) -> tuple[Roster, list[Seat]]:
    """Return a full roster of connections that would take their time to leave."""
    taken = [Seat(0, float(place)) for place in range(count)]
    for each in taken:
        each.leaves = True
    return full(*taken), taken


def test_sixteen_may_take_their_time_to_leave():
    roster, taken = leaving(18)
    assert all(admitted(roster, *(Seat(0, 100.0) for _ in range(17))))
    assert [each.left for each in taken] == [True] * 16 + [False] * 2
    assert [each.gave_way for each in taken] == [False] * 16 + [True, False]
    # One that is gone has left its place to another.
    roster.gone(cast(UvConnection, taken[5]))
    assert admitted(roster, Seat(0, 100.0)) == [True]
    assert (taken[17].left, taken[17].gave_way) == (True, False)


def test_those_that_were_told_a_while_ago_are_ended_for_others_unless_they_have_calls():
    roster, taken = leaving(20)
    assert all(admitted(roster, *(Seat(0, 100.0) for _ in range(16))))
    for each in taken[1:15]:
        each.busy = True  # a call has crossed the word that it should leave
    for place, seat in ((16, Seat(0, 100.0)), (17, Seat(0, 100.0)), (18, Seat(0, 100.0))):
        assert roster.admit(cast(UvConnection, seat), 0.1)
        assert taken[place].left is (place < 18)
    assert [each.gave_way for each in taken] == [True, *[False] * 14, True, False, False, True, False]


@pytest.mark.parametrize(("share", "age"), [(0.0, 90.0), (0.5, 100.0), (1.0, 110.0)])
def test_ages_differ_by_a_tenth(share, age):
    (one,) = seats(1)
    Roster(ConnectionLimits(max_age_seconds=100.0), lambda: share).admit(one, 7.0)
    assert one.retire_at == pytest.approx(7.0 + age)


def test_without_a_limit_none_is_too_old():
    (one,) = seats(1)
    Roster(ConnectionLimits()).admit(one, 7.0)
    assert one.retire_at is None


def test_a_newcomer_is_sheltered_until_it_is_gone():
    roster = Roster(ConnectionLimits())
    one, *others = [Seat() for _ in range(SHELTERED + 1)]
    for each in (one, *others):
        each.beginning = True
    assert all(admitted(roster, one, *others))
    assert [each.sheltered_until > 0.0 for each in (one, *others)] == [True] * SHELTERED + [False]
    roster.gone(cast(UvConnection, one))
    last = Seat()
    assert admitted(roster, last) == [True]
    assert last.sheltered_until > 0.0


@in_loop
async def test_emptiness_can_be_awaited():
    roster = Roster(ConnectionLimits())
    await roster.empty()
    one, two = seats(2)
    for each in (one, two):
        roster.admit(each, 0.0)
    waiting = asyncio.create_task(roster.empty())
    await asyncio.sleep(0)
    roster.gone(one)
    await asyncio.sleep(0)
    assert not waiting.done()
    roster.gone(two)
    await waiting


def test_each_may_end_what_it_is_given():
    roster = Roster(ConnectionLimits())
    for each in seats(3):
        roster.admit(each, 0.0)
    roster.each(roster.gone)
    assert roster.connections == set()
