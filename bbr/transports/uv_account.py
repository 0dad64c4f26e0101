"""Counts what a connection of the native transport holds for its peer, and frees it; says how soon it may go."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol

from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bbr.http2.streams import Stream
from bbr.rpc.connection import RpcConnection
from bbr.rpc.holding import CALL_BYTES, NO_ROOM
from bbr.transports.room import Account, Room
from bbr.transports.uv_socket import Pace, Socket

# What a connection takes by itself, and one with TLS besides (measured: 6.3 and 16 to 25 KiB), without its buffers.
CONNECTION_BYTES: Final = 8 << 10
TLS_BYTES: Final = 32 << 10
# What one takes during its handshake: OpenSSL makes room for a ClientHello of 128 KiB, or a client's certificates of
# 100 KiB, as soon as their first bytes say so; and a third more.
HANDSHAKE_BYTES: Final = 180 << 10


class Stage:
    """Where a connection stands in its life; it only moves on. Plain integers, in order."""

    SERVING: Final = 0
    AWAY: Final = 1  # its end is announced, and nothing is refused yet
    DRAINING: Final = 2  # new calls are refused; it is closed after the last one
    CLOSING: Final = 3  # all that we will ever write is written, and waits to be taken
    LINGERING: Final = 4  # it is taken; what the peer still sends is dropped, so that no reset overtakes it


class RoomOwner(Protocol):
    """What a connection asks of its server when there is no room."""

    room: Room
    clock: Callable[[], float]
    pace: Pace

    def find_room(self, connection: Any, now: float) -> bool:
        """Let the connection that was idle the longest go for another; False if there is none."""


class Accounted:
    """The part of a connection that looks after its account, and says what others go by that need its room.

    The rest of it says what it is and how it writes.

    Attributes:
        BEGINNING, BUSY: see `idleness`.
        account: of what is held for the peer.
        retire_at: when the connection is too old, in seconds of the owner's clock; None for never.
        sheltered_until: until then it goes late while it only begins, in seconds of the owner's clock.
    """

    BEGINNING: Final = 2
    BUSY: Final = 3

    _rpc: RpcConnection
    _socket: Socket
    _held: Held
    _streams: dict[int, Stream]

    def __init__(self, owner: RoomOwner) -> None:
        self.account = Account(owner.room, self._give_room)
        self.retire_at: float | None = None
        self.sheltered_until = 0.0
        self._rooms = owner
        self._clock = owner.clock
        self._pace = owner.pace
        self._stage = Stage.SERVING
        self._heard_at = 0.0

    @property
    def may_refuse(self) -> bool:
        """Whether new calls can be refused at no loss: the peer has read our GOAWAY, or is in its TLS handshake."""
        return (self._rpc.goaway_read or self._socket.handshaking) and self._stage < Stage.DRAINING

    @property
    def handshaking(self) -> bool:
        """Whether its TLS handshake is not over: then `work` receives, and nothing else does."""
        return self._socket.handshaking

    @property
    def has_replied(self) -> bool:
        """Whether its peer takes part in the handshake: it has answered what we have said."""
        return self._socket.has_replied

    @property
    def beginning(self) -> bool:
        """Whether its peer has not begun to speak HTTP/2: it is in its TLS handshake, say."""
        return not self._rpc.preface_received

    @property
    def calls(self) -> int:
        """How many calls run."""
        return len(self._rpc.calls)

    @property
    def busy(self) -> bool:
        """Whether a call runs, or an answer still waits for the peer's credit."""
        return not self._rpc.idle

    @property
    def idleness(self) -> tuple[int, float]:
        """How much sooner this connection can go than others: the smallest goes first.

        Without calls, 0, or BEGINNING if it is sheltered; with calls, and none was ever answered, 1; else BUSY. Then
        since when it has said nothing.
        """
        if self._stage >= Stage.CLOSING or self._rpc.idle:
            kept = self._stage == Stage.SERVING and self.sheltered_until > self._clock() and self.beginning
            return (self.BEGINNING if kept else 0), self._heard_at
        return (self.BUSY if self._rpc.answered else 1), self._heard_at

    def leave(self) -> bool:
        """End soon, for another, and hold nothing from now on; False if that takes no less than `give_way`.

        A gateway's connection has no call for a moment after each, and a call may be on its way. A GOAWAY that refuses
        it loses it where the gateway does not try again. So the peer is told first, and its last calls are answered.
        """
        settled = self._stage == Stage.SERVING and self._socket.stalled_since is None
        if not settled or self.idleness[0] or not self._rpc.answered or self.account.bulk_bytes:
            return False
        self.retire_at = self._clock() + self._pace.leave_seconds
        self.drain(refuse=False)
        self.account.vacate()
        return True

    def give_way(self) -> None:
        """End at once, for another: with a GOAWAY, if the peer takes it without waiting."""
        if self._stage < Stage.CLOSING and self._socket.stalled_since is None:
            self.drain(refuse=True)
            self._stage = Stage.CLOSING
            self._socket.give_way(self._clock())
        else:
            self.abort()
        self._let_go()

    @abstractmethod
    def drain(self, *, refuse: bool) -> None:
        """Announce the end."""

    @abstractmethod
    def abort(self) -> None:
        """Close without waiting for anything."""

    @abstractmethod
    def _flush(self) -> None:
        """Write the waiting output; close if it was the last."""

    def _settle_if_moved(self) -> None:
        """Account for what is held if it is far from what was; for reads that leave nothing that waits for a turn."""
        account = self.account
        if not account.lowest < CALL_BYTES * len(self._streams) + self._held.octets <= account.highest:
            self._settle()

    def _settle(self) -> None:
        """Account for what is held. If there is no room for it, the calls that hold the most end, or the connection.

        One that holds but little is worth more than those that were idle the longest.
        """
        if self._stage >= Stage.CLOSING:
            return
        lacking = self._lacking()
        while lacking and not self.account.bulk_bytes and self._rooms.find_room(self, self._heard_at):
            lacking = self._lacking()
        # An account grows in steps, so that a call which holds what is lacking may be too little. The connection of a
        # gateway carries the requests of all its clients: it goes only if none of its calls is left to end.
        enough = lacking
        while lacking and self._stage < Stage.CLOSING and self._rpc.shed(enough):
            self._flush()
            lacking = self._lacking()
            enough *= 2
        if lacking and self._stage < Stage.CLOSING:
            self._rpc.fail(ErrorCode.ENHANCE_YOUR_CALM, NO_ROOM, self._heard_at)
            self._flush()
            self._socket.cut()
            self._let_go()

    def _lacking(self) -> int:
        fixed, bulk = self._rpc.holds()
        return self.account.settle(fixed, bulk + self._socket.held_bytes)

    def _give_room(self, octets: int) -> bool:
        """Let go of what takes so much room, for another connection; False if nothing is held any more."""
        if not self.account.bulk_bytes:
            return False
        # What a call held may be a body, which other accounts count. So the asker looks again, and asks again.
        if self._stage < Stage.CLOSING and self._rpc.shed(octets):
            self._flush()
            self._lacking()
            return True
        self._socket.transport.abort()
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Hold nothing more, after the last byte is written.

        The event loop reports the end only after it has looked at all other sockets, which may be a thousand.
        """
        self._stage = max(self._stage, Stage.CLOSING)
        self._rpc.fail(ErrorCode.NO_ERROR, NO_ROOM, self._heard_at)
        self._socket.tls = None
        self.account.close()
