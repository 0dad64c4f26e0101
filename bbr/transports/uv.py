"""The native transport: our own HTTP/2 and gRPC (bbr.http2, bbr.rpc) on asyncio's Protocols, one for each connection.

Times are the event loop's; a tick looks after what is overdue.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from bbr.exchange.exchange import CallFields, Exchange
from bbr.http2.settings import Settings
from bbr.rpc import health
from bbr.rpc.connection import NewHandler, RpcConnection, Services
from bbr.system.supervisor import Supervised, Supervisor
from bbr.telemetry.allowance import RareLog
from bbr.tls.session import TlsSession
from bbr.transports.busy_poll import BusyPoll
from bbr.transports.health_calls import Answer, Check, Watch
from bbr.transports.serving import ConnectionLimits, Serving, TransportCounts, max_message_bytes, target
from bbr.transports.uv_connection import GOAWAY_GAP_SECONDS, UvConnection

if TYPE_CHECKING:  # it takes 0.1 s and 20 MB to load, which plaintext need not pay for
    from bbr.tls.credentials import Credentials

log = logging.getLogger(__name__)

_PROCESS: Final = f"/{health.EXT_PROC_SERVICE}/Process".encode()
_HEALTH: Final = f"/{health.SERVICE}/".encode()

# How often overdue calls are looked for, at most, at least, and while the server waits for its connections' end.
_MAX_TICK_SECONDS: Final = 1.0
_MIN_TICK_SECONDS: Final = 0.01
_DRAIN_TICK_SECONDS: Final = 0.05
# The task that does so.
_TICKS: Final = "deadlines of connections"

# A turn of the event loop reads on in long bodies, half a millisecond at a time, until this is over: a millisecond at
# most, for which other requests wait.
_WORK_SECONDS: Final = 0.0005

# Connections that a kernel keeps for us until we take them: the clients of a gateway that comes back come all at once.
_BACKLOG: Final = 1024
# How much more or less of its age a connection may have.
_AGE_JITTER: Final = 0.1


class UvServer:
    """A server on one port: health, and ext_proc if it is given a way to make exchanges."""

    def __init__(
        self,
        serving: Serving,
        *,
        max_body_bytes: int,
        new_exchange: Callable[[CallFields], Exchange] | None = None,
        tick_seconds: float = _MAX_TICK_SECONDS,
        settings: Settings | None = None,
        limits: ConnectionLimits | None = None,
        credentials: "Credentials | None" = None,
        busy_poll_seconds: float = 0.0,
        supervisor: Supervisor | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare a server; `start` makes it listen.

        Args:
            serving: what health checks answer.
            max_body_bytes: the largest body that an exchange reads; messages may be somewhat larger.
            new_exchange: called for each ext_proc stream, with the header section of its call; None serves health
                alone.
            tick_seconds: how late an overdue call may be noticed.
            settings: of each connection.
            limits: of all connections together.
            credentials: for TLS; None for plaintext.
            supervisor: runs what the server does by the clock, and for those who watch its health.
            busy_poll_seconds: keep the event loop from waiting for so long after each read; 0 for never.
            jitter: gives the share, from 0 to 1, of the span that a connection's age may vary in.

        Raises:
            ssl.SSLError: the credentials can't be used.
        """
        self._settings = settings or Settings()
        self._limits = limits or ConnectionLimits()
        self.grace_seconds = self._limits.grace_seconds
        self._jitter = jitter
        self.busy_poll = BusyPoll(busy_poll_seconds) if busy_poll_seconds else None
        self._new_tls: Callable[[], TlsSession] | None = None
        if credentials is not None:
            self.use(credentials)
        self._serving = serving
        self._tick_seconds = min(max(tick_seconds, _MIN_TICK_SECONDS), _MAX_TICK_SECONDS)
        methods: dict[bytes, NewHandler] = {
            _HEALTH + b"Check": lambda call: Check(serving),
            _HEALTH + b"List": lambda call: Answer(health.list_services(serving=serving.now)),
            _HEALTH + b"Watch": lambda call: Watch(serving),
        }
        if new_exchange is not None:
            methods[_PROCESS] = new_exchange
        self._services = Services(
            methods=methods,
            max_message_bytes=max_message_bytes(max_body_bytes),
            failed=self._call_failed,
            reset=self._count_reset,
        )
        self._connections_total = 0
        self._failed: dict[tuple[str, str], int] = {}
        self._resets: dict[str, int] = {}
        self._connections: set[UvConnection] = set()
        self._busy: deque[UvConnection] = deque()  # those with work, in turn
        self._turned_away = RareLog(log, logging.WARNING)
        self._failures = RareLog(log, logging.INFO)
        self._server: asyncio.Server | None = None
        self._supervisor = supervisor or Supervisor()
        self._running: list[Supervised] = []
        self._all_gone = asyncio.Event()
        self._stopped = False
        self._refuse_at: float | None = None  # while it drains: when connections are refused that say nothing

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: UvConnection(self), address, port, reuse_port=False, backlog=_BACKLOG
            )
        except OSError as error:
            raise OSError(f"can't listen on {target(address, port)}") from error
        self._running = [
            self._supervisor.start(_TICKS, self._ticks, private=True),
            self._supervisor.start("health watchers", self._tell_watchers, private=True),
        ]
        return int(self._server.sockets[0].getsockname()[1])

    def use(self, credentials: "Credentials") -> None:
        """Show these from the next connection on; those that there are keep what they have agreed on.

        Raises:
            ssl.SSLError: they can't be used; nothing changes.
        """
        from bbr.tls.credentials import server_context

        refusal = None if credentials.clients is None else credentials.clients.refusal
        self._new_tls = partial(TlsSession, server_context(credentials), refusal)

    async def unused(self) -> None:
        """Return when no connection is open."""
        if self._connections:
            self._all_gone.clear()
            await self._all_gone.wait()

    async def stop(self, drain_seconds: float) -> None:
        """Take no new connections and no new calls (GOAWAY).

        What runs has `drain_seconds` in all to finish before it is cut off.
        """
        if self._server is None:
            return
        self._server.close()
        if self._connections and drain_seconds:
            try:
                async with asyncio.timeout(drain_seconds):
                    await self._drain()
            except TimeoutError:
                busy = sum(connection.busy for connection in self._connections)
                if busy:  # others only wait for their peer to close
                    log.warning("%d connections still had requests after the drain", busy)
        self._server = None
        self._stopped = True
        self._each(UvConnection.abort)
        for running in self._running:
            running.cancel()

    def counts(self) -> TransportCounts:
        """Return what has been counted so far."""
        return TransportCounts(
            connections=len(self._connections),
            connections_total=self._connections_total,
            turned_away_total=self._turned_away.total,
            failures=self._failed,
            resets=self._resets,
        )

    async def _drain(self) -> None:
        self._each(lambda connection: connection.drain(refuse=False))
        self._refuse_at = asyncio.get_running_loop().time() + GOAWAY_GAP_SECONDS
        self._tick_seconds = min(self._tick_seconds, _DRAIN_TICK_SECONDS)
        # The one that runs sleeps for as long as it was told to before.
        self._running.append(self._supervisor.start(_TICKS, self._ticks, private=True))
        self._tick()
        await self.unused()

    def _refuse(self, connection: UvConnection, now: float) -> None:
        """Take no more calls of a connection that has read its GOAWAY, or should have."""
        if self._refuse_at is not None and (connection.may_refuse or now >= self._refuse_at):
            connection.drain(refuse=True)

    def _each(self, do: Callable[[UvConnection], None]) -> None:
        for connection in list(self._connections):
            do(connection)

    async def _tell_watchers(self) -> None:
        while True:  # what has changed before this was started is told too
            self._each(lambda connection: connection.tell_watchers(last=self._serving.stopping))
            await self._serving.changed()

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._tick()

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        self._each(lambda connection: self._refuse(connection, now))
        self._each(lambda connection: connection.tick(now))

    def _work(self) -> None:
        """Read on in long bodies, for a moment; then whatever else has come gets its turn."""
        until = time.perf_counter() + _WORK_SECONDS
        try:
            while self._busy:
                self._work_on_one()
                if time.perf_counter() >= until:
                    break
        finally:  # an error that ends one connection's work must not end that of all
            if self._busy:
                asyncio.get_running_loop().call_soon(self._work)

    def _work_on_one(self) -> None:
        connection = self._busy.popleft()
        more = False
        try:
            more = connection.work()
        finally:
            if more:
                self._busy.append(connection)
            else:
                connection.scheduled = False

    def _count_reset(self, reason: str) -> None:
        self._resets[reason] = self._resets.get(reason, 0) + 1

    def _call_failed(self, error: Exception) -> None:
        log.error("an exchange failed", exc_info=error)

    # What a connection asks for (uv_connection.Owner).

    def admit(self, connection: UvConnection, now: float) -> RpcConnection | None:
        """Take a connection in and return what speaks on it; None if there is no room for it."""
        if self._stopped:
            return None  # it was on its way when the server stopped
        limits = self._limits
        if len(self._connections) >= limits.max_connections:
            self._turned_away.write(now, "a connection over --max-connections=%d was closed", limits.max_connections)
            return None
        self._connections.add(connection)
        self._connections_total += 1
        if limits.max_age_seconds:
            connection.retire_at = now + limits.max_age_seconds * (1 + _AGE_JITTER * (2 * self._jitter() - 1))
        return RpcConnection(self._settings, self._services, now)

    def new_tls(self) -> TlsSession | None:
        """Return the TLS of a new connection; None for plaintext."""
        return None if self._new_tls is None else self._new_tls()

    def schedule(self, connection: UvConnection) -> None:
        """Let a connection work, in turn with others."""
        if not connection.scheduled:
            connection.scheduled = True
            self._busy.append(connection)
            if len(self._busy) == 1:
                asyncio.get_running_loop().call_soon(self._work)

    def failed(self, layer: str, reason: str, now: float) -> None:
        """Note why a connection was ended for its peer's fault."""
        # OpenSSL's sentences are too many to be names.
        key = (layer, reason if layer == "HTTP/2" else "")
        self._failed[key] = self._failed.get(key, 0) + 1
        self._failures.write(now, "a connection failed: %s: %s", layer, reason)

    def gone(self, connection: UvConnection) -> None:
        """Let a connection go."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()
