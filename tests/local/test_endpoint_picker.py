import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.support.late import late
from tests.support.stack import until

endpoint_picker = late("deploy.local.endpoint_picker")
api = late("tests.support.envoy_api")

POD_1, POD_2 = "127.0.0.1:9001", "127.0.0.1:9002"
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

MAX_BODY_BYTES = 62_000
Test = Callable[[grpc.aio.Channel, Any], Awaitable[None]]


def with_picker(test: Test) -> None:
    async def run() -> None:
        endpoints = endpoint_picker.Endpoints([POD_1, POD_2])
        server = endpoint_picker.build_server(endpoint_picker.Picker(endpoints))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(test(channel, endpoints), 90)
        finally:
            await server.stop(None)

    asyncio.run(run())


def process(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(
        METHOD, request_serializer=bytes, response_deserializer=api.ext_proc.ProcessingResponse.parse
    )()


def request(**message: Any) -> Any:
    return api.ext_proc.ProcessingRequest(**message)


def headers(*, eos: bool) -> Any:
    return request(request_headers=api.ext_proc.HttpHeaders(end_of_stream=eos))


def body(part: bytes, *, eos: bool) -> Any:
    return request(request_body=api.ext_proc.HttpBody(body=part, end_of_stream=eos))


def trailers() -> Any:
    return request(request_trailers=api.ext_proc.HttpTrailers(trailers=api.core.HeaderMap()))


async def answers(channel, messages):
    call = process(channel)
    for message in messages:
        await call.write(message)
    await call.done_writing()
    return [answer async for answer in call]


async def pick(channel):
    call = process(channel)
    await call.write(headers(eos=True))
    return call, destination(await call.read())


def destination(answer):
    options = answer.request_headers.response.header_mutation.set_headers
    assert [option.header.key for option in options] == ["x-gateway-destination-endpoint"]
    assert not answer.request_headers.response.clear_route_cache
    return options[0].header.raw_value.decode()


def streamed(answer):
    part = answer.request_body.response.body_mutation.streamed_response
    return part.body, part.end_of_stream


TEXT = bytes(range(256)) * 1200  # 307,200 octets: five messages


@pytest.mark.parametrize(
    ("parts", "lengths"),
    [
        ([b"{}"], [2]),
        ([b""], [0]),
        ([b"{", b"}", b""], [2]),
        ([TEXT[:MAX_BODY_BYTES]], [MAX_BODY_BYTES]),
        ([TEXT[:MAX_BODY_BYTES], b""], [MAX_BODY_BYTES]),
        ([TEXT[: MAX_BODY_BYTES + 1]], [MAX_BODY_BYTES, 1]),
        ([TEXT[:100_000], TEXT[100_000:]], [MAX_BODY_BYTES] * 4 + [59_200]),
    ],
    ids=["one", "empty", "empty end", "full", "full, empty end", "one more", "many"],
)
@pytest.mark.parametrize("ended_by", ["body", "trailers"])
def test_body_goes_back_in_pieces(parts, lengths, ended_by):
    assert endpoint_picker.MAX_BODY_BYTES == MAX_BODY_BYTES

    async def test(channel, _endpoints):
        last = len(parts) - 1 if ended_by == "body" else None
        messages = [headers(eos=False), *(body(part, eos=index == last) for index, part in enumerate(parts))]
        if ended_by == "trailers":
            messages.append(trailers())
        first, *rest = await answers(channel, messages)
        assert destination(first) == POD_1
        if ended_by == "trailers":
            assert rest.pop().request_trailers is not None
        pieces = [streamed(answer) for answer in rest]
        assert b"".join(piece for piece, _ in pieces) == b"".join(parts)
        if ended_by == "trailers":
            assert [len(piece) for piece, _ in pieces] == [length for length in lengths if length]
            assert not any(eos for _, eos in pieces)
        else:
            assert [len(piece) for piece, _ in pieces] == lengths
            assert [eos for _, eos in pieces] == [False] * (len(pieces) - 1) + [True]

    with_picker(test)


def test_request_without_a_body_is_answered_at_its_headers():
    async def test(channel, _endpoints):
        assert [destination(answer) for answer in await answers(channel, [headers(eos=True)])] == [POD_1]

    with_picker(test)


def test_repeated_end_is_ignored():
    async def test(channel, endpoints):
        messages = [headers(eos=False), body(b"{}", eos=True), body(b"{}", eos=True)]
        assert len(await answers(channel, messages)) == 2
        assert endpoints.in_flight == {POD_1: 0, POD_2: 0}

    with_picker(test)


def test_nothing_is_answered_or_counted_before_the_end():
    async def test(channel, endpoints):
        assert await answers(channel, [headers(eos=False), body(b"{", eos=False)]) == []
        assert endpoints.in_flight == {POD_1: 0, POD_2: 0}

    with_picker(test)


def test_message_above_grpcios_default_limit_is_taken():
    async def test(channel, _endpoints):
        first, *rest = await answers(channel, [headers(eos=False), body(bytes(5 << 20), eos=True)])
        assert destination(first) == POD_1
        assert sum(len(streamed(answer)[0]) for answer in rest) == 5 << 20

    with_picker(test)


def test_request_is_in_flight_until_its_stream_ends():
    async def test(channel, endpoints):
        call, endpoint = await pick(channel)
        await call.write(request(response_headers=api.ext_proc.HttpHeaders()))
        assert (await call.read()).response_headers is not None
        assert endpoints.in_flight[endpoint] == 1
        await call.write(request(response_trailers=api.ext_proc.HttpTrailers(trailers=api.core.HeaderMap())))
        assert (await call.read()).response_trailers is not None
        assert endpoints.in_flight[endpoint] == 1
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert endpoints.in_flight[endpoint] == 0

    with_picker(test)


def test_reset_takes_the_request_out_of_flight():
    async def test(channel, endpoints):
        call, endpoint = await pick(channel)
        assert endpoints.in_flight[endpoint] == 1
        call.cancel()
        await until(lambda: endpoints.in_flight[endpoint] == 0)

    with_picker(test)


def test_picks_the_least_loaded():
    async def test(channel, endpoints):
        calls = [await pick(channel) for _ in range(4)]
        assert [endpoint for _, endpoint in calls] == [POD_1, POD_2, POD_1, POD_2]
        for call, endpoint in calls:
            if endpoint == POD_2:
                call.cancel()
        await until(lambda: endpoints.in_flight == {POD_1: 2, POD_2: 0})
        later = [await pick(channel) for _ in range(3)]
        assert [endpoint for _, endpoint in later] == [POD_2, POD_2, POD_1]
        for call, _ in [*calls, *later]:
            call.cancel()

    with_picker(test)


def test_idle_endpoints_take_turns():
    endpoints = endpoint_picker.Endpoints([POD_1, POD_2])
    picked = []
    for _ in range(4):
        picked.append(endpoints.pick())
        endpoints.release(picked[-1])
    assert picked == [POD_1, POD_2, POD_1, POD_2]


def test_health():
    async def test(channel, _endpoints):
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"

    with_picker(test)


@pytest.mark.parametrize("endpoint", ["localhost:9001", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":9001"])
def test_endpoint_that_envoy_could_not_use_is_refused(endpoint, capsys):
    with pytest.raises(SystemExit) as exit_:
        endpoint_picker.main(["--port", "1", "--endpoint", endpoint])
    assert exit_.value.code == 2
    assert f"endpoint {endpoint!r} is not ip:port" in capsys.readouterr().err


def test_ipv6_endpoint():
    assert endpoint_picker.Endpoints(["[::1]:9001"]).pick() == "[::1]:9001"
