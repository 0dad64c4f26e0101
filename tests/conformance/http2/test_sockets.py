import asyncio
import errno
import logging
import os
import socket
import ssl
import struct

import pytest

from bbr.exchange.policy import BodyMode
from bbr.transports.uv_socket import Pace
from bench.harness import messages
from bench.harness.grpc_client import GrpcFrames, framed
from tests.support.clock import Clock
from tests.support.loops import in_loop
from tests.support.uv_server import PREFACE, SETTINGS, Uv, frames

GOAWAY = 7
HEADERS = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)

both = pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "TLS"])


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Fail a test in which a fault of ours was logged, or the event loop had to handle one."""
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info or record.name == "asyncio"] == []


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Read all that comes; unlike `read()`, also what came before a reset."""
    found = []
    try:
        while piece := await reader.read(1 << 16):
            found.append(piece)
    except ConnectionResetError:
        found.append(b"reset")
    return b"".join(found)


@both
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), id="TLS ClientHello"),
        pytest.param(PREFACE + b"\x00\x00\x01\x06" + bytes(6), id="PING first"),
        pytest.param(PREFACE + bytes(4 << 20), id="4 MiB of zeros"),
    ],
)
@in_loop
async def test_goaway_is_on_the_wire_before_the_close_and_no_reset_follows_d16_a2(sent, tls):
    async with Uv(tls=tls) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        received = await to_the_end(reader)
        assert not received.endswith(b"reset")
        assert frames(received)[-1][0] == GOAWAY
        writer.close()
        await server.all_gone()


@both
@in_loop
async def test_goaway_reaches_a_peer_that_never_stops_sending_d16(tls):
    async with Uv(tls=tls, pace=Pace(linger_seconds=1.0, linger_bytes=1 << 20)) as server:
        reader, writer = await server.connect()

        async def flood():
            while not writer.transport.is_closing():
                writer.write(bytes(1 << 16))
                await writer.drain()

        flooding = asyncio.create_task(flood())
        received = await to_the_end(reader)
        assert frames(received.removesuffix(b"reset"))[-1][0] == GOAWAY
        writer.transport.abort()
        await asyncio.gather(flooding, return_exceptions=True)
        await server.all_gone()


@both
@in_loop
async def test_peer_that_does_not_close_is_closed_after_a_while(tls):
    async with Uv(tls=tls, pace=Pace(linger_seconds=0.05)) as server:
        _reader, writer = await server.connect()
        writer.transport.pause_reading()  # so that it does not see the end
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await server.all_gone()
        writer.transport.abort()


@both
@in_loop
async def test_silence_after_half_a_preface_is_closed_a4(tls, caplog):
    clock = Clock()
    async with Uv(tls=tls, clock=clock, preface_seconds=5.0) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE[:11])
        await server.has(1)
        (connection,) = server.server.roster.connections
        while connection.handshaking:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        clock.now += 6.0
        assert frames(await to_the_end(reader))[-1][0] == GOAWAY
        writer.close()
        await server.all_gone()
    assert "preface-timeout" in caplog.text


@in_loop
async def test_tls_handshake_that_stands_still_is_closed_i10():
    clock = Clock()
    async with Uv(tls=True, clock=clock, preface_seconds=5.0) as server:
        for sent in (b"", b"\x16", b"\x16\x03\x01\x01\x00\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            await server.has(1)
            clock.now += 6.0
            assert await to_the_end(reader) == b""
            writer.close()
            await server.all_gone()


@both
@in_loop
async def test_connections_without_a_preface_are_closed_while_others_are_served_i19(tls):
    clock = Clock()
    async with Uv(tls=tls, clock=clock, pace=Pace(linger_seconds=0.0), preface_seconds=5.0) as server:
        client = await server.client()
        await client.ping()
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        await server.has(201)
        await client.ping()
        clock.now += 6.0
        await client.ping()
        while server.connections > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await client.ping()
        for each in silent:
            each.close()
        await client.close()


@both
@in_loop
async def test_settings_that_are_not_acknowledged_close_a6(tls):
    async with Uv(tls=tls, settings_seconds=0.5) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS)
        kind, payload = frames(await to_the_end(reader))[-1]
        assert (kind, struct.unpack(">II", payload[:8])[1]) == (GOAWAY, 4)
        writer.close()
        await server.all_gone()


NOT_TLS = {
    "plaintext HTTP/2": (PREFACE, "wrong version number"),
    "HTTP/1.1": (b"GET / HTTP/1.1\r\n\r\n", "http request"),
    "octets": (bytes(200), ""),
}


@pytest.mark.parametrize(("sent", "reason"), NOT_TLS.values(), ids=NOT_TLS)
@in_loop
async def test_handshake_that_fails_is_one_line_in_the_log(sent, reason, caplog):
    async with Uv(tls=True) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert (await to_the_end(reader))[:1] in (b"", b"\x15")  # an alert, or nothing
        writer.close()
        await server.all_gone()
    (line,) = caplog.records
    assert line.levelno == logging.INFO
    assert line.getMessage().startswith("a connection failed: TLS: ")
    assert reason in line.getMessage()


@in_loop
async def test_client_without_alpn_is_closed_before_a_word_of_http2(caplog):
    async with Uv(tls=True) as server:
        reader, writer = await server.connect("http/1.1")
        assert await to_the_end(reader) == b""
        writer.close()
        await server.all_gone()
    assert caplog.messages == ["a connection failed: TLS: the client did not offer HTTP/2 (ALPN h2)"]


@in_loop
async def test_tls_that_breaks_off_later_is_one_line_in_the_log(caplog):
    async with Uv(tls=True) as server:
        client = await server.client()
        await client.ping()
        (connection,) = server.server.roster.connections
        connection.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
            await client.receive()
        client.abort()
        await server.all_gone()
    assert [line[:24] for line in caplog.messages] == ["a connection failed: TLS"]


def whole_conversation() -> bytes:
    """Return a connection's octets from the preface to a request's last octet."""
    block = struct.pack(">I", len(BLOCK))[1:] + b"\x01\x04\x00\x00\x00\x01" + BLOCK
    message = framed(HEADERS) + framed(messages.request_body(b'{"model": "m"'))
    return PREFACE + SETTINGS + block + struct.pack(">I", len(message))[1:] + b"\x00\x00\x00\x00\x00\x01" + message


BLOCK = b"\x20\x83\x86" + b"".join(
    b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
    for name, value in (
        (b":path", b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"),
        (b":authority", b"router"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)


@both
@pytest.mark.parametrize("how", ["close", "abort"])
@in_loop
async def test_end_at_every_place_leaves_nothing_j3(tls, how):
    octets = whole_conversation()
    ends = [*range(0, 24, 5), 24, 28, 33, 33 + 9, 40 + len(BLOCK) // 2, 42 + len(BLOCK), 51 + len(BLOCK), len(octets)]
    async with Uv(tls=tls) as server:
        tasks = asyncio.all_tasks()
        descriptors = len(os.listdir("/proc/self/fd"))
        for end in ends:
            _reader, writer = await server.connect()
            writer.write(octets[:end])
            await writer.drain()
            if how == "close":
                writer.close()
            else:
                writer.transport.abort()
        await server.all_gone()
        assert asyncio.all_tasks() <= tasks
        while len(os.listdir("/proc/self/fd")) > descriptors:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        # Three of them after a request's HEADERS; a reset may overtake these.
        assert len(server.ended) <= 3
        assert how == "abort" or len(server.ended) == 3


@in_loop
async def test_end_inside_of_a_tls_handshake_leaves_nothing_j3(caplog):
    async with Uv(tls=True) as server:
        for sent in (b"", b"\x16", b"\x16\x03\x01\x00\x40\x01"):
            _reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
        await server.all_gone()
    assert caplog.messages == []


def send(client: GrpcFrames, call: int, octets: bytes) -> None:
    for start in range(0, len(octets), 16_384):
        client.send(call, octets[start : start + 16_384])


@both
@in_loop
async def test_peer_that_does_not_read_is_cut_off_i9(caplog, tls):
    body = b'{"model": "m", "x": "%s"}' % (b"x" * 100_000)
    async with Uv(tls=tls, pace=Pace(write_stall_seconds=0.05)) as server:
        client = await server.client()
        client.open_windows()
        await client.ping()
        calls = [client.call() for _ in range(140)]
        for call in calls:
            send(client, call, framed(HEADERS) + framed(messages.request_body(body, end_of_stream=True)))
        client.flush()
        # The server stops reading when the client does, so that not all calls arrive.
        while not server.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        client.abort()
    assert "has not read" in caplog.text


@pytest.mark.interpreted("replaces a method of a connection")
@both
@in_loop
async def test_exception_of_ours_is_goaway_internal_error_on_its_connection_alone_j5(tls, monkeypatch, caplog):
    async with Uv(tls=tls) as server:
        good = await server.client()
        await good.ping()
        (sound,) = server.server.roster.connections
        reader, writer = await server.connect()
        (broken,) = server.server.roster.connections - {sound}

        def fail(octets, _now, _until):
            # A client takes its handshake for done before the server has read the end of it, perhaps in several turns.
            if octets:
                raise ValueError("ours")

        monkeypatch.setattr(broken._rpc, "receive", fail)
        writer.write(PREFACE)
        kind, payload = frames(await to_the_end(reader))[-1]
        assert (kind, payload) == (GOAWAY, struct.pack(">II", 2**31 - 1, 2) + b"internal-error")
        writer.close()
        await good.ping()
        await good.close()
        await server.all_gone()
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]
    caplog.clear()


@both
@in_loop
async def test_message_that_comes_an_octet_at_a_time_has_no_longer_than_another_i10(tls):
    async with Uv(tls=tls, duplex_idle_seconds=0.2) as server:
        client = await server.client()
        call = client.call()
        client.send(call, framed(HEADERS))
        client.flush()
        waiting = asyncio.create_task(client.messages(call, 1))
        for octet in framed(messages.request_body(bytes(1000))):
            if waiting.done():
                break
            client.send(call, bytes([octet]))
            client.flush()
            await asyncio.sleep(0.02)
        (answer,) = await waiting
        assert messages.parse(answer).immediate_response.details == "bbr:body-timeout"
        await client.close()
        await server.all_gone()


@in_loop
async def test_a_connection_that_its_peer_has_reset_meanwhile_is_closed_quietly_by_asyncios_own_loop():
    """There `write_eof` raises at once, where uvloop tells later by `connection_lost`."""
    async with Uv() as server:
        reader, writer = await server.connect()
        (connection,) = server.server.roster.connections
        transport = connection._socket.transport

        class Reset:
            def __getattr__(self, name):
                return getattr(transport, name)

            def write_eof(self):
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

        connection._socket.transport = Reset()
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(30))
        await to_the_end(reader)
        writer.close()
        while server.server.roster.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)


@both
@in_loop
async def test_long_read_is_received_in_turns(tls):
    async with Uv(tls=tls, pace=Pace(moment_seconds=0.0)) as server:
        client = await server.client()
        calls = [client.call() for _ in range(30)]
        body = messages.request_body(b'{"model": "qwen"}', end_of_stream=True)
        for call in calls:
            client.send(call, framed(HEADERS) + framed(body), end_stream=True)
        client.flush()
        for call in calls:
            stream = await client.ended(call)
            assert (len(stream.messages), stream.headers["grpc-status"]) == (2, "0")
        await client.ping()
        await client.close()
        await server.all_gone()
        assert len(server.ended) == 30


@in_loop
async def test_connection_that_fails_forgets_what_it_has_not_received():
    async with Uv(pace=Pace(moment_seconds=0.0)) as server:
        reader, writer = await server.connect()
        writer.write(PREFACE + SETTINGS + b"\xff" * 100_000)
        received = await to_the_end(reader)
        assert frames(received)[-1][0] == GOAWAY
        writer.close()
        await server.all_gone()
