"""The reference transport: grpc.aio over the sans-IO core.

grpcio holds each message whole and has no types; everything of it that the project uses is in this file.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import grpc
import grpc.aio

from bbr.exchange.exchange import CallFields, Exchange
from bbr.rpc import health
from bbr.rpc.status import Status, StatusCode
from bbr.telemetry.allowance import RareLog
from bbr.transports.serving import ConnectionLimits, Serving, TransportCounts, max_message_bytes, target

if TYPE_CHECKING:
    from bbr.tls.credentials import Credentials

P = ParamSpec("P")
T = TypeVar("T")
_Call = Callable[[Any, Any], Awaitable[Any]]

log = logging.getLogger(__name__)

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

# grpcio takes its options as C ints.
_MAX_INT32: Final = (1 << 31) - 1

# For TLS and the HTTP/2 preface; by default it is two minutes. The native transport's is the same.
_HANDSHAKE_MILLISECONDS: Final = 10_000


class GrpcioServer:
    """A grpc.aio server on one port: health, and ext_proc if it is given a way to make exchanges."""

    def __init__(
        self,
        serving: Serving,
        *,
        max_body_bytes: int,
        new_exchange: Callable[[CallFields], Exchange] | None = None,
        limits: ConnectionLimits | None = None,
        credentials: "Credentials | None" = None,
    ) -> None:
        """Prepare a server; `start` makes it listen.

        Args:
            serving: what health checks answer.
            max_body_bytes: the largest body that an exchange reads; messages may be somewhat larger.
            new_exchange: called for each ext_proc stream, with the header section of its call; None serves health
                alone.
            limits: of all connections together.
            credentials: for TLS, which grpcio serves with ALPN h2 only; None for plaintext. A client without a
                certificate that they demand is refused by grpcio, which does not tell; one whose certificate is for
                other names gets PERMISSION_DENIED for each call.
        """
        self._serving = serving
        self._working = asyncio.Lock()
        self._clients = credentials.clients if credentials else None
        self._certificates = _Certificates(credentials) if credentials else None
        self._refused = RareLog(log, logging.INFO)
        self._server = grpc.aio.server(options=_options(max_body_bytes, limits or ConnectionLimits()))
        handlers = [_health_handlers(self, self._let_in)]
        if new_exchange is not None:
            process = grpc.stream_stream_rpc_method_handler(self._let_in(partial(self._process, new_exchange)))
            handlers.append(grpc.method_handlers_generic_handler(health.EXT_PROC_SERVICE, {"Process": process}))
        self._server.add_generic_rpc_handlers(tuple(handlers))

    async def start(self, address: str | None, port: int) -> int:
        """Listen on an address, or on every interface, and serve; return the port (useful when `port` is 0).

        Raises:
            OSError: the address can't be listened on.
        """
        try:
            bound = self._add_port(target(address, port))
        except RuntimeError as error:
            raise OSError(f"can't listen on {target(address, port)}") from error
        await self._server.start()
        return bound

    def _add_port(self, where: str) -> int:
        if self._certificates is None:
            return int(self._server.add_insecure_port(where))
        return int(self._server.add_secure_port(where, self._certificates.credentials))

    def use(self, credentials: "Credentials") -> None:
        """Show these from the next connection on; those that there are keep what they have agreed on.

        Which names are let in, and whether clients must show a certificate, is decided when the server is made.
        """
        assert self._certificates is not None  # noqa: S101 (plaintext has none)
        self._certificates.use(credentials)

    async def unused(self) -> None:
        """Return never: grpc.aio does not show its connections."""
        await asyncio.get_running_loop().create_future()

    async def stop(self, drain_seconds: float) -> None:
        """Take no new streams (GOAWAY), and give running ones `drain_seconds` to finish before they are cancelled."""
        await self._server.stop(drain_seconds)

    def counts(self) -> TransportCounts:
        """Return no counts: grpcio does not show its connections."""
        return TransportCounts()

    def _let_in(self, call: _Call) -> _Call:
        """Return a call that is refused unless its client's certificate has a name that is let in."""
        clients = self._clients
        if clients is None:
            return call

        async def checked(request: Any, context: Any) -> Any:
            (pem,) = context.auth_context()["x509_pem_cert"]
            if why := clients.refusal(ssl.PEM_cert_to_DER_cert(pem.decode())):
                self._refused.write(asyncio.get_running_loop().time(), "a call was refused: %s", why)
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the client's certificate is not allowed here")
            return await call(request, context)

        return checked

    async def _process(
        self, new_exchange: Callable[[CallFields], Exchange], _messages: AsyncIterator[bytes], context: Any
    ) -> None:
        try:
            exchange = _core(new_exchange, _CallFields(context.invocation_metadata()))
            try:
                code, details = await self._converse(exchange, context)
            finally:  # also when the peer resets the stream, which cancels this task
                _core(exchange.over)
        except _CoreError:
            code, details = StatusCode.INTERNAL, "the router failed on this request"
        context.set_code(_CODES[code])
        context.set_details(details)

    async def _converse(self, exchange: Exchange, context: Any) -> Status:
        while exchange.end is None:
            try:
                async with asyncio.timeout(exchange.patience_seconds):
                    message = await context.read()
            except TimeoutError:
                answers = _core(exchange.expire)
            else:
                if message is grpc.aio.EOF:
                    break
                answers = _core(exchange.receive, message)
            for answer in answers:
                await context.write(answer)
            while exchange.pending:
                async with self._working:  # one of them in a turn of the event loop
                    answers = _core(exchange.work)
                    await asyncio.sleep(0)
                for answer in answers:
                    await context.write(answer)
        return _core(exchange.finish)

    async def check(self, request: bytes, _context: Any) -> bytes:
        """Health.Check."""
        return health.check(serving=self._serving.now or health.asks_for_liveness(request))

    async def list_services(self, _request: bytes, _context: Any) -> bytes:
        """Health.List."""
        return health.list_services(serving=self._serving.now)

    async def watch(self, _request: bytes, context: Any) -> None:
        """Health.Watch: the state now, and again when it changes, until it has changed for good."""
        sent = None
        while not self._serving.stopping or sent is not False:
            if sent is self._serving.now:
                await self._serving.changed()
            else:  # it may change while the message is being written
                sent = self._serving.now
                await context.write(health.check(serving=sent))
        # A stream left open would make the drain last as long as it may.
        context.set_code(_CODES[StatusCode.UNAVAILABLE])
        context.set_details("this replica is shutting down")


class _Certificates:
    """What C-core is given to show; it asks at each handshake whether that is still the same."""

    def __init__(self, credentials: "Credentials") -> None:
        self._current = self._shown = _certificate_configuration(credentials)
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._current, self._news, require_client_authentication=credentials.clients is not None
        )

    def use(self, credentials: "Credentials") -> None:
        """Show these from the next handshake on."""
        self._current = _certificate_configuration(credentials)

    def _news(self) -> Any:
        # Called by C-core's threads. None keeps what it has: anything else is read and checked again.
        current = self._current
        if current is self._shown:
            return None
        self._shown = current
        return current


def _certificate_configuration(credentials: "Credentials") -> Any:
    pair = (credentials.key_pem, credentials.chain_pem)
    return grpc.ssl_server_certificate_configuration([pair], credentials.clients and credentials.clients.ca_pem)


class _CoreError(Exception):
    """A fault of ours, already logged: its stream ends with an error, and no other notices."""


def _core(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    # Around each call of the core rather than around all of them: what grpcio raises when a peer is gone is its own.
    try:
        return call(*args, **kwargs)
    except Exception as error:
        log.exception("an exchange failed")
        raise _CoreError from error


class _CallFields:
    """The metadata of a call, as exchanges want it."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        self._metadata = metadata

    def get(self, name: bytes) -> bytes | None:
        """See CallFields. Bytes are what a -bin field holds."""
        wanted = name.decode()
        value = next((value for key, value in self._metadata if key == wanted), None)
        return value.encode() if isinstance(value, str) else None


def _health_handlers(server: GrpcioServer, let_in: Callable[[_Call], _Call]) -> Any:
    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(let_in(server.check)),
        "List": grpc.unary_unary_rpc_method_handler(let_in(server.list_services)),
        "Watch": grpc.unary_stream_rpc_method_handler(let_in(server.watch)),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE, methods)


def _options(max_body_bytes: int, limits: ConnectionLimits) -> list[tuple[str, int]]:
    options = [
        # A second process on the port is an operator's mistake to hear of, not load balancing.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", min(max_message_bytes(max_body_bytes), _MAX_INT32)),
        ("grpc.max_send_message_length", -1),
        # A gateway may ping an idle connection as often as it likes; grpcio would answer with GOAWAY too_many_pings.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
    ]
    if limits.max_age_seconds:
        # Its own jitter is 10% as well.
        options.append(("grpc.max_connection_age_ms", _milliseconds(limits.max_age_seconds)))
        options.append(("grpc.max_connection_age_grace_ms", _milliseconds(limits.grace_seconds)))
    return options


def _milliseconds(seconds: float) -> int:
    return min(max(1, round(1000 * seconds)), _MAX_INT32)
