import gzip

import pytest

from bbr import refusal
from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.routing import Rules, UnknownModel
from bbr.models.steps import finish
from bbr.pb.ext_proc_pb2 import HeadersResponse, ProcessingResponse, TrailersResponse
from bbr.reading.templates import parse_templates
from bench.harness import messages
from bench.harness.conversation import BASE, BUFFERED, FDS, MODEL, converse, echoed, kinds
from bench.harness.messages import parse, request_body, request_headers, request_trailers, set_headers

TABLE, _ = finish(
    merging([Declaration(Origin(), (BaseModel("qwen", ("foo",)),), (Alias("gpt-4", "qwen"), Alias("gpt-3", "foo")))])
)
EMPTY = Rules(UnknownModel.EMPTY)


def exchange(registry=TABLE, replies=None, **policy):
    return Exchange(Policy(replies or Replies(GoRouter()), **{"rules": EMPTY, **policy}), registry)


def headers_of(answer):
    kind = answer.WhichOneof("response")
    return {name: value.decode() for name, value in set_headers(getattr(answer, kind).response.header_mutation).items()}


def ask(octets, registry=TABLE, **policy):
    """Return what is set for a body in BUFFERED."""
    (answer,) = converse(
        exchange(registry, assume_body_mode=BUFFERED, **policy), request_body(octets, end_of_stream=True)
    )
    return headers_of(answer)


NAMES = [
    pytest.param(b'"qwen"', {MODEL: "qwen", BASE: "qwen"}, id="base model"),
    pytest.param(b'"gpt-4"', {MODEL: "qwen", BASE: "qwen"}, id="alias"),
    pytest.param(b'"gpt-3 "', {MODEL: "foo", BASE: "qwen"}, id="alias with a blank"),
    pytest.param(b'" foo"', {MODEL: " foo", BASE: "qwen"}, id="a blank before"),
    pytest.param(b'" "', {MODEL: " ", BASE: ""}, id="blanks alone"),
    pytest.param(b'["a",1]', {MODEL: "[a 1]", BASE: ""}, id="an array"),
]


@pytest.mark.parametrize(("model", "headers"), NAMES)
def test_names(model, headers):
    assert ask(b'{"model":%s}' % model) == headers


def test_a_body_without_a_type_is_json():
    headers = request_headers({"hi": "mom"})
    first, *_ = converse(exchange(), headers, request_body(b'{"model":1}', end_of_stream=True))
    assert headers_of(first)[MODEL] == "1"


def test_without_a_table_nothing_is_known():
    assert ask(b'{"model":"x"}', Registry()) == {MODEL: "x", BASE: ""}


def test_an_operators_own_rule_counts():
    rules = Rules(UnknownModel.PASSTHROUGH)
    assert ask(b'{"model":"x"}', rules=rules) == {MODEL: "x", BASE: "x"}
    assert ask(b'{"model":" x"}', Registry(), rules=rules) == {MODEL: " x", BASE: "x"}


def form(**policy):
    talk = exchange(**policy)
    octets = b"model=foo&x=" + b"y" * 1000
    headers = request_headers({"content-type": "application/x-www-form-urlencoded"}, mode=FDS)
    return talk, octets, headers


def test_a_form_is_answered_at_its_end_too():
    talk, octets, headers = form()
    assert converse(talk, headers, request_body(octets[:500])) == []
    answer, *rest = converse(talk, request_body(octets[500:], end_of_stream=True))
    assert headers_of(answer) == {MODEL: "foo", BASE: "qwen", "Content-Length": str(len(octets))}
    assert echoed(rest) == (octets, [True])


def test_a_body_that_ends_by_trailers_has_no_length():
    talk, octets, headers = form()
    answer, piece, last = converse(talk, headers, request_body(octets), request_trailers())
    assert headers_of(answer) == {MODEL: "foo", BASE: "qwen"}
    assert piece.request_body.response.body_mutation.streamed_response.body == octets
    assert last == ProcessingResponse(request_trailers=TrailersResponse())


def test_a_form_without_a_model():
    talk = exchange()
    headers = request_headers({"content-type": "application/x-www-form-urlencoded"}, mode=FDS)
    answer, *_ = converse(talk, headers, request_body(b"x=y", end_of_stream=True))
    assert headers_of(answer) == {"Content-Length": "3"}


def test_an_encoded_body_is_read():
    octets = gzip.compress(b'{"model":"foo"}')
    headers = request_headers({"content-type": "application/json", "content-encoding": "gzip"}, mode=FDS)
    answer, *rest = converse(exchange(), headers, request_body(octets, end_of_stream=True))
    assert headers_of(answer) == {MODEL: "foo", BASE: "qwen", "Content-Length": str(len(octets))}
    assert echoed(rest) == (octets, [True])


LONG = [
    pytest.param(b'"foo"', {MODEL: "foo", BASE: "qwen"}, id="a name"),
    pytest.param(b'" foo "', {MODEL: " foo ", BASE: "qwen"}, id="a name with blanks"),
    pytest.param(b"1e6", {MODEL: "1e+06", BASE: ""}, id="a number"),
    pytest.param(b'""', {BASE: ""}, id="nothing"),
]


@pytest.mark.parametrize("size", [10, 50, 10_000])
@pytest.mark.parametrize(("model", "headers"), LONG)
def test_a_long_body_is_read_as_it_comes_and_answered_at_its_end(model, headers, size):
    octets = b'{"x":"%s","model":%s,"y":[%s0]}' % (b"x" * 5000, model, b"1," * 5000)
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
    talk = exchange(stream_threshold_bytes=1000)
    *before, last = [request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces]
    assert converse(talk, request_headers(mode=FDS), *before) == []
    answer, *rest = converse(talk, last)
    assert headers_of(answer) == {**headers, "Content-Length": str(len(octets))}
    assert echoed(rest)[0] == octets
    talk = exchange(stream_threshold_bytes=1000, assume_body_mode=BUFFERED)
    (answer,) = converse(talk, request_body(octets, end_of_stream=True))
    assert headers_of(answer) == headers


def test_a_body_over_the_limit_that_may_pass():
    talk = exchange(max_body_bytes=20, over_limit=OverLimit.PASS)
    octets = b'{"prompt":"0123456789","model":"foo"}'
    answers = converse(talk, request_headers(mode=FDS), request_body(octets), request_body(end_of_stream=True))
    assert answers[0] == ProcessingResponse(request_headers=HeadersResponse())
    assert echoed(answers[1:]) == (octets, [False, True])


def test_a_body_that_is_no_json_may_pass():
    talk = exchange(on_invalid_json=InvalidJson.PASS_STRIPPED)
    answer, *_ = converse(talk, request_headers(mode=FDS), request_body(b"{", end_of_stream=True))
    assert headers_of(answer) == {"Content-Length": "1"}


def test_nothing_is_held_afterwards():
    ledger = Ledger(100)
    talk = exchange(ledger=ledger)
    converse(talk, request_headers(mode=FDS), request_body(b'{"model":'), request_body(b'"foo"}', end_of_stream=True))
    assert ledger.held_bytes == 0


def test_an_upgrade_passes_and_a_gateway_is_asked_for_no_body():
    (answer,) = converse(exchange(), request_headers({"upgrade": "websocket"}, mode=BUFFERED))
    assert not answer.request_headers.HasField("response")
    assert answer.HasField("mode_override")


def test_headers_that_an_operator_wants_stripped_are():
    replies = Replies(GoRouter(strip_headers=["x-tenant"]))
    for answer in (replies.stripped(), replies.stripped_unbuffered(), replies.decided(None, "no-model", 3)):
        assert list(parse(answer).request_headers.response.header_mutation.remove_headers) == ["x-tenant"]
    assert list(parse(replies.request_trailers).request_trailers.header_mutation.remove_headers) == ["x-tenant"]


def test_other_spellings_of_what_an_operator_wants_stripped_are_stripped():
    made = GoRouter(strip_headers=["x-tenant"])
    assert made.guarded.is_stray("x_tenant")
    assert not made.guarded.is_stray("x_gateway_model_name")  # theirs remove no routing header
    other = Replies(made).stripping_also(["x_tenant"])
    assert list(parse(other.stripped()).request_headers.response.header_mutation.remove_headers) == [
        "x-tenant",
        "x_tenant",
    ]
    assert made.headers("m", "b", None).response.header_mutation.remove_headers == ["x-tenant"]


def test_metadata_is_told():
    replies = Replies(GoRouter(), metadata_namespace="bbr")
    told = (
        parse(replies.decided(("foo", "qwen", "gpt-3"), "routed", 3)).dynamic_metadata.fields["bbr"].struct_value.fields
    )
    assert {name: value.string_value for name, value in told.items()} == {
        "outcome": "routed",
        "requested_model": "gpt-3",
        "base_model": "qwen",
    }


ERRORS = [
    (refusal.model_not_found("x"), "NotFound"),
    (refusal.body_too_large(9), "BadRequest"),
    (refusal.headers_not_sent(), "Internal"),
    (refusal.no_room(), "ServiceUnavailable"),
]


@pytest.mark.parametrize(("refused", "code"), ERRORS, ids=lambda value: str(getattr(value, "reason", value)))
def test_errors_are_text(refused, code):
    answer = parse(Replies(GoRouter()).refuse(refused)).immediate_response
    assert answer.body.decode() == f"inference error: {code} - {refused.message}"
    assert (answer.status.code, answer.details) == (refused.status, "")
    assert set_headers(answer.headers) == dict(refused.headers)


def test_a_refusal_ends_the_stream():
    talk = exchange()
    answers = converse(talk, messages.request_headers(mode=FDS), request_body(b"{", end_of_stream=True))
    assert kinds(answers) == ["immediate_response"]
    assert talk.end is not None
    assert talk.verdict.reason == "invalid-json"


def test_no_length_is_told_of_a_body_that_goes_on_before_its_end():
    talk = exchange(path_templates=parse_templates("/m/{model}/x"))
    fields = {":method": "POST", ":path": "/m/qwen/x", "content-type": "text/plain"}
    answers = converse(talk, request_headers(fields, mode=FDS), request_body(b"x" * 500))
    assert headers_of(answers[0]) == {MODEL: "qwen", BASE: "qwen"}
    answers += converse(talk, request_body(b"y" * 100_000, end_of_stream=True))
    assert echoed(answers[1:])[0] == b"x" * 500 + b"y" * 100_000
