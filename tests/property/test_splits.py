"""Where a gateway cuts a body carries no meaning: for any split the verdict and the bytes that go back are the same."""

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from bbr.exchange import Exchange
from bbr.policy import BodyMode, Policy
from bbr.registry import BaseModel, Registry
from bbr.replies import MAX_BODY_CHUNK_BYTES, Replies
from bbr.verdict import Outcome
from tests.support.exchanges import said
from tests.support.messages import parse, request_body, request_headers, request_trailers

FDS = BodyMode.FULL_DUPLEX_STREAMED
POLICY = Policy(Replies(), max_body_bytes=200_000)
TABLE, _ = Registry.merge([BaseModel("qwen", ("sql-lora",)), BaseModel("phi")])

names = st.sampled_from(["qwen", "sql-lora", "phi", "llama", "", "a\nb"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("model"), inner),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=8), values).flatmap(
    lambda rest: st.none() | st.permutations([*rest.items(), ("model", "qwen")]).map(dict) | st.just(rest)
)
json_bodies = st.one_of(
    documents.map(orjson.dumps),
    names.map(lambda name: orjson.dumps({"prompt": "x" * 100, "model": name})),
    st.integers(60_000, 210_000).map(lambda size: orjson.dumps({"model": "phi", "prompt": "x" * size})),
)
bodies = json_bodies | st.binary(max_size=200) | json_bodies.map(lambda body: body[:-1])


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    body = draw(bodies)
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    edges = [0, *places, len(body)]
    return body, [body[start:end] for start, end in itertools.pairwise(edges)]


def answers(pieces: list[bytes], *, ending: str, content_type: str) -> tuple[Exchange, list[bytes]]:
    talk = Exchange(POLICY, TABLE)
    sent = [request_headers({"content-type": content_type}, mode=FDS)]
    sent += [request_body(piece) for piece in pieces[:-1]]
    if ending == "with the last piece":
        sent.append(request_body(pieces[-1], end_of_stream=True))
    else:
        sent.append(request_body(pieces[-1]))
        last = request_body(b"", end_of_stream=True) if ending == "alone" else request_trailers()
        sent.append(last)
    return talk, [reply for message in sent for reply in said(talk, message)]


ENDINGS = st.sampled_from(["with the last piece", "alone", "trailers"])


@given(cut=cuts(), ending=ENDINGS)
def test_any_split_gives_the_same_answer(cut: tuple[bytes, list[bytes]], ending: str) -> None:
    body, pieces = cut
    whole, expected = answers([body], ending="with the last piece", content_type="application/json")
    talk, got = answers(pieces, ending=ending, content_type="application/json")
    assert (talk.verdict.outcome, talk.verdict.reason) == (whole.verdict.outcome, whole.verdict.reason)
    assert (talk.verdict.model, talk.verdict.base_model) == (whole.verdict.model, whole.verdict.base_model)
    assert got[0] == expected[0]
    if talk.verdict.outcome is not Outcome.REFUSED:
        assert_body_goes_back(body, got[1:], ending)
    assert talk.finish() == whole.finish()


@given(cut=cuts(), ending=ENDINGS)
def test_unread_bodies_go_back_whole(cut: tuple[bytes, list[bytes]], ending: str) -> None:
    body, pieces = cut
    talk, got = answers(pieces, ending=ending, content_type="application/octet-stream")
    assert talk.verdict.outcome is Outcome.NOT_READ
    assert_body_goes_back(body, got[1:], ending)


def assert_body_goes_back(body: bytes, replies: list[bytes], ending: str) -> None:
    messages = [parse(reply) for reply in replies]
    if ending == "trailers":
        assert messages.pop().WhichOneof("response") == "request_trailers"
    pieces = [message.request_body.response.body_mutation.streamed_response for message in messages]
    assert b"".join(piece.body for piece in pieces) == body
    ends = [piece.end_of_stream for piece in pieces]
    assert ends == ([False] * len(ends) if ending == "trailers" else [False] * (len(ends) - 1) + [True])
    assert all(len(piece.body) <= MAX_BODY_CHUNK_BYTES for piece in pieces)
