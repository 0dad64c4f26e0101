"""What the native transport alone has; the rest is in tests/parity, over both transports."""

import asyncio
import logging
import struct

import pytest

from bbr.exchange import BodyMode, Exchange, Policy
from bbr.http2.settings import Settings
from bbr.registry import Registry
from bbr.replies import Replies
from bbr.transports import uv
from bbr.transports.serving import Serving
from bbr.transports.uv import UvServer
from tests.support import messages
from tests.support.grpc_frames import GrpcFrames, framed
from tests.support.loops import in_loop

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
GOAWAY = 7


class Uv:
    """A server with a short tick, and the exchanges that ended on it."""

    def __init__(self, **settings: float) -> None:
        self.ended: list[Exchange] = []
        self.server = UvServer(
            Serving(),
            max_body_bytes=64 << 20,
            new_exchange=lambda: Exchange(Policy(Replies(), max_body_bytes=64 << 20), Registry()),
            ended=self.ended.append,
            tick_seconds=0.01,
            settings=Settings(**settings),
        )

    async def __aenter__(self) -> "Uv":
        self.port = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.server.stop(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


def frames(octets: bytes) -> list[tuple[int, bytes]]:
    found = []
    while octets:
        length = int.from_bytes(octets[:3], "big")
        found.append((octets[3], octets[9 : 9 + length]))
        octets = octets[9 + length :]
    return found


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), id="TLS ClientHello"),
        pytest.param(PREFACE + b"\x00\x00\x01\x06" + bytes(6), id="PING first"),
    ],
)
@in_loop
async def test_goaway_is_on_the_wire_before_the_close_d16_a2(sent):
    async with Uv() as server:
        reader, writer = await server.connect()
        writer.write(sent)
        kinds = [kind for kind, _ in frames(await reader.read())]  # to the end: the connection is closed
        assert kinds[-1] == GOAWAY
        writer.close()
        await writer.wait_closed()


@in_loop
async def test_silence_after_half_a_preface_is_closed_a4(caplog):
    caplog.set_level(logging.INFO)
    async with Uv(preface_seconds=0.05) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE[:11])
        assert frames(await reader.read())[-1][0] == GOAWAY
        writer.close()
        await writer.wait_closed()
    assert "preface-timeout" in caplog.text


@in_loop
async def test_settings_that_are_not_acknowledged_close_a6():
    async with Uv(settings_seconds=0.05) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS)
        kind, payload = frames(await reader.read())[-1]
        assert (kind, struct.unpack(">II", payload[:8])[1]) == (GOAWAY, 4)
        writer.close()
        await writer.wait_closed()


def send(client: GrpcFrames, call: int, octets: bytes) -> None:
    for start in range(0, len(octets), 16_384):
        client.send(call, octets[start : start + 16_384])


@in_loop
async def test_peer_that_does_not_read_is_cut_off_i9(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(uv, "_WRITE_STALL_SECONDS", 0.05)
    body = b'{"model": "m", "x": "%s"}' % (b"x" * 1_000_000)
    headers = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    async with Uv() as server:
        client = await GrpcFrames.connect(server.port)
        client.open_windows()
        await client.ping()
        calls = [client.call() for _ in range(14)]
        for call in calls:
            send(client, call, framed(headers) + framed(messages.request_body(body, end_of_stream=True)))
        client.flush()
        # The server stops reading when the client does, so that not all calls arrive.
        while not server.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        client.abort()
    assert "has not read" in caplog.text


class Stuck(asyncio.Transport):
    """A socket whose peer reads nothing: what is written never leaves, and closing waits for it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def write(self, data):
        self.calls.append("write")

    def is_closing(self):
        return "close" in self.calls

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")


@in_loop
async def test_failed_connection_whose_goaway_is_not_read_is_cut_off_and_named_once(caplog):
    caplog.set_level(logging.INFO)
    async with Uv() as server:
        transport, connection = Stuck(), uv._Connection(server.server)
        connection.connection_made(transport)
        connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
        now = asyncio.get_running_loop().time()
        for second in range(1, 60):
            connection.tick(now + second)
            connection.pause_writing()
            connection.resume_writing()
        assert transport.calls == ["write", "write", "close"]
        assert caplog.text.count("a connection failed: preface") == 1
        connection.tick(now + 61)
        assert transport.calls[-1] == "abort"
        connection.connection_lost(None)


@in_loop
async def test_unary_call_without_a_message_is_refused():
    async with Uv() as server:
        client = await GrpcFrames.connect(server.port)
        call = client.call("/grpc.health.v1.Health/Check")
        client.send(call, b"", end_stream=True)
        client.flush()
        stream = await client.ended(call)
        assert (stream.headers["grpc-status"], stream.messages) == ("13", [])
        await client.close()


@in_loop
async def test_connection_without_requests_is_closed_at_once_by_a_drain():
    async with Uv() as server:
        client = await GrpcFrames.connect(server.port)
        await client.ping()
        await server.server.stop(60)
        while not client.closed:
            await client.receive()
        await client.close()
