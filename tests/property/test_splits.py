"""Where a gateway cuts a body carries no meaning: for any split the verdict and the bytes that go back are the same."""

import gzip
import itertools
from typing import NamedTuple
from urllib.parse import urlencode

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import MAX_BODY_CHUNK_BYTES, Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.steps import finish
from bench.harness.conversation import said
from bench.harness.messages import parse, request_body, request_headers, request_trailers
from bench.harness.model_tables import merged

FDS = BodyMode.FULL_DUPLEX_STREAMED
# Bodies of the second are all long: read piece by piece.
POLICIES = [Policy(Replies(), max_body_bytes=200_000, stream_threshold_bytes=size) for size in (256 << 10, 16)]
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
MODELS = (BaseModel("qwen", ("sql-lora",)), BaseModel("phi"))
TABLE, _ = merged(MODELS)
# Bodies that go on otherwise than they came.
CHANGING = [
    Policy(Replies(), stream_threshold_bytes=size, forward_decoded=True, rewrites_body=rewrites)
    for size in (256 << 10, 16)
    for rewrites in (False, True)
]
ALIASED, _ = finish(merging([Declaration(Origin(), MODELS, (Alias("gpt", "sql-lora"),))]))

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


def multipart(fields: list[tuple[str, str]]) -> bytes:
    parts = (f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields)
    return "".join(parts).encode() + b"--b--\r\n"


fields = st.lists(
    st.tuples(st.sampled_from(["model", "file"]), names | st.integers(0, 99_000).map(lambda size: "x" * size)),
    max_size=3,
)


class Request(NamedTuple):
    """A body, what its header section says of it, and the pieces in which it comes."""

    body: bytes
    headers: dict[str, str]
    pieces: list[bytes]


@st.composite
def cuts(draw: st.DrawFn) -> Request:
    body, content_type = draw(
        st.one_of(
            st.tuples(bodies, st.just(JSON)),
            st.tuples(fields.map(urlencode).map(str.encode), st.just(FORM)),
            st.tuples(fields.map(multipart), st.just(MULTIPART)),
        )
    )
    headers = {"content-type": content_type}
    if draw(st.booleans()):
        body = gzip.compress(body, mtime=0)
        headers["content-encoding"] = "gzip"
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    edges = [0, *places, len(body)]
    return Request(body, headers, [body[start:end] for start, end in itertools.pairwise(edges)])


def answers(
    pieces: list[bytes],
    headers: dict[str, str],
    *,
    ending: str,
    policy: Policy = POLICIES[0],
    table: Registry = TABLE,
) -> tuple[Exchange, list[bytes]]:
    talk = Exchange(policy, table)
    sent = [request_headers(headers, mode=FDS)]
    sent += [request_body(piece) for piece in pieces[:-1]]
    if ending == "with the last piece":
        sent.append(request_body(pieces[-1], end_of_stream=True))
    else:
        sent.append(request_body(pieces[-1]))
        last = request_body(b"", end_of_stream=True) if ending == "alone" else request_trailers()
        sent.append(last)
    return talk, [reply for message in sent for reply in said(talk, message)]


ENDINGS = st.sampled_from(["with the last piece", "alone", "trailers"])


@given(cut=cuts(), ending=ENDINGS, policy=st.sampled_from(POLICIES))
def test_any_split_gives_the_same_answer(cut: Request, ending: str, policy: Policy) -> None:
    whole, expected = answers([cut.body], cut.headers, ending="with the last piece", policy=policy)
    talk, got = answers(cut.pieces, cut.headers, ending=ending, policy=policy)
    assert talk.verdict.outcome == whole.verdict.outcome
    assert talk.finish() == whole.finish()
    read_at_the_end = policy is POLICIES[0] and cut.headers == {"content-type": JSON}
    if whole.verdict.outcome is Outcome.REFUSED and not read_at_the_end:
        assert_never_completed(got)  # which of its faults is seen first depends on what has come
        return
    assert talk.verdict.reason == whole.verdict.reason
    assert (talk.verdict.model, talk.verdict.base_model) == (whole.verdict.model, whole.verdict.base_model)
    assert got[0] == expected[0]
    if talk.verdict.outcome is not Outcome.REFUSED:
        assert_body_goes_back(cut.body, got[1:], ending)


@st.composite
def aliased(draw: st.DrawFn) -> dict[str, object]:
    """Return a document that names an alias, somewhere among other members."""
    others = draw(st.dictionaries(st.text(max_size=8), values))
    items = [(name, value) for name, value in others.items() if name.lower() != "model"]
    items.insert(draw(st.integers(0, 8)), ("model", "gpt"))
    return {**dict(items), "text": "x" * draw(st.integers(0, 70_000))}


@given(
    document=aliased(),
    encoded=st.booleans(),
    places=st.lists(st.integers(0, 80_000), max_size=6),
    ending=ENDINGS,
    policy=st.sampled_from(CHANGING),
)
def test_any_split_of_a_body_that_is_changed_gives_the_same_one(
    document: dict[str, object], encoded: bool, places: list[int], ending: str, policy: Policy
) -> None:
    body = orjson.dumps(document)
    sent, headers = body, {"content-type": JSON}
    if encoded:
        sent, headers = gzip.compress(body, mtime=0), headers | {"content-encoding": "gzip"}
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    pieces = [sent[start:end] for start, end in itertools.pairwise(edges)]
    talk, got = answers(pieces, headers, ending=ending, policy=policy, table=ALIASED)
    assert (talk.verdict.outcome, talk.verdict.base_model) == (Outcome.ROUTED, "qwen")
    expected = orjson.dumps(document | {"model": "sql-lora"}) if policy.rewrites_body else body
    assert_body_goes_back(expected, got[1:], ending)


def assert_never_completed(replies: list[bytes]) -> None:
    """A refused body may have been routed early, by a model known before its fault; no upstream gets its end."""
    messages = [parse(reply) for reply in replies]
    assert messages[-1].WhichOneof("response") == "immediate_response"
    bodies_back = [each for each in messages if each.WhichOneof("response") == "request_body"]
    assert not any(each.request_body.response.body_mutation.streamed_response.end_of_stream for each in bodies_back)


@example(pieces=3, names=("qwen", "phi"))
@example(pieces=3, names=("llama", "phi"))
@given(pieces=st.integers(1, 40), names=st.tuples(names, names))
def test_a_form_with_two_models_is_never_let_through(pieces: int, names: tuple[str, str]) -> None:
    body = multipart([("model", name) for name in names])
    size = -(-len(body) // pieces)
    cut = [body[start : start + size] for start in range(0, len(body), size)]
    talk, replies = answers(cut, {"content-type": MULTIPART}, ending="alone", policy=POLICIES[1])
    assert talk.verdict.outcome is Outcome.REFUSED
    assert_never_completed(replies)


@given(cut=cuts(), ending=ENDINGS)
def test_unread_bodies_go_back_whole(cut: Request, ending: str) -> None:
    talk, got = answers(cut.pieces, {"content-type": "application/octet-stream"}, ending=ending)
    assert talk.verdict.outcome is Outcome.NOT_READ
    assert_body_goes_back(cut.body, got[1:], ending)


def assert_body_goes_back(body: bytes, replies: list[bytes], ending: str) -> None:
    messages = [parse(reply) for reply in replies]
    if ending == "trailers":
        assert messages.pop().WhichOneof("response") == "request_trailers"
    pieces = [message.request_body.response.body_mutation.streamed_response for message in messages]
    assert b"".join(piece.body for piece in pieces) == body
    ends = [piece.end_of_stream for piece in pieces]
    assert ends == ([False] * len(ends) if ending == "trailers" else [False] * (len(ends) - 1) + [True])
    assert all(len(piece.body) <= MAX_BODY_CHUNK_BYTES for piece in pieces)
