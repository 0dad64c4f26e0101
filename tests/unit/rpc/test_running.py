"""Answers and ends of calls by themselves; with what comes before them, in test_connection.py."""

import pytest

from bbr.http2.connection import Connection
from bbr.http2.settings import Settings
from bbr.rpc.calls import Call
from bbr.rpc.messages import Held, MessageReader
from bbr.rpc.running import OUR_FAULT, RunningCalls, Services
from bbr.rpc.status import OK, Status, StatusCode
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import DATA, HEADERS, POST_BLOCK, PREFACE, SETTINGS_ACK, Frame, headers, parse, settings
from bench.harness.rpc_client import Talk


class Rig:
    """Running calls on a connection, one of them on stream 1."""

    def __init__(self) -> None:
        self.failed: list[Exception] = []
        self.http2 = Connection(Settings(), 0.0)
        self.http2.receive(PREFACE + settings() + SETTINGS_ACK + headers(1, POST_BLOCK, end=True), 0.0)
        self.http2.take_output()
        self.running = RunningCalls(Services({}, 100, self.failed.append), self.http2)
        self.held = Held()
        self.handler = Talk()
        self.call = Call(1, self.handler, MessageReader(100, None, self.held), 0.0, 9.0)
        self.running.by_stream[1] = self.call

    def output(self) -> list[Frame]:
        return list(parse(self.http2.take_output()))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_headers_go_before_the_first_message_alone(rig):
    rig.running.send(rig.call, [b"a"])
    rig.running.send(rig.call, [b"b", b"c"])
    assert [(each.kind, each.payload) for each in rig.output()[1:]] == [
        (DATA, framed(b"a")),
        (DATA, framed(b"b") + framed(b"c")),
    ]


def test_an_end_lets_its_handler_and_what_is_held_go(rig):
    rig.call.reader.feed(b"\0\0\0\0\x09abc")
    rig.call.reader.keep(50)
    assert rig.held.octets == 58
    rig.running.end(rig.call, OK)
    assert (rig.running.by_stream, rig.held.octets, rig.handler.overs) == ({}, 0, 1)
    assert [(each.kind, each.ends) for each in rig.output()] == [(HEADERS, True)]


def test_a_handler_that_fails_is_told_of_and_its_call_ends(rig):
    def ask() -> tuple[bytes, ...]:
        raise RuntimeError("ours")

    rig.running.answer(rig.call, ask)
    assert [str(each) for each in rig.failed] == ["ours"]
    assert str(OUR_FAULT.message).encode() in rig.http2.take_output()


def test_a_handler_may_end_its_call_with_an_answer(rig):
    rig.handler.end = Status(StatusCode.CANCELLED)
    rig.running.answer(rig.call, lambda: (b"last",))
    assert [each.kind for each in rig.output()] == [HEADERS, DATA, HEADERS]


def test_a_deadline_ends_a_call(rig):
    rig.running.expire(9.0)
    assert rig.running.by_stream
    rig.running.expire(9.1)
    assert not rig.running.by_stream
