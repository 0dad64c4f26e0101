"""H10 of the cases: foreign gRPC clients on a socket of our own transport. grpcio here; Envoy in tests/integration.

grpc-go needs a Go toolchain, which neither the gate nor the package has: it is not among them.
"""

import asyncio

import grpc
import grpc.aio
import pytest

from bbr.exchange.verdict import Outcome
from bbr.http2 import frames as wire
from bbr.pb.health_pb2 import HealthCheckResponse
from bbr.rpc import health
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.h2_frames import cut
from bench.harness.raw_client import HEAD, WHOLE, UvRig
from tests.support.loops import in_loop

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
UNBOUNDED = ("grpc.max_receive_message_length", -1)


def channel(port: int, *options: tuple[str, int]) -> grpc.aio.Channel:
    # A pool of its own: else channels to one port share their connection.
    return grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[UNBOUNDED, ("grpc.use_local_subchannel_pool", 1), *options]
    )


async def exchange(client: grpc.aio.Channel) -> list[str | None]:
    stream = client.stream_stream(PROCESS)(iter((HEAD, WHOLE)))
    answers = [messages.parse(answer).WhichOneof("response") async for answer in stream]
    assert await stream.code() == grpc.StatusCode.OK
    return answers


@in_loop
async def test_h10_unary_health_checks():
    async with UvRig() as server, channel(server.port) as client:
        check = client.unary_unary(CHECK)
        for request in (b"", b"\x0a\x04some"):
            call = check(request, metadata=(("trace-bin", b"\x00\xff\x80"), ("trace", "x")), timeout=90)
            assert await call == health.check(serving=True)
            assert await call.code() == grpc.StatusCode.OK


@in_loop
async def test_h10_a_thousand_concurrent_streams():
    async with UvRig() as server:
        async with channel(server.port) as client:
            streams = [client.stream_stream(PROCESS)() for _ in range(1000)]
            await asyncio.gather(*(stream.write(HEAD) for stream in streams))
            while server.started < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            (connection,) = server.server.roster.connections
            assert len(connection._rpc.calls) == 1000
            assert not server.ended
            await asyncio.gather(*(stream.write(WHOLE) for stream in streams))
            for stream in streams:
                kinds = [messages.parse(await stream.read()).WhichOneof("response") for _ in range(2)]
                assert kinds == ["request_headers", "request_body"]
            # One more waits in the client until a stream is free, and is served then.
            late = asyncio.create_task(exchange(client))
            await asyncio.gather(*(stream.done_writing() for stream in streams))
            assert await late == ["request_headers", "request_body"]
            assert {await stream.code() for stream in streams} == {grpc.StatusCode.OK}
        while len(server.ended) < server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert [each.verdict.outcome for each in server.ended] == [Outcome.ROUTED] * 1001


@pytest.mark.parametrize("pieces", [1, 64])
@in_loop
async def test_h10_4_mib(pieces):
    body = b'{"model": "sql-lora", "prompt": "%s"}' % (b"0123456789abcdef" * (1 << 18))
    async with UvRig() as server, channel(server.port) as client:
        stream = client.stream_stream(PROCESS)()
        await stream.write(HEAD)
        for piece in cut(body, -(-len(body) // pieces)):
            await stream.write(messages.request_body(piece))
        await stream.write(messages.request_body(end_of_stream=True))
        await stream.done_writing()
        answers = [messages.parse(answer) async for answer in stream]
        assert messages.set_headers(answers[0].request_headers.response.header_mutation)
        echo = [each.request_body.response.body_mutation.streamed_response for each in answers[1:]]
        assert b"".join(each.body for each in echo) == body
        assert [each.end_of_stream for each in echo] == [False] * (len(echo) - 1) + [True]
        assert await stream.code() == grpc.StatusCode.OK


@pytest.mark.interpreted("replaces a function")
@in_loop
async def test_h10_keepalive_pings(monkeypatch):
    pings = asyncio.Event()
    count = 0
    answer = wire.ping_ack

    def counted(payload: bytes) -> bytes:
        nonlocal count
        count += 1
        if count >= 2:  # grpcio sends no more than one a second
            pings.set()
        return answer(payload)

    monkeypatch.setattr(wire, "ping_ack", counted)
    often = (
        ("grpc.keepalive_time_ms", 10),
        ("grpc.keepalive_timeout_ms", 60_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with UvRig() as server, channel(server.port, *often) as client:
        stream = client.stream_stream(PROCESS)()
        await stream.write(HEAD)
        await pings.wait()
        assert client.get_state() == grpc.ChannelConnectivity.READY
        await stream.write(WHOLE)
        await stream.done_writing()
        assert len([answer async for answer in stream]) == 2
        assert await stream.code() == grpc.StatusCode.OK
        assert len(server.server.roster.connections) == 1


@in_loop
async def test_h10_a_graceful_goaway():
    async with UvRig() as server, channel(server.port) as client:
        running = client.stream_stream(PROCESS)()
        await running.write(HEAD)
        watch = client.unary_stream(WATCH)(b"")
        assert await watch.read() == health.check(serving=True)
        (first,) = server.server.roster.connections
        first.drain(refuse=False)
        await client.wait_for_state_change(grpc.ChannelConnectivity.READY)
        # A new call gets a new connection; those that run end where they are.
        assert await exchange(client) == ["request_headers", "request_body"]
        assert len(server.server.roster.connections) == 2
        first.drain(refuse=True)
        await running.write(WHOLE)
        await running.done_writing()
        assert len([answer async for answer in running]) == 2
        assert await running.code() == grpc.StatusCode.OK
        server.server._serving.stop()
        last = await watch.read()
        assert HealthCheckResponse.FromString(last).status == HealthCheckResponse.NOT_SERVING
        assert await watch.code() == grpc.StatusCode.UNAVAILABLE
        while first in server.server.roster.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
