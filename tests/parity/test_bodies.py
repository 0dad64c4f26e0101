"""Bodies that are read as they come: the same answers over both transports."""

import asyncio
import gzip

import grpc
import pytest

from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import BodyMode
from bbr.reading.zstd import zstd
from bench.harness import messages
from bench.harness.grpc_client import framed
from tests.support.loops import in_loop
from tests.support.transports import Rig

DUPLEX, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED
SET = {"X-Gateway-Model-Name": b"sql-lora", "X-Gateway-Base-Model-Name": b"qwen"}
TEXT = b"x" * 1_500_000
MODEL_FIRST = b'{"model":"sql-lora","prompt":"' + TEXT + b'"}'
MODEL_LAST = b'{"prompt":"' + TEXT + b'","model":"sql-lora"}'
PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
JSON = "application/json"

BODIES = [
    pytest.param(JSON, "", MODEL_FIRST, id="model first"),
    pytest.param(JSON, "", MODEL_LAST, id="model last"),
    pytest.param(JSON, "gzip", gzip.compress(MODEL_FIRST[:9_000] + b'"}'), id="gzip"),
    pytest.param(JSON, "zstd", zstd.compress(b'{"prompt":"hi","model":"sql-lora"}'), id="zstd"),
    pytest.param("application/x-www-form-urlencoded", "", b"x=" + TEXT + b"&model=sql%2Dlora&y=1", id="form"),
    pytest.param(
        "multipart/form-data; boundary=b", "", PART % (b"file", TEXT) + PART % (b"model", b"sql-lora") + b"--b--\r\n",
        id="multipart",
    ),
]  # fmt: skip


def head(content_type: str, encoding: str, mode: BodyMode) -> bytes:
    fields = {**messages.JSON_POST, "content-type": content_type}
    return messages.request_headers({**fields, "content-encoding": encoding} if encoding else fields, mode=mode)


async def talk(rig: Rig, *sent: bytes) -> list:
    """Send messages by grpcio's client, reading meanwhile; return the answers. The call must end with OK."""
    stream = rig.process()

    async def send() -> None:
        for message in sent:
            await stream.write(message)
        await stream.done_writing()

    writing = asyncio.create_task(send())
    answers = [messages.parse(answer) async for answer in stream]
    await writing
    assert await stream.code() == grpc.StatusCode.OK
    return answers


@pytest.mark.parametrize("step", [16_384, 1 << 21])
@pytest.mark.parametrize(("content_type", "encoding", "body"), BODIES)
@in_loop
async def test_full_duplex(content_type, encoding, body, step):
    pieces = [messages.request_body(body[start : start + step]) for start in range(0, len(body), step)]
    async with Rig() as rig:
        sent = [head(content_type, encoding, DUPLEX), *pieces, messages.request_body(b"", end_of_stream=True)]
        answers = await talk(rig, *sent)
        assert messages.set_headers(answers[0].request_headers.response.header_mutation) == SET
        streamed = [answer.request_body.response.body_mutation.streamed_response for answer in answers[1:]]
        assert b"".join(piece.body for piece in streamed) == body
        assert [piece.end_of_stream for piece in streamed] == [False] * (len(streamed) - 1) + [True]
        await rig.all_ended()
        assert rig.policy.ledger.held_bytes == 0


@pytest.mark.parametrize(("content_type", "encoding", "body"), BODIES)
@in_loop
async def test_buffered(content_type, encoding, body):
    async with Rig() as rig:
        sent = head(content_type, encoding, BUFFERED), messages.request_body(body, end_of_stream=True)
        answers = await talk(rig, *sent)
        assert messages.set_headers(answers[-1].request_body.response.header_mutation) == SET
        await rig.all_ended()
        assert rig.policy.ledger.held_bytes == 0


@in_loop
async def test_no_room():
    async with Rig(ledger=Ledger(1000)) as rig:
        sent = (
            head(JSON, "", DUPLEX),
            messages.request_body(bytes(2000)),
            messages.request_body(b"", end_of_stream=True),
        )
        answers, *status = await rig.talk(*map(framed, sent))
        assert status == [grpc.StatusCode.OK, ""]
        immediate = answers[-1].immediate_response
        assert (immediate.status.code, immediate.details) == (503, "bbr:no-room")
        assert messages.set_headers(immediate.headers)["retry-after"] == b"1"
        await rig.all_ended()
        assert (rig.policy.ledger.held_bytes, rig.policy.ledger.refused) == (0, 1)


@in_loop
async def test_a_fault_behind_the_model():
    async with Rig(stream_threshold_bytes=100) as rig:
        body = MODEL_FIRST[:9_000] + b'"}'
        pieces = messages.request_body(body), messages.request_body(b"}", end_of_stream=True)
        sent = head(JSON, "", DUPLEX), *pieces
        answers, *status = await rig.talk(*map(framed, sent))
        assert status == [grpc.StatusCode.OK, ""]
        assert answers[-1].immediate_response.details == "bbr:trailing-bytes"
        ends = [each.request_body.response.body_mutation.streamed_response.end_of_stream for each in answers[:-1]]
        assert not any(ends)
