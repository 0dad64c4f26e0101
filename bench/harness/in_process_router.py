"""A router in the test's own process, whose exchanges a test can look at afterwards."""

from functools import partial
from typing import Any

from bbr.exchange.exchange import CallFields, Exchange
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Verdict
from bbr.models.entries import BaseModel
from bbr.models.registry import Registry
from bbr.telemetry import observed
from bbr.tls.credentials import Credentials
from bbr.transports.grpcio import GrpcioServer
from bbr.transports.serving import ConnectionLimits, Serving
from bbr.transports.uv import UvServer
from bench.harness.background import Background
from bench.harness.model_tables import merged

QWEN = "Qwen/Qwen2.5-3B-Instruct"
PHI = "microsoft/Phi-3-mini-4k-instruct"
TABLE, _CONFLICTS = merged([BaseModel(QWEN, ("sql-lora",)), BaseModel(PHI)])


TRANSPORTS: dict[str, Any] = {"grpcio": GrpcioServer, "uv": partial(UvServer, tick_seconds=0.05)}


class Router:
    """A transport on a free loopback port."""

    def __init__(
        self,
        background: Background,
        registry: Registry = TABLE,
        policy: Policy | None = None,
        transport: str = "uv",
        credentials: Credentials | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._background = background
        self._transport = transport
        self._options = {"credentials": credentials, "limits": limits}
        self._registry = registry
        self._policy = policy or Policy(Replies())
        self.exchanges: list[Exchange] = []
        self.ended: list[Exchange] = []
        self.port = background.run(self._start())

    async def _start(self) -> int:
        limit = self._policy.max_body_bytes
        self._server = TRANSPORTS[self._transport](
            Serving(), max_body_bytes=limit, new_exchange=self._new_exchange, **self._options
        )
        return await self._server.start("127.0.0.1", 0)

    def _new_exchange(self, call: CallFields) -> Exchange:
        exchange = Exchange(self._policy, self._registry, observed.clock, call, self.ended.append)
        self.exchanges.append(exchange)
        return exchange

    @property
    def ledger(self) -> Ledger:
        """What the router's exchanges hold."""
        return self._policy.ledger

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts of all exchanges so far and forget them."""
        verdicts = [exchange.verdict for exchange in self.exchanges]
        self.exchanges.clear()
        self.ended.clear()
        return verdicts

    def use(self, credentials: Credentials) -> None:
        """Show other credentials from the next connection on; returns once that is so."""
        self._background.run(self._use(credentials))

    async def _use(self, credentials: Credentials) -> None:
        self._server.use(credentials)

    def stop(self) -> None:
        """Stop the server at once."""
        self._background.run(self._server.stop(0))
