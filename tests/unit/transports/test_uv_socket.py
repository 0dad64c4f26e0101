"""A socket by itself; with what is spoken on it, in test_uv_connection.py."""

import datetime
from typing import cast

import pytest

from bbr.tls.credentials import server_context
from bbr.tls.pem import self_signed
from bbr.tls.session import TlsSession
from bbr.transports.uv_socket import Pace, Socket
from tests.support.mock_transport import MockTransport

PACE = Pace(write_stall_seconds=10.0, linger_seconds=2.0, linger_bytes=100)
CONTEXT = server_context(self_signed(["localhost"], datetime.datetime.now(datetime.UTC)))


@pytest.mark.parametrize(
    ("connections", "milliseconds"), [(0, 1.0), (1, 1.0), (20, 1.0), (40, 0.5), (100, 0.2), (10_000, 0.2)]
)
def test_a_crowd_shares_what_a_few_have(connections: int, milliseconds: float) -> None:
    assert Pace().moment_of(connections) == pytest.approx(milliseconds / 1000)


@pytest.fixture
def transport() -> MockTransport:
    return MockTransport()


@pytest.fixture
def socket(transport) -> Socket:
    return Socket(transport, PACE)


def test_reading_is_told_to_the_transport_once(socket, transport):
    for wanted in (True, False, False, True, True):
        socket.read(wanted)
    assert transport.calls == ["pause_reading", "resume_reading"]


def test_nothing_is_no_write(socket, transport):
    socket.write(b"")
    socket.write(b"octets")
    assert (transport.written, transport.writes) == (b"octets", 1)


def test_plaintext_has_no_handshake_and_no_end_of_its_own(socket):
    assert (socket.more, socket.handshaking, socket.ended, socket.held_bytes) == (False, False, False, 0)


def test_what_the_peer_does_not_take_is_held_while_it_is_known(socket, transport):
    transport.unsent = 500
    assert socket.held_bytes == 0
    socket.stalled_since = 1.0
    assert socket.held_bytes == 500
    assert not socket.is_stalled(11.0)
    assert socket.is_stalled(11.1)


def test_with_tls_octets_wait_for_the_handshake_and_what_was_not_decrypted_is_held(socket, transport):
    socket.tls = TlsSession(CONTEXT)
    assert socket.handshaking
    socket.write(b"settings")
    assert transport.written == b""
    socket.tls.hold(b"\x16\x03\x01\x00\x05abcde")
    assert (socket.more, socket.held_bytes) == (True, 10)


def test_the_end(socket, transport):
    transport.unsent = 1
    socket.read(False)
    socket.finish(5.0)
    assert transport.calls == ["pause_reading", "write_eof", "resume_reading"]
    assert not socket.linger(6.0)
    transport.unsent = 0
    assert socket.linger(7.0)
    assert socket.stalled_since is None
    socket.drop(100)
    assert transport.reading
    socket.drop(1)
    assert not transport.reading
    assert socket.linger(8.9)
    assert not socket.closing
    assert socket.linger(9.0)
    assert socket.linger(10.0)
    assert transport.calls.count("close") == 1


def test_one_that_can_be_half_closed_no_more_is_closed(socket, transport):
    transport.refuses_eof = True
    socket.finish(5.0)
    assert transport.calls == ["write_eof", "abort"]
    assert not socket.linger(6.0)


def test_giving_way_closes_and_has_its_time(socket, transport):
    socket.give_way(5.0)
    assert cast(MockTransport, socket.transport).calls == ["close"]
    assert socket.is_stalled(15.1)
