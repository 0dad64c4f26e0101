"""Transport and life cycle (section J of the cases) over our own transport; J1 is a property (test_http2_chunking)."""

import asyncio
import logging

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.http2 import frames as wire
from bbr.transports import uv_connection
from bbr.transports.uv_socket import Pace
from bench.harness import messages
from bench.harness.conversation import said
from bench.harness.grpc_client import GrpcFrames, framed
from bench.harness.h2_frames import (
    ACK,
    DATA,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    PING,
    PING_FRAME,
    PREFACE,
    SETTINGS_ACK,
    cut,
    data,
    frame,
    headers,
    parse,
    rst_stream,
    settings,
    window_update,
)
from bench.harness.raw_client import CALL_BLOCK, HEAD, REQUEST, WHOLE, RawClient, UvRig
from tests.conformance.http2 import test_each_frame
from tests.support import transports
from tests.support.connection_memory import octets_held
from tests.support.h2_cases import CHUNKS
from tests.support.loops import in_loop
from tests.support.wrapped import Wrapped

OPENING = PREFACE + settings((4, 2**31 - 1)) + SETTINGS_ACK + window_update(0, 2**30)
HIGH_WATER = 64 << 10  # asyncio's and uvloop's
READ_BYTES = 256 << 10  # the most that uvloop hands over at once


def request(body: bytes) -> bytes:
    return framed(HEAD) + framed(messages.request_body(body, end_of_stream=True))


def padded(size: int) -> bytes:
    return b'{"model": "sql-lora", "prompt": "%s"}' % (b"x" * size)


class Pipe(asyncio.Transport):
    """A socket that keeps what is written, and notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, octets):
        self.written += octets

    def set_write_buffer_limits(self, high=None, low=None):
        assert high == 0

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    abort = close

    def kinds(self) -> list[int]:
        """Return the types of all frames so far, each checked."""
        return [each.kind for each in parse(self.written)]


@pytest.mark.parametrize("chunk", CHUNKS)
@in_loop
async def test_j2_no_data_while_the_peer_does_not_read(chunk):
    async with UvRig(pace=Pace(moment_seconds=60.0)) as server:
        pipe, connection = Pipe(), uv_connection.UvConnection(server.server)
        connection.connection_made(pipe)
        connection.data_received(OPENING)
        connection.pause_writing()
        assert not pipe.reading
        # What had been read before the pause is still handed over; its answers wait.
        body = padded(30_000)
        sent = headers(1, CALL_BLOCK) + b"".join(data(1, each) for each in cut(request(body), 16_384)) + PING_FRAME
        for piece in cut(sent, chunk or len(sent)):
            connection.data_received(piece)
        assert DATA not in pipe.kinds()
        assert PING in pipe.kinds()  # control frames are small, counted, and go on
        connection.resume_writing()
        assert pipe.reading
        answer = b"".join(each.payload for each in parse(pipe.written) if each.kind == DATA)
        assert len(answer) > len(body)
        assert body[:10_000] in answer
        connection.pause_writing()
        before = pipe.written
        connection.data_received(headers(3, CALL_BLOCK) + data(3, REQUEST))
        assert [each.kind for each in parse(pipe.written[len(before) :])] == [HEADERS]
        connection.data_received(rst_stream(3))
        connection.resume_writing()
        assert [each.stream_id for each in parse(pipe.written[len(before) :])] == [3]
        connection.connection_lost(None)
        assert len(server.ended) == server.started == 2


@in_loop
async def test_j2_output_is_bounded_on_a_socket_that_is_not_read():
    async with UvRig() as server:
        client = await RawClient.connect(server.port)
        body = padded(15_000)
        call = request(body)
        stream_id = -1
        held = most = 0
        # Until the server has stopped reading and the sockets are full.
        while held < 50 and stream_id < 5000:
            if client.writer.transport.get_write_buffer_size() < 1 << 16:
                stream_id += 2
                client.write(headers(stream_id, CALL_BLOCK), data(stream_id, call))
            await asyncio.sleep(0)
            for connection in server.server.roster.connections:
                held += connection._socket.stalled_since is not None
                most = max(most, connection._socket.transport.get_write_buffer_size())
        assert held >= 50
        # The answers to one read come in one piece on top of the mark.
        assert most <= HIGH_WATER + 2 * READ_BYTES
        wanted = (stream_id + 1) // 2

        await client.until(lambda: sum(each.kind == DATA for each in client.frames) >= wanted)
        got = {each.stream_id for each in client.frames if each.kind == DATA}
        assert got == set(range(1, stream_id + 2, 2))
        client.writer.transport.abort()
        await server.left_nothing()


LIVE = headers(1, CALL_BLOCK) + data(1, framed(HEAD))
CUTS = {
    "in the preface": (PREFACE[:11], 0),
    "after the preface": (PREFACE, 0),
    "in a frame header": (OPENING + LIVE + PING_FRAME[:5], 1),
    "in a payload": (OPENING + LIVE + data(1, framed(WHOLE))[:20], 1),
    "in the second HEADERS": (OPENING + LIVE + headers(3, CALL_BLOCK)[:-1], 1),
    "before a CONTINUATION": (OPENING + LIVE + headers(3, CALL_BLOCK, flags=0), 1),
    "between frames": (OPENING + LIVE, 1),
    "after an answer": (OPENING + LIVE + data(1, framed(WHOLE)), 1),
    "with nothing at all": (b"", 0),
}


@pytest.mark.parametrize("end", ["closed", "reset"])
@pytest.mark.parametrize(("sent", "calls"), CUTS.values(), ids=CUTS)
@in_loop
async def test_j3_an_end_of_file_anywhere_leaves_nothing(sent, calls, end, caplog):
    caplog.set_level(logging.WARNING)
    async with UvRig() as server:
        client = await RawClient.connect(server.port, preface=False)
        client.write(sent)
        while server.started < calls or not server.server.roster.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if end == "reset":
            client.writer.transport.abort()
        else:
            client.writer.write_eof()
            await client.to_end()
            await client.close()
        await server.left_nothing()
        assert server.started == calls
    assert caplog.text == ""


@in_loop
async def test_j3_calls_of_a_lost_connection_are_ended_once():
    async with UvRig() as server:
        client = await RawClient.connect(server.port)
        ids = range(1, 101, 2)
        client.write(*(headers(each, CALL_BLOCK) + data(each, framed(HEAD) + b"\x00\x00") for each in ids))
        client.write(PING_FRAME)
        await client.until(lambda: any(each.kind == PING for each in client.frames))
        assert server.started == 50
        await client.close()
        await server.left_nothing()
        assert {each.verdict.outcome for each in server.ended} == {Outcome.PENDING}


FATAL = [case for case in test_each_frame.CASES if case.goaway is not None and case.limits is None and case.preface]


@in_loop
async def test_d16_every_connection_error_is_read_from_the_socket_before_its_end():
    assert len(FATAL) > 30
    async with UvRig() as server:
        for case in FATAL:
            client = await RawClient.connect(server.port)
            client.write(*case.sent)
            last = (await client.to_end())[-1]
            assert (case.id, last.kind, last.code) == (case.id, GOAWAY, case.goaway)
            await client.close()
        await server.left_nothing()


class OurError(Exception):
    pass


class Broken(Wrapped):
    def receive(self, message):
        if message == WHOLE:
            raise OurError
        return self.exchange.receive(message)


@in_loop
async def test_j5_an_exception_of_an_exchange_ends_its_call_alone(caplog):
    kinds = iter((Exchange, Broken, Exchange))
    async with UvRig(lambda *arguments, **more: next(kinds)(*arguments, **more)) as server:
        client = await GrpcFrames.connect(server.port)
        good, bad = client.call(), client.call()
        client.send(good, framed(HEAD))
        client.send(bad, REQUEST)
        client.flush()
        assert (await client.ended(bad)).headers["grpc-status"] == "13"
        client.send(good, framed(WHOLE), end_stream=True)
        after = client.call()
        client.send(after, REQUEST, end_stream=True)
        client.flush()
        assert (await client.ended(good)).headers["grpc-status"] == "0"
        assert len((await client.ended(after)).messages) == 2
        await client.close()
        await server.left_nothing()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.interpreted("replaces a function")
@in_loop
async def test_j5_an_exception_of_the_core_ends_its_connection_alone(caplog, monkeypatch):
    def ping_ack(payload: bytes) -> bytes:
        if payload == b"raise it":
            raise OurError
        return frame(PING, ACK, 0, payload)

    monkeypatch.setattr(wire, "ping_ack", ping_ack)
    async with UvRig() as server:
        other = await RawClient.connect(server.port)
        other.write(headers(1, CALL_BLOCK), data(1, framed(HEAD)))
        client = await RawClient.connect(server.port)
        client.write(headers(1, CALL_BLOCK), data(1, framed(HEAD)), frame(PING, 0, 0, b"raise it"))
        last = (await client.to_end())[-1]
        assert (last.kind, last.code, last.payload[8:]) == (GOAWAY, INTERNAL_ERROR, b"internal-error")
        await client.close()
        other.write(data(1, framed(WHOLE), end=True))
        await other.until(lambda: other.ended() == {1})
        await other.close()
        await server.left_nothing()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "OurError" in caplog.text


FDS, BUFFERED, PARTIAL, NONE = (
    BodyMode.FULL_DUPLEX_STREAMED,
    BodyMode.BUFFERED,
    BodyMode.BUFFERED_PARTIAL,
    BodyMode.NONE,
)
BODY = b'{"model": "sql-lora", "prompt": "hi"}'
UNKNOWN = b'{"model": "not there"}'
SCRIPTS = {
    "FDS": [messages.request_headers(mode=FDS), messages.request_body(BODY, end_of_stream=True)],
    "FDS in pieces": [
        messages.request_headers(mode=FDS),
        *(messages.request_body(piece) for piece in cut(BODY, 5)),
        messages.request_body(end_of_stream=True),
    ],
    "FDS of 60,000 octets": [
        messages.request_headers(mode=FDS),
        *(messages.request_body(piece) for piece in cut(padded(60_000), 16_384)),
        messages.request_body(end_of_stream=True),
    ],
    "FDS with trailers": [
        messages.request_headers(mode=FDS),
        messages.request_body(BODY),
        messages.request_trailers([("x-gateway-model-name", "spoofed")]),
    ],
    "FDS without a body": [messages.request_headers(mode=FDS, end_of_stream=True)],
    "FDS, then the response": [
        messages.request_headers(mode=FDS, response_mode=FDS),
        messages.request_body(BODY, end_of_stream=True),
        messages.response_headers(),
        messages.response_body(b"an answer", end_of_stream=True),
    ],
    "FDS, unknown model": [messages.request_headers(mode=FDS), messages.request_body(UNKNOWN, end_of_stream=True)],
    "BUFFERED": [messages.request_headers(mode=BUFFERED), messages.request_body(BODY, end_of_stream=True)],
    "BUFFERED, no JSON": [messages.request_headers(mode=BUFFERED), messages.request_body(b"{", end_of_stream=True)],
    "BUFFERED_PARTIAL, cut": [messages.request_headers(mode=PARTIAL), messages.request_body(BODY)],
    "NONE": [messages.request_headers(mode=NONE)],
    "a second message of headers": [HEAD, HEAD],
    "no message at all": [],
    "octets that are none": [b"\xff\xff\xff"],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@in_loop
async def test_j7_both_transports_give_equal_answers(script, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    talk = Exchange(Policy(Replies()), transports.TABLE)
    direct: list[bytes] = []
    for message in script:
        direct += said(talk, message) if talk.end is None else ()
    end = talk.end or talk.finish()
    answers = {}
    for name in transports.TRANSPORTS:
        monkeypatch.setattr(transports.transport, "name", name)
        async with transports.Rig() as server:
            client = await GrpcFrames.connect(server.port)
            client.open_windows()
            call = client.call()
            for octets in cut(b"".join(map(framed, script)), 16_384):
                client.send(call, octets)
            client.send(call, b"", end_stream=True)
            client.flush()
            stream = await client.ended(call)
            answers[name] = stream.messages, stream.headers["grpc-status"], stream.headers.get("grpc-message", "")
            await client.close()
    assert answers["uv"] == answers["grpcio"]
    assert answers["uv"] == (direct, str(int(end.code)), end.message)
    assert caplog.text == ""


@in_loop
async def test_j8_many_exchanges_on_one_connection_leave_nothing():
    # `make exchanges` does a million, and looks at the memory of the process.
    async with UvRig() as server:
        client = await RawClient.connect(server.port)
        held = []
        for first in range(1, 2_001, 200):
            ids = range(first, first + 200, 2)
            client.write(*(headers(each, CALL_BLOCK) + data(each, REQUEST, end=True) for each in ids))
            await client.until(lambda ids=ids: client.ended() >= set(ids))
            (connection,) = server.server.roster.connections
            assert connection._rpc.calls == connection._rpc._http2.streams == {}
            held.append(octets_held(connection._rpc))
            client.frames.clear()
        assert held[1:] == held[:1] * 9
        await client.close()
        await server.left_nothing()
        assert [each.verdict.outcome for each in server.ended] == [Outcome.ROUTED] * 1000


@in_loop
async def test_i0_cancels_beside_good_requests_over_a_socket():
    async with UvRig() as server:
        client = await GrpcFrames.connect(server.port)
        client.open_windows()
        good: list[int] = []
        for _ in range(500):
            for _ in range(4):
                call = client.call()
                client.send(call, framed(HEAD))
                client.reset(call, 8)
            good.append(client.call())
            client.send(good[-1], REQUEST)
            client.flush()
            if len(good) >= 16:
                stream = good[len(good) - 16]
                assert len(await client.messages(stream, 2)) == 2
                client.reset(stream, INTERNAL_ERROR)  # as Envoy does
        for stream in good[-16:]:
            assert len(await client.messages(stream, 2)) == 2
        await client.ping()
        await client.close()
        await server.left_nothing()
        outcomes = [each.verdict.outcome for each in server.ended]
        assert outcomes.count(Outcome.ROUTED) == 500
        assert outcomes.count(Outcome.PENDING) == 2000


@in_loop
async def test_i0_answered_and_reset_over_a_socket():
    # `make exchanges` does a million.
    async with UvRig() as server:
        client = await RawClient.connect(server.port)
        for first in range(1, 10_001, 200):
            ids = range(first, first + 200, 2)
            client.write(*(headers(each, CALL_BLOCK) + data(each, REQUEST) for each in ids))
            wanted = {*ids}
            await client.until(lambda wanted=wanted: wanted <= {f.stream_id for f in client.frames if f.kind == DATA})
            client.frames.clear()
            client.write(*(rst_stream(each, INTERNAL_ERROR) for each in ids), PING_FRAME)
            await client.until(lambda: any(each.kind == PING for each in client.frames))
        (connection,) = server.server.roster.connections
        assert connection._rpc.idle
        assert not connection._rpc.closed
        await client.close()
        await server.left_nothing()
        assert [each.verdict.outcome for each in server.ended] == [Outcome.ROUTED] * 5000
