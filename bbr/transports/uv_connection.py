"""One connection of the native transport: an asyncio Protocol between a socket, perhaps TLS, and an RpcConnection.

One write for each read. What takes time is looked after by `tick`: no timer outlives its connection.
"""

import asyncio
import logging
import time
from typing import Final, Protocol, cast

from bbr.http2 import frames
from bbr.rpc.connection import RpcConnection
from bbr.tls.session import TlsError, TlsSession
from bbr.transports.busy_poll import BusyPoll
from bbr.transports.health_calls import SHUTTING_DOWN, Watch

log = logging.getLogger(__name__)

# A peer that has not read for this long is cut off; what it left unread is bounded by then.
WRITE_STALL_SECONDS: Final = 60.0
# Between the GOAWAY that refuses nothing and the one that does, at most: for a peer that does not say that it has read
# the first one. A gateway that is busy needs longer than one would think: seconds, on a machine that starves.
GOAWAY_GAP_SECONDS: Final = 5.0
# After our last octet the peer's are read and dropped, for so long and so many: closing a socket with unread input
# resets it, and a reset can overtake the GOAWAY and the answers before it. (golang waits 1 s here, nginx up to 30 s.)
LINGER_SECONDS: Final = 1.0
# A read of 256 KiB may hold 20,000 frames that do nothing, or 5,000 requests that are reset at once: tens of
# milliseconds for which all other connections would wait. So only so many frames are received at a time (a read full of
# long DATA has 16), and what is left after a moment waits for its connection's next turn.
FRAMES_AT_ONCE: Final = 64
MOMENT_SECONDS: Final = 0.001
LINGER_BYTES: Final = 16 << 20


class Owner(Protocol):
    """What a connection asks of its server."""

    grace_seconds: float
    busy_poll: BusyPoll | None

    def admit(self, connection: "UvConnection", now: float) -> RpcConnection | None:
        """Take a connection in and return what speaks on it; None if there is no room for it."""

    def new_tls(self) -> TlsSession | None:
        """Return the TLS of a new connection; None for plaintext."""

    def schedule(self, connection: "UvConnection") -> None:
        """Call the connection's `work` soon."""

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Note why a connection was ended for its peer's fault."""

    def gone(self, connection: "UvConnection") -> None:
        """Let a connection go."""


class UvConnection(asyncio.Protocol):
    """One socket.

    Attributes:
        retire_at: when the connection is too old, in the loop's seconds; None for never.
        scheduled: its server will call `work`.
    """

    def __init__(self, owner: Owner) -> None:
        self.retire_at: float | None = None
        self.scheduled = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._tls: TlsSession | None = None
        self._announced = False  # that the connection will end
        self._draining = False
        self._behind = False  # frames that have come wait for this connection's turn, and no more is read meanwhile
        self._stalled_since: float | None = None
        self._ended = False  # all that we will ever write is written
        self._linger_until: float | None = None
        self._dropped_bytes = 0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer, or turn it away."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        rpc = self._owner.admit(self, self._loop.time())
        if rpc is None:
            self._transport.set_protocol(asyncio.Protocol())  # which hears of nothing
            self._transport.abort()
            return
        self._rpc = rpc
        log.debug("a connection from %s", transport.get_extra_info("peername"))
        self._tls = self._owner.new_tls()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Receive, and write all that this calls for at once."""
        if self._ended:
            self._drop(len(data))
            return
        try:
            if self._tls is None:
                self._receive(data)
                self._flush()
            else:
                self._receive_tls(self._tls, data)
            if self._has_work():
                self._owner.schedule(self)
        except Exception:
            self._fail()
        if self._owner.busy_poll is not None:
            self._owner.busy_poll.touch()

    def eof_received(self) -> bool:
        """Close: HTTP/2 has no half-closed connections. What is yet to be written has as long as any other."""
        if self._stalled_since is None:
            self._stalled_since = self._loop.time()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let the running calls go."""
        log.debug("a connection is over, with %d requests under way", self.calls)
        self._rpc.lost()
        self._owner.gone(self)

    def pause_writing(self) -> None:
        """Stop producing and reading: the peer does not read."""
        if self._ended or self._transport.is_closing():
            return
        self._stalled_since = self._loop.time()
        self._rpc.hold(True)
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._ended or self._transport.is_closing():
            return
        self._stalled_since = None
        if not self._behind:
            self._transport.resume_reading()
        self._rpc.hold(False)
        self._flush()
        if self._has_work():
            self._owner.schedule(self)

    # What the server calls.

    @property
    def may_refuse(self) -> bool:
        """Whether new calls can be refused at no loss: the peer has read that there are none, or is greeting yet."""
        greeting = self._tls is not None and not self._tls.ready
        return (self._rpc.goaway_read or greeting) and not self._draining

    @property
    def calls(self) -> int:
        """How many calls run."""
        return len(self._rpc.calls)

    @property
    def busy(self) -> bool:
        """Whether a call runs, or an answer still waits for the peer's credit."""
        return not self._rpc.idle

    def work(self) -> bool:
        """Do what waits for this connection's turn, a millisecond's or two; True if there is more.

        That is to receive more of a long read, and to let one exchange do a bit of what is pending on it.
        """
        if self._ended or self._transport.is_closing():
            return False
        try:
            if self._behind and self._stalled_since is None:
                self._receive(b"")
            if self._rpc.pending:
                self._rpc.work(self._loop.time())
            self._flush()
        except Exception:
            self._fail()
        return self._has_work()

    def tick(self, now: float) -> None:
        """See to what is overdue."""
        if self._stalled_since is not None and now - self._stalled_since > WRITE_STALL_SECONDS:
            log.info("a peer has not read for %g s: its connection is cut off", WRITE_STALL_SECONDS)
            self.abort()
        elif self._ended:
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
        self._announced = True
        self._draining = self._draining or refuse
        self._flush()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # The rest.

    def _has_work(self) -> bool:
        readable = self._behind and self._stalled_since is None
        return (readable or self._rpc.pending) and not self._ended

    def _receive(self, data: bytes) -> None:
        """Receive for a moment, or some frames, whichever is more; until the rest is received no more is read."""
        now = self._loop.time()
        self._rpc.receive(data, now, FRAMES_AT_ONCE)
        if not self._rpc.more and not self._behind:
            return
        until = time.perf_counter() + MOMENT_SECONDS
        while self._rpc.more and time.perf_counter() < until:
            self._rpc.receive(b"", now, FRAMES_AT_ONCE)
        was_behind, self._behind = self._behind, self._rpc.more
        if self._behind:
            self._transport.pause_reading()
        elif was_behind and self._stalled_since is None:
            self._transport.resume_reading()

    def _receive_tls(self, tls: TlsSession, data: bytes) -> None:
        greeted = tls.ready
        try:
            data = tls.receive(data)
            if tls.ready and not greeted:
                tls.check_peer()
        except TlsError as error:
            self._owner.failed("TLS", str(error), self._loop.time())
            self._close()
            return
        if data:
            self._receive(data)
        self._flush()
        if tls.ended and not self._ended:
            self._close()

    def _expire(self, now: float) -> None:
        self._rpc.expire(now)
        if self.retire_at is not None and (now >= self.retire_at or (self._announced and self.may_refuse)):
            self._retire(now)
        self._flush()

    def _retire(self, now: float) -> None:
        """Take the next step towards the end of a connection that is too old."""
        if not self._announced:
            self.drain(refuse=False)
            self.retire_at = now + GOAWAY_GAP_SECONDS
        elif not self._draining:
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

    def _flush(self) -> None:
        if self._ended or self._transport.is_closing():
            return
        octets = self._rpc.take_output()
        if self._tls is not None:
            octets = self._tls.send(octets)
        if octets:
            self._transport.write(octets)
        if self._rpc.closed:
            self._owner.failed("HTTP/2", self._rpc.fault, self._loop.time())
            self._close()
        elif self._draining and self._rpc.idle:
            self._close()

    def _close(self) -> None:
        """Say no more, and close once the peer has taken what was said; it has as long as any other."""
        self._ended = True
        self._behind = False
        self._stalled_since = self._loop.time()
        if self._tls is not None:
            self._transport.write(self._tls.close())
        try:
            self._transport.write_eof()
        except OSError:  # asyncio's own loop says so here if the peer has reset the connection; uvloop, later
            self.abort()
            return
        self._transport.resume_reading()  # to drop it, and to see the peer's end

    def _drop(self, size: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > LINGER_BYTES:
            self._transport.pause_reading()

    def _linger(self, now: float) -> None:
        if self._transport.get_write_buffer_size() or self._transport.is_closing():
            return
        if self._linger_until is None:
            self._stalled_since = None
            self._linger_until = now + LINGER_SECONDS
        elif now >= self._linger_until:
            self._transport.close()
