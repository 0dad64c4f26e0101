"""The native transport on a free loopback port, what it leaves behind, and a client of raw frames."""

import asyncio
import os
from collections.abc import Callable

from bbr.exchange.exchange import CallFields, Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.http2.settings import Settings
from bbr.models.entries import BaseModel
from bbr.transports.serving import Serving
from bbr.transports.uv import UvServer
from bbr.transports.uv_socket import Pace
from bench.harness import messages
from bench.harness.grpc_client import PROCESS, framed
from bench.harness.h2_frames import (
    PREFACE,
    SETTINGS_ACK,
    Frame,
    block,
    parse,
    settings,
    window_update,
)
from bench.harness.model_tables import merged
from bench.harness.rpc_client import fields

TABLE, _ = merged([BaseModel("qwen", ("sql-lora",))])
HEAD = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
WHOLE = messages.request_body(b'{"model": "sql-lora", "prompt": "hi"}', end_of_stream=True)
# A whole exchange's DATA, and the field block of the call.
REQUEST = framed(HEAD) + framed(WHOLE)
CALL_BLOCK = block(fields(path=PROCESS))


class UvRig:
    """A server.

    Attributes:
        started: exchanges that began.
        ended: those whose stream is over.

    Args:
        pace: of each connection.
        limits: fields of Settings.
    """

    def __init__(
        self, new_exchange: Callable[..., Exchange] = Exchange, *, pace: Pace | None = None, **limits: float
    ) -> None:
        self.started = 0
        self.ended: list[Exchange] = []
        self._new = new_exchange
        self.server = UvServer(
            Serving(),
            max_body_bytes=8 << 20,
            new_exchange=self._begin,
            tick_seconds=0.01,
            settings=Settings(**limits),
            pace=pace,
        )

    def _begin(self, call: CallFields) -> Exchange:
        self.started += 1
        return self._new(Policy(Replies()), TABLE, call=call, ended=self.ended.append)

    async def __aenter__(self) -> "UvRig":
        self.port = await self.server.start("127.0.0.1", 0)
        self._tasks = asyncio.all_tasks()
        self._files = open_files()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.server.stop(0)

    async def left_nothing(self) -> None:
        """Await the end of all connections: no exchange, task or file is left of them."""
        while self.server.roster.connections or len(self.ended) < self.started or open_files() > self._files:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len({id(each) for each in self.ended}) == len(self.ended) == self.started
        assert asyncio.all_tasks() == self._tasks


def open_files() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


class RawClient:
    """A client that sends what it is told, and keeps each frame that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[Frame] = []
        self._rest = b""

    @classmethod
    async def connect(cls, port: int, *, preface: bool = True, window: int = 2**31 - 1) -> "RawClient":
        """Connect; and send the preface if not told otherwise, giving all the credit there is."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        if preface:
            client.write(PREFACE, settings((4, window)), SETTINGS_ACK, window_update(0, 2**31 - 1 - 65_535))
        return client

    def write(self, *octets: bytes) -> None:
        """Send."""
        self.writer.write(b"".join(octets))

    async def receive(self) -> list[Frame]:
        """Return the frames that the next read completes; none at the end of the connection."""
        octets = await self.reader.read(1 << 18)
        if not octets:
            self.closed = True
            return []
        self._rest += octets
        position = 0
        while len(self._rest) - position >= 9:
            end = position + 9 + int.from_bytes(self._rest[position : position + 3], "big")
            if end > len(self._rest):
                break
            position = end
        found = list(parse(self._rest[:position]))
        self._rest = self._rest[position:]
        self.frames += found
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Receive until something holds."""
        while not condition():
            assert not getattr(self, "closed", False), "the server closed the connection"
            await self.receive()

    async def to_end(self) -> list[Frame]:
        """Receive until the connection is closed; return all frames."""
        self.closed = False
        while not self.closed:
            await self.receive()
        return self.frames

    def ended(self) -> set[int]:
        """Return the streams that the server has ended."""
        return {each.stream_id for each in self.frames if each.ends}

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        await self.writer.wait_closed()
