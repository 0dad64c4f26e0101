"""The composition root: builds everything from Settings, serves until a signal, and stops in the right order."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from bbr import __version__
from bbr.config import Settings
from bbr.exchange import Exchange, Outcome, Policy
from bbr.registry import Registry
from bbr.replies import DESTINATION_HEADER, Replies
from bbr.sources import file
from bbr.transports.serving import Serving
from bbr.transports.uv import UvServer

log = logging.getLogger(__name__)

# How long health checks may still be asked after the last request has been answered.
_HEALTH_STOP_SECONDS = 1.0


class StartError(Exception):
    """The router can't start; the message says why and names the setting."""


class Server:
    """One router process: an ext_proc port and a health port over one model table."""

    def __init__(self, settings: Settings) -> None:
        """Read the model table.

        Raises:
            StartError: the table can't be used.
        """
        self._settings = settings
        self.registry = _registry(settings)
        self._policy = Policy(
            replies=Replies(
                strip_headers=dict.fromkeys((DESTINATION_HEADER, *(settings.strip_header or ()))),
                trust_client_headers=settings.trust_client_headers,
                metadata_namespace=settings.dynamic_metadata or "",
            ),
            assume_body_mode=settings.assume_body_mode,
            max_body_bytes=settings.max_body_bytes,
            max_model_bytes=settings.max_model_length,
            on_invalid_json=settings.on_invalid_json,
            duplex_idle_seconds=settings.duplex_idle_seconds,
            buffered_wait_seconds=settings.buffered_wait_seconds,
            single_reply_bytes=settings.single_reply_bytes,
        )

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Args:
            ready: called once both ports are served.

        Raises:
            StartError: a port can't be listened on.
        """
        settings = self._settings
        serving = Serving()
        limit = settings.max_body_bytes
        new_server = _transport(settings)
        main = new_server(serving, max_body_bytes=limit, new_exchange=self._new_exchange, ended=_ended)
        checks = new_server(serving, max_body_bytes=limit)
        try:
            with _stop_signals() as stop:
                await _listen(main, settings.bind_address, settings.grpc_port, "--grpc-port")
                await _listen(checks, settings.bind_address, settings.grpc_health_port, "--grpc-health-port")
                log.info("%s", self._greeting())
                if settings.trust_client_headers:
                    log.warning("--trust-client-headers: a client that names no model picks its own pool")
                ready()
                log.info("%s: draining for at most %g s", await stop, settings.drain_seconds)
                # Health first, so that whoever asks sends nothing more here; its own port outlives the requests.
                serving.stop()
                await main.stop(settings.drain_seconds)
                await checks.stop(_HEALTH_STOP_SECONDS)
        finally:  # whatever still runs, at once: a port could not be had
            await main.stop(0)
            await checks.stop(0)
        log.info("stopped")

    def _new_exchange(self) -> Exchange:
        return Exchange(self._policy, self.registry)

    def _greeting(self) -> str:
        settings = self._settings
        where = settings.bind_address or "every interface"
        table = "no model table: every model is its own base model"
        if not self.registry.identity:
            names, bases = len(self.registry.base_of), len(self.registry.base_models)
            table = f"{bases} base models and {names - bases} adapters from {settings.models}"
        return (
            f"bbr {__version__} serves ext_proc on port {settings.grpc_port} and health on {settings.grpc_health_port} "
            f"of {where}, in plaintext, by the {settings.transport} transport; {table}"
        )


def _ended(exchange: Exchange) -> None:
    verdict = exchange.verdict
    if verdict.outcome is Outcome.FAULT:
        log.warning("a gateway broke the ext_proc protocol (%s); its client got an error", verdict.reason)


def _registry(settings: Settings) -> Registry:
    if settings.models is None:
        return Registry()
    try:
        registry = file.load(settings.models)
    except file.SourceError as error:
        raise StartError(f"--models: {error}") from None
    limit = settings.max_model_length
    for name in registry.base_of:
        if len(name.encode()) > limit:  # no request could ever name it
            raise StartError(f"--models: {settings.models}: {name} is longer than --max-model-length={limit} bytes")
    return registry


class Transport(Protocol):
    """What carries exchanges: one server on one port."""

    async def start(self, address: str | None, port: int) -> int:
        """Listen and serve; return the port."""

    async def stop(self, drain_seconds: float) -> None:
        """Drain, then stop."""


def _transport(settings: Settings) -> Callable[..., Transport]:
    if settings.transport == "uv":
        patience = min(settings.duplex_idle_seconds, settings.buffered_wait_seconds)
        return partial(UvServer, tick_seconds=patience / 8)
    from bbr.transports.grpcio import GrpcioServer  # 0.1 s and 20 MB that the native transport does not need

    return GrpcioServer


async def _listen(server: Transport, address: str | None, port: int, flag: str) -> None:
    try:
        await server.start(address, port)
    except OSError as error:
        raise StartError(f"{flag}: {error}: the port is taken, or the address is not this machine's") from None


@contextmanager
def _stop_signals() -> Iterator[asyncio.Future[str]]:
    """Give a future that the first SIGTERM or SIGINT resolves to the signal's name; a second one ends the process."""
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

    before = [(each, signal.getsignal(each)) for each in signals]
    for each in signals:
        loop.add_signal_handler(each, caught, each)
    try:
        yield stop
    finally:
        for each, handler in before:
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
