"""A transport on a free loopback port, and what it leaves behind."""

import asyncio
import datetime
from functools import partial
from types import SimpleNamespace

import grpc
import grpc.aio

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.tls.pem import self_signed
from bbr.transports.grpcio import GrpcioServer
from bbr.transports.serving import Serving
from bbr.transports.uv import UvServer
from bench.harness import messages
from bench.harness.certificates import client_context
from bench.harness.grpc_client import PROCESS, GrpcFrames, framed
from bench.harness.model_tables import merged
from tests.support.loops import all_ended
from tests.support.wrapped import Wrapped

TABLE, _ = merged([BaseModel("qwen", ("sql-lora",))])
HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
WHOLE = messages.request_body(b'{"model": "sql-lora", "prompt": "hi"}', end_of_stream=True)


TRANSPORTS = {"grpcio": GrpcioServer, "uv": partial(UvServer, tick_seconds=0.01)}
# What the tests run over now; `tls` are credentials, or None.
transport = SimpleNamespace(name="grpcio", tls=None)
CREDENTIALS = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))


class Watched(Wrapped):
    """An exchange that tells its rig of each message."""

    def __init__(self, rig: "Rig", policy: Policy, **more) -> None:
        super().__init__(policy, TABLE, **more)
        self._rig = rig

    def receive(self, message: bytes):
        answers = self.exchange.receive(message)
        self._rig.tell("message")
        return answers


def new_server(serving: Serving, **arguments):
    """Return a server of the transport that is the tests' turn."""
    return TRANSPORTS[transport.name](serving, credentials=transport.tls, **arguments)


def new_channel(port: int, **options: int | str) -> grpc.aio.Channel:
    """Return a channel of grpcio's to a server of that transport."""
    if transport.tls is None:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[*options.items()])
    options["grpc.ssl_target_name_override"] = "localhost"
    trust = grpc.ssl_channel_credentials(transport.tls.chain_pem)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", trust, options=[*options.items()])


async def connect(port: int) -> GrpcFrames:
    """Return a connection of our own making to a server of that transport."""
    tls = None if transport.tls is None else client_context(transport.tls.chain_pem, "h2")
    return await GrpcFrames.connect(port, tls)


class Rig:
    """A server of exchanges over TABLE; `policy` are fields of Policy."""

    def __init__(
        self,
        max_body_bytes: int = 8 << 20,
        new_exchange=None,
        ended=None,
        limits=None,
        serving=None,
        **policy: float,
    ) -> None:
        self.policy = Policy(Replies(), max_body_bytes=max_body_bytes, **policy)
        self.serving = serving or Serving()
        self.ended: list[Exchange] = []
        self._tell_end = ended or self.ended.append
        self.events: list[str] = []
        self.news = asyncio.Event()
        self.server = new_server(
            self.serving,
            max_body_bytes=max_body_bytes,
            new_exchange=new_exchange or self.new_exchange,
            limits=limits,
        )

    def new_exchange(self, call) -> Watched:
        self.tell("stream")
        return Watched(self, self.policy, call=call, ended=self._tell_end)

    def tell(self, event: str) -> None:
        self.events.append(event)
        self.news.set()

    async def until(self, event: str, count: int) -> None:
        """Await the server's `count`th stream or message."""
        while self.events.count(event) < count:
            self.news.clear()
            await self.news.wait()

    async def __aenter__(self) -> "Rig":
        self.port = await self.server.start("127.0.0.1", 0)
        self.channel = new_channel(self.port, **{"grpc.max_receive_message_length": -1})
        self.tasks = asyncio.all_tasks()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.channel.close()
        await self.server.stop(0)

    def process(self):
        return self.channel.stream_stream(PROCESS)()

    async def all_ended(self) -> None:
        await all_ended(self.tasks)
        # A transport without tasks: what its peers have ended takes a turn of the loop.
        while len(self.ended) < self.events.count("stream"):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def talk(self, *requests: bytes) -> tuple[list, grpc.StatusCode, str]:
        """Send framed messages and half-close, all at once; return the answers and the status.

        Not by grpcio's client, which may fail with an error of its own if the server ends a stream that it is writing.
        """
        client = await connect(self.port)
        call = client.call()
        client.send(call, b"".join(requests), end_stream=True)
        client.flush()
        stream = await client.ended(call)
        await client.close()
        code = next(code for code in grpc.StatusCode if code.value[0] == int(stream.headers["grpc-status"]))
        return [messages.parse(each) for each in stream.messages], code, stream.headers.get("grpc-message", "")

    async def status(self, *requests: bytes) -> tuple[grpc.StatusCode, str]:
        _, code, details = await self.talk(*map(framed, requests))
        return code, details

    async def works(self) -> bool:
        stream = self.channel.stream_stream(PROCESS)(iter((HEADERS, WHOLE)))
        kinds = [messages.parse(answer).WhichOneof("response") async for answer in stream]
        return (await stream.code(), kinds) == (grpc.StatusCode.OK, ["request_headers", "request_body"])

    async def unary(self, method: str, request: bytes = b"") -> bytes:
        return await self.channel.unary_unary(f"/grpc.health.v1.Health/{method}")(request)
