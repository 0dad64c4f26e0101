"""Exchanges in tests: talk to one, and say what its answers are."""

from collections.abc import Sequence

import orjson

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import HeaderValueOption, ProcessingResponse
from bench.harness.messages import parse, set_headers
from bench.harness.model_tables import merged

FDS = BodyMode.FULL_DUPLEX_STREAMED
BUFFERED = BodyMode.BUFFERED
MODEL = "X-Gateway-Model-Name"
BASE = "X-Gateway-Base-Model-Name"
DESTINATION = "x-gateway-destination-endpoint"

TABLE, _ = merged([BaseModel("qwen", ("sql-lora-sheddable", "foo", "1"))])

BODY = b'{"max_tokens":100,"model":"qwen","prompt":"test","temperature":0}'
NO_MODEL_BODY = b'{"max_tokens":100,"prompt":"test","temperature":0}'


def exchange(registry: Registry = TABLE, **policy: object) -> Exchange:
    """Return a new exchange over `registry`; `policy` are fields of Policy."""
    return Exchange(Policy(Replies(), **policy), registry)  # type: ignore[arg-type]


def converse(talk: Exchange, *sent: bytes) -> list[ProcessingResponse]:
    """Send messages and return all answers."""
    return [parse(reply) for message in sent for reply in said(talk, message)]


def said(talk: Exchange, message: bytes) -> list[bytes]:
    """Send a message, let the exchange do all of its work, and return what it answers."""
    replies = list(talk.receive(message))
    while talk.pending:
        replies += talk.work()
    return replies


def kinds(answers: Sequence[ProcessingResponse]) -> list[str]:
    """Return which kind each answer is."""
    return [answer.WhichOneof("response") or "" for answer in answers]


def assert_routes(answer: ProcessingResponse, model: str, base_model: str) -> None:
    """The answer sets both routing headers, removes what else a client may not say, and clears the route cache."""
    common = getattr(answer, answer.WhichOneof("response") or "").response
    assert set_headers(common.header_mutation) == {MODEL: model.encode(), BASE: base_model.encode()}
    assert list(common.header_mutation.remove_headers) == [DESTINATION]
    for option in common.header_mutation.set_headers:
        assert option.append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        assert not option.header.value
    assert common.clear_route_cache


def assert_strips(answer: ProcessingResponse) -> None:
    """The answer sets nothing, removes all that a client may not say, and clears the route cache."""
    common = getattr(answer, answer.WhichOneof("response") or "").response
    assert not common.header_mutation.set_headers
    assert list(common.header_mutation.remove_headers) == [MODEL, BASE, DESTINATION]
    assert common.clear_route_cache


def echoed(answers: Sequence[ProcessingResponse]) -> tuple[bytes, list[bool]]:
    """Return the body that went back and the end_of_stream flags of its pieces."""
    pieces = [answer.request_body.response.body_mutation.streamed_response for answer in answers]
    return b"".join(piece.body for piece in pieces), [piece.end_of_stream for piece in pieces]


def assert_refused(answers: Sequence[ProcessingResponse], status: int, reason: str) -> str:
    """The last answer is an error in OpenAI's shape; return its message."""
    assert kinds(answers)[-1] == "immediate_response"
    immediate = answers[-1].immediate_response
    assert (immediate.status.code, immediate.details) == (status, f"bbr:{reason}")
    assert set_headers(immediate.headers) == {"content-type": b"application/json"}
    error = orjson.loads(immediate.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])
