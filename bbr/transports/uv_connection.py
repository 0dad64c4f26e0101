"""One connection of the native transport: a protocol of asyncio's between a socket, perhaps TLS, and an RpcConnection.

One write for each read. What takes time is looked after by `tick`: no timer outlives its connection.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from bbr.http2 import frames
from bbr.rpc.connection import RpcConnection
from bbr.tls.session import TlsError, TlsSession
from bbr.transports.busy_poll import BusyPoll
from bbr.transports.health_calls import SHUTTING_DOWN, Watch

log = logging.getLogger(__name__)

# libuv reads again at once, up to 32 times, while a read has filled its buffer (uvloop's has 250 KiB): all of these are
# one turn of the event loop. A shorter read is the last of its turn.
FULL_READ_BYTES: Final = 64 << 10


class Stage:
    """Where a connection stands in its life; it only moves on. Plain integers, in order."""

    SERVING: Final = 0
    AWAY: Final = 1  # its end is announced, and nothing is refused yet
    DRAINING: Final = 2  # new calls are refused; it is closed after the last one
    CLOSING: Final = 3  # all that we will ever write is written, and waits to be taken
    LINGERING: Final = 4  # it is taken; what the peer still sends is dropped, so that no reset overtakes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a connection waits, and works at a time.

    Attributes:
        moment_seconds: of work in a turn of the event loop, for which all other connections wait. A read of 250 KiB may
            hold 20,000 frames that do nothing, or 5,000 requests that are reset at once: tens of milliseconds.
        write_stall_seconds: a peer that has not read for this long is cut off; what it left unread is bounded by then.
        goaway_gap_seconds: between the GOAWAY that refuses nothing and the one that does, at most: for a peer that does
            not say that it has read the first one. A gateway that is busy needs longer than one would think: seconds,
            on a machine that starves.
        linger_seconds: after our last octet the peer's are read and dropped, for so long: closing a socket with unread
            input resets it, and a reset can overtake the GOAWAY and the answers before it. (golang waits 1 s here,
            nginx up to 30 s.)
        linger_bytes: and so many.
    """

    moment_seconds: float = 0.001
    write_stall_seconds: float = 60.0
    goaway_gap_seconds: float = 5.0
    linger_seconds: float = 1.0
    linger_bytes: int = 16 << 20


class Owner(Protocol):
    """What a connection asks of its server."""

    clock: Callable[[], float]
    pace: Pace
    grace_seconds: float
    busy_poll: BusyPoll | None

    def admit(self, connection: "UvConnection", now: float) -> RpcConnection | None:
        """Take a connection in and return what speaks on it; None if there is no room for it."""

    def new_tls(self, now: float) -> TlsSession | None:
        """Return the TLS of a new connection; None for plaintext."""

    def schedule(self, connection: "UvConnection") -> None:
        """Call the connection's `work` soon."""

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Note why a connection was ended for its peer's fault."""

    def gone(self, connection: "UvConnection") -> None:
        """Let a connection go."""


class UvConnection:
    """One socket. No subclass of asyncio.Protocol, which would keep a compiler from making it fast: it is used as one.

    Attributes:
        BUSY: see `idleness`.
        retire_at: when the connection is too old, in seconds of the owner's clock; None for never.
        scheduled: its server will call `work`.
    """

    BUSY: Final = 2

    def __init__(self, owner: Owner) -> None:
        self.retire_at: float | None = None
        self.scheduled = False
        self._owner = owner
        self._clock = owner.clock
        self._pace = owner.pace
        self._tls: TlsSession | None = None
        self._stage = Stage.SERVING
        self._reading = True  # as the transport was told last
        self._behind = False  # its turn was over before all was received: no more is read until it had another
        self._stalled_since: float | None = None  # the peer does not read, or we have ended
        self._turn_ends = 0.0
        self._reads_on = False  # the next read may belong to the same turn
        self._linger_until = 0.0
        self._dropped_bytes = 0
        self._heard_at = 0.0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer, or turn it away."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        now = self._heard_at = self._clock()
        rpc = self._owner.admit(self, now)
        if rpc is None:
            self._transport.set_protocol(asyncio.Protocol())  # which hears of nothing
            self._transport.abort()
            return
        self._rpc = rpc
        log.debug("a connection from %s", transport.get_extra_info("peername"))
        self._tls = self._owner.new_tls(now)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Receive, and write all that this calls for at once."""
        if self._stage >= Stage.CLOSING:
            self._drop(len(data))
            return
        now = self._heard_at = self._clock()
        if not self._reads_on:
            self._turn_ends = now + self._pace.moment_seconds
        self._reads_on = len(data) >= FULL_READ_BYTES
        try:
            self._receive(data, now)
            self._flush()
            self._go_on()
        except Exception:
            self._fail()
        if self._owner.busy_poll is not None:
            self._owner.busy_poll.touch()

    def eof_received(self) -> bool:
        """Close: HTTP/2 has no half-closed connections. What is yet to be written has as long as any other."""
        if self._stalled_since is None:
            self._stalled_since = self._clock()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let the running calls go."""
        log.debug("a connection is over, with %d requests under way", self.calls)
        self._rpc.lost()
        self._owner.gone(self)

    def pause_writing(self) -> None:
        """Stop producing and reading: the peer does not read."""
        if self._stage < Stage.CLOSING and not self._transport.is_closing():
            self._stalled_since = self._clock()
            self._rpc.hold(True)
            self._read_or_not()

    def resume_writing(self) -> None:
        """Go on."""
        if self._stage < Stage.CLOSING and not self._transport.is_closing():
            self._stalled_since = None
            self._rpc.hold(False)
            self._flush()
            self._go_on()

    # What the server calls.

    @property
    def may_refuse(self) -> bool:
        """Whether new calls can be refused at no loss: the peer has read that there are none, or is greeting yet."""
        greeting = self._tls is not None and not self._tls.ready
        return (self._rpc.goaway_read or greeting) and self._stage < Stage.DRAINING

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

        Without calls, 0; with calls, and none was ever answered, 1; else BUSY. Then since when it has said nothing.
        """
        if self._stage >= Stage.CLOSING or self._rpc.idle:
            return 0, self._heard_at
        return (self.BUSY if self._rpc.answered else 1), self._heard_at

    def give_way(self) -> None:
        """End at once, for another: with a GOAWAY, if the peer takes it without waiting."""
        if self._stage < Stage.CLOSING and not self._transport.get_write_buffer_size():
            self.drain(refuse=True)
            self._stage = Stage.CLOSING
            self._stalled_since = self._clock()
            self._transport.close()
        else:
            self.abort()

    def work(self) -> bool:
        """Do what waits for this connection's turn, a millisecond's or two; True if there is more.

        That is to receive more of what has come, and to let one exchange do a bit of what is pending on it.
        """
        if self._stage >= Stage.CLOSING or self._transport.is_closing():
            return False
        now = self._clock()
        self._turn_ends = now + self._pace.moment_seconds
        self._reads_on = False
        try:
            if self._behind and self._stalled_since is None:
                self._receive(b"", now)
            if self._rpc.pending:
                self._rpc.work(now)
            self._flush()
            self._read_or_not()
        except Exception:
            self._fail()
        return self._has_work()

    def tick(self, now: float) -> None:
        """See to what is overdue."""
        stall = self._pace.write_stall_seconds
        if self._stalled_since is not None and now - self._stalled_since > stall:
            log.info("a peer has not read for %g s: its connection is cut off", stall)
            self.abort()
        elif self._stage >= Stage.CLOSING:
            self._linger(now)
        elif not self._transport.is_closing():
            try:
                self._expire(now)
            except Exception:
                self._fail()

    def tell_watchers(self, *, last: bool) -> None:
        """Tell the health watches of a change; the last one ends them: an open call would prolong the drain."""
        for call in list(self._rpc.calls.values()):
            if isinstance(call.handler, Watch):
                for message in call.handler.changed():
                    self._rpc.push(call, message)
                if last:
                    self._rpc.end(call, SHUTTING_DOWN)
        self._flush()

    def drain(self, *, refuse: bool) -> None:
        """Announce the end; with `refuse` take no new calls, and close after the last running one.

        One that is still in its TLS handshake then has carried nothing, and is closed like one that comes too late.
        """
        self._rpc.shut_down(refuse=refuse)
        self._stage = max(self._stage, Stage.DRAINING if refuse else Stage.AWAY)
        self._flush()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # Receiving and sending.

    def _receive(self, data: bytes, now: float) -> None:
        """Receive for as long as the turn lasts."""
        if self._tls is not None:
            data = self._decrypt(self._tls, data, now)
        if self._stage < Stage.CLOSING:
            self._rpc.receive(data, now, self._turn_ends)
            self._behind = self._more or (self._reads_on and self._clock() >= self._turn_ends)

    @property
    def _more(self) -> bool:
        """Whether something has come that was not looked at."""
        return self._rpc.more or (self._tls is not None and self._tls.more)

    def _decrypt(self, tls: TlsSession, data: bytes, now: float) -> bytes:
        if self._rpc.more:  # first what has been decrypted
            tls.hold(data)
            return b""
        greeted = tls.ready
        try:
            data = tls.receive(data, now, self._turn_ends)
            if tls.ready and not greeted:
                tls.check_peer()
        except TlsError as error:
            self._owner.failed("TLS", str(error), now)
            self._close()
            return b""
        return data

    def _go_on(self) -> None:
        """After a turn: ask for another if there is work, and read or not."""
        self._read_or_not()
        if self._has_work():
            self._owner.schedule(self)

    def _has_work(self) -> bool:
        if self._stage >= Stage.CLOSING:
            return False
        return self._rpc.pending or (self._behind and self._stalled_since is None)

    def _read_or_not(self) -> None:
        if self._stage < Stage.CLOSING:
            self._read(self._stalled_since is None and not self._behind)

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush(self) -> None:
        if self._stage >= Stage.CLOSING or self._transport.is_closing():
            return
        octets = self._rpc.take_output()
        if self._tls is not None:
            octets = self._tls.send(octets)
        if octets:
            self._transport.write(octets)
        if self._rpc.closed:
            self._owner.failed("HTTP/2", self._rpc.fault, self._clock())
            self._close()
        elif not self._more and self._is_over():
            self._close()

    def _is_over(self) -> bool:
        """Tell whether nothing is left to do: the peer sends no more, or it is to send no more and all is answered."""
        if self._tls is not None and self._tls.ended:
            return True
        return self._stage == Stage.DRAINING and self._rpc.idle

    # The end.

    def _expire(self, now: float) -> None:
        self._rpc.expire(now)
        if self.retire_at is not None:
            announced = self._stage >= Stage.AWAY
            if now >= self.retire_at or (announced and self.may_refuse):
                self._retire(now)
        self._flush()

    def _retire(self, now: float) -> None:
        """Take the next step towards the end of a connection that is too old."""
        if self._stage < Stage.AWAY:
            self.drain(refuse=False)
            self.retire_at = now + self._pace.goaway_gap_seconds
        elif self._stage < Stage.DRAINING:
            self.retire_at = now + self._owner.grace_seconds
            self.drain(refuse=True)
        else:
            log.warning("%d requests outlived their connection's age and grace: cut off", len(self._rpc.calls))
            self.abort()

    def _fail(self) -> None:
        """End the connection for the exception in hand: a fault of ours, which must not be another connection's."""
        log.exception("a connection failed")
        # Which requests were begun is not known any more: the highest id claims all, so that none is sent twice.
        goaway = frames.goaway(frames.MAX_STREAM_ID, frames.ErrorCode.INTERNAL_ERROR, b"internal-error")
        self._transport.write(goaway if self._tls is None else self._tls.send(goaway))
        self._close()

    def _close(self) -> None:
        """Say no more, and close once the peer has taken what was said; it has as long as any other."""
        self._stage = Stage.CLOSING
        self._behind = False
        self._stalled_since = self._clock()
        if self._tls is not None:
            self._transport.write(self._tls.close())
        try:
            self._transport.write_eof()
        except OSError:  # asyncio's own loop says so here if the peer has reset the connection; uvloop, later
            self.abort()
            return
        self._read(True)  # to drop it, and to see the peer's end

    def _drop(self, size: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > self._pace.linger_bytes:
            self._read(False)

    def _linger(self, now: float) -> None:
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            return
        if self._stage < Stage.LINGERING:
            self._stage = Stage.LINGERING
            self._stalled_since = None
            self._linger_until = now + self._pace.linger_seconds
        elif now >= self._linger_until:
            self._transport.close()
