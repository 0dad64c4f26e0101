"""The composition root: builds everything from Settings, serves until a signal, and stops in the right order."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from bbr import __version__, built
from bbr.admin import endpoints
from bbr.admin.http import AdminServer
from bbr.admin.vitals import Vitals
from bbr.config.settings import Settings
from bbr.exchange.exchange import CallFields, Exchange
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import ClientSteering, Compat
from bbr.exchange.verdict import Outcome
from bbr.router import Router
from bbr.sources.objects import SourceError
from bbr.system import allocator, binding, descriptors
from bbr.system.supervisor import Supervisor
from bbr.telemetry import observed
from bbr.telemetry.access_log import AccessLog, Later
from bbr.telemetry.field_counts import FieldCounts
from bbr.telemetry.genai import GenAi
from bbr.telemetry.metrics import Metrics
from bbr.transports.serving import ConnectionLimits, Serving, TransportCounts
from bbr.transports.uv import UvServer

if TYPE_CHECKING:
    from bbr.telemetry.tracing import Tracing
    from bbr.tls.certificates import Certificates
    from bbr.tls.credentials import Credentials

log = logging.getLogger(__name__)

_FAULT: Final = Outcome.FAULT

# How long health checks may still be asked after the last request has been answered.
_HEALTH_STOP_SECONDS: Final = 1.0


class StartError(Exception):
    """The router can't start; the message says why and names the setting."""


class Server:
    """One router process: an ext_proc port and a health port over one model table."""

    def __init__(self, settings: Settings, pem: Callable[..., Any] | None = None) -> None:
        """Read the model table, and the certificate or make one.

        Args:
            settings: all of the router's.
            pem: calls a function of bbr.tls.pem by its name; None: another process does, started for it.

        Raises:
            StartError: the table or the certificate can't be used, or spans can't be sent.
        """
        self._settings = settings
        self.certificates = _certificates(settings, pem)
        router = _router(settings)
        self.sources = router.sources
        self._policy = router.policy
        self.metrics = Metrics()
        self._access = access_log(settings, lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._tracing = _tracing(settings)
        self._genai = GenAi() if settings.genai_metrics else None
        self._fields = FieldCounts(self._policy.fields) if self._policy.fields else None

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Args:
            ready: called once both ports are served.

        Raises:
            StartError: a port can't be listened on, or the model table is not complete within --sync-timeout.
        """
        serving = Serving(ready=self.sources.table.synced)
        supervisor = Supervisor()
        ports = self._ports(serving, supervisor)
        try:
            returning = allocator.keeping(supervisor, self._settings.max_buffered_bytes)
            with _signals(self._reload) as stop, returning:
                await self._start(ports, supervisor)
                ready()
                reason = await self._until_stopped(stop, serving)
                log.info("%s: draining for at most %g s", reason, self._settings.drain_seconds)
                await self._drain(ports, serving)
        finally:
            await self._close(ports)
        log.info("stopped")

    def _ports(self, serving: Serving, supervisor: Supervisor) -> "Ports":
        """Return what will listen."""
        settings = self._settings
        new_server = _transport(settings, supervisor, self._policy.ledger)
        main = new_server(
            serving,
            max_body_bytes=settings.max_body_bytes,
            new_exchange=self._new_exchange,
            limits=_limits(settings),
            credentials=self.certificates and self.certificates.credentials,
        )
        # Always in plaintext: what asks here (a kubelet) has no certificate to check.
        health_limits = ConnectionLimits(
            max_connections=descriptors.HEALTH_CONNECTIONS,
            spare_connections=descriptors.SPARE_CONNECTIONS,
            busy_give_way=True,
        )
        checks = new_server(serving, max_body_bytes=0, limits=health_limits)  # a check is some bytes
        vitals = Vitals(
            settings=settings,
            metrics=self.metrics,
            sources=self.sources,
            serving=serving,
            ledger=self._policy.ledger,
            main=main,
            certificates=self.certificates,
            genai=self._genai,
            supervisor=supervisor,
            body_fields=self._fields,
        )
        return Ports(main, checks, _admin(vitals))

    async def _start(self, ports: "Ports", supervisor: Supervisor) -> None:
        """Listen, and begin to follow the sources and the certificate."""
        settings = self._settings
        self.sources.start(supervisor)
        await _listen(ports.main, settings.bind_address, settings.grpc_port, "--grpc-port")
        await _listen(ports.checks, settings.bind_address, settings.grpc_health_port, "--grpc-health-port")
        if settings.metrics_port:
            await _listen(ports.admin, settings.bind_address, settings.metrics_port, "--metrics-port")
        log.info("%s", self._startup_line())
        if self.certificates is not None:
            self.certificates.start(ports.main.use, supervisor)
        if self._tracing is not None:
            log.info("%s", self._tracing)
        self._warn_of_trust()
        # What the start has made stays: looking through it for garbage, 7 ms each time, would hold up requests.
        gc.freeze()

    async def _drain(self, ports: "Ports", serving: Serving) -> None:
        # Health first, so that whoever asks sends nothing more here; its own port outlives the requests.
        serving.stop()
        await self._let_gateways_notice(ports.main)
        await ports.main.stop(self._settings.drain_seconds)
        await ports.checks.stop(_HEALTH_STOP_SECONDS)

    async def _close(self, ports: "Ports") -> None:
        """End whatever still runs, at once: after the drain, or when a port could not be had."""
        await self.sources.stop()
        if self.certificates is not None:
            await self.certificates.stop()
        await ports.main.stop(0)
        await ports.checks.stop(0)
        await ports.admin.stop()
        if self._access is not None:
            self._access.close()
        if self._tracing is not None:
            self._tracing.close()

    async def _until_stopped(self, stop: asyncio.Future[str], serving: Serving) -> str:
        """Return why to stop; begin to answer SERVING once the model table is complete."""
        if not serving.now:
            syncing = asyncio.create_task(self.sources.wait_synced())
            stop.add_done_callback(lambda _: syncing.cancel())
            try:
                await syncing
            except asyncio.CancelledError:
                if stop.done():
                    return stop.result()
                raise
            except SourceError as error:
                raise StartError(str(error)) from None
            serving.start()
            log.info("the model table is complete: %s", self.sources)
        self._warn_of_idle_settings()
        return await stop

    async def _let_gateways_notice(self, main: "Transport") -> None:
        """Go on for a while: a gateway that still sends here when the port is closed has to send everything again.

        Envoy can do so with no more than 64 KiB; what is longer would be lost.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_delay_seconds):
                await main.unused()

    def _warn_of_trust(self) -> None:
        settings = self._settings
        picks = "a client that names no model picks its own pool"
        if settings.trust_client_headers:
            log.warning("--trust-client-headers: %s", picks)
        if settings.client_steering is ClientSteering.ALL:
            log.warning(
                "--client-steering=all: a client can choose the model that its server runs, whatever was routed, and "
                "the addresses that a sidecar connects to"
            )
        if settings.compat is not Compat.NONE:
            log.warning("--compat=%s: a client's own routing headers are kept: %s", settings.compat.value, picks)

    def _warn_of_idle_settings(self) -> None:
        """Warn of settings that others, or the model table as it is, leave without effect."""
        settings, registry = self._settings, self.sources.table.registry
        if settings.default_model and not registry.identity and not registry.anywhere(settings.default_model):
            log.warning("--default-model: the model table does not hold %s", settings.default_model)
        if settings.scope is not None and not registry.scopes:
            log.warning("--scope has no effect: the model table has no scopes")
        if settings.scope is None and (hostless := registry.scopes.keys() - registry.hosts.scopes()):
            shown = ", ".join(sorted(hostless)[:20])
            log.warning("scopes without hosts, in which no request can be without --scope: %s", shown)
        if any(layer.grants for layer in registry.layers()) and settings.asker is None:
            log.warning("the model table says who may use what, and nothing tells who asks: --asker is not set")
        if settings.serve_models_list and registry.identity:
            log.warning("--serve-models-list: there is no model table to list: such requests pass")
        held, longest = settings.max_buffered_bytes, settings.max_body_bytes
        if held < longest:  # a size without its unit, perhaps
            log.warning(
                "--max-buffered-bytes=%d is less than --max-body-bytes=%d: longer bodies may get 503", held, longest
            )
        if settings.metrics_endpoint_auth and not settings.metrics_port:
            log.warning("--metrics-endpoint-auth has no effect: --metrics-port=0 turns metrics off")

    def _new_exchange(self, call: CallFields) -> Exchange:
        kept = call if self._tracing is not None else None
        registry = self.sources.table.registry
        exchange = Exchange(self._policy, registry, observed.clock, kept, self._ended)
        self.metrics.running += 1
        return exchange

    def _ended(self, exchange: Exchange) -> None:
        self.metrics.running -= 1
        self.metrics.count(exchange)
        if self._access is not None:
            self._access.ended(exchange)
        if self._tracing is not None:
            self._tracing.ended(exchange)
        if self._genai is not None:
            self._genai.ended(exchange)
        if self._fields is not None:
            self._fields.ended(exchange)
        verdict = exchange.verdict
        if verdict.outcome is _FAULT:
            log.warning("a gateway broke the ext_proc protocol (%s); its client got an error", verdict.reason)

    def _startup_line(self) -> str:
        settings = self._settings
        where = settings.bind_address or "every interface"
        how = "over TLS" if self.certificates else "in plaintext"
        return (
            f"bbr {__version__} ({built.HOW}) serves ext_proc on port {settings.grpc_port} and health on "
            f"{settings.grpc_health_port} of {where}, {how}, by the {settings.transport} transport; "
            f"{self.sources}"
        )

    def _reload(self) -> None:
        """Read all files anew."""
        self.sources.reload()
        if self.certificates is not None:
            self.certificates.reload()


def _admin(vitals: Vitals) -> AdminServer:
    if not vitals.settings.metrics_endpoint_auth:
        return endpoints.server(vitals)
    from bbr.admin.authorization import Guard
    from bbr.sources.kube_api import KubeApi

    return endpoints.server(vitals, Guard(partial(KubeApi, vitals.settings.kubeconfig)))


def access_log(settings: Settings, later: Later) -> AccessLog | None:
    """Return what writes the records of requests; None if the settings call for none."""
    share = settings.access_log_share
    if share is None:
        return None
    return AccessLog(share, settings.access_log_rate, settings.max_model_length, later)


def _certificates(settings: Settings, pem: Callable[..., Any] | None) -> "Certificates | None":
    if not settings.secure_serving:
        return None
    from bbr.tls import apart, certificates  # which plaintext does not need
    from bbr.tls import credentials as tls

    files = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    try:
        return certificates.Certificates(*files, settings.tls_client_san or (), pem=pem or apart.call)
    except tls.CredentialsError as error:
        raise StartError(str(error)) from None


def _tracing(settings: Settings) -> "Tracing | None":
    if not settings.tracing:
        return None
    try:
        from bbr.telemetry import tracing  # an extra; 0.2 s and 12 MB
    except ImportError:
        raise StartError("--tracing: OpenTelemetry is not installed: pip install 'body-based-router[otel]'") from None
    try:
        found = tracing.open_tracing()
    except tracing.TracingError as error:
        raise StartError(f"--tracing: {error}") from None
    if found is None:
        log.warning("--tracing: the OTEL_* variables turn tracing off")
    return found


def _limits(settings: Settings) -> ConnectionLimits:
    wanted = settings.max_connections
    allowed = descriptors.connections_allowed(wanted)
    if allowed < wanted:
        log.warning("--max-connections=%d is %d: the limit of open files allows no more", wanted, allowed)
    return ConnectionLimits(
        max_connections=allowed,
        max_age_seconds=settings.max_connection_age,
        grace_seconds=settings.drain_seconds,
    )


def _router(settings: Settings) -> Router:
    router = Router(settings)
    try:
        router.sources.load()
    except SourceError as error:
        raise StartError(str(error)) from None
    return router


class Transport(Protocol):
    """What carries exchanges: one server on one port."""

    async def start(self, address: str | None, port: int) -> int:
        """Listen and serve; return the port."""

    def use(self, credentials: "Credentials") -> None:
        """Show these from the next TLS connection on."""

    async def unused(self) -> None:
        """Return when no client is connected; perhaps never, if the transport does not know."""

    async def stop(self, drain_seconds: float) -> None:
        """Drain, then stop."""

    def counts(self) -> TransportCounts:
        """Return what it has counted so far."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What listens.

    Attributes:
        main: for gateways.
        checks: for health checks alone.
        admin: see bbr.admin.http.
    """

    main: Transport
    checks: Transport
    admin: AdminServer


class Listening(Protocol):
    """What listens on a port."""

    async def start(self, address: str | None, port: int) -> int:
        """Listen and serve; return the port."""


def _transport(settings: Settings, supervisor: Supervisor, ledger: Ledger) -> Callable[..., Transport]:
    if settings.transport == "uv":
        waits = (settings.body_idle_seconds, settings.max_connection_age)
        return partial(
            UvServer,
            supervisor=supervisor,
            ledger=ledger,
            tick_seconds=min(filter(None, waits)) / 8,
            busy_poll_seconds=settings.busy_poll,
        )
    from bbr.transports.grpcio import GrpcioServer  # 0.1 s and 20 MB that the native transport does not need

    return GrpcioServer


async def _listen(server: Listening, address: str | None, port: int, flag: str) -> None:
    try:
        await server.start(address, port)
    except OSError as error:
        raise StartError(f"{flag}: {error}: {binding.why(error.__cause__, address, port)}") from None


@contextlib.contextmanager
def _signals(reload: Callable[[], None]) -> Iterator[asyncio.Future[str]]:
    """Give a future that the first SIGTERM or SIGINT resolves to the signal's name; a second one ends the process.

    SIGHUP calls `reload`.
    """
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()
    signals = (signal.SIGTERM, signal.SIGINT)

    def caught(which: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(which.name)
        for each in signals:
            loop.remove_signal_handler(each)
            # Not asyncio's KeyboardInterrupt: grpc.aio can't be cancelled half-way through its shutdown.
            signal.signal(each, signal.SIG_DFL)

    before = [(each, signal.getsignal(each)) for each in (*signals, signal.SIGHUP)]
    for each in signals:
        loop.add_signal_handler(each, caught, each)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield stop
    finally:
        for each, handler in before:
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
