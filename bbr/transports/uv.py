"""The native transport: our own HTTP/2 and gRPC (bbr.http2, bbr.rpc) on an asyncio Protocol.

One write for each read. Times are the event loop's; a tick looks after what is overdue.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, cast

from bbr import health
from bbr.exchange import Exchange
from bbr.http2.settings import Settings
from bbr.rpc.calls import Handler
from bbr.rpc.connection import RpcConnection, Services
from bbr.status import OK, Status, StatusCode
from bbr.transports.serving import Serving, max_message_bytes

log = logging.getLogger(__name__)

_PROCESS: Final = f"/{health.EXT_PROC_SERVICE}/Process".encode()
_HEALTH: Final = f"/{health.SERVICE}/".encode()
_SHUTTING_DOWN: Final = Status(StatusCode.UNAVAILABLE, "this replica is shutting down")

# How often overdue calls are looked for, at most and at least.
_MAX_TICK_SECONDS: Final = 1.0
_MIN_TICK_SECONDS: Final = 0.01

# A peer that has not read for this long is cut off; what it left unread is bounded by then.
_WRITE_STALL_SECONDS: Final = 60.0

# Between the GOAWAY that refuses nothing and the one that does: long enough for what a gateway has just sent.
_GOAWAY_GAP_SECONDS: Final = 0.1


class _Answer:
    """A health call with one answer, whatever was asked."""

    patience_seconds: float | None = None

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.end: Status | None = None

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer and end."""
        self.end = OK
        return (self._answer,)

    def expire(self) -> Sequence[bytes]:
        """Never asked: there is no patience to lose."""
        return ()

    def finish(self) -> Status | None:
        """A unary call without a message is none."""
        return Status(StatusCode.INTERNAL, "a unary call needs one message")


class _Watch(_Answer):
    """Health.Watch: the state now, and once more when it changes; it can only change for the last time."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(health.check(serving=serving.now))
        self._last = not serving.now

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer, and stay while there is more to come."""
        if self._last:
            self.end = _SHUTTING_DOWN
        return (self._answer,)

    def finish(self) -> Status | None:
        """Go on: the client has no more to say."""
        return None


class UvServer:
    """A server on one port: health, and ext_proc if it is given a way to make exchanges."""

    def __init__(
        self,
        serving: Serving,
        *,
        max_body_bytes: int,
        new_exchange: Callable[[], Exchange] | None = None,
        ended: Callable[[Exchange], None] = lambda exchange: None,
        tick_seconds: float = _MAX_TICK_SECONDS,
        settings: Settings | None = None,
    ) -> None:
        """Prepare a server; `start` makes it listen.

        Args:
            serving: what health checks answer.
            max_body_bytes: the largest body that an exchange reads; messages may be somewhat larger.
            new_exchange: called for each ext_proc stream; None serves health alone.
            ended: called with each exchange once its stream is over, however it ended.
            tick_seconds: how late an overdue call may be noticed.
            settings: of each connection.
        """
        self._serving = serving
        self._ended = ended
        self._settings = settings or Settings()
        self._tick_seconds = min(max(tick_seconds, _MIN_TICK_SECONDS), _MAX_TICK_SECONDS)
        methods: dict[bytes, Callable[[], Handler]] = {
            _HEALTH + b"Check": lambda: _Answer(health.check(serving=serving.now)),
            _HEALTH + b"List": lambda: _Answer(health.list_services(serving=serving.now)),
            _HEALTH + b"Watch": lambda: _Watch(serving),
        }
        if new_exchange is not None:
            methods[_PROCESS] = new_exchange
        self._services = Services(
            methods=methods,
            max_message_bytes=max_message_bytes(max_body_bytes),
            ended=self._call_ended,
            failed=self._call_failed,
        )
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self._all_gone = asyncio.Event()

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), address, port, reuse_port=False)
        except OSError as error:
            host = address or "::"
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise OSError(f"can't listen on {target}") from error
        self._ticking = loop.call_later(self._tick_seconds, self._tick)
        self._telling = loop.create_task(self._tell_watchers(), name="health watchers")
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, drain_seconds: float) -> None:
        """Take no new streams (GOAWAY), and give running ones `drain_seconds` to finish before they are cut off."""
        if self._server is None:
            return
        self._server.close()
        if self._connections and drain_seconds:
            self._each(lambda connection: connection.drain(refuse=False))
            await asyncio.sleep(min(_GOAWAY_GAP_SECONDS, drain_seconds))
            self._each(lambda connection: connection.drain(refuse=True))
            if self._connections:
                self._all_gone.clear()
                try:
                    async with asyncio.timeout(drain_seconds):
                        await self._all_gone.wait()
                except TimeoutError:
                    log.warning("%d connections still had requests after the drain", len(self._connections))
        self._each(_Connection.abort)
        for running in (self._ticking, self._telling):
            if running is not None:
                running.cancel()
        self._server = None

    def _each(self, do: "Callable[[_Connection], None]") -> None:
        for connection in list(self._connections):
            do(connection)

    async def _tell_watchers(self) -> None:
        await self._serving.stopped()
        self._each(_Connection.tell_watchers)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._each(lambda connection: connection.tick(now))
        self._ticking = loop.call_later(self._tick_seconds, self._tick)

    def _call_ended(self, handler: Handler) -> None:
        if isinstance(handler, Exchange):
            self._ended(handler)

    def _call_failed(self, error: Exception) -> None:
        log.error("an exchange failed", exc_info=error)

    def new_connection(self, connection: "_Connection", now: float) -> RpcConnection:
        """Take a connection in and return what speaks on it."""
        self._connections.add(connection)
        return RpcConnection(self._settings, self._services, now)

    def connection_gone(self, connection: "_Connection") -> None:
        """Let a connection go."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()


class _Connection(asyncio.Protocol):
    """One socket."""

    def __init__(self, server: UvServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._draining = False
        self._stalled_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._rpc = self._server.new_connection(self, self._loop.time())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Receive, and write all that this calls for at once."""
        self._rpc.receive(data, self._loop.time())
        self._flush()

    def eof_received(self) -> bool:
        """Close: HTTP/2 has no half-closed connections."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let the running calls go."""
        self._rpc.lost()
        self._server.connection_gone(self)

    def pause_writing(self) -> None:
        """Stop producing and reading: the peer does not read."""
        if self._transport.is_closing():
            return
        self._stalled_since = self._loop.time()
        self._rpc.hold(True)
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._transport.is_closing():
            return
        self._stalled_since = None
        self._transport.resume_reading()
        self._rpc.hold(False)
        self._flush()

    def tick(self, now: float) -> None:
        """See to what is overdue."""
        if self._stalled_since is not None and now - self._stalled_since > _WRITE_STALL_SECONDS:
            log.info("a peer has not read for %g s: its connection is cut off", _WRITE_STALL_SECONDS)
            self.abort()
        elif not self._transport.is_closing():
            self._rpc.expire(now)
            self._flush()

    def tell_watchers(self) -> None:
        """End the health watches: a call left open would make the drain last as long as it may."""
        for call in list(self._rpc.calls.values()):
            if isinstance(call.handler, _Watch):
                self._rpc.push(call, health.check(serving=False))
                self._rpc.end(call, _SHUTTING_DOWN)
        self._flush()

    def drain(self, *, refuse: bool) -> None:
        """Announce the end; with `refuse` take no new calls, and close after the last running one."""
        self._rpc.shut_down(refuse=refuse)
        self._draining = refuse
        self._flush()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def _flush(self) -> None:
        if self._transport.is_closing():
            return
        octets = self._rpc.take_output()
        if octets:
            self._transport.write(octets)
        if self._rpc.closed:
            log.info("a connection failed: %s", self._rpc.fault)
            self._close()
        elif self._draining and self._rpc.idle:
            self._close()

    def _close(self) -> None:
        """Close once what is written has left; a peer that does not read it has as long as any other."""
        self._stalled_since = self._loop.time()
        self._transport.close()
