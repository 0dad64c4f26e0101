"""What the benchmarks send: full-duplex ext_proc exchanges with chat bodies, as messages and as field blocks.

Everything that looks random comes from SEED.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Final

import hpack
import orjson
from google.protobuf.message import DecodeError

from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import HeaderMutation, ProcessingRequest
from bbr.rpc.messages import MessageReader, frame
from bench.harness import messages
from bench.harness.grpc_client import PROCESS

SEED: Final = 20_261_124
MODEL: Final = "sql-lora"

# What Envoy hands on at a time.
PIECE_BYTES: Final = 16_384

# Longer bodies are read as they come, and are given back in pieces that depend on when (STREAM_THRESHOLD_BYTES).
LONG_BYTES: Final = 256 << 10

HEADERS: Final = {
    ":authority": "gateway.example",
    ":path": "/v1/chat/completions",
    ":method": "POST",
    ":scheme": "http",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 2.0.0",
    "accept": "application/json",
    "authorization": "Bearer 0123456789abcdef",
    "x-request-id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    "x-forwarded-proto": "http",
    "x-envoy-internal": "true",
    "x-stainless-lang": "python",
}

# The fields of an ext_proc stream of Envoy's.
STREAM_FIELDS: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PROCESS),
    (":authority", "bbr"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-for", "127.0.0.1"),
)

Fields = dict[str, str]


def body(size: int) -> bytes:
    """Return a chat request of `size` bytes (at least 70), the model last."""
    empty = orjson.dumps({"messages": [{"role": "user", "content": ""}], "model": MODEL})
    content = "x" * (size - len(empty))
    return orjson.dumps({"messages": [{"role": "user", "content": content}], "model": MODEL})


def head(size: int, trace: Fields | None = None) -> bytes:
    """Return the first message of an exchange with a body of `size` bytes, `trace` among its request headers."""
    fields = {**HEADERS, "content-length": str(size), **(trace or {})}
    return messages.request_headers(fields, mode=BodyMode.FULL_DUPLEX_STREAMED)


def exchange(size: int, trace: Fields | None = None) -> list[bytes]:
    """Return the messages of one exchange with a body of `size` bytes."""
    octets = body(size)
    pieces = [octets[start : start + PIECE_BYTES] for start in range(0, size, PIECE_BYTES)]
    bodies = [messages.request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces]
    return [head(size, trace), *bodies]


def traces(count: int, seed: int = SEED) -> Iterator[Fields]:
    """Give what a tracing gateway makes up for each request: traceparent and x-request-id."""
    numbers = random.Random(seed)
    for _ in range(count):
        span = f"{numbers.getrandbits(128):032x}-{numbers.getrandbits(64):016x}"
        digits = f"{numbers.getrandbits(128):032x}"
        ident = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        yield {"traceparent": f"00-{span}-01", "x-request-id": ident}


def field_blocks(traced: Sequence[Fields]) -> tuple[bytes, list[bytes]]:
    """Return a connection's first field block, which shrinks the table to nothing, and one for each trace.

    Huffman-coded by the hpack library, as by any gateway.
    """
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    first = encoder.encode([*STREAM_FIELDS])
    return first, [encoder.encode([*STREAM_FIELDS, *trace.items()]) for trace in traced]


def same_answer(came: bytes, right: bytes) -> bool:
    """Tell whether two answers on the wire say the same.

    A long body comes back in pieces of any size, and a peer may set headers in another order each time.
    """
    if came == right:
        return True
    if len(came) != len(right) <= LONG_BYTES:
        return False
    try:
        return _meaning(came) == _meaning(right)
    except DecodeError:
        return False


def _meaning(answer: bytes) -> tuple[bytes, bytes, list[bool]]:
    """Return an answer's first message, the body that it brings back, and which of its ends were the request's."""
    sent = MessageReader(len(answer)).feed(answer)
    if not sent:
        return b"", b"", []
    first = messages.parse(sent[0])
    first.request_headers.response.header_mutation.set_headers.sort(key=lambda option: option.header.key)
    pieces = [messages.parse(each).request_body.response.body_mutation.streamed_response for each in sent[1:]]
    ends = [piece.end_of_stream for piece in pieces]
    body = b"".join(piece.body for piece in pieces)
    return first.SerializeToString(deterministic=True), body, ends[-1:] + [end for end in ends[:-1] if end]


def routed(mutation: HeaderMutation) -> bool:
    """Tell whether both routing headers are set to the model, which is its own base model."""
    found = messages.set_headers(mutation)
    return [found.get(name) for name in ("X-Gateway-Model-Name", "X-Gateway-Base-Model-Name")] == [MODEL.encode()] * 2


def check(sent: Sequence[bytes], answers: Sequence[bytes]) -> bytes:
    """Return the octets of an exchange's answer on the wire.

    Raises:
        AssertionError: the answer doesn't set the model, or doesn't bring the body back.
    """
    assert answers, "no answer"
    parsed = [messages.parse(answer) for answer in answers]
    assert routed(parsed[0].request_headers.response.header_mutation), parsed[0]
    streamed = [answer.request_body.response.body_mutation.streamed_response for answer in parsed[1:]]
    came = b"".join(ProcessingRequest.FromString(each).request_body.body for each in sent[1:])
    assert b"".join(piece.body for piece in streamed) == came
    assert [piece.end_of_stream for piece in streamed] == [False] * (len(streamed) - 1) + [True]
    return frame(answers)
