"""One connection on a transport that is none; with sockets, in tests/conformance/test_sockets.py."""

import datetime
import logging

import pytest

from bbr.exchange.ledger import Ledger
from bbr.http2.frames import MAX_STREAM_ID
from bbr.http2.sender import BATCH_BYTES
from bbr.rpc.holding import CALL_BYTES
from bbr.tls.credentials import server_context
from bbr.tls.pem import self_signed
from bbr.tls.session import TlsSession
from bbr.transports.health_calls import Watch
from bbr.transports.serving import Serving
from bbr.transports.turns import IN_FLOOD
from bbr.transports.uv_connection import FULL_READ_BYTES, Stage, UvConnection
from bbr.transports.uv_socket import Pace
from bench.harness.certificates import client_context
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    ACK,
    DATA,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    OPENING,
    PING,
    PING_FRAME,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    block,
    data,
    frame,
    headers,
    settings,
    window_update,
)
from bench.harness.rpc_client import PATH, Simple, Talk, fields
from bench.harness.tls_records import ALERT, APPLICATION_DATA, Handshake, Records
from tests.support.mock_transport import MockOwner, MockTransport

CALL = block(fields())
OTHER = b"/test.Talk/Watch"
# Frames of no known type, which carry nothing.
FULL_READ = frame(0x0B, 0, 0, bytes(16_384)) * (FULL_READ_BYTES >> 14)


class Large(Talk):
    """Gives an answer of several batches."""

    SIZE = 3 * BATCH_BYTES

    def receive(self, message: bytes) -> tuple[bytes, ...]:
        return (bytes(self.SIZE),)


class Steps(Simple):
    """Owes as many answers as its first message says, and gives one at a time."""

    end = None

    def __init__(self) -> None:
        self.left = 0

    @property
    def pending(self) -> bool:  # type: ignore[override]
        return self.left > 0

    def receive(self, message: bytes) -> tuple[bytes, ...]:
        self.left = int(message)
        return ()

    def work(self) -> tuple[bytes, ...]:
        self.left -= 1
        return (b"x",)

    def finish(self) -> None:
        return None


def call(stream_id: int, *messages: bytes, end: bool = False) -> bytes:
    return headers(stream_id, CALL) + data(stream_id, b"".join(map(framed, messages)), end=end)


def opened(owner: MockOwner) -> tuple[UvConnection, MockTransport]:
    connection, transport = owner.connect()
    connection.data_received(OPENING)
    transport.frames()
    return connection, transport


def kinds(transport: MockTransport) -> list[int]:
    return [each.kind for each in transport.frames()]


def test_a_peer_gets_the_preface_before_it_says_a_word():
    _, transport = MockOwner().connect()
    assert kinds(transport) == [SETTINGS, WINDOW_UPDATE]


def test_one_write_for_each_read():
    owner = MockOwner()
    connection, transport = opened(owner)
    before = transport.writes
    connection.data_received(call(1, b"a", end=True) + call(3, b"b", end=True))
    assert transport.writes == before + 1
    assert [(each.kind, each.stream_id) for each in transport.frames()] == [
        (HEADERS, 1),
        (DATA, 1),
        (HEADERS, 1),
        (HEADERS, 3),
        (DATA, 3),
        (HEADERS, 3),
    ]
    assert (len(owner.ended), owner.scheduled, transport.calls) == (2, 0, [])


def test_one_that_is_turned_away_is_closed_without_a_word_and_hears_of_nothing():
    owner = MockOwner(full=True)
    connection, transport = owner.connect()
    assert (transport.written, transport.calls) == (b"", ["abort"])
    assert transport.protocol is not None
    assert transport.protocol is not connection


def test_a_lost_connection_lets_its_calls_go():
    owner = MockOwner()
    connection, _ = opened(owner)
    connection.data_received(call(1, b"quiet"))
    assert (connection.calls, connection.busy) == (1, True)
    connection.connection_lost(None)
    assert (len(owner.ended), owner.gone_count) == (1, 1)


class TestTurns:
    """No connection has the event loop to itself."""

    def test_what_a_turn_has_no_time_for_waits_for_the_next_and_no_more_is_read(self):
        owner = MockOwner(pace=Pace(moment_seconds=1.0))
        connection, transport = opened(owner)
        owner.clock.step = 0.3
        connection.data_received(b"".join(call(stream_id, b"a", end=True) for stream_id in range(1, 21, 2)))
        assert 0 < len(owner.ended) < 10
        assert (transport.reading, owner.scheduled) == (False, 1)
        turns = 0
        while connection.work():
            assert not transport.reading
            turns += 1
        assert turns > 2
        assert len(owner.ended) == 10
        assert transport.reading
        assert len({each.stream_id for each in transport.frames()}) == 10

    def test_in_a_crowd_a_turn_is_shorter(self):
        answered = []
        for share in (1.0, 0.25):
            owner = MockOwner(pace=Pace(moment_seconds=10.0))
            owner.moment_seconds *= share
            connection, _ = opened(owner)
            owner.clock.step = 0.3
            connection.data_received(b"".join(call(stream_id, b"a", end=True) for stream_id in range(1, 21, 2)))
            answered.append(len(owner.ended))
            connection.work()
            answered.append(len(owner.ended))
        assert 0 < answered[2] < answered[3] < answered[0] == answered[1] == 10

    def test_reads_that_follow_each_other_at_once_are_one_turn(self):
        owner = MockOwner(pace=Pace(moment_seconds=1.0))
        connection, transport = opened(owner)
        for _ in range(3):
            connection.data_received(FULL_READ)
            owner.clock.now += 0.4
            assert transport.reading
        connection.data_received(FULL_READ)
        assert (transport.reading, owner.scheduled) == (False, 1)
        assert not connection.work()
        assert transport.reading
        connection.data_received(FULL_READ)  # a turn of its own
        assert transport.reading

    def test_a_short_read_is_the_last_of_its_turn(self):
        owner = MockOwner(pace=Pace(moment_seconds=1.0))
        connection, transport = opened(owner)
        for _ in range(10):
            connection.data_received(FULL_READ[: FULL_READ_BYTES - 1])
            owner.clock.now += 0.4
            connection.data_received(FULL_READ[FULL_READ_BYTES - 1 :])
            assert transport.reading
        assert owner.scheduled == 0

    def test_a_turn_lets_one_handler_work_a_bit(self):
        owner = MockOwner(Steps)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"3"))
        assert owner.scheduled == 1
        assert [connection.work() for _ in range(3)] == [True, True, False]
        assert b"".join(each.payload for each in transport.frames() if each.kind == DATA) == framed(b"x") * 3

    def test_in_a_flood_handlers_let_most_turns_pass(self):
        """Else a small request behind 8 MB of bodies waits for 30 ms of work on bodies, beside 10 ms to read them."""
        owner = MockOwner(Steps)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"100"))
        worked = []
        for _ in range(2 * IN_FLOOD):
            connection.data_received(FULL_READ)
            assert connection.work()
            worked.append(not connection.put_off)
        assert worked == ([False] * (IN_FLOOD - 1) + [True]) * 2
        assert sum(each.kind == DATA for each in transport.frames()) == 2

    def test_when_nothing_more_comes_they_work_at_once(self):
        owner = MockOwner(Steps)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"3"))
        connection.data_received(FULL_READ)
        assert connection.work()
        assert connection.put_off
        assert [connection.work() for _ in range(3)] == [True, True, False]
        assert not connection.put_off
        assert sum(each.kind == DATA for each in transport.frames()) == 3

    def test_in_a_flood_that_is_behind_they_do_the_same(self):
        owner = MockOwner(Steps, pace=Pace(moment_seconds=0.0))
        connection, transport = opened(owner)
        while connection.work():
            pass
        connection.data_received(call(1, b"9") + PING_FRAME * 2 * IN_FLOOD)
        passed = 0
        while not transport.reading:
            assert connection.work()
            passed += connection.put_off
        assert passed > IN_FLOOD
        assert sum(each.kind == DATA for each in transport.frames()) in (2, 3)

    def test_a_connection_that_has_failed_has_no_turn(self):
        owner = MockOwner(pace=Pace(moment_seconds=0.0))
        connection, transport = opened(owner)
        connection.data_received(data(0) + call(1, b"a"))
        assert not transport.reading
        while connection.work():
            pass
        assert owner.failures == [("HTTP/2", "idle-stream")]
        assert transport.reading
        assert not connection.work()
        assert owner.handlers == []

    def test_neither_has_one_that_is_closing(self):
        owner = MockOwner(Steps)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"3"))
        transport.close()
        assert not connection.work()


class TestBackpressure:
    def test_a_peer_that_does_not_read_is_not_read_either(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.pause_writing()
        assert not transport.reading
        # What had been read before is still handed over; its answers wait.
        connection.data_received(call(1, b"a") + PING_FRAME)
        assert kinds(transport) == [HEADERS, PING]
        connection.resume_writing()
        assert transport.reading
        assert kinds(transport) == [DATA]

    def test_what_is_left_of_a_turn_waits_for_the_peer_too(self):
        owner = MockOwner(pace=Pace(moment_seconds=0.0))
        connection, transport = opened(owner)
        while connection.work():
            pass
        before = owner.scheduled
        connection.data_received(call(1, b"a", end=True) + call(3, b"b", end=True))
        assert owner.scheduled == before + 1
        connection.pause_writing()
        assert not connection.work()
        connection.resume_writing()
        assert owner.scheduled == before + 2
        assert not transport.reading
        while connection.work():
            pass
        assert transport.reading
        assert len(owner.ended) == 2

    def test_one_that_never_reads_is_cut_off(self, caplog):
        caplog.set_level(logging.INFO)
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.pause_writing()
        connection.tick(owner.clock.now + 60.0)
        assert transport.calls == ["pause_reading"]
        connection.tick(owner.clock.now + 60.1)
        assert transport.calls == ["pause_reading", "abort"]
        assert caplog.messages == ["a peer has not read for 60 s: its connection is cut off"]

    def test_a_peers_end_gives_what_waits_as_long_as_any_other(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        assert not connection.eof_received()
        transport.close()  # as the event loop does then
        owner.clock.now += 59
        connection.tick(owner.clock.now)
        connection.pause_writing()
        connection.resume_writing()
        assert transport.calls == ["close"]
        connection.tick(owner.clock.now + 2)
        assert transport.calls == ["close", "abort"]

    def test_the_end_of_one_that_is_stalled_is_no_new_beginning(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.pause_writing()
        owner.clock.now += 50
        connection.eof_received()
        connection.tick(owner.clock.now + 11)
        assert transport.calls[-1] == "abort"


class TestStages:
    """Serving, away, draining, closing, lingering."""

    def stage(self, connection: UvConnection) -> int:
        return connection._stage

    def test_a_drain(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.data_received(call(1, b"quiet"))
        connection.drain(refuse=False)
        goaway, ping = transport.frames()
        assert (goaway.kind, goaway.last_id, ping.kind) == (GOAWAY, 2**31 - 1, PING)
        assert (self.stage(connection), connection.may_refuse) == (Stage.AWAY, False)
        connection.data_received(frame(PING, ACK, 0, ping.payload) + call(3, b"quiet"))
        assert connection.may_refuse
        connection.drain(refuse=True)
        assert (self.stage(connection), connection.may_refuse) == (Stage.DRAINING, False)
        connection.data_received(call(5, b"late"))
        assert [(each.kind, each.stream_id) for each in transport.frames()] == [(GOAWAY, 0), (RST_STREAM, 5)]
        connection.data_received(data(1, b"", end=True))
        assert transport.calls == []
        connection.data_received(data(3, b"", end=True))
        assert (transport.calls, self.stage(connection)) == (["write_eof"], Stage.CLOSING)

    def test_a_drain_that_refuses_at_once_closes_what_is_idle(self):
        connection, transport = opened(MockOwner())
        connection.drain(refuse=True)
        assert transport.calls == ["write_eof"]
        connection.drain(refuse=True)
        connection.drain(refuse=False)
        assert self.stage(connection) == Stage.CLOSING

    def test_after_the_end_the_peer_is_read_for_a_while_and_closed(self):
        owner = MockOwner(pace=Pace(linger_seconds=1.0, linger_bytes=100))
        connection, transport = opened(owner)
        transport.unsent = 1
        connection.data_received(b"\0" * 9)
        assert [each.kind for each in transport.frames()] == [GOAWAY]
        assert owner.failures == [("HTTP/2", "idle-stream")]
        now = owner.clock.now
        connection.tick(now + 30)
        assert self.stage(connection) == Stage.CLOSING  # what was said is not taken yet
        transport.unsent = 0
        connection.tick(now + 31)
        assert self.stage(connection) == Stage.LINGERING
        connection.data_received(bytes(100))
        assert transport.reading
        connection.data_received(b"x")
        assert not transport.reading
        connection.tick(now + 31.9)
        assert "close" not in transport.calls
        connection.tick(now + 32)
        assert transport.calls[-1] == "close"
        connection.tick(now + 33)
        assert transport.calls.count("close") == 1
        connection.pause_writing()
        connection.resume_writing()

    def test_a_goaway_that_is_never_taken_is_cut_off(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        transport.unsent = 1
        connection.data_received(b"\0" * 9)
        connection.tick(owner.clock.now + 60.1)
        assert transport.calls[-1] == "abort"

    def test_a_socket_that_can_be_half_closed_no_more_is_closed(self):
        connection, transport = opened(MockOwner())
        transport.refuses_eof = True
        connection.data_received(b"\0" * 9)
        assert transport.calls == ["write_eof", "abort"]

    def test_one_that_is_too_old(self, caplog):
        owner = MockOwner(keepalive_seconds=1e9)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"quiet"))
        now = connection.retire_at = owner.clock.now + 100
        connection.tick(now - 1)
        assert kinds(transport) == []
        connection.tick(now)
        assert kinds(transport) == [GOAWAY, PING]
        connection.tick(now + 4.9)
        assert kinds(transport) == []
        connection.tick(now + 5)
        assert kinds(transport) == [GOAWAY]
        connection.tick(now + 29)
        assert transport.calls == []
        connection.tick(now + 30)
        assert transport.calls == ["abort"]
        assert caplog.messages == ["1 requests outlived their connection's age and grace: cut off"]

    def test_one_that_is_too_old_and_has_read_it_is_refused_at_once(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.data_received(call(1, b"quiet"))
        now = connection.retire_at = owner.clock.now
        connection.tick(now)
        ping = transport.frames()[-1]
        connection.data_received(frame(PING, ACK, 0, ping.payload))
        connection.tick(now + 0.1)
        assert kinds(transport) == [GOAWAY]


class TestGivingWay:
    def test_how_idle_it_is(self):
        owner = MockOwner()
        connection, _ = owner.connect()
        assert connection.idleness == (0, 1000.0)
        owner.clock.now = 1001.0
        connection.data_received(OPENING + call(1, b"quiet"))
        assert connection.idleness == (1, 1001.0)
        owner.clock.now = 1002.0
        connection.data_received(data(1, framed(b"a")))
        assert connection.idleness == (UvConnection.BUSY, 1002.0)
        connection.data_received(data(1, b"", end=True))
        assert connection.idleness == (0, 1002.0)
        connection.data_received(bytes(9))
        assert connection.idleness == (0, 1002.0)

    def test_one_that_only_begins_may_be_kept_for_a_while(self):
        owner = MockOwner()
        connection, _ = owner.connect()
        connection.sheltered_until = 1001.0
        assert connection.beginning
        assert connection.idleness == (UvConnection.BEGINNING, 1000.0)
        owner.clock.now = 1001.0
        assert connection.idleness == (0, 1000.0)
        connection.sheltered_until = 1003.0
        assert connection.idleness == (UvConnection.BEGINNING, 1000.0)
        owner.clock.now = 1002.0
        connection.data_received(OPENING)
        assert not connection.beginning
        assert connection.idleness == (0, 1002.0)

    def test_one_that_ends_is_not_kept(self):
        connection, _ = MockOwner().connect()
        connection.sheltered_until = 1001.0
        connection.drain(refuse=False)
        assert connection.idleness == (0, 1000.0)

    def test_it_says_so_and_closes(self):
        connection, transport = opened(MockOwner())
        connection.data_received(call(1, b"quiet"))
        connection.give_way()
        assert [(each.kind, each.last_id) for each in transport.frames()] == [(GOAWAY, 1)]
        assert transport.calls == ["close"]
        connection.data_received(call(3, b"quiet"))
        assert connection.calls == 0  # they hold nothing while the socket closes

    def test_one_without_calls_tells_its_peer_first_and_answers_what_is_under_way(self):
        ledger = Ledger(1 << 20)
        owner = MockOwner(ledger=ledger)
        connection, transport = opened(owner)
        connection.data_received(call(1, b"a", end=True))
        transport.frames()
        assert ledger.held_bytes > 0
        assert connection.leave()
        assert ledger.held_bytes == 0
        goaway, ping = transport.frames()
        assert (goaway.kind, goaway.last_id) == (GOAWAY, MAX_STREAM_ID)
        connection.data_received(call(3, b"a", end=True))
        assert kinds(transport) == [HEADERS, DATA, HEADERS]
        assert not connection.leave()  # it does already
        connection.data_received(frame(PING, ACK, 0, ping.payload))
        connection.tick(owner.clock.now)
        assert kinds(transport) == [GOAWAY]
        assert transport.calls == ["write_eof"]
        connection.connection_lost(None)
        assert ledger.held_bytes == 0

    def test_one_whose_peer_does_not_say_that_it_has_read_that_has_a_second(self):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection.data_received(call(1, b"a", end=True))
        assert connection.leave()
        connection.tick(owner.clock.now + 0.9)
        assert transport.calls == []
        connection.tick(owner.clock.now + 1)
        assert transport.calls == ["write_eof"]

    def test_one_that_leaves_needs_room_again_for_what_it_does_then(self):
        ledger = Ledger(1 << 20)
        owner = MockOwner(ledger=ledger)
        connection, _ = opened(owner)
        connection.data_received(call(1, b"a", end=True))
        assert connection.leave()
        connection.data_received(b"".join(call(stream_id, b"quiet") for stream_id in range(3, 13, 2)))
        assert ledger.held_bytes >= 5 * CALL_BYTES
        connection.connection_lost(None)
        assert ledger.held_bytes == 0

    @pytest.mark.parametrize(
        "why", ["a call runs", "it was never answered", "its peer does not read", "it ends already"]
    )
    def test_one_that_can_not_leave_so(self, why):
        connection, _ = opened(MockOwner())
        if why != "it was never answered":
            connection.data_received(call(1, b"a", end=True))
        if why == "a call runs":
            connection.data_received(call(3, b"quiet"))
        elif why == "its peer does not read":
            connection.pause_writing()
        elif why == "it ends already":
            connection.data_received(bytes(9))
        assert not connection.leave()

    @pytest.mark.parametrize("why", ["its peer does not read", "it ends already"])
    def test_it_is_cut_off(self, why):
        connection, transport = opened(MockOwner())
        if why == "it ends already":
            connection.data_received(bytes(9))
        else:
            connection.pause_writing()
        connection.give_way()
        assert transport.calls[-1] == "abort"


@pytest.mark.interpreted("replaces an attribute by None")
class TestFaultsOfOurs:
    """They end their connection, and are no other's."""

    @pytest.mark.parametrize("where", ["receive", "work", "tick"])
    def test_the_connection_says_so_and_ends(self, where, caplog):
        owner = MockOwner()
        connection, transport = opened(owner)
        connection._rpc = None  # type: ignore[assignment]
        if where == "receive":
            connection.data_received(PING_FRAME)
        elif where == "work":
            connection.work()
        else:
            connection.tick(owner.clock.now)
        (goaway,) = transport.frames()
        assert (goaway.kind, goaway.last_id, goaway.code) == (GOAWAY, 2**31 - 1, 2)
        assert transport.calls == ["write_eof"]
        assert [record.exc_info[0] for record in caplog.records] == [AttributeError]
        caplog.clear()


def test_watchers_are_told_and_ended():
    serving = Serving.__new__(Serving)
    serving.now, serving.stopping = True, False
    owner = MockOwner(methods={OTHER: lambda call: Watch(serving), PATH.encode(): lambda call: Talk()})
    connection, transport = opened(owner)
    connection.data_received(headers(1, block(fields(path=OTHER.decode()))) + data(1, framed(b"")) + call(3, b"quiet"))
    assert kinds(transport) == [HEADERS, DATA]
    serving.now = False
    connection.notify_watchers(last=False)
    assert kinds(transport) == [DATA]
    serving.stopping = True
    connection.notify_watchers(last=True)
    assert [(each.kind, each.stream_id) for each in transport.frames()] == [(HEADERS, 1), (RST_STREAM, 1)]


def test_credit_lets_an_answer_go_on_and_no_turn_is_needed():
    owner = MockOwner()
    connection, transport = owner.connect()
    connection.data_received(PREFACE + settings((INITIAL_WINDOW_SIZE, 0)) + SETTINGS_ACK + call(1, b"waits", end=True))
    transport.frames()
    connection.data_received(window_update(1, 100))
    assert kinds(transport) == [DATA, HEADERS]
    assert owner.scheduled == 0


CREDENTIALS = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))


class TestTls:
    """A turn is measured over decrypting as well."""

    def shaken(self, **pace: float) -> tuple[MockOwner, UvConnection, MockTransport, Records]:
        owner = MockOwner(pace=Pace(**pace))
        context = server_context(CREDENTIALS)
        owner._tls = lambda: TlsSession(context, clock=owner.clock)
        connection, transport = owner.connect()
        hands = Handshake(client_context(CREDENTIALS.chain_pem, "h2"))
        while not hands.step():
            self.shake(connection, hands)
            hands.incoming.write(transport.written)
            transport.written = b""
        self.shake(connection, hands)
        owner.scheduled = 0
        transport.calls.clear()
        return owner, connection, transport, hands.records()

    def shake(self, connection: UvConnection, hands: Handshake) -> None:
        assert connection.handshaking
        connection.data_received(hands.outgoing.read())
        while connection.work():
            pass

    def test_a_handshake_waits_for_its_turn(self):
        owner = MockOwner()
        context = server_context(CREDENTIALS)
        owner._tls = lambda: TlsSession(context)
        connection, transport = owner.connect()
        hands = Handshake(client_context(CREDENTIALS.chain_pem, "h2"))
        hands.step()
        connection.data_received(hands.outgoing.read())
        assert (owner.scheduled, transport.written, transport.reading) == (1, b"", False)
        assert not connection.has_replied
        assert not connection.work()
        assert transport.reading
        assert connection.has_replied
        hands.incoming.write(transport.written)
        assert hands.step()
        self.shake(connection, hands)
        assert not connection.handshaking
        assert connection.beginning
        connection.data_received(hands.records().record(APPLICATION_DATA, OPENING))
        assert not connection.beginning

    def test_the_address_of_a_peer_that_may_be_gone(self):
        connection, transport = MockOwner().connect()
        assert connection.address == "192.0.2.1"
        transport._extra["peername"] = None
        assert connection.address == ""

    def test_a_handshake_counts_as_much_as_openssl_may_take_until_it_is_over(self):
        owner = MockOwner()
        context = server_context(CREDENTIALS)
        owner._tls = lambda: TlsSession(context)
        connection, _ = owner.connect()
        assert connection._held.octets >= 180 << 10
        _, connection, _, records = self.shaken()
        begun = connection._held.octets
        assert begun < 50 << 10
        connection.data_received(records.record(APPLICATION_DATA, OPENING + frame(0x0B, 0, 0, bytes(16_000))))
        assert connection._held.octets - begun > 12_000

    def test_what_a_turn_has_no_time_for_stays_encrypted_until_the_next(self):
        owner, connection, transport, records = self.shaken(moment_seconds=1.0)
        connection.data_received(records.record(APPLICATION_DATA, OPENING))
        owner.clock.step = 0.2
        calls = [records.record(APPLICATION_DATA, call(stream_id, b"a", end=True)) for stream_id in range(1, 21, 2)]
        connection.data_received(b"".join(calls))
        assert connection._socket.tls is not None
        assert connection._socket.more
        assert not transport.reading
        turns = 0
        while connection.work():
            turns += 1
        assert turns >= 5
        assert len(owner.ended) == 10
        assert transport.reading

    def test_a_peer_that_sends_nothing_in_many_records_is_named_and_closed(self):
        owner, connection, transport, records = self.shaken(moment_seconds=60.0)
        connection.data_received(b"".join(records.key_update() for _ in range(200)))
        assert owner.failures == [("TLS", "too many records that carry nothing")]
        assert transport.calls == ["write_eof"]

    def test_what_came_with_the_peers_end_is_received_first(self):
        owner, connection, transport, records = self.shaken(moment_seconds=1.0)
        connection.data_received(records.record(APPLICATION_DATA, OPENING))
        owner.clock.step = 0.6
        octets = records.record(APPLICATION_DATA, call(1, b"a", end=True) + call(3, b"b", end=True))
        connection.data_received(octets + records.record(ALERT, b"\x01\x00"))  # close_notify
        assert transport.calls == ["pause_reading"]
        assert owner.ended == []
        while connection.work():
            pass
        assert len(owner.ended) == 2
        assert transport.calls[-1] in ("write_eof", "resume_reading")
        assert "write_eof" in transport.calls


class LargeSteps(Steps):
    """Gives answers of several batches."""

    SIZE = 3 * BATCH_BYTES

    def work(self) -> tuple[bytes, ...]:
        super().work()
        return (bytes(self.SIZE),)


def test_a_call_goes_on_whose_answer_has_left_in_batches():
    owner = MockOwner(LargeSteps)
    connection, transport = owner.connect()
    connection.data_received(PREFACE + settings((INITIAL_WINDOW_SIZE, 0)) + SETTINGS_ACK + call(1, b"3"))
    while connection.work():
        pass
    transport.frames()
    connection.data_received(window_update(0, 1 << 30) + window_update(1, 1 << 30))
    while connection.work():
        pass
    found = transport.frames()
    assert sum(len(each.payload) for each in found if each.kind == DATA) == 3 * (5 + LargeSteps.SIZE)


def test_output_that_found_no_place_leaves_in_the_next_turns():
    owner = MockOwner(Large)
    connection, transport = owner.connect()
    connection.data_received(PREFACE + settings((INITIAL_WINDOW_SIZE, 0)) + SETTINGS_ACK + call(1, b"answer"))
    transport.frames()
    connection.data_received(window_update(0, 1 << 30) + window_update(1, 1 << 30))
    assert owner.scheduled == 1
    while connection.work():
        pass
    found = transport.frames()
    assert sum(len(each.payload) for each in found if each.kind == DATA) == 5 + Large.SIZE
    assert not connection._rpc.has_output
