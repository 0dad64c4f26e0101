"""With --compat too, neither the cuts of a body nor its length make a difference, and no message makes it raise."""

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.routing import Rules, UnknownModel
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.rpc.status import Status
from bench.harness.conversation import said
from bench.harness.messages import parse, request_body, request_headers, request_trailers
from bench.harness.model_tables import merged
from tests.property.test_never_raises import message
from tests.property.test_splits import ENDINGS, assert_body_goes_back

TABLE, _ = merged([BaseModel("qwen", ("sql-lora", "1"))])
WHOLE, PIECES = 1 << 20, 16

names = st.sampled_from(["qwen", " qwen", "sql-lora", "1", "", " ", "x", "é\u3000", "a\nb", "x" * 300])
values = st.recursive(
    names | st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("model"), inner),
    max_leaves=8,
)
documents = st.lists(st.tuples(st.sampled_from(["model", "x", "y"]), values), max_size=3).map(
    lambda members: b"{%s}" % b" , ".join(orjson.dumps(key) + b" : " + orjson.dumps(value) for key, value in members)
)
bodies = documents | documents.map(lambda body: body[:-1]) | st.binary(max_size=30)


def policy(threshold: int) -> Policy:
    return Policy(
        Replies(GoRouter()), rules=Rules(UnknownModel.EMPTY), stream_threshold_bytes=threshold, max_body_bytes=1 << 20
    )


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    body = draw(bodies)
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    return body, [body[start:end] for start, end in itertools.pairwise([0, *places, len(body)])]


def answers(pieces: list[bytes], threshold: int, ending: str) -> tuple[Exchange, list[bytes]]:
    talk = Exchange(policy(threshold), TABLE)
    sent = [request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED), *map(request_body, pieces[:-1])]
    sent.append(request_body(pieces[-1], end_of_stream=ending == "with the last piece"))
    if ending != "with the last piece":
        sent.append(request_body(end_of_stream=True) if ending == "alone" else request_trailers())
    return talk, [reply for each in sent for reply in said(talk, each)]


def told(answer: bytes) -> list[tuple[str, bytes]]:
    """Return what an answer sets, but for the length, which is not told before trailers."""
    options = parse(answer).request_headers.response.header_mutation.set_headers
    return [(each.header.key, each.header.raw_value) for each in options if each.header.key != "Content-Length"]


@given(cut=cuts(), ending=ENDINGS)
def test_any_split_of_a_body_of_any_length_gives_the_same_answer(cut: tuple[bytes, list[bytes]], ending: str) -> None:
    body, pieces = cut
    whole, expected = answers([body], WHOLE, "with the last piece")
    talk, got = answers(pieces, PIECES, ending)
    assert (talk.verdict.outcome, talk.verdict.model) == (whole.verdict.outcome, whole.verdict.model)
    assert told(got[0]) == told(expected[0])
    if whole.end is None:
        assert_body_goes_back(body, got[1:], ending)
        assert lengths(got[0]) == ([] if ending == "trailers" else [str(len(body)).encode()])


def lengths(answer: bytes) -> list[bytes]:
    options = parse(answer).request_headers.response.header_mutation.set_headers
    return [each.header.raw_value for each in options if each.header.key == "Content-Length"]


@given(st.lists(message, max_size=12))
def test_any_messages(sent: list[bytes]) -> None:
    talk = Exchange(policy(PIECES), TABLE)
    for each in sent:
        before = talk.end
        for reply in said(talk, each):
            answer = ProcessingResponse.FromString(reply)
            assert answer.WhichOneof("response")
            assert removed(answer) == []
            assert before is None
    assert isinstance(talk.finish(), Status)


def removed(answer: ProcessingResponse) -> list[str]:
    kind = answer.WhichOneof("response") or ""
    if kind not in ("request_headers", "request_body"):
        return []
    return list(getattr(answer, kind).response.header_mutation.remove_headers)
