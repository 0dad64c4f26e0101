"""What calls hold, on a connection without sockets."""

import struct

import pytest

from bbr.http2.settings import Settings
from bbr.rpc.connection import RpcConnection
from bbr.rpc.holding import CALL_BYTES, LARGE_MESSAGE_BYTES, Unlimited
from bbr.rpc.running import Services
from bbr.rpc.status import OK
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    INITIAL_WINDOW_SIZE,
    PREFACE,
    RST_STREAM,
    SETTINGS_ACK,
    cut,
    data,
    headers,
    rst_stream,
    settings,
)
from bench.harness.rpc_client import PATH, RpcPeer, Talk, block, fields

SMALL = LARGE_MESSAGE_BYTES
LARGE = SMALL + 60_000


class Lent:
    """Lends up to so many octets, and remembers."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.owed = 0
        self.peak = 0

    def borrow(self, octets: int) -> bool:
        if self.owed + octets > self.most:
            return False
        self.owed += octets
        self.peak = max(self.peak, self.owed)
        return True

    def give_back(self, octets: int) -> None:
        self.owed -= octets


class Borrower(RpcPeer):
    """A peer of a connection that borrows, and takes large messages."""

    def __init__(self, lent: Lent, **more: object) -> None:
        self.lent = lent
        super().__init__(**more)  # type: ignore[arg-type]

    def connect(self) -> RpcConnection:  # type: ignore[override]
        services = Services({PATH.encode(): self._begin}, 8 << 20, self.failed.append)
        return RpcConnection(Settings(stream_window_bytes=16 << 20), services, self.now, self.lent)

    def message(self, stream_id: int, size: int) -> None:
        self.send(headers(stream_id, block(fields())))
        self.send(*(data(stream_id, each) for each in cut(framed(b"quiet" + bytes(size - 5)), 16_000)))


def held(peer: RpcPeer) -> tuple[int, int]:
    return peer.connection.holds()


def begun() -> RpcPeer:
    """A peer whose connection remembers what its calls' HEADERS say."""
    peer = RpcPeer()
    peer.open(1)
    peer.open(3)
    peer.send(rst_stream(1), rst_stream(3))
    return peer


def test_calls_and_pieces_of_messages_are_held_until_they_are_over():
    peer = begun()
    fixed, bulk = held(peer)
    assert bulk == 0
    peer.open(5)
    peer.send(data(5, struct.pack(">BI", 0, 50_000) + bytes(10_000)))
    assert held(peer) == (fixed + CALL_BYTES, 10_005)
    peer.send(data(5, bytes(10_000)))
    assert held(peer) == (fixed + CALL_BYTES, 20_005)
    peer.open(7)
    assert held(peer) == (fixed + 2 * CALL_BYTES, 20_005)
    peer.send(rst_stream(5), rst_stream(7))
    assert held(peer) == (fixed, 0)


def test_a_drip_of_a_message_is_joined():
    peer = RpcPeer()
    peer.open(1)
    peer.send(data(1, struct.pack(">BI", 0, 50_000)), *(data(1, bytes(8)) for _ in range(1000)))
    reader = peer.connection.calls[1].reader
    assert (len(reader._parts), reader.held_bytes) == (2, 8005)


def test_a_long_first_message_may_be_kept_by_its_handler():
    peer = begun()
    fixed, _ = held(peer)
    peer.open(5, b"quiet" + bytes(3000))
    assert held(peer) == (fixed + CALL_BYTES, 2 * 3005)
    peer.send(data(5, framed(b"quiet" + bytes(9000))))
    assert held(peer) == (fixed + CALL_BYTES, 2 * 3005)
    peer.open(7, b"quiet" + bytes(100))
    assert held(peer) == (fixed + 2 * CALL_BYTES, 2 * 3005)


def test_a_long_header_section_may_be_kept_by_its_handler():
    peer = RpcPeer()
    peer.send(headers(1, block([*fields(), ("x-long", "x" * 2000)])))
    assert 6 * 2000 < held(peer)[1] < 6 * 4000
    peer.send(rst_stream(1))
    assert held(peer)[1] == 0


def test_answers_that_wait_are_held():
    peer = RpcPeer(own=((INITIAL_WINDOW_SIZE, 0),))
    peer.open(1, bytes(5000))
    assert held(peer)[1] == 2 * 5000 + 5005 + 256


def test_what_waits_for_the_next_turn_is_held():
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    peer = RpcPeer()
    services = Services({PATH.encode(): peer._begin}, 1000, peer.failed.append, clock=clock)
    peer.connection = RpcConnection(Settings(), services, 0.0)
    octets = headers(1, block(fields())) + data(1, framed(b"quiet") * 10)
    peer.connection.receive(PREFACE + settings() + SETTINGS_ACK, 0.0)
    peer.connection.receive(octets, 0.0, 0.0)
    while peer.connection._rest is None:
        peer.connection.receive(b"", 0.0, 0.0)
    assert held(peer)[1] >= 9 * (5 + 48)
    while peer.connection.more:
        peer.connection.receive(b"", 0.0, 0.0)
    assert held(peer)[1] == 0


class Giving(Talk):
    """Gives up with an answer."""

    def give_up(self) -> tuple[bytes, ...]:
        self.end = OK
        return (b"no room",)


@pytest.mark.parametrize("better", [False, True])
def test_those_that_hold_the_most_go_first(better):
    peer = RpcPeer(new_handler=Giving if better else Talk)
    for stream_id, size in ((1, 7000), (3, 12_000), (5, 0), (7, 0)):
        peer.open(stream_id, b"quiet")
        if size:
            peer.send(data(stream_id, struct.pack(">BI", 0, 50_000) + bytes(size)))
    peer.connection.shed(12_000 + CALL_BYTES)
    peer.collect()
    assert list(peer.connection.calls) == [1, 5, 7]
    assert peer.status(3) == ("0" if better else "8")
    assert (framed(b"no room") in peer.body(3)) == better
    peer.connection.shed(7_000 + 2 * CALL_BYTES)
    assert list(peer.connection.calls) == [5]  # of alike ones the newest
    peer.connection.shed(0)
    assert list(peer.connection.calls) == [5]
    assert len(peer.ended) == 3


class Holder(Talk):
    """Holds a body."""

    held_bytes = 10_000


def test_a_body_that_a_handler_holds_goes_before_calls_that_hold_nothing():
    kinds = iter((Holder, Talk, Talk))
    peer = RpcPeer(new_handler=lambda: next(kinds)())
    for stream_id in (1, 3, 5):
        peer.open(stream_id, b"quiet")
    peer.connection.shed(10_000)
    assert list(peer.connection.calls) == [3, 5]


def test_one_whose_answers_wait_is_reset_though_its_call_may_be_over():
    peer = RpcPeer(own=((INITIAL_WINDOW_SIZE, 0),))
    peer.open(1, bytes(3000))
    peer.open(3, bytes(15_000), end=True)
    assert list(peer.connection.calls) == [1]
    peer.connection.shed(15_000)
    assert list(peer.connection.streams) == [1]
    peer.connection.shed(3000)
    assert not peer.connection.streams
    peer.collect()
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == [(3, 11), (1, 11)]
    assert len(peer.ended) == 2


def test_a_large_message_borrows_what_taking_it_in_needs():
    peer = Borrower(Lent(10 << 20))
    peer.message(1, LARGE)
    assert (peer.lent.peak, peer.lent.owed) == (2 * LARGE, 0)
    peer.message(3, SMALL)
    assert peer.lent.peak == 2 * LARGE
    assert [len(each.messages[0]) for each in peer.handlers if isinstance(each, Talk)] == [LARGE, SMALL]


@pytest.mark.parametrize("better", [False, True])
def test_without_room_it_is_refused_by_its_handler_or_by_its_status(better):
    peer = Borrower(Lent(LARGE), new_handler=Giving if better else Talk)
    peer.message(1, LARGE)
    assert peer.lent.peak == 0
    assert peer.status(1) == ("0" if better else "8")
    assert (framed(b"no room") in peer.body(1)) == better
    assert len(peer.ended) == 1
    assert held(peer)[1] == 0


def test_without_a_bound_all_is_lent():
    lender = Unlimited()
    assert lender.borrow(1 << 60)
    lender.give_back(1 << 60)
