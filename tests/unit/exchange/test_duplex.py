import gzip
import random

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import InvalidJson, OverLimit, Policy
from bbr.exchange.replies import CHANGED_HEADERS, Replies
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.rpc.status import StatusCode
from bench.harness.conversation import (
    FDS,
    TABLE,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    echoed,
    exchange,
    kinds,
)
from bench.harness.messages import JSON_POST, request_body, request_headers, request_trailers, set_headers

FIRST = b'{"model":"qwen","x":"' + b"y" * 200 + b'"}'
LAST = b'{"x":"' + b"y" * 200 + b'","model":"qwen"}'
GZIP = {**JSON_POST, "content-encoding": "gzip"}


def pieces(body: bytes, step: int = 50) -> list[bytes]:
    return [request_body(body[start : start + step]) for start in range(0, len(body), step)]


def test_model_first_is_routed_before_the_end() -> None:
    talk = exchange(stream_threshold_bytes=10)
    first, *rest = converse(talk, request_headers(mode=FDS), *pieces(FIRST))
    assert_routes(first, "qwen", "qwen")
    octets, ends = echoed(rest)
    assert FIRST.startswith(octets)
    assert b"}" not in octets
    assert not any(ends)
    assert (talk.verdict.early, talk.patience_seconds) == (True, 60.0)
    more, ends = echoed(converse(talk, request_body(b"", end_of_stream=True)))
    assert octets + more == FIRST
    assert ends[-1:] == [True]
    assert (talk.patience_seconds, talk.finish().code) == (None, StatusCode.OK)


def test_model_last_is_held_and_right() -> None:
    talk = exchange(stream_threshold_bytes=10)
    sent = pieces(LAST)
    assert converse(talk, request_headers(mode=FDS), *sent[:-1]) == []
    answers = converse(talk, sent[-1], request_body(b"", end_of_stream=True))
    assert_routes(answers[0], "qwen", "qwen")
    assert echoed(answers[1:])[0] == LAST


def test_end_with_the_last_piece_and_no_model() -> None:
    talk = exchange(stream_threshold_bytes=10)
    body = b'{"x":"' + b"y" * 100 + b'"}'
    answers = converse(talk, request_headers(mode=FDS), request_body(body, end_of_stream=True))
    assert_strips(answers[0])
    assert echoed(answers[1:]) == (body, [True])
    assert talk.verdict.outcome is Outcome.NO_MODEL


def test_a_body_that_ends_by_trailers() -> None:
    talk = exchange(stream_threshold_bytes=10)
    answers = converse(talk, request_headers(mode=FDS), *pieces(FIRST), request_trailers(), request_trailers())
    assert kinds(answers)[-1] == "request_trailers"
    octets, ends = echoed(answers[1:-1])
    assert octets == FIRST
    assert not any(ends)
    assert talk.verdict.late_bodies == 1


def test_what_comes_after_the_end_while_it_is_read_is_dropped() -> None:
    talk = exchange(stream_threshold_bytes=10)
    talk.receive(request_headers(mode=FDS))
    talk.receive(request_body(FIRST, end_of_stream=True))
    assert (talk.pending, talk.patience_seconds) == (True, None)
    assert talk.receive(request_body(b"", end_of_stream=True)) == ()
    assert talk.receive(request_trailers()) == ()
    assert talk.verdict.late_bodies == 2
    answers = []
    while talk.pending:
        answers += talk.work()
    assert len(answers) == 2
    assert talk.work() == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FIRST[:-1], "invalid-json"),
        (FIRST + b"x", "trailing-bytes"),
        (FIRST[:-1] + b',"model":"foo"}', "model-duplicate"),
    ],
)
def test_a_fault_behind_the_model_ends_the_request(body: bytes, reason: str) -> None:
    ledger = Ledger(1 << 20)
    talk = exchange(stream_threshold_bytes=10, ledger=ledger)
    answers = converse(talk, request_headers(mode=FDS), *pieces(body), request_body(b"", end_of_stream=True))
    assert_routes(answers[0], "qwen", "qwen")
    assert not any(echoed(answers[1:-1])[1])
    assert_refused(answers, 400, reason)
    assert (talk.verdict.outcome, ledger.held_bytes) == (Outcome.REFUSED, 0)


def test_unknown_and_unusable_models_are_refused_before_the_end() -> None:
    for model, status, reason in ((b'"llama"', 404, "model-not-found"), (b"7", 400, "model-not-string")):
        sent = request_headers(mode=FDS), request_body(b'{"model":' + model + b',"x":"' + b"y" * 50)
        assert_refused(converse(exchange(stream_threshold_bytes=10), *sent), status, reason)


def test_body_that_stands_still_in_mid_stream() -> None:
    talk = exchange(stream_threshold_bytes=10)
    converse(talk, request_headers(mode=FDS), *pieces(FIRST)[:2])
    (answer,) = talk.expire()
    assert b"bbr:body-timeout" in answer


class TestOverLimit:
    def test_reject(self) -> None:
        for body in (FIRST, LAST):
            talk = exchange(max_body_bytes=100)
            assert_refused(converse(talk, request_headers(mode=FDS), *pieces(body)), 413, "body-too-large")

    def test_pass(self) -> None:
        talk = exchange(max_body_bytes=100, over_limit=OverLimit.PASS)
        sent = [*pieces(LAST), request_body(b"", end_of_stream=True)]
        answers = converse(talk, request_headers({**JSON_POST, "content-length": "500"}, mode=FDS), *sent)
        assert_strips(answers[0])
        octets, ends = echoed(answers[1:])
        assert (octets, ends[-1]) == (LAST, True)
        assert talk.verdict.outcome is Outcome.OVER_LIMIT

    def test_pass_does_not_keep_a_body_from_its_route(self) -> None:
        talk = exchange(max_body_bytes=100, over_limit=OverLimit.PASS)
        sent = [*pieces(FIRST), request_body(b"", end_of_stream=True)]
        answers = converse(talk, request_headers(mode=FDS), *sent)
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:])[0] == FIRST

    def test_pass_what_is_too_large_when_decoded(self) -> None:
        body = gzip.compress(LAST)
        sent = [request_headers(GZIP, mode=FDS), request_body(body, end_of_stream=True)]
        answers = converse(exchange(max_body_bytes=150, over_limit=OverLimit.PASS), *sent)
        assert_strips(answers[0])
        assert echoed(answers[1:]) == (body, [True])
        assert_refused(converse(exchange(max_body_bytes=150), *sent), 413, "decoded-too-large")


PASS_STRIPPED: dict[str, object] = {"stream_threshold_bytes": 10, "on_invalid_json": InvalidJson.PASS_STRIPPED}


class TestPassStripped:
    def test_nothing_goes_on_before_the_end(self) -> None:
        talk = exchange(**PASS_STRIPPED)
        assert converse(talk, request_headers(mode=FDS), *pieces(FIRST)) == []
        answers = converse(talk, request_body(b"", end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:])[0] == FIRST

    def test_a_fault_lets_it_go_on(self) -> None:
        talk = exchange(**PASS_STRIPPED)
        body = b'{"x":NaN,' + FIRST[1:]
        answers = converse(talk, request_headers(mode=FDS), *pieces(body))
        assert_strips(answers[0])
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.INVALID, "non-finite-number")
        answers += converse(talk, request_body(b"", end_of_stream=True))
        octets, ends = echoed(answers[1:])
        assert (octets, ends[-1]) == (body, True)

    def test_two_models_are_refused_all_the_same(self) -> None:
        body = FIRST[:-1] + b',"model":"foo"}'
        answers = converse(exchange(**PASS_STRIPPED), request_headers(mode=FDS), request_body(body, end_of_stream=True))
        assert_refused(answers, 400, "model-duplicate")


def test_encoded_body_comes_back_as_it_was() -> None:
    body = gzip.compress(FIRST)
    answers = converse(exchange(), request_headers(GZIP, mode=FDS), *pieces(body, 7), request_trailers())
    assert_routes(answers[0], "qwen", "qwen")
    assert echoed(answers[1:-1])[0] == body


DECODED: dict[str, object] = {"stream_threshold_bytes": 10, "forward_decoded": True}


def removed(answer: ProcessingResponse) -> list[str]:
    return [name for name in answer.request_headers.response.header_mutation.remove_headers if name in CHANGED_HEADERS]


class TestForwardDecoded:
    @pytest.mark.parametrize("body", [FIRST, LAST, b'{"x":1}', b""], ids=["first", "last", "no model", "nothing"])
    @pytest.mark.parametrize("trailers", [False, True])
    def test_what_goes_on_is_decoded(self, body: bytes, trailers: bool) -> None:
        talk = exchange(**DECODED)
        sent = pieces(gzip.compress(body) if body else b"", 7)
        end = request_trailers() if trailers else request_body(b"", end_of_stream=True)
        answers = converse(talk, request_headers(GZIP, mode=FDS), *sent, end)
        assert removed(answers[0]) == list(CHANGED_HEADERS)
        octets, ends = echoed(answers[1:-1] if trailers else answers[1:])
        assert octets == body
        assert ends[-1:] == ([False] if trailers and body else [] if trailers else [True])
        assert talk.verdict.decoded
        assert talk.finish().code is StatusCode.OK

    def test_it_goes_on_before_its_end(self) -> None:
        talk = exchange(**DECODED)
        body = b'{"model":"qwen","x":"' + random.Random(7).randbytes(100_000).hex().encode() + b'"}'
        encoded = gzip.compress(body)
        answers = converse(talk, request_headers(GZIP, mode=FDS), request_body(encoded[:60_000]))
        assert talk.verdict.early
        octets, _ = echoed(answers[1:])
        assert body.startswith(octets)
        assert len(octets) > 60_000
        answers += converse(talk, request_body(encoded[60_000:], end_of_stream=True))
        assert echoed(answers[1:])[0] == body

    def test_a_length_that_is_told_is_that_of_what_goes_on(self) -> None:
        policy = Policy(Replies(GoRouter()), stream_threshold_bytes=10, forward_decoded=True)
        answers = converse(
            Exchange(policy, TABLE),
            request_headers(GZIP, mode=FDS),
            *pieces(gzip.compress(LAST)),
            request_body(b"", end_of_stream=True),
        )
        mutation = answers[0].request_headers.response.header_mutation
        assert set_headers(mutation)["Content-Length"] == b"%d" % len(LAST)

    def test_a_fault_lets_it_go_on_decoded_to_its_end(self) -> None:
        talk = exchange(**DECODED, on_invalid_json=InvalidJson.PASS_STRIPPED)
        body = b'{"x":NaN,' + b"".join(b'"%d":%d,' % (number, number) for number in range(9_000))
        answers = converse(talk, request_headers(GZIP, mode=FDS), *pieces(gzip.compress(body), 5_000))
        assert talk.verdict.outcome is Outcome.INVALID
        answers += converse(talk, request_body(b"", end_of_stream=True))
        octets, ends = echoed(answers[1:])
        assert (octets, ends[-1]) == (body, True)

    def test_a_fault_of_the_coding_behind_that_is_refused(self) -> None:
        talk = exchange(**DECODED, on_invalid_json=InvalidJson.PASS_STRIPPED)
        encoded = gzip.compress(b'{"x":NaN,' + random.Random(7).randbytes(50_000).hex().encode())
        converse(talk, request_headers(GZIP, mode=FDS), request_body(encoded[:30_000]))
        answers = converse(talk, request_body(b"", end_of_stream=True))
        assert_refused(answers, 400, "encoding-cut-off")

    @pytest.mark.parametrize(
        ("body", "level", "limit", "reason"),
        [(b'{"x":"' + b"y" * 200 + b'"}', 0, 210, "body-too-large"), (LAST, 9, 150, "decoded-too-large")],
        ids=["as it comes", "decoded"],
    )
    def test_beyond_the_limit_it_is_refused_since_it_cannot_pass_as_it_came(
        self, body: bytes, level: int, limit: int, reason: str
    ) -> None:
        talk = exchange(**DECODED, max_body_bytes=limit, over_limit=OverLimit.PASS)
        sent = pieces(gzip.compress(body, level))
        assert_refused(converse(talk, request_headers(GZIP, mode=FDS), *sent), 413, reason)

    def test_other_bodies_go_on_as_they_came(self) -> None:
        for headers, body in ((JSON_POST, FIRST), ({**GZIP, "content-type": "audio/wav"}, gzip.compress(b"RIFF"))):
            talk = exchange(**DECODED)
            answers = converse(talk, request_headers(headers, mode=FDS), request_body(body, end_of_stream=True))
            assert removed(answers[0]) == []
            assert echoed(answers[1:])[0] == body
            assert not talk.verdict.decoded
