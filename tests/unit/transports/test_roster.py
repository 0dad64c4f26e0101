import asyncio
from typing import cast

import pytest

from bbr.transports.roster import Roster
from bbr.transports.serving import ConnectionLimits
from bbr.transports.uv_connection import UvConnection
from tests.support.loops import in_loop


class Seat:
    """What a roster sees of a connection."""

    retire_at: float | None = None


def seats(count: int) -> list[UvConnection]:
    return [cast(UvConnection, Seat()) for _ in range(count)]


def test_as_many_as_there_is_room_for(caplog):
    roster = Roster(ConnectionLimits(max_connections=2))
    one, two, three = seats(3)
    assert [roster.admit(each, 0.0) for each in (one, two, three)] == [True, True, False]
    assert (roster.connections, roster.total, roster.turned_away.total) == ({one, two}, 2, 1)
    roster.gone(one)
    assert roster.admit(three, 0.0)
    assert caplog.messages == ["a connection over --max-connections=2 was closed"]


@pytest.mark.parametrize(("share", "age"), [(0.0, 90.0), (0.5, 100.0), (1.0, 110.0)])
def test_ages_differ_by_a_tenth(share, age):
    (one,) = seats(1)
    Roster(ConnectionLimits(max_age_seconds=100.0), lambda: share).admit(one, 7.0)
    assert one.retire_at == pytest.approx(7.0 + age)


def test_without_a_limit_none_is_too_old():
    (one,) = seats(1)
    Roster(ConnectionLimits()).admit(one, 7.0)
    assert one.retire_at is None


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
