"""What a connection holds, and how it lets go of it; on a transport that is none."""

import gc
import struct
import weakref

import pytest

from bbr.exchange.ledger import Ledger
from bbr.transports.room import STEP_BYTES
from bbr.transports.uv_connection import UvConnection
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    DATA,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    OPENING,
    PING_FRAME,
    PREFACE,
    RST_STREAM,
    SETTINGS_ACK,
    block,
    cut,
    data,
    headers,
    rst_stream,
    settings,
)
from bench.harness.rpc_client import Talk, fields
from tests.support.mock_transport import MockOwner, MockTransport

CALL = block(fields())


def call(stream_id: int, *messages: bytes, end: bool = False) -> bytes:
    return headers(stream_id, CALL) + data(stream_id, b"".join(map(framed, messages)), end=end)


def opened(owner: MockOwner) -> tuple[UvConnection, MockTransport]:
    connection, transport = owner.connect()
    connection.data_received(OPENING)
    transport.frames()
    return connection, transport


class Body(Talk):
    """Holds a body, which is counted apart."""

    held_bytes = 90_000

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        assert ledger.take(self.held_bytes)

    def over(self) -> None:
        """Give it back."""
        super().over()
        self._ledger.give_back(self.held_bytes)


def part(stream_id: int, size: int) -> bytes:
    """Return a call with so many octets of a message that is longer."""
    octets = struct.pack(">BI", 0, 99_000) + bytes(size)
    return headers(stream_id, CALL) + b"".join(data(stream_id, each) for each in cut(octets, 16_000))


class TestRoom:
    """What a connection holds has to fit into what the process may hold."""

    def test_it_is_counted_and_given_back(self):
        ledger = Ledger(1 << 20)
        owner = MockOwner(ledger=ledger)
        connection, _ = opened(owner)
        idle = ledger.held_bytes
        assert 0 < idle <= 2 * STEP_BYTES
        connection.data_received(part(1, 80_000) + part(3, 60_000))
        assert ledger.held_bytes >= idle + 140_000
        assert ledger.long_bytes >= 140_000
        connection.data_received(rst_stream(1) + rst_stream(3))
        assert ledger.held_bytes <= idle + 4 * STEP_BYTES
        connection.connection_lost(None)
        assert ledger.held_bytes == 0

    @pytest.mark.interpreted("holds a weak reference")
    def test_one_that_is_over_does_not_wait_for_the_garbage_collector(self):
        owner = MockOwner(ledger=Ledger(1 << 20))
        connection, transport = opened(owner)
        connection.data_received(part(1, 5000)[:-10])
        over = weakref.ref(connection)
        enabled = gc.isenabled()
        gc.disable()
        try:
            connection.connection_lost(None)
            connection.account.give_way(1)
            del connection, transport
            assert over() is None
        finally:
            if enabled:
                gc.enable()

    def test_one_that_is_not_let_in_holds_nothing(self):
        ledger = Ledger(1 << 20)
        owner = MockOwner(ledger=ledger, full=True)
        connection = UvConnection(owner)
        connection.account.settle(STEP_BYTES, 0)
        connection.connection_made(MockTransport())
        assert ledger.held_bytes == 0

    def test_the_call_that_holds_the_most_goes_and_the_others_go_on(self):
        owner = MockOwner(ledger=Ledger(6 * STEP_BYTES))
        connection, transport = opened(owner)
        connection.data_received(call(1, b"quiet"))
        connection.data_received(part(3, 10_000))
        while not (sent := transport.frames()):
            connection.data_received(data(3, bytes(16_000)))
        assert [(each.kind, each.stream_id) for each in sent] == [(HEADERS, 3), (RST_STREAM, 3)]
        assert b"no room left" in sent[0].payload
        connection.data_received(data(3, bytes(16_000)) + data(1, framed(b"a"), end=True))
        assert [each.kind for each in transport.frames()] == [HEADERS, DATA, HEADERS]
        assert owner.failures == []

    def test_answers_that_nobody_takes_are_the_calls_too(self):
        ledger = Ledger(12 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        connection, transport = owner.connect()
        connection.data_received(PREFACE + settings((INITIAL_WINDOW_SIZE, 0)) + SETTINGS_ACK)
        transport.frames()
        for stream_id in range(1, 41, 2):
            connection.data_received(call(stream_id, bytes(10_000)))
        assert owner.resets
        assert set(owner.resets) == {"no-room"}
        assert owner.failures == []
        assert ledger.held_bytes <= 12 * STEP_BYTES

    def test_as_many_calls_go_as_it_takes_and_not_the_connection(self):
        # From 1 MiB of messages on an account grows by 256 KiB, which is more than what the heaviest call holds.
        ledger = Ledger(4 << 20)
        owner = MockOwner(lambda: Body(ledger) if not owner.handlers else Talk(), ledger=ledger)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"quiet"))
        for stream_id in range(3, 43, 2):
            connection.data_received(part(stream_id, 60_000))
        assert connection.account.bulk_bytes > 1 << 20
        assert ledger.take(ledger.max_bytes - ledger.held_bytes)
        assert transport.frames() == []
        connection.data_received(b"".join(data(stream_id, bytes(10_000)) for stream_id in range(3, 43, 2)))
        assert isinstance(owner.ended[0], Body)
        assert 1 < len(owner.ended) < 6
        assert (owner.failures, transport.calls) == ([], [])

    def test_bodies_that_its_calls_hold_are_room_for_another_too(self):
        ledger = Ledger(4 << 20)
        owner = MockOwner(lambda: Body(ledger) if not owner.handlers else Talk(), ledger=ledger)
        heavy, transport = opened(owner)
        light, other = opened(owner)
        heavy.data_received(call(1, b"quiet"))
        for stream_id in range(3, 43, 2):
            heavy.data_received(part(stream_id, 60_000))
        assert ledger.take(ledger.max_bytes - ledger.held_bytes)
        light.data_received(part(1, 70_000))
        assert len(owner.ended) == 1
        assert (owner.failures, transport.calls, other.frames()) == ([], [], [])

    def test_if_no_call_holds_it_the_connection_goes(self):
        ledger = Ledger(12 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        connection, transport = opened(owner)
        assert ledger.take(ledger.max_bytes - ledger.held_bytes)
        connection._held.octets += 2 * STEP_BYTES  # what it remembers, say
        connection.data_received(PING_FRAME)
        assert owner.failures == [("HTTP/2", "no-room")]
        assert transport.calls == ["write_eof", "close"]

    def test_one_that_holds_little_has_the_room_of_idle_ones(self):
        ledger = Ledger(12 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        connection, _ = opened(owner)
        assert owner.room.take(ledger.max_calls_bytes - ledger.calls_bytes, connection.account)
        owner.idle = 5
        connection._held.octets += 2 * STEP_BYTES
        connection.data_received(PING_FRAME)
        assert owner.failures == []
        assert owner.idle == 3

    def test_one_that_does_not_read_is_cut_off_then(self):
        ledger = Ledger(12 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        connection, transport = opened(owner)
        assert ledger.take(ledger.max_bytes - ledger.held_bytes)
        transport.unsent = 2 * STEP_BYTES
        connection.pause_writing()
        connection._held.octets += 2 * STEP_BYTES
        connection.data_received(PING_FRAME)
        assert owner.failures == [("HTTP/2", "no-room")]
        assert transport.calls[-1] == "abort"

    def test_the_heaviest_gives_way_to_another(self):
        ledger = Ledger(34 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        heavy, transport = opened(owner)
        light, other = opened(owner)
        for stream_id in range(1, 21, 2):
            heavy.data_received(part(stream_id, 25_000))
        assert transport.frames() == other.frames() == []
        for stream_id in range(1, 15, 2):
            light.data_received(part(stream_id, 25_000))
        assert {each.kind for each in transport.frames()} == {HEADERS, RST_STREAM}
        assert other.frames() == []
        assert owner.failures == []
        assert len(heavy._rpc.calls) >= 6
        assert ledger.held_bytes <= ledger.max_bytes

    @pytest.mark.parametrize("closing", [False, True])
    def test_one_that_has_nothing_to_give_is_cut_off(self, closing):
        ledger = Ledger(32 * STEP_BYTES)
        owner = MockOwner(ledger=ledger)
        heavy, transport = opened(owner)
        light, other = opened(owner)
        transport.unsent = 20 * STEP_BYTES
        heavy.pause_writing()
        heavy.data_received(PING_FRAME)
        if closing:
            heavy.data_received(data(0, b""))
        light.data_received(part(1, 90_000) + part(3, 90_000))
        assert transport.calls[-1] == "abort"
        assert other.frames() == []
        assert ledger.held_bytes <= 15 * STEP_BYTES

    def test_what_the_transport_holds_counts_while_the_peer_does_not_read(self):
        ledger = Ledger(1 << 20)
        connection, transport = opened(MockOwner(ledger=ledger))
        idle = ledger.held_bytes
        transport.unsent = 200_000
        connection.pause_writing()
        connection.data_received(PING_FRAME)
        assert ledger.held_bytes >= idle + 180_000
        transport.unsent = 0
        connection.resume_writing()
        assert ledger.held_bytes <= idle + 4 * STEP_BYTES
