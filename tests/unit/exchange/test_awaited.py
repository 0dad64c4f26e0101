import gzip
import random

import pytest

from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit
from bbr.exchange.verdict import Outcome
from bbr.rpc.status import StatusCode
from bench.harness.conversation import (
    BUFFERED,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    exchange,
    kinds,
)
from bench.harness.messages import (
    JSON_POST,
    request_body,
    request_headers,
    request_trailers,
    response_headers,
    set_headers,
)

LONG = b'{"model":"qwen","x":"' + b"y" * 200 + b'"}'
PARTIAL, STREAMED = BodyMode.BUFFERED_PARTIAL, BodyMode.STREAMED
SHORT_AND_LONG = pytest.mark.parametrize("threshold", [10, 1 << 20])


@SHORT_AND_LONG
@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL, STREAMED])
def test_a_body_in_one_message_is_routed(mode: BodyMode, threshold: int) -> None:
    ledger = Ledger(1 << 20)
    talk = exchange(stream_threshold_bytes=threshold, ledger=ledger)
    headers, answer = converse(talk, request_headers(mode=mode), request_body(LONG, end_of_stream=True))
    assert_strips(headers)
    assert_routes(answer, "qwen", "qwen")
    assert (ledger.held_bytes, talk.finish().code) == (0, StatusCode.OK)


@SHORT_AND_LONG
def test_a_body_that_may_be_cut_off_is_not_routed(threshold: int) -> None:
    sent = request_headers(mode=PARTIAL), request_body(LONG)
    assert_refused(converse(exchange(stream_threshold_bytes=threshold), *sent), 413, "body-cut-off")
    sent = request_headers(mode=PARTIAL), request_body(LONG[:-1])
    assert_refused(converse(exchange(stream_threshold_bytes=threshold), *sent), 413, "body-cut-off")
    sent = request_headers(mode=PARTIAL), request_body(LONG.replace(b"model", b"mmmmm"))
    assert_strips(converse(exchange(stream_threshold_bytes=threshold), *sent)[-1])


@SHORT_AND_LONG
def test_pieces_are_answered_as_they_come_and_refused_in_the_end(threshold: int) -> None:
    talk = exchange(stream_threshold_bytes=threshold)
    pieces = [request_body(LONG[start : start + 50]) for start in range(0, len(LONG), 50)]
    answers = converse(talk, request_headers(mode=STREAMED), *pieces)
    assert kinds(answers[1:]) == ["request_body"] * len(pieces)
    for answer in answers:
        assert_strips(answer)
    assert_refused(converse(talk, request_body(b"", end_of_stream=True)), 500, "body-in-pieces")


@SHORT_AND_LONG
def test_pieces_that_end_by_trailers(threshold: int) -> None:
    for body, reason in ((LONG, "body-in-pieces"), (LONG.replace(b"model", b"mmmmm"), "")):
        talk = exchange(stream_threshold_bytes=threshold)
        sent = request_headers(mode=STREAMED), request_body(body[:100]), request_body(body[100:]), request_trailers()
        answers = converse(talk, *sent)
        assert talk.verdict.reason == reason
        assert kinds(answers)[-1] == ("immediate_response" if reason else "request_trailers")


def test_trailers_alone_end_a_form_without_a_body() -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    talk = exchange()
    answers = converse(talk, request_headers(form, mode=BUFFERED), request_trailers())
    assert kinds(answers) == ["request_headers", "request_trailers"]
    assert talk.verdict.outcome is Outcome.NO_BODY


def test_messages_that_come_too_early() -> None:
    for message, reason in ((request_body(b"x"), "body-twice"), (request_trailers(), "trailers-early")):
        ledger = Ledger(1 << 20)
        talk = exchange(stream_threshold_bytes=10, ledger=ledger)
        talk.receive(request_headers(mode=BUFFERED))
        talk.receive(request_body(LONG, end_of_stream=True))
        assert talk.receive(message) == ()
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.FAULT, reason)
        assert (talk.pending, ledger.held_bytes) == (False, 0)


def test_body_over_the_limit_passes_stripped_if_that_is_the_policy() -> None:
    for over_limit in OverLimit:
        talk = exchange(max_body_bytes=100, over_limit=over_limit)
        answers = converse(talk, request_headers(mode=BUFFERED), request_body(LONG, end_of_stream=True))
        if over_limit is OverLimit.PASS:
            assert_strips(answers[-1])
            assert talk.verdict.outcome is Outcome.OVER_LIMIT
        else:
            assert_refused(answers, 413, "body-too-large")


@SHORT_AND_LONG
def test_invalid_bodies_pass_stripped_if_that_is_the_policy(threshold: int) -> None:
    policy = {"stream_threshold_bytes": threshold, "on_invalid_json": InvalidJson.PASS_STRIPPED}
    body = LONG[:50] + b"\x01" + LONG[50:]
    for mode in (BUFFERED, STREAMED):
        talk = exchange(**policy)
        assert_strips(converse(talk, request_headers(mode=mode), request_body(body, end_of_stream=True))[-1])
        assert talk.verdict.outcome is Outcome.INVALID
    talk = exchange(**policy)
    answers = converse(talk, request_headers(mode=STREAMED), request_body(body), request_body(body))
    answers += converse(talk, request_body(b"", end_of_stream=True))
    assert kinds(answers) == ["request_headers"] + ["request_body"] * 3
    assert talk.verdict.outcome is Outcome.INVALID


def test_faults_in_mid_body_are_refused() -> None:
    talk = exchange(stream_threshold_bytes=10)
    answers = converse(talk, request_headers(mode=STREAMED), request_body(LONG[:100] + b"\x01"))
    assert_refused(answers, 400, "invalid-json")


def test_a_response_tells_that_no_body_comes() -> None:
    talk = exchange()
    converse(talk, request_headers(mode=BUFFERED), response_headers())
    assert (talk.verdict.outcome, talk.patience_seconds) == (Outcome.NO_BODY, None)


@pytest.mark.parametrize("fields", [{}, {"content-type": "application/x-www-form-urlencoded"}], ids=["JSON", "form"])
def test_trailers_that_follow_the_answer_to_a_body_that_was_read_as_it_came(fields: dict[str, str]) -> None:
    talk = exchange(stream_threshold_bytes=10)
    body = b"model=qwen" if fields else LONG
    answers = converse(talk, request_headers(fields, mode=BUFFERED), request_body(body), request_trailers())
    assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
    assert_routes(answers[1], "qwen", "qwen")
    assert talk.finish().code is StatusCode.OK


ENCODED = {**JSON_POST, "content-encoding": "gzip"}


class TestForwardDecoded:
    @pytest.mark.parametrize("mode", [BUFFERED, PARTIAL, STREAMED])
    @pytest.mark.parametrize("body", [LONG, b'{"x":1}'], ids=["a model", "no model"])
    def test_the_answer_brings_the_decoded_body(self, mode: BodyMode, body: bytes) -> None:
        ledger = Ledger(1 << 20)
        talk = exchange(forward_decoded=True, ledger=ledger)
        sent = request_body(gzip.compress(body), end_of_stream=True)
        headers, answer = converse(talk, request_headers(ENCODED, mode=mode), sent)
        assert_strips(headers)
        common = answer.request_body.response
        assert common.body_mutation.body == body
        assert set_headers(common.header_mutation)["content-length"] == b"%d" % len(body)
        assert {"content-encoding", "content-digest"} <= {*common.header_mutation.remove_headers}
        assert common.clear_route_cache
        assert (talk.verdict.decoded, ledger.held_bytes) == (True, 0)
        assert ("X-Gateway-Model-Name" in set_headers(common.header_mutation)) is (body == LONG)

    @pytest.mark.parametrize(
        ("body", "policy", "outcome"),
        [
            (b"NaN", {"on_invalid_json": InvalidJson.PASS_STRIPPED}, Outcome.INVALID),
            (LONG, {"max_body_bytes": 100, "over_limit": OverLimit.PASS}, Outcome.OVER_LIMIT),
        ],
        ids=["no JSON", "too large decoded"],
    )
    def test_what_passes_in_spite_of_a_fault_passes_as_it_came(self, body, policy, outcome) -> None:
        talk = exchange(forward_decoded=True, **policy)
        sent = request_body(gzip.compress(body), end_of_stream=True)
        assert_strips(converse(talk, request_headers(ENCODED, mode=BUFFERED), sent)[-1])
        assert (talk.verdict.outcome, talk.verdict.decoded) == (outcome, False)

    def test_pieces_that_are_upstream_already_stay_as_they_came(self) -> None:
        talk = exchange(forward_decoded=True)
        encoded = gzip.compress(b'{"x":1}')
        sent = [request_body(encoded[:5]), request_body(encoded[5:], end_of_stream=True)]
        answers = converse(talk, request_headers(ENCODED, mode=STREAMED), *sent)
        assert not any(answer.request_body.response.HasField("body_mutation") for answer in answers[1:])
        assert not talk.verdict.decoded

    @pytest.mark.parametrize(("mib", "refused"), [(4, True), (8, False)])
    def test_room_is_needed_to_put_a_large_one_together(self, mib: int, refused: bool) -> None:
        ledger = Ledger(mib << 20)
        talk = exchange(forward_decoded=True, ledger=ledger)
        body = b'{"model":"qwen","x":"%b"}' % random.Random(1).randbytes(700_000).hex().encode()
        sent = request_body(gzip.compress(body, 1), end_of_stream=True)
        answers = converse(talk, request_headers(ENCODED, mode=BUFFERED), sent)
        if refused:
            assert answers[-1].immediate_response.details == "bbr:no-room"
        else:
            assert answers[-1].request_body.response.body_mutation.body == body
            assert ledger.peak_bytes >= 3 * len(body)
        assert (ledger.held_bytes, ledger.long_bytes) == (0, 0)
