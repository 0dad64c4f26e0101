from typing import cast

import pytest

from bbr.http2.connection import Connection
from bbr.rpc.calls import Call
from bbr.rpc.messages import MessageReader
from bbr.rpc.pending import PendingCalls
from bench.harness.rpc_client import Talk


class Answers:
    """Whose answers wait."""

    def __init__(self) -> None:
        self.waits: set[int] = set()

    def is_stuck(self, stream_id: int) -> bool:
        return stream_id in self.waits


def calls(*stream_ids: int) -> dict[int, Call]:
    return {each: Call(each, Talk(), MessageReader(100), 0.0, None) for each in stream_ids}


@pytest.mark.interpreted("puts a stand-in in the place of a connection")
def test_they_take_turns():
    running = calls(1, 3)
    pending = PendingCalls(cast(Connection, Answers()), running)
    for call in running.values():
        pending.add(call)
    assert [pending.next(), pending.next()] == [running[1], running[3]]
    assert not pending.busy


@pytest.mark.interpreted("puts a stand-in in the place of a connection")
def test_one_that_has_ended_has_no_turn():
    running = calls(1)
    pending = PendingCalls(cast(Connection, Answers()), running)
    pending.add(running.pop(1))
    assert pending.next() is None


@pytest.mark.interpreted("puts a stand-in in the place of a connection")
def test_one_whose_answers_wait_works_when_they_have_left():
    running, answers = calls(1, 3), Answers()
    pending = PendingCalls(cast(Connection, answers), running)
    answers.waits = {1, 3}
    for call in running.values():
        pending.add(call)
    assert (pending.next(), pending.next(), list(pending.stuck)) == (None, None, [1, 3])
    assert not pending.busy
    answers.waits.clear()
    del pending.stuck[3]
    pending.unstick([1, 3, 99])
    assert not pending.stuck
    assert pending.next() is running[1]
    assert not pending.busy
