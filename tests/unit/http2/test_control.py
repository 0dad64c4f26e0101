"""Frames of the connection, without one; what a whole connection makes of them is in tests/conformance."""

import struct

import pytest

from bbr.http2 import faults
from bbr.http2.budgets import Budgets
from bbr.http2.control import Control
from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder
from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.stream_table import StreamTable
from bench.harness.h2_frames import (
    ACK,
    DATA,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PING,
    PUSH_PROMISE,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    parse,
)


class Side:
    """A server's control frames, and what they stand on."""

    def __init__(self, **limits: int) -> None:
        settings = Settings(**limits)
        self.sender = Sender(settings, Held())
        self.table = StreamTable(settings, self.sender, Held())
        self.decoder = FieldDecoder(0, 8192, 128)
        self.budgets = Budgets(0.0)
        self.control = Control(settings, self.table, self.sender, self.budgets, self.decoder)

    def output(self) -> list[Frame]:
        return list(parse(self.sender.take()))

    def receive(self, kind: int, flags: int = 0, payload: bytes = b"", stream_id: int = 0) -> list[Frame]:
        self.control.receive(kind, flags, stream_id, payload)
        return self.output()


@pytest.fixture
def side() -> Side:
    made = Side()
    made.output()
    return made


def setting(key: int, value: int) -> bytes:
    return struct.pack(">HI", key, value)


def test_it_begins_with_our_settings_and_the_rest_of_the_connections_window():
    assert [each.kind for each in Side().output()] == [SETTINGS, WINDOW_UPDATE]
    assert [each.kind for each in Side(connection_window_bytes=65_535).output()] == [SETTINGS]


FAULTS = {
    "PUSH_PROMISE": ((PUSH_PROMISE, 0, b"", 1), faults.PUSH_PROMISE),
    "SETTINGS on a stream": ((SETTINGS, 0, b"", 1), faults.CONNECTION_FRAME_ON_STREAM),
    "PING on a stream": ((PING, 0, bytes(8), 1), faults.CONNECTION_FRAME_ON_STREAM),
    "GOAWAY on a stream": ((GOAWAY, 0, bytes(8), 1), faults.CONNECTION_FRAME_ON_STREAM),
    "PING of 7 octets": ((PING, 0, bytes(7), 0), faults.PING_SIZE),
    "GOAWAY of 7 octets": ((GOAWAY, 0, bytes(7), 0), faults.GOAWAY_SIZE),
    "an acknowledgement with a payload": ((SETTINGS, ACK, bytes(6), 0), faults.SETTINGS_SIZE),
    "half a setting": ((SETTINGS, 0, bytes(7), 0), faults.SETTINGS_SIZE),
}


@pytest.mark.parametrize(("sent", "fault"), FAULTS.values(), ids=FAULTS)
def test_faults(side, sent, fault):
    with pytest.raises(ConnectionFault) as caught:
        side.receive(*sent)
    assert caught.value.fault is fault


def test_settings_are_acknowledged_and_in_force(side):
    payload = setting(INITIAL_WINDOW_SIZE, 100) + setting(MAX_FRAME_SIZE, 20_000)
    assert [(each.kind, each.flags) for each in side.receive(SETTINGS, 0, payload)] == [(SETTINGS, ACK)]
    assert (side.sender.initial_window, side.sender.max_frame_size) == (100, 20_000)


def test_a_larger_window_sends_what_waits(side):
    side.receive(SETTINGS, 0, setting(INITIAL_WINDOW_SIZE, 0))
    side.table.note(1)
    stream = side.table.begin(1, None)
    side.sender.data(stream, b"waits", end_stream=False)
    sent = side.receive(SETTINGS, 0, setting(INITIAL_WINDOW_SIZE, 3))
    assert [(each.kind, each.payload) for each in sent] == [(SETTINGS, b""), (DATA, b"wai")]


def test_an_acknowledgement_that_nobody_asked_for_costs_and_changes_nothing(side):
    for left in (0, 0):
        assert side.receive(SETTINGS, ACK) == []
        assert side.control.unacknowledged == left
    assert side.budgets.control.capacity - side.budgets.control.tokens == 2


def test_a_ping_is_answered_with_its_octets(side):
    assert [(each.kind, each.flags, each.payload) for each in side.receive(PING, 0, b"12345678")] == [
        (PING, ACK, b"12345678")
    ]
    assert side.receive(PING, ACK, b"12345678") == []


def test_answers_that_are_not_taken_end_it():
    side = Side(max_queued_control_frames=3)
    for _ in range(3):
        side.control.receive(PING, 0, 0, bytes(8))
    with pytest.raises(ConnectionFault) as caught:
        side.control.receive(SETTINGS, 0, 0, b"")
    assert caught.value.fault is faults.UNREAD_CONTROL_FRAMES


class TestTheEnd:
    def goaways(self, side: Side) -> list[tuple[int, int]]:
        return [(each.last_id, each.code) for each in side.output() if each.kind == GOAWAY]

    def test_it_is_announced_before_anything_is_refused(self, side):
        side.control.shut_down(refuse=False)
        goaway, ping = side.output()
        assert (goaway.last_id, goaway.code, ping.kind) == (2**31 - 1, 0, PING)
        assert not side.control.refusing
        assert not side.control.goaway_read
        side.receive(PING, ACK, ping.payload)
        assert side.control.goaway_read

    def test_a_ping_that_was_not_ours_says_nothing(self, side):
        side.receive(PING, ACK, b"bbr-away")
        assert not side.control.goaway_read

    def test_the_last_id_never_rises(self, side):
        side.table.note(5)
        side.control.shut_down(refuse=True)
        side.table.note(7)
        side.control.shut_down(refuse=True)
        side.control.shut_down(refuse=False)
        side.control.fail(ErrorCode.PROTOCOL_ERROR, "reason")
        assert self.goaways(side) == [(5, 0), (5, 1)]
        assert side.control.refusing

    def test_a_fault_alone_tells_what_came(self, side):
        side.table.note(9)
        side.control.fail(ErrorCode.PROTOCOL_ERROR, "reason")
        assert self.goaways(side) == [(9, 1)]

    def test_a_peers_goaway_costs_and_changes_nothing(self, side):
        assert side.receive(GOAWAY, 0, bytes(8) + b"debug data") == []
        assert not side.control.refusing
