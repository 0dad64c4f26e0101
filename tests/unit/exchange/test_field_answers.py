"""What answers say of the body's fields, in both kinds of body mode."""

import gzip
from hashlib import sha256

import pytest

from bbr.exchange.convention import Convention, Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.routing import Rules, UnknownModel
from bbr.models.steps import finish
from bbr.pb.ext_proc_pb2 import CommonResponse, ProcessingResponse
from bbr.reading.fields import BodyField, BodyFields
from bench.harness.conversation import BUFFERED, FDS, TABLE, assert_refused, converse, echoed
from bench.harness.messages import JSON_POST, request_body, request_headers, request_trailers, set_headers

EARLY_BYTES = 64
FIELDS = BodyFields(
    [
        BodyField("user", "X-User"),
        BodyField("metadata.id", "x-id", hashed=True),
        BodyField("stream", "x-s", early=True),
    ],
    EARLY_BYTES,
)
WHOLE = BodyFields([BodyField("user", "X-User")], EARLY_BYTES)
EARLY = BodyFields([BodyField("user", "X-User", early=True)], EARLY_BYTES)
TARGETS = ["x-user", "x-id", "x-s"]
BODY = b'{"model":"qwen","user":"bob","metadata":{"id":"7"}}'
DIGEST = sha256(b"7").hexdigest().encode()
MODES = pytest.mark.parametrize("mode", [FDS, BUFFERED])


def exchange(fields: BodyFields = FIELDS, convention: Convention | None = None, **policy: object) -> Exchange:
    replies = Replies(convention or Ours(fields=fields))
    return Exchange(Policy(replies, **policy), TABLE)  # type: ignore[arg-type]


def told(answer: ProcessingResponse) -> CommonResponse:
    common: CommonResponse = getattr(answer, answer.WhichOneof("response") or "").response
    return common


def headers(answer: ProcessingResponse) -> tuple[dict[str, bytes], list[str]]:
    """Return what an answer sets of the fields' headers, and what it removes of them; never both of one."""
    mutation = told(answer).header_mutation
    found = {name: value for name, value in set_headers(mutation).items() if name.lower() in TARGETS}
    removed = [name for name in mutation.remove_headers if name in TARGETS]
    assert len(set(mutation.remove_headers)) == len(mutation.remove_headers)
    assert not {name.lower() for name in found} & set(removed)
    assert told(answer).clear_route_cache
    return found, removed


def sent(body: bytes, mode: BodyMode, fields: dict[str, str] = JSON_POST) -> tuple[bytes, bytes]:
    return request_headers(fields, mode=mode), request_body(body, end_of_stream=True)


def decided(talk: Exchange, body: bytes, mode: BodyMode, fields: dict[str, str] = JSON_POST) -> ProcessingResponse:
    """Return the answer that decides a body in one piece."""
    answers = converse(talk, *sent(body, mode, fields))
    if mode is FDS:
        return answers[0]
    assert headers(answers[0]) == ({}, TARGETS[: len(talk._request.policy.fields.fields)])  # type: ignore[union-attr]
    return answers[1]


@MODES
@pytest.mark.parametrize("threshold", [1 << 20, 10], ids=["short", "long"])
def test_headers_are_set_and_the_client_s_own_removed(mode: BodyMode, threshold: int) -> None:
    talk = exchange(stream_threshold_bytes=threshold)
    answer = decided(talk, BODY, mode)
    assert headers(answer) == ({"X-User": b"bob", "x-id": DIGEST}, ["x-s"])
    assert set_headers(told(answer).header_mutation)["X-Gateway-Model-Name"] == b"qwen"
    assert talk.verdict.fields is not None
    assert talk.verdict.fields.values == [b"bob", DIGEST, None]


@MODES
def test_a_body_without_a_model_has_fields_all_the_same(mode: BodyMode) -> None:
    talk = exchange()
    answer = decided(talk, b'{"user":"bob","stream":true}', mode)
    assert headers(answer) == ({"X-User": b"bob", "x-s": b"true"}, ["x-id"])
    assert "X-Gateway-Model-Name" in told(answer).header_mutation.remove_headers
    assert talk.verdict.outcome is Outcome.NO_MODEL


@MODES
@pytest.mark.parametrize("threshold", [1 << 20, 10], ids=["short", "long"])
def test_a_refused_field_refuses_the_request(mode: BodyMode, threshold: int) -> None:
    talk = exchange(stream_threshold_bytes=threshold)
    answers = converse(talk, *sent(b'{"model":"qwen","user":"bob","user":"eve"}', mode))
    assert "`user` occurs twice" in assert_refused(answers, 400, "field-duplicate")
    assert talk.verdict.fields is not None
    assert talk.verdict.fields.refusal is not None
    assert talk.verdict.fields.refusal.param == "user"


@MODES
def test_another_refusal_is_no_field_s(mode: BodyMode) -> None:
    talk = exchange()
    assert_refused(converse(talk, *sent(b'{"model":7,"user":"bob"}', mode)), 400, "model-not-string")
    assert talk.verdict.fields is None


@MODES
@pytest.mark.parametrize("body", [BODY, b'{"x":"%b",%b' % (b"y" * 200_000, BODY[1:])], ids=["short", "long"])
def test_encoded_bodies(mode: BodyMode, body: bytes) -> None:
    coded = {**JSON_POST, "content-encoding": "gzip"}
    answer = decided(exchange(stream_threshold_bytes=1_000), gzip.compress(body), mode, coded)
    assert headers(answer)[0] == {"X-User": b"bob", "x-id": DIGEST}
    decoding = exchange(stream_threshold_bytes=1_000, forward_decoded=True)
    answer = decided(decoding, gzip.compress(body), mode, coded)
    assert headers(answer)[0] == {"X-User": b"bob", "x-id": DIGEST}
    assert "content-encoding" in told(answer).header_mutation.remove_headers


@MODES
@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("application/x-www-form-urlencoded", b"model=qwen&user=bob", {}),
        ("application/x-www-form-urlencoded", BODY, {"X-User": b"bob", "x-id": DIGEST}),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nqwen\r\n--b--',
            {},
        ),
        ("text/plain", BODY, {"X-User": b"bob", "x-id": DIGEST}),
        ("text/html", BODY, {}),
    ],
)
def test_other_types(mode: BodyMode, content_type: str, body: bytes, found: dict[str, bytes]) -> None:
    fields = {"content-type": content_type, "content-length": str(len(body))}
    answers = converse(exchange(), *sent(body, mode, fields))
    last = next(answer for answer in reversed(answers) if told(answer).HasField("header_mutation"))
    assert headers(last) == (found, [name for name in TARGETS if name not in {each.lower() for each in found}])


@MODES
def test_a_decoded_form_has_no_fields(mode: BodyMode) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", "content-encoding": "gzip"}
    answer = decided(exchange(forward_decoded=True), gzip.compress(b"model=qwen&user=bob"), mode, form)
    assert headers(answer) == ({}, TARGETS)
    assert set_headers(told(answer).header_mutation)["X-Gateway-Model-Name"] == b"qwen"


@MODES
def test_a_body_of_two_types(mode: BodyMode) -> None:
    fields = {"content-type": "application/json, multipart/form-data; boundary=b"}
    answer = decided(exchange(), BODY, mode, fields)
    assert headers(answer)[0] == {"X-User": b"bob", "x-id": DIGEST}


@MODES
def test_bodies_that_may_pass_unread_are_stripped(mode: BodyMode) -> None:
    talk = exchange(on_invalid_json=InvalidJson.PASS_STRIPPED)
    assert headers(decided(talk, b'{"user":"bob",}', mode)) == ({}, TARGETS)
    assert talk.verdict.outcome is Outcome.INVALID
    assert talk.verdict.fields is None
    talk = exchange()
    text = {"content-type": "text/plain", "content-length": "14"}
    assert headers(decided(talk, b'{"user":"bob"}', mode, text)) == ({}, TARGETS)
    assert talk.verdict.outcome is Outcome.NOT_READ


def test_a_client_s_own_are_removed_where_no_body_is_read() -> None:
    (answer,) = converse(exchange(), request_headers(mode=FDS, end_of_stream=True))
    assert headers(answer) == ({}, TARGETS)
    talk = exchange(query_model_paths=frozenset([b"/v1/realtime"]))
    (answer,) = converse(talk, request_headers({":path": "/v1/realtime?model=qwen"}, mode=FDS, end_of_stream=True))
    assert headers(answer) == ({}, TARGETS)
    assert talk.verdict.outcome is Outcome.ROUTED


def test_other_spellings_of_a_client_s_are_removed_too_and_trailers() -> None:
    talk = exchange()
    answers = converse(
        talk,
        request_headers({**JSON_POST, "x_user": "eve", "X-User": "eve"}, mode=FDS),
        request_body(BODY),
        request_trailers({"x-user": "eve", "x_id": "eve"}),
    )
    assert headers(answers[0]) == ({"X-User": b"bob", "x-id": DIGEST}, ["x-s"])
    assert "x_user" in told(answers[0]).header_mutation.remove_headers
    removed = answers[-1].request_trailers.header_mutation.remove_headers
    assert set(removed) >= {"x-user", "x-id", "x-s", "x_id"}


def long(*, first: bool, size: int = 2_000) -> bytes:
    """A long body with its user right behind the model, or at its end."""
    user, filling = b'"user":"bob",', b'"x":"%b",' % (b"y" * size)
    return b'{"model":"qwen",%b"n":1}' % (user + filling if first else filling + user)


def pieces(body: bytes, step: int = 100) -> list[bytes]:
    return [request_body(body[at : at + step]) for at in range(0, len(body), step)]


def test_a_long_body_goes_on_as_soon_as_model_and_field_are_known() -> None:
    talk = exchange(WHOLE, stream_threshold_bytes=10)
    answers = converse(talk, request_headers(mode=FDS), *pieces(long(first=True))[:5])
    assert headers(answers[0]) == ({"X-User": b"bob"}, [])
    assert talk.verdict.early
    assert echoed(answers[1:])[0] == long(first=True)[:500]


def test_a_long_body_waits_for_a_field_at_its_end() -> None:
    talk = exchange(WHOLE, stream_threshold_bytes=10)
    *most, last = pieces(long(first=False))
    assert converse(talk, request_headers(mode=FDS), *most[:-1]) == []
    answers = converse(talk, most[-1], last, request_body(end_of_stream=True))
    assert headers(answers[0]) == ({"X-User": b"bob"}, [])
    assert echoed(answers[1:])[0] == long(first=False)


@pytest.mark.parametrize("first", [False, True])
def test_an_early_field_is_not_waited_for(first: bool) -> None:
    talk = exchange(EARLY, stream_threshold_bytes=10)
    body = long(first=first)
    answers = converse(talk, request_headers(mode=FDS), *pieces(body)[:3])
    assert headers(answers[0]) == (({"X-User": b"bob"}, []) if first else ({}, ["x-user"]))
    rest = converse(talk, *pieces(body)[3:], request_body(end_of_stream=True))
    assert echoed(answers[1:])[0] + echoed(rest)[0] == body
    assert talk.verdict.fields is not None
    assert tuple(talk.verdict.fields.late) == (() if first else (0,))


def test_a_second_one_behind_the_release_ends_the_request() -> None:
    talk = exchange(WHOLE, stream_threshold_bytes=10)
    body = long(first=True).replace(b'"n":1', b'"user":"eve"')
    answers = converse(talk, request_headers(mode=FDS), *pieces(body))
    assert talk.verdict.early
    assert_refused(answers, 400, "field-duplicate")


def test_a_field_is_waited_for_up_to_the_limit_of_a_body() -> None:
    talk = exchange(WHOLE, stream_threshold_bytes=10, max_body_bytes=1_000, over_limit=OverLimit.PASS)
    sent_ = pieces(long(first=False))
    assert converse(talk, request_headers(mode=FDS), *sent_[:10]) == []
    answers = converse(talk, sent_[10])
    assert headers(answers[0]) == ({}, ["x-user"])
    assert set_headers(told(answers[0]).header_mutation)["X-Gateway-Model-Name"] == b"qwen"


@MODES
def test_a_replaced_model(mode: BodyMode) -> None:
    table, _ = finish(merging([Declaration(Origin(), (BaseModel("qwen"),), (Alias("gpt", "qwen"),))]))
    for threshold in (1 << 20, 10):
        policy = Policy(Replies(Ours(fields=WHOLE)), rewrites_body=True, stream_threshold_bytes=threshold)
        answers = converse(Exchange(policy, table), *sent(b'{"model":"gpt","user":"bob"}', mode))
        answer = answers[0] if mode is FDS else answers[1]
        assert headers(answer) == ({"X-User": b"bob"}, [])
        assert "content-digest" in told(answer).header_mutation.remove_headers


@MODES
@pytest.mark.parametrize("model", [b'"qwen"', b"7"])
def test_the_go_routers_convention(mode: BodyMode, model: bytes) -> None:
    fields = BodyFields([BodyField("user", "X-User")], 0)
    for user, threshold in ((b'"bob"', 1 << 20), (b'"bob"', 10), (b"[]", 1 << 20), (b"[]", 10)):
        talk = exchange(
            convention=GoRouter(fields=fields), rules=Rules(UnknownModel.EMPTY), stream_threshold_bytes=threshold
        )
        answers = converse(talk, *sent(b'{"model":%b,"user":%b}' % (model, user), mode))
        if user == b"[]":
            assert answers[-1].immediate_response.status.code == 400
            assert talk.verdict.reason == "field-type"
            continue
        answer = answers[0] if mode is FDS else answers[1]
        assert headers(answer) == ({"X-User": b"bob"}, [])
        assert not told(answer).header_mutation.set_headers[-1].append_action


def test_the_go_routers_convention_removes_a_client_s_own() -> None:
    talk = exchange(convention=GoRouter(fields=WHOLE))
    answers = converse(talk, request_headers(mode=FDS), request_body(b"{}"), request_trailers())
    assert headers(answers[0]) == ({}, ["x-user"])
    assert "x-user" in answers[-1].request_trailers.header_mutation.remove_headers


@pytest.mark.parametrize("mode", [BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL])
def test_modes_in_which_a_body_comes_too_late_strip(mode: BodyMode) -> None:
    talk = exchange()
    answers = converse(
        talk, request_headers(mode=mode), request_body(b'{"user":'), request_body(b'"bob"}', end_of_stream=True)
    )
    assert all(headers(answer)[0] == {} for answer in answers if answer.WhichOneof("response") != "immediate_response")
