"""A native transport on a free loopback port, with a short tick."""

import asyncio
import datetime
import time
from collections.abc import Callable
from typing import Any, Self

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.http2.settings import Settings
from bbr.models.registry import Registry
from bbr.tls.pem import self_signed
from bbr.transports.serving import ConnectionLimits, Serving
from bbr.transports.uv import UvServer
from bbr.transports.uv_socket import Pace
from bench.harness.certificates import client_context
from bench.harness.grpc_client import GrpcFrames

CREDENTIALS = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)


class Uv:
    """A server, the exchanges that ended on it, and clients of it.

    Args:
        duplex_idle_seconds: of each exchange.
        tls: serve TLS.
        limits: fields of ConnectionLimits.
        jitter: of the connections' ages.
        pace: of each connection.
        clock: by which all deadlines are kept.
        settings: fields of Settings.
    """

    def __init__(
        self,
        *,
        duplex_idle_seconds: float = 60.0,
        tls: bool = False,
        limits: dict[str, float] | None = None,
        jitter: float = 0.5,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        self.tls = tls
        self.ended: list[Exchange] = []
        policy = Policy(Replies(), max_body_bytes=64 << 20, duplex_idle_seconds=duplex_idle_seconds)
        self.server = UvServer(
            Serving(),
            max_body_bytes=64 << 20,
            new_exchange=lambda call: Exchange(policy, Registry(), ended=self.ended.append),
            tick_seconds=0.01,
            settings=Settings(**settings),
            limits=ConnectionLimits(**(limits or {})),
            credentials=CREDENTIALS if tls else None,
            jitter=lambda: jitter,
            pace=pace,
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        self.port = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.server.stop(0)

    async def connect(self, alpn: str = "h2") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a raw connection, its TLS handshake done."""
        trust = client_context(CREDENTIALS.chain_pem, alpn)
        more = {"ssl": trust, "server_hostname": "localhost", "ssl_shutdown_timeout": 0.05} if self.tls else {}
        return await asyncio.open_connection("127.0.0.1", self.port, **more)

    async def client(self) -> GrpcFrames:
        """Return a gRPC connection."""
        return await GrpcFrames.connect(self.port, client_context(CREDENTIALS.chain_pem, "h2") if self.tls else None)

    @property
    def connections(self) -> int:
        """How many connections the server has."""
        return len(self.server.roster.connections)

    async def has(self, connections: int) -> None:
        """Await so many connections."""
        while self.connections < connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def all_gone(self) -> None:
        """Await the end of every connection."""
        while self.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def frames(octets: bytes) -> list[tuple[int, bytes]]:
    """Return type and payload of each whole frame."""
    found = []
    while len(octets) >= 9 and len(octets) >= 9 + (length := int.from_bytes(octets[:3], "big")):
        found.append((octets[3], octets[9 : 9 + length]))
        octets = octets[9 + length :]
    return found
