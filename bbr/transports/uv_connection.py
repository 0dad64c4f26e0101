"""One connection of the native transport: a protocol of asyncio's between a socket, perhaps TLS, and an RpcConnection.

One write for each read. What takes time is looked after by `tick`: no timer outlives its connection.
"""

import asyncio
import logging
from typing import Final, Protocol, cast

from bbr.http2 import frames
from bbr.http2.sender import BATCH_BYTES
from bbr.rpc.connection import RpcConnection
from bbr.tls.session import TlsError, TlsSession
from bbr.transports.busy_poll import BusyPoll
from bbr.transports.health_calls import SHUTTING_DOWN, Watch
from bbr.transports.turns import Flood
from bbr.transports.uv_account import CONNECTION_BYTES, HANDSHAKE_BYTES, TLS_BYTES, Accounted, RoomOwner, Stage
from bbr.transports.uv_socket import Socket

log = logging.getLogger(__name__)

# libuv reads again at once, up to 32 times, while a read has filled its buffer (uvloop's has 250 KiB): all of these are
# one turn of the event loop. A shorter read is the last of its turn.
FULL_READ_BYTES: Final = 64 << 10


class Owner(RoomOwner, Protocol):
    """What a connection asks of its server.

    Attributes:
        moment_seconds: for how long a connection works in a turn, beside the frame or message that exceeds it.
    """

    moment_seconds: float
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


class UvConnection(Accounted):
    """One socket. No subclass of asyncio.Protocol, which would keep a compiler from making it fast: it is used as one.

    Attributes:
        scheduled: its server will call `work`.
        put_off: it wants no second turn before the event loop has looked at its socket.
        worked_at: when it last did, or the connection began, in seconds of the owner's clock.
    """

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self.scheduled = False
        self.put_off = False
        self.worked_at = 0.0
        self._owner = owner
        self._busy_poll = owner.busy_poll
        self._behind = False  # its turn was over before all was received: no more is read until it had another
        self._turn_ends = 0.0
        self._reads_on = False  # the next read may belong to the same turn
        self._output_waits = False  # of a batch that was full
        self._tls_bytes = 0  # of its buffers, as counted
        self._flood = Flood()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in and send our preface, or close it for want of room."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._socket = Socket(self._transport, self._pace)
        now = self._heard_at = self.worked_at = self._clock()
        rpc = self._owner.admit(self, now)
        if rpc is None:
            transport.set_protocol(asyncio.Protocol())  # which hears of nothing
            self.abort()
            self.account.close()
            return
        self._rpc = rpc
        self._held, self._streams = rpc.held, rpc.streams
        self._held.octets += CONNECTION_BYTES
        log.debug("a connection from %s", transport.get_extra_info("peername"))
        self._socket.tls = self._owner.new_tls(now)
        if self._socket.tls is not None:
            self._held.octets += HANDSHAKE_BYTES
        self._flush()
        self._settle()

    def data_received(self, data: bytes) -> None:
        """Receive, and write all that this calls for at once."""
        if self._stage >= Stage.CLOSING:
            self._socket.drop(len(data))
            return
        now = self._heard_at = self._clock()
        if not self._reads_on:
            self._turn_ends = now + self._owner.moment_seconds
        self._reads_on = len(data) >= FULL_READ_BYTES
        try:
            if self._socket.handshaking:
                self._socket.hold(data)
                self._behind = True
            else:
                self._receive(data, now)
            self._flush()
            if self._behind or self._rpc.pending or self._output_waits or self._socket.stalled_since is not None:
                self._settle()
                self._go_on()
            else:
                self._settle_if_moved()
        except Exception:
            self._fail()
        if self._busy_poll is not None:
            self._busy_poll.touch()

    def eof_received(self) -> bool:
        """Close: HTTP/2 has no half-closed connections. What is yet to be written has as long as any other."""
        if self._socket.stalled_since is None:
            self._socket.stalled_since = self._clock()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let the running calls go."""
        log.debug("a connection ended, with %d requests in progress", self.calls)
        self._rpc.lost()
        self.account.close()
        self._owner.gone(self)

    def pause_writing(self) -> None:
        """Stop producing and reading: the peer does not read."""
        if self._stage < Stage.CLOSING and not self._socket.closing:
            self._socket.stalled_since = self._clock()
            self._rpc.hold(True)
            self._read_or_not()

    def resume_writing(self) -> None:
        """Go on."""
        if self._stage < Stage.CLOSING and not self._socket.closing:
            self._socket.stalled_since = None
            self._rpc.hold(False)
            self._flush()
            self._settle()
            self._go_on()

    # What the server calls.

    @property
    def address(self) -> str:
        """The peer's, as text; "" if it is gone."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def work(self) -> bool:
        """Do what waits for this connection's turn, a millisecond's or two; True if there is more.

        That is to receive more of what has come, and to let one exchange do a bit of what is pending on it.
        """
        if self._stage >= Stage.CLOSING or self._socket.closing:
            return False
        now = self._clock()
        self._turn_ends = now + self._owner.moment_seconds
        more_may_come = self._behind or self._reads_on
        self._reads_on = self.put_off = False
        try:
            if self._behind and self._socket.stalled_since is None:
                self._receive(b"", now)
            if self._rpc.pending:
                self.put_off = self._flood.passes(more_may_come)
                if not self.put_off:
                    self._rpc.work(now)
            self._flush()
            self._settle()
            self._read_or_not()
        except Exception:
            self._fail()
        return self._has_work()

    def tick(self, now: float) -> None:
        """See to what is overdue."""
        if self._socket.is_stalled(now):
            log.info("a peer has not read for %g s: its connection is cut off", self._pace.write_stall_seconds)
            self.abort()
        elif self._stage >= Stage.CLOSING:
            if self._socket.linger(now):
                self._stage = Stage.LINGERING
        elif not self._socket.closing:
            try:
                self._expire(now)
            except Exception:
                self._fail()

    def notify_watchers(self, *, last: bool) -> None:
        """Send health watches a change; the last one ends them: an open call would prolong the drain."""
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
        self._socket.transport.abort()

    # Receiving and sending.

    def _receive(self, data: bytes, now: float) -> None:
        """Receive for as long as the turn lasts."""
        tls = self._socket.tls
        if tls is not None:
            data = self._decrypt(tls, data, now)
        if self._stage < Stage.CLOSING:
            self._rpc.receive(data, now, self._turn_ends)
            more = self._rpc.more or (tls is not None and tls.more)
            self._behind = more or (self._reads_on and self._clock() >= self._turn_ends)

    def _decrypt(self, tls: TlsSession, data: bytes, now: float) -> bytes:
        if self._rpc.more:  # first what has been decrypted
            tls.hold(data)
            return b""
        was_ready = tls.ready
        try:
            data = tls.receive(data, now, self._turn_ends)
            if tls.ready and not was_ready:
                self._held.octets += TLS_BYTES - HANDSHAKE_BYTES
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
        return self._rpc.pending or ((self._behind or self._output_waits) and self._socket.stalled_since is None)

    def _read_or_not(self) -> None:
        if self._stage < Stage.CLOSING:
            self._socket.read(self._socket.stalled_since is None and not self._behind)

    def _flush(self) -> None:
        if self._stage >= Stage.CLOSING or self._transport.is_closing():
            return
        octets = self._rpc.take_output()
        self._output_waits = len(octets) >= BATCH_BYTES and self._rpc.has_output
        tls = self._socket.tls
        if octets or tls is not None:
            self._socket.write(octets)
        if tls is not None and tls.buffer_bytes != self._tls_bytes:
            self._held.octets += tls.buffer_bytes - self._tls_bytes
            self._tls_bytes = tls.buffer_bytes
        if self._rpc.closed:
            self._owner.failed("HTTP/2", self._rpc.fault, self._clock())
            self._close()
        elif self._stage == Stage.DRAINING or tls is not None:
            self._close_if_over()

    def _close_if_over(self) -> None:
        """Close if nothing is left to do: the peer sends no more, or it is to send no more and all is answered."""
        over = self._socket.ended or (self._stage == Stage.DRAINING and self._rpc.idle)
        if over and not self._rpc.more and not self._socket.more:
            self._close()

    # The end.

    def _expire(self, now: float) -> None:
        self._rpc.expire(now)
        self._settle_if_moved()
        if self.retire_at is not None:
            announced = self._stage >= Stage.AWAY
            if now >= self.retire_at or (announced and self.may_refuse):
                self._retire(now)
        self._flush()
        self._go_on()

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
        self._socket.write(goaway)
        self._close()

    def _close(self) -> None:
        """Say no more, and close once the peer has taken what was said; it has as long as any other."""
        self._stage = Stage.CLOSING
        self._behind = False
        self._socket.finish(self._clock())
