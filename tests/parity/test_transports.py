import asyncio
import contextlib
import logging
import socket

import grpc
import grpc.aio
import pytest

from bbr.exchange.policy import BodyMode
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES
from bbr.exchange.verdict import Outcome
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListResponse
from bbr.rpc import health
from bbr.transports.serving import ConnectionLimits, Serving
from bench.harness import messages
from bench.harness.grpc_client import PROCESS, GrpcFrames, framed
from tests.support.loops import in_loop
from tests.support.transports import HEADERS, TABLE, WHOLE, Rig, Watched, connect, new_channel, new_server, transport
from tests.support.wrapped import Wrapped

DUPLEX, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
BODY = b'{"model": "sql-lora", "prompt": "hi"}'
SET = {"X-Gateway-Model-Name": b"sql-lora", "X-Gateway-Base-Model-Name": b"qwen"}
INTERNAL_ERROR = 2


@pytest.fixture(autouse=True)
def quiet(caplog, capfd):
    """Fail a test that leaves a warning in the log, or anything on stdout or stderr."""
    caplog.set_level(logging.WARNING)
    yield
    assert caplog.text == ""
    assert tuple(capfd.readouterr()) == ("", "")


@in_loop
async def test_full_duplex():
    async with Rig() as rig:
        body = BODY[:-1] + b',"text":"%s"}' % (b"x" * 100_000)
        stream = rig.process()
        for message in (
            HEADERS,
            messages.request_body(body[:10]),
            messages.request_body(body[10:70_000]),
            messages.request_body(body[70_000:], end_of_stream=True),
        ):
            await stream.write(message)
        headers, *pieces = [messages.parse(await stream.read()) for _ in range(3)]
        assert headers.request_headers.response.clear_route_cache
        assert messages.set_headers(headers.request_headers.response.header_mutation) == SET
        streamed = [piece.request_body.response.body_mutation.streamed_response for piece in pieces]
        assert b"".join(piece.body for piece in streamed) == body
        assert [piece.end_of_stream for piece in streamed] == [False, True]
        assert len(streamed[0].body) == MAX_BODY_CHUNK_BYTES
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        await rig.all_ended()
        assert [exchange.verdict.outcome for exchange in rig.ended] == [Outcome.ROUTED]


@in_loop
async def test_buffered_awaits_an_answer_to_each_message():
    async with Rig() as rig:
        stream = rig.process()
        await stream.write(messages.request_headers(mode=BUFFERED))
        strip = messages.parse(await stream.read()).request_headers.response
        assert list(strip.header_mutation.remove_headers)[:2] == list(SET)
        await stream.write(WHOLE)
        route = messages.parse(await stream.read()).request_body.response
        assert messages.set_headers(route.header_mutation) == SET
        assert not route.HasField("body_mutation")
        await stream.write(messages.response_headers())
        assert messages.parse(await stream.read()).HasField("response_headers")
        await stream.done_writing()
        assert await stream.code() == grpc.StatusCode.OK


@in_loop
async def test_an_exchange_has_the_fields_of_its_call():
    async with Rig() as rig:
        assert await rig.works()
        fields = [("traceparent", "00-1-2-01"), ("x-odd", "first"), ("x-odd", "second"), ("x-octets-bin", b"\xff\x00")]
        stream = rig.channel.stream_stream(PROCESS)(iter((HEADERS, WHOLE)), metadata=fields)
        assert len([answer async for answer in stream]) == 2
        assert await rig.unary("Check", HealthCheckRequest().SerializeToString())
        await rig.all_ended()
        told = [[each.call.get(name) for name in (b"traceparent", b"tracestate", b"x-odd")] for each in rig.ended]
    assert told == [[None, None, None], [b"00-1-2-01", None, b"first"]]


# Blanks stand in front: not many may follow.
LONG_BODY = b" " * (6 << 20) + BODY


@in_loop
async def test_a_buffered_body_beyond_grpcs_usual_4_mib_is_read():
    async with Rig() as rig:
        stream = rig.process()
        await stream.write(messages.request_headers(mode=BUFFERED))
        await stream.read()
        await stream.write(messages.request_body(LONG_BODY, end_of_stream=True))
        route = messages.parse(await stream.read()).request_body.response
        assert messages.set_headers(route.header_mutation) == SET
        await stream.done_writing()
        assert await stream.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("mode", [DUPLEX, BUFFERED], ids=lambda mode: mode.name)
@in_loop
async def test_a_body_over_the_limit_is_413(mode):
    async with Rig(max_body_bytes=1000) as rig:
        body = messages.request_body(b" " * 1001, end_of_stream=True)
        answers, *status = await rig.talk(framed(messages.request_headers(mode=mode)), framed(body))
        assert answers[-1].immediate_response.status.code == 413
        assert answers[-1].immediate_response.details == "bbr:body-too-large"
        assert status == [grpc.StatusCode.OK, ""]


@in_loop
async def test_a_message_far_over_the_limit_ends_its_stream_at_its_prefix():
    async with Rig(max_body_bytes=1000) as rig:
        prefix = framed(bytes(2 << 20))[:5]
        answers, code, _ = await rig.talk(framed(HEADERS), prefix)
        assert (answers, code) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert await rig.works()
        await rig.all_ended()


@in_loop
async def test_the_largest_limit_that_config_allows_can_be_served():
    async with Rig(max_body_bytes=1 << 31) as rig:
        assert await rig.works()


@in_loop
async def test_after_an_immediate_response_the_rpc_ends_though_the_gateway_sends_on():
    async with Rig() as rig:
        bad = messages.request_body(b"{", end_of_stream=True)
        answers, *status = await rig.talk(*map(framed, (HEADERS, bad, bad, b"\xff")))
        assert [answer.immediate_response.status.code for answer in answers] == [400]
        assert status == [grpc.StatusCode.OK, ""]


FAULTS = [
    pytest.param([b"\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT, "not a ProcessingRequest", id="undecodable"),
    pytest.param(
        [HEADERS, b"\x0a"], grpc.StatusCode.INVALID_ARGUMENT, "not a ProcessingRequest", id="undecodable later"
    ),
    pytest.param([b""], grpc.StatusCode.UNIMPLEMENTED, "a message of no known kind", id="empty"),
    pytest.param(
        [HEADERS, HEADERS], grpc.StatusCode.FAILED_PRECONDITION, "request_headers came twice", id="headers twice"
    ),
    pytest.param(
        [HEADERS, messages.request_body(BODY)],
        grpc.StatusCode.CANCELLED,
        "the gateway closed the stream before the request had ended",
        id="an end before the answer",
    ),
    pytest.param(
        [],
        grpc.StatusCode.CANCELLED,
        "the gateway closed the stream before the request had ended",
        id="an end before anything",
    ),
]


@pytest.mark.parametrize(("requests", "code", "details"), FAULTS)
@in_loop
async def test_a_fault_ends_its_stream_with_an_error_and_no_other(requests, code, details):
    async with Rig() as rig:
        other = rig.process()
        await other.write(HEADERS)
        assert await rig.status(*requests) == (code, details)
        await other.write(WHOLE)
        assert messages.parse(await other.read()).HasField("request_headers")
        other.cancel()


class OurError(Exception):
    pass


class BrokenAtAMessage(Wrapped):
    def receive(self, message: bytes) -> list[bytes]:
        if message == WHOLE:
            raise OurError
        return list(self.exchange.receive(message))


class BrokenAtItsEnd(Wrapped):
    def finish(self):
        raise OurError


def broken_from_the_start(_policy, _registry, **_more):
    raise OurError


@pytest.mark.parametrize("broken", [BrokenAtAMessage, BrokenAtItsEnd, broken_from_the_start])
@in_loop
async def test_an_exchange_that_raises_is_internal_and_logged_once(broken, caplog):
    kinds = iter((Watched, broken, Watched))

    def new_exchange(call):
        kind = next(kinds)
        return rig.new_exchange(call) if kind is Watched else kind(rig.policy, TABLE)

    async with Rig(new_exchange=new_exchange) as rig:
        other = rig.process()
        await other.write(HEADERS)
        await rig.until("message", 1)
        assert await rig.status(HEADERS, WHOLE) == (grpc.StatusCode.INTERNAL, "the router failed on this request")
        await other.write(WHOLE)
        assert messages.parse(await other.read()).HasField("request_headers")
        assert await rig.works()
        other.cancel()
        await rig.all_ended()
    assert [(record.name, record.levelname) for record in caplog.records] == [
        (f"bbr.transports.{transport.name}", "ERROR")
    ]
    assert "OurError" in caplog.text
    caplog.clear()


@in_loop
async def test_a_report_that_raises_is_internal_and_logged_once(caplog):
    def ended(_exchange):
        raise OurError

    async with Rig(ended=ended) as rig:
        assert await rig.status(HEADERS, WHOLE) == (grpc.StatusCode.INTERNAL, "the router failed on this request")
    assert [record.exc_info[0] for record in caplog.records] == [OurError]
    caplog.clear()


BREAKS = {
    "before any message": [],
    "after the headers": [HEADERS],
    "in mid-body": [HEADERS, messages.request_body(BODY[:10])],
    "between the answers": [HEADERS, messages.request_body(BODY + b" " * (4 << 20), end_of_stream=True)],
    "after the answer": [HEADERS, WHOLE],
}


@pytest.mark.parametrize("sent", BREAKS.values(), ids=BREAKS)
@in_loop
async def test_a_client_that_cancels_leaves_nothing(sent):
    async with Rig() as rig:
        stream = rig.process()
        for message in sent:
            await stream.write(message)
        await rig.until("stream", 1)
        await rig.until("message", len(sent))
        stream.cancel()
        assert await rig.works()
        await rig.all_ended()
        assert len(rig.ended) == rig.events.count("stream") == 2


@pytest.mark.parametrize("sent", BREAKS.values(), ids=BREAKS)
@in_loop
async def test_a_client_that_disconnects_leaves_nothing(sent):
    async with Rig() as rig:
        async with new_channel(rig.port) as channel:
            stream = channel.stream_stream(PROCESS)()
            for message in sent:
                await stream.write(message)
            await rig.until("stream", 1)
            await rig.until("message", len(sent))
        assert await rig.works()
        await rig.all_ended()
        assert len(rig.ended) == rig.events.count("stream") == 2


async def fifty_streams(rig: Rig) -> tuple[GrpcFrames, list[int]]:
    client = await connect(rig.port)
    streams = [client.call() for _ in range(50)]
    for stream in streams:
        client.send(stream, framed(HEADERS) + framed(messages.request_body(BODY[:10])) + b"\x00\x00")
    client.flush()
    await rig.until("message", 100)
    return client, streams


@pytest.mark.parametrize("end", ["reset each", "close", "abort"])
@in_loop
async def test_fifty_streams_that_break_off_leave_nothing(end):
    async with Rig() as rig:
        client, streams = await fifty_streams(rig)
        if end == "reset each":
            for stream in streams:
                client.reset(stream, INTERNAL_ERROR)
            client.flush()
            await client.ping()
        if end == "abort":
            client.abort()
        else:
            await client.close()
        assert await rig.works()
        await rig.all_ended()
        assert len(rig.ended) == rig.events.count("stream") == 51


@in_loop
async def test_fifty_streams_reset_right_after_the_answer_as_envoy_does_leave_nothing():
    async with Rig() as rig:
        client = await connect(rig.port)
        for half_close in (False, True) * 25:
            stream = client.call()
            client.send(stream, framed(HEADERS) + framed(WHOLE))
            client.flush()
            headers, body = await client.messages(stream, 2)
            assert messages.parse(headers).HasField("request_headers")
            assert messages.parse(body).request_body.response.body_mutation.streamed_response.end_of_stream
            if half_close:
                client.send(stream, b"", end_stream=True)
            client.reset(stream, INTERNAL_ERROR)
            client.flush()
        await client.ping()
        await client.close()
        await rig.all_ended()
        assert [exchange.verdict.outcome for exchange in rig.ended] == [Outcome.ROUTED] * 50


@in_loop
async def test_fifty_streams_reset_in_one_packet_with_their_messages_leave_nothing():
    async with Rig() as rig:
        client = await connect(rig.port)
        for _ in range(50):
            stream = client.call()
            client.send(stream, framed(HEADERS) + framed(WHOLE))
            client.reset(stream, INTERNAL_ERROR)
        client.flush()
        await client.ping()
        assert await rig.works()
        await client.close()
        await rig.all_ended()


@pytest.mark.parametrize("service", ["", health.EXT_PROC_SERVICE, "anything", "模型"])
@in_loop
async def test_check_answers_for_any_service(service):
    async with Rig() as rig:
        request = HealthCheckRequest(service=service).SerializeToString()
        answer = HealthCheckResponse.FromString(await rig.unary("Check", request))
        assert answer.status == HealthCheckResponse.SERVING
        rig.serving.stop()
        answer = HealthCheckResponse.FromString(await rig.unary("Check", request))
        assert answer.status == HealthCheckResponse.NOT_SERVING


@in_loop
async def test_list_names_the_one_service():
    async with Rig() as rig:
        for status in (HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING):
            answer = HealthListResponse.FromString(await rig.unary("List"))
            assert {name: each.status for name, each in answer.statuses.items()} == {health.EXT_PROC_SERVICE: status}
            rig.serving.stop()


async def watching(rig: Rig) -> tuple[GrpcFrames, int]:
    client = await connect(rig.port)
    stream = client.call("/grpc.health.v1.Health/Watch")
    client.send(stream, framed(b""), end_stream=True)
    client.flush()
    await client.messages(stream, 1)
    return client, stream


@pytest.mark.parametrize("serving", [True, False], ids=["serving", "stopping already"])
@in_loop
async def test_watch_tells_the_state_and_its_change_and_ends(serving):
    async with Rig() as rig:
        if not serving:
            rig.serving.stop()
        client, stream = await watching(rig)
        rig.serving.stop()
        told = await client.ended(stream)
        states = [True, False] if serving else [False]
        assert told.messages == [health.check(serving=state) for state in states]
        assert told.headers["grpc-status"] == str(grpc.StatusCode.UNAVAILABLE.value[0])
        assert told.headers["grpc-message"] == "this replica is shutting down"
        await client.close()


@in_loop
async def test_one_that_is_not_ready_yet_lives_and_tells_its_watchers_when_it_is():
    async with Rig(serving=Serving(ready=False)) as rig:
        assert await rig.unary("Check") == health.check(serving=False)
        assert await rig.unary("Check", b"\x0a\x08liveness") == health.check(serving=True)
        client, stream = await watching(rig)
        rig.serving.start()
        await client.messages(stream, 2)
        rig.serving.stop()
        told = await client.ended(stream)
        assert told.messages == [health.check(serving=state) for state in (False, True, False)]
        await client.close()


@in_loop
async def test_each_stream_is_an_exchange_and_health_watches_are_none():
    async with Rig() as rig:
        client, _stream = await watching(rig)
        assert rig.events == []
        running = rig.process()
        await running.write(HEADERS)
        await rig.until("message", 1)
        assert (rig.events.count("stream"), rig.ended) == (1, [])
        running.cancel()
        client.abort()
        await rig.all_ended()
        assert (rig.events.count("stream"), len(rig.ended)) == (1, 1)
        rig.serving.stop()


@in_loop
async def test_watchers_that_leave_leave_nothing():
    async with Rig() as rig:
        for _ in range(10):
            client, _stream = await watching(rig)
            client.abort()
        assert await rig.works()
        await rig.all_ended()
        rig.serving.stop()


@pytest.mark.parametrize(
    "path", [PROCESS + "2", "/envoy.service.ext_proc.v3.Other/Process", "/grpc.health.v1.Health/No"]
)
@in_loop
async def test_other_methods_are_unimplemented(path):
    async with Rig() as rig:
        call = rig.channel.unary_unary(path)(b"")
        assert await call.code() == grpc.StatusCode.UNIMPLEMENTED


@in_loop
async def test_a_server_without_exchanges_serves_health_alone():
    server = new_server(Serving(), max_body_bytes=1000)
    port = await server.start("127.0.0.1", 0)
    async with new_channel(port) as channel:
        call = channel.stream_stream(PROCESS)()
        assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == health.check(serving=True)
    await server.stop(0)


async def listener_closed(port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client = await connect(port)
            await client.close()


@in_loop
async def test_a_graceful_stop_lets_a_running_exchange_finish_and_takes_no_new_one():
    async with Rig() as rig:
        running = rig.process()
        await running.write(HEADERS)
        await running.write(messages.request_body(BODY[:10]))
        await rig.until("message", 2)
        stop = asyncio.create_task(rig.server.stop(20))
        await listener_closed(rig.port)
        # A call that begins before the client has seen the GOAWAY is still served, and rightly so.
        await rig.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        with pytest.raises(grpc.aio.AioRpcError):
            await rig.works()
        assert not stop.done()
        await running.write(messages.request_body(BODY[10:], end_of_stream=True))
        headers = messages.parse(await running.read()).request_headers.response
        assert messages.set_headers(headers.header_mutation) == SET
        assert messages.parse(await running.read()).HasField("request_body")
        await running.done_writing()
        assert await running.code() == grpc.StatusCode.OK
        await stop
        assert rig.events.count("stream") == 1


@in_loop
async def test_a_stream_that_outlives_the_drain_is_cancelled():
    async with Rig() as rig:
        stream = rig.process()
        await stream.write(HEADERS)
        await rig.until("message", 1)
        await rig.server.stop(0.05)
        assert await stream.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await rig.all_ended()
        assert [exchange.verdict.outcome for exchange in rig.ended] == [Outcome.PENDING]


@in_loop
async def test_an_idle_server_stops_at_once():
    async with Rig() as rig:
        assert await rig.works()
        await rig.server.stop(600)  # longer than the test may take


@pytest.mark.parametrize("address", ["127.0.0.1", None], ids=["an address", "every interface"])
@in_loop
async def test_a_port_in_use_is_an_oserror(address):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        server = new_server(Serving(), max_body_bytes=1000)
        with pytest.raises(OSError, match=rf"^can't listen on .*:{port}$"):
            await server.start(address, port)
        await server.stop(0)


@in_loop
async def test_an_address_of_another_machine_is_an_oserror():
    server = new_server(Serving(), max_body_bytes=1000)
    with pytest.raises(OSError, match=r"^can't listen on \[2001:db8::1\]:0$"):
        await server.start("2001:db8::1", 0)
    await server.stop(0)


@in_loop
async def test_every_interface_includes_ipv4():
    server = new_server(Serving(), max_body_bytes=1000)
    port = await server.start(None, 0)
    async with new_channel(port) as channel:
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == health.check(serving=True)
    await server.stop(0)


# Of a body. grpcio takes a call and its first message one after the other, for which a busy machine may need longer
# than the shortest: then the call is silent, and is ended as such.
PATIENCE = (0.05, 0.5, 5.0)


@pytest.mark.parametrize(("mode", "count"), [(DUPLEX, 1), (BUFFERED, 2)])
@in_loop
async def test_body_that_stands_still_is_answered(mode, count):
    for seconds in PATIENCE:
        async with Rig(duplex_idle_seconds=seconds, buffered_wait_seconds=seconds) as rig:
            client = await connect(rig.port)
            call = client.call()
            client.send(call, framed(messages.request_headers(mode=mode)))
            client.flush()
            stream = await client.ended(call)
            await client.close()
            await rig.all_ended()
        if "message" in rig.events:
            break
    *_, last = answers = [messages.parse(each) for each in stream.messages]
    assert len(answers) == count
    assert (last.immediate_response.status.code, last.immediate_response.details) == (408, "bbr:body-timeout")
    assert stream.headers["grpc-status"] == "0"
    assert [exchange.verdict.reason for exchange in rig.ended] == ["body-timeout"]


async def silent(stream) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@in_loop
async def test_silent_stream_is_ended_with_an_error():
    async with Rig(duplex_idle_seconds=0.05) as rig:
        await silent(rig.process())


@in_loop
async def test_answered_exchange_may_stay_open():
    for seconds in PATIENCE:
        async with Rig(duplex_idle_seconds=seconds) as rig:
            client = await connect(rig.port)
            call = client.call()
            client.send(call, framed(HEADERS) + framed(WHOLE))
            client.flush()
            await silent(rig.process())  # so at least as long as the deadline has gone by
            client.send(call, framed(messages.response_headers()), end_stream=True)
            client.flush()
            stream = await client.ended(call)
            await client.close()
        if rig.events.count("message") >= 2:  # both in time
            break
    *_, last = [messages.parse(each) for each in stream.messages]
    assert last.HasField("response_headers")
    assert (len(stream.messages), stream.headers["grpc-status"]) == (3, "0")


@in_loop
async def test_no_call_is_lost_over_many_connection_ages_j6():
    limits = ConnectionLimits(max_age_seconds=0.2, grace_seconds=10)
    async with Rig(limits=limits) as rig:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5

        async def load():
            count = 0
            while loop.time() < end or count <= 3:  # a busy machine takes longer for each
                assert await rig.works()
                count += 1
            return count

        counts = await asyncio.gather(*(load() for _ in range(8)))
        assert min(counts) > 3
        await rig.all_ended()
