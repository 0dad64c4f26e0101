"""The exchange as tables: messages in, answers out."""

import tracemalloc
from dataclasses import dataclass, field
from typing import ClassVar

import orjson
import pytest

from bbr.exchange import exchange as exchange_module
from bbr.exchange import replies
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import ProcessingMode
from bbr.rpc.status import OK, StatusCode
from bench.harness import messages
from bench.harness.conversation import (
    BASE,
    BODY,
    BUFFERED,
    DESTINATION,
    FDS,
    MODEL,
    NO_MODEL_BODY,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    echoed,
    exchange,
    kinds,
)
from bench.harness.messages import parse, request_body, request_headers, request_trailers


class TestFullDuplex:
    @pytest.mark.parametrize(
        ("body", "model", "base_model"),
        [
            pytest.param(BODY, "qwen", "qwen", id="base model"),
            pytest.param(b'{"model":"foo"}', "foo", "qwen", id="H5 adapter"),
            pytest.param(b'{"messages":[],"model":"1"}', "1", "qwen", id="model last"),
        ],
    )
    def test_headers_then_body(self, body: bytes, model: str, base_model: str) -> None:
        talk = exchange()
        assert converse(talk, request_headers(mode=FDS)) == []
        answers = converse(talk, request_body(body, end_of_stream=True))
        assert kinds(answers) == ["request_headers", "request_body"]
        assert_routes(answers[0], model, base_model)
        assert echoed(answers[1:]) == (body, [True])
        assert talk.verdict.outcome is Outcome.ROUTED
        assert (talk.verdict.model, talk.verdict.base_model) == (model, base_model)
        assert talk.verdict.body_bytes == len(body)
        assert talk.finish() == OK

    @pytest.mark.parametrize(
        ("size", "pieces"),
        [(61_999, 1), (62_000, 1), (62_001, 2), (124_000, 2), (124_001, 3), (1_000_000, 17)],
    )
    def test_body_goes_back_in_bounded_pieces(self, size: int, pieces: int) -> None:
        body = b'{"model":"qwen","prompt":"%s"}' % (b"x" * (size - 28))
        assert len(body) == size
        answers = converse(exchange(), request_headers(mode=FDS), request_body(body, end_of_stream=True))
        octets, ends = echoed(answers[1:])
        assert octets == body
        assert ends == [False] * (pieces - 1) + [True]
        chunks = [answer.request_body.response.body_mutation.streamed_response.body for answer in answers[1:]]
        assert max(map(len, chunks)) <= 62_000

    def test_tiny_pieces(self) -> None:
        body = b'{"model":"qwen","x":"%s"}' % (b"y" * 200)
        talk = exchange()
        talk.receive(request_headers(mode=FDS))
        for place in range(len(body)):
            assert not talk.receive(request_body(body[place : place + 1]))
        answers = converse(talk, request_body(b"", end_of_stream=True))
        assert echoed(answers[1:]) == (body, [True])

    def test_end_as_a_message_of_its_own(self) -> None:
        talk = exchange()
        assert converse(talk, request_headers(mode=FDS), request_body(BODY)) == []
        answers = converse(talk, request_body(b"", end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:]) == (BODY, [True])

    def test_body_ended_by_trailers(self) -> None:
        talk = exchange()
        assert converse(talk, request_headers(mode=FDS), request_body(BODY)) == []
        answers = converse(talk, request_trailers({"x-checksum": "1"}))
        assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:2]) == (BODY, [False])
        assert talk.finish() == OK

    def test_trailers_without_a_body(self) -> None:
        talk = exchange()
        answers = converse(talk, request_headers(mode=FDS), request_trailers())
        assert kinds(answers) == ["request_headers", "request_trailers"]
        assert_strips(answers[0])
        assert talk.verdict.outcome is Outcome.NO_MODEL

    @pytest.mark.parametrize("body", [b"", NO_MODEL_BODY, b"{}", b"[]", b"null", b'"model"', b'[{"model":"qwen"}]'])
    def test_no_model_is_stripped_and_passes(self, body: bytes) -> None:
        talk = exchange()
        answers = converse(talk, request_headers(mode=FDS), request_body(body, end_of_stream=True))
        assert_strips(answers[0])
        assert echoed(answers[1:]) == (body, [True])
        assert talk.verdict.outcome is Outcome.NO_MODEL
        assert talk.finish() == OK

    def test_repeated_end_of_stream_is_dropped_and_counted(self) -> None:
        talk = exchange()
        converse(talk, request_headers(mode=FDS), request_body(BODY, end_of_stream=True))
        repeated = [request_body(BODY[-5:], end_of_stream=True), request_body(b"", end_of_stream=True)]
        assert converse(talk, *repeated, request_trailers()) == []
        assert talk.verdict.late_bodies == 3
        assert talk.verdict.outcome is Outcome.ROUTED
        assert talk.finish() == OK

    @pytest.mark.parametrize("mode", [FDS, BUFFERED, BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL])
    def test_body_before_headers_is_refused_by_name(self, mode: BodyMode) -> None:
        for first in (request_body(BODY, mode=mode), request_trailers(mode=mode)):
            talk = exchange()
            assert "request_header_mode SEND" in assert_refused(converse(talk, first), 500, "headers-not-sent")


class TestBuffered:
    def test_strips_at_once_then_routes(self) -> None:
        talk = exchange()
        (first,) = converse(talk, request_headers(mode=BUFFERED))
        assert_strips(first)
        assert not first.HasField("mode_override")
        (second,) = converse(talk, request_body(BODY, end_of_stream=True))
        assert second.WhichOneof("response") == "request_body"
        assert_routes(second, "qwen", "qwen")
        assert not second.request_body.response.HasField("body_mutation")
        assert talk.finish() == OK

    def test_one_message_is_the_whole_body_even_without_its_end(self) -> None:
        answers = converse(exchange(), request_headers(mode=BUFFERED), request_body(BODY), request_trailers())
        assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
        assert_routes(answers[1], "qwen", "qwen")

    def test_headers_then_trailers(self) -> None:
        talk = exchange()
        answers = converse(talk, request_headers(mode=BUFFERED), request_trailers())
        assert kinds(answers) == ["request_headers", "request_trailers"]
        assert_strips(answers[0])
        assert talk.verdict.outcome is Outcome.NO_BODY

    def test_second_body_is_a_fault(self) -> None:
        talk = exchange()
        converse(talk, request_headers(mode=BUFFERED), request_body(BODY, end_of_stream=True))
        assert converse(talk, request_body(BODY, end_of_stream=True)) == []
        assert talk.end is not None
        assert talk.end.code is StatusCode.FAILED_PRECONDITION
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.FAULT, "body-twice")


class TestBodyMode:
    def test_protocol_config_decides_for_each_stream(self) -> None:
        assert converse(exchange(assume_body_mode=BUFFERED), request_headers(mode=FDS)) == []
        assert len(converse(exchange(assume_body_mode=FDS), request_headers(mode=BUFFERED))) == 1

    def test_without_protocol_config_the_assumed_mode_decides(self) -> None:
        assert converse(exchange(), request_headers()) == []
        assert len(converse(exchange(assume_body_mode=BUFFERED), request_headers())) == 1

    def test_it_stands_in_the_first_message_only(self) -> None:
        talk = exchange(assume_body_mode=BUFFERED)
        converse(talk, request_headers(mode=FDS), request_body(BODY, end_of_stream=True, mode=BUFFERED))
        assert talk.verdict.outcome is Outcome.ROUTED

    @pytest.mark.parametrize("mode", [BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL])
    def test_whole_body_in_one_piece_routes(self, mode: BodyMode) -> None:
        answers = converse(exchange(), request_headers(mode=mode), request_body(BODY, end_of_stream=True))
        assert_strips(answers[0])
        assert_routes(answers[1], "qwen", "qwen")


class TestForm:
    """`curl -d` sends JSON as application/x-www-form-urlencoded."""

    FORM: ClassVar[dict[str, str | bytes]] = {"content-type": "application/x-www-form-urlencoded"}

    @pytest.mark.parametrize("lead", [b"", b" \r\n"])
    def test_json_is_read_as_json(self, lead: bytes) -> None:
        answers = converse(
            exchange(),
            request_headers(self.FORM, mode=FDS),
            request_body(lead),
            request_body(BODY, end_of_stream=True),
        )
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:]) == (lead + BODY, [True])

    def test_model_of_a_form_is_routed_as_soon_as_it_is_known(self) -> None:
        talk = exchange()
        assert converse(talk, request_headers(self.FORM, mode=FDS), request_body(b"x=1&model=qwen")) == []
        (first,) = converse(talk, request_body(b"&x=" + b"y" * 50))[:1]
        assert_routes(first, "qwen", "qwen")
        assert echoed(converse(talk, request_body(b"x=y", end_of_stream=True)))[1] == [True]
        assert (talk.verdict.outcome, talk.verdict.early) == (Outcome.ROUTED, True)

    def test_form_in_a_string_of_a_document(self) -> None:
        body = b'{"x":"&model=b&"}'
        for mode in (FDS, BUFFERED):
            answers = converse(
                exchange(), request_headers(self.FORM, mode=mode), request_body(body, end_of_stream=True)
            )
            assert_refused(answers, 400, "form-model")

    def test_whole_form_in_one_piece(self) -> None:
        answers = converse(exchange(), request_headers(self.FORM, mode=FDS), request_body(b"a=b", end_of_stream=True))
        assert echoed(answers[1:]) == (b"a=b", [True])

    @pytest.mark.parametrize("body", [b"", b"  "])
    def test_blank_form_passes(self, body: bytes) -> None:
        answers = converse(exchange(), request_headers(self.FORM, mode=FDS), request_body(body, end_of_stream=True))
        assert_strips(answers[0])
        assert echoed(answers[1:]) == (body, [True])
        answers = converse(exchange(), request_headers(self.FORM, mode=FDS), request_body(body), request_trailers())
        assert kinds(answers)[0 :: len(answers) - 1] == ["request_headers", "request_trailers"]
        assert echoed(answers[1:-1]) == (body, [False] if body else [])

    def test_endless_blanks_are_refused_or_pass(self) -> None:
        for over_limit, check in (
            (OverLimit.REJECT, lambda a: assert_refused(a, 413, "body-too-large")),
            (OverLimit.PASS, lambda a: assert_strips(a[0])),
        ):
            talk = exchange(max_body_bytes=10, over_limit=over_limit)
            assert converse(talk, request_headers(self.FORM, mode=FDS), request_body(b" " * 10)) == []
            check(converse(talk, request_body(b" ")))

    def test_announced_length_is_refused(self) -> None:
        talk = exchange(max_body_bytes=10)
        assert_refused(
            converse(talk, request_headers({**self.FORM, "content-length": "65"}, mode=FDS)), 413, "body-too-large"
        )

    @pytest.mark.parametrize("mode", [BUFFERED, BodyMode.BUFFERED_PARTIAL, BodyMode.STREAMED])
    def test_other_modes(self, mode: BodyMode) -> None:
        for body, routed in ((BODY, True), (b"a=b", False), (b"", False)):
            sent = [request_headers(self.FORM, mode=mode), request_body(body, end_of_stream=True)]
            headers, answer = converse(exchange(), *sent)
            assert_strips(headers)
            assert not headers.HasField("mode_override")
            if routed:
                assert_routes(answer, "qwen", "qwen")
            else:
                assert_strips(answer)

    def test_streamed_blanks_first(self) -> None:
        sent = [request_headers(self.FORM, mode=BodyMode.STREAMED), request_body(b" "), request_body(BODY)]
        answers = converse(exchange(), *sent, request_body(b"", end_of_stream=True))
        assert_strips(answers[1])
        assert_refused(answers, 500, "body-in-pieces")


class TestNotRead:
    FIELDS = (
        pytest.param({"content-type": "text/plain"}, id="text"),
        pytest.param({"content-type": "multipart/mixed; boundary=x"}, id="multipart"),
        pytest.param({"content-type": "application/grpc"}, id="grpc"),
        pytest.param({"content-type": ""}, id="empty content type"),
        pytest.param({"connection": "Upgrade", "upgrade": "websocket"}, id="upgrade"),
        pytest.param({":method": "CONNECT"}, id="CONNECT"),
        pytest.param({"content-type": "application/json", "upgrade": "h2c"}, id="upgrade with JSON"),
    )

    @pytest.mark.parametrize("fields", FIELDS)
    def test_full_duplex_passes_piece_by_piece(self, fields: dict[str, str | bytes]) -> None:
        talk = exchange(max_body_bytes=10)
        (first,) = converse(talk, request_headers(fields, mode=FDS))
        assert_strips(first)
        assert not first.HasField("mode_override")
        assert echoed(converse(talk, request_body(b"a" * 100))) == (b"a" * 100, [False])
        assert converse(talk, request_body(b"")) == []
        octets, ends = echoed(converse(talk, request_body(b"b" * 70_000, end_of_stream=True)))
        assert (octets, ends) == (b"b" * 70_000, [False, True])
        assert talk.verdict.outcome is Outcome.NOT_READ
        assert talk.verdict.body_bytes == 70_100
        assert talk.finish() == OK

    @pytest.mark.parametrize("fields", FIELDS)
    def test_buffering_gateway_is_asked_to_send_no_body(self, fields: dict[str, str | bytes]) -> None:
        talk = exchange(max_body_bytes=10)
        (first,) = converse(talk, request_headers(fields, mode=BUFFERED))
        assert_strips(first)
        assert first.mode_override.request_body_mode == ProcessingMode.NONE
        assert first.mode_override.response_header_mode == ProcessingMode.SKIP
        assert talk.finish() == OK
        (second,) = converse(talk, request_body(BODY, end_of_stream=True))  # it may not have listened
        assert_strips(second)
        assert talk.verdict.outcome is Outcome.NOT_READ

    def test_empty_last_piece(self) -> None:
        talk = exchange()
        converse(talk, request_headers({"content-type": "audio/wav"}, mode=FDS), request_body(b"x"))
        assert echoed(converse(talk, request_body(b"", end_of_stream=True))) == (b"", [True])

    def test_ended_by_trailers(self) -> None:
        talk = exchange()
        sent = [request_headers({"content-type": "audio/wav"}, mode=FDS), request_body(b"x"), request_trailers()]
        answers = converse(talk, *sent)
        assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
        assert echoed(answers[1:2]) == (b"x", [False])
        assert talk.finish() == OK


class TestNoBody:
    @pytest.mark.parametrize("mode", [FDS, BUFFERED, BodyMode.STREAMED])
    def test_stripped_at_once(self, mode: BodyMode) -> None:
        talk = exchange()
        (answer,) = converse(talk, request_headers({":method": "GET"}, end_of_stream=True, mode=mode))
        assert answer.WhichOneof("response") == "request_headers"
        assert_strips(answer)
        assert talk.verdict.outcome is Outcome.NO_BODY
        assert talk.finish() == OK


@dataclass
class Refused:
    id: str
    body: bytes
    status: int
    reason: str
    says: str
    policy: dict[str, object] = field(default_factory=dict)


REFUSED = [
    Refused("unknown model", b'{"model":"llama"}', 404, "model-not-found", "`llama`"),
    Refused("empty model", b'{"model":""}', 400, "model-empty", "empty"),
    Refused("number", b'{"model":1}', 400, "model-not-string", "a number"),
    Refused("null", b'{"model":null}', 400, "model-not-string", "null"),
    Refused("line feed", b'{"model":"qwen\\n"}', 400, "model-illegal", "control character"),
    Refused("two models", b'{"model":"qwen","model":"foo"}', 400, "model-duplicate", "At byte 16"),
    Refused("no JSON", b"model=qwen", 400, "invalid-json", "at byte 0"),
    Refused("blanks alone", b" ", 400, "invalid-json", "at byte 0"),
    Refused("too large", BODY, 413, "body-too-large", "64 bytes", {"max_body_bytes": 64}),
]


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_client_gets_an_error(self, case: Refused, mode: BodyMode) -> None:
        talk = exchange(**case.policy)
        answers = converse(talk, request_headers(mode=mode), request_body(case.body, end_of_stream=True))
        assert case.says in assert_refused(answers, case.status, case.reason)
        assert kinds(answers) == (["immediate_response"] if mode is FDS else ["request_headers", "immediate_response"])
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.REFUSED, case.reason)
        assert talk.end == OK
        assert talk.finish() == OK

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("length", ["65", "99999999999999999999999"])
    def test_announced_length_is_refused_before_the_body(self, mode: BodyMode, length: str) -> None:
        talk = exchange(max_body_bytes=64)
        answers = converse(talk, request_headers({"content-length": length}, mode=mode))
        assert_refused(answers, 413, "body-too-large")

    def test_tiny_and_empty_pieces_cost_their_octets(self) -> None:
        talk = exchange()
        converse(talk, request_headers(mode=FDS))
        tracemalloc.start()
        for octet in BODY * 300:
            talk.receive(request_body(bytes((octet,))))
            talk.receive(request_body(b""))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert talk.verdict.body_bytes == 300 * len(BODY)
        assert held < 2 * talk.verdict.body_bytes

    def test_body_is_refused_as_soon_as_it_is_too_large(self) -> None:
        talk = exchange(max_body_bytes=10)
        assert converse(talk, request_headers(mode=FDS), request_body(b"x" * 10)) == []
        assert_refused(converse(talk, request_body(b"x")), 413, "body-too-large")

    def test_what_still_comes_is_ignored(self) -> None:
        talk = exchange()
        late = [request_body(b"more", end_of_stream=True), request_trailers(), messages.response_headers(), b"\xff"]
        converse(talk, request_headers(mode=FDS), request_body(b"no JSON", end_of_stream=True))
        assert converse(talk, *late) == []
        assert talk.verdict.late_bodies == 0

    def test_identity_mode_knows_every_model(self) -> None:
        talk = exchange(Registry())
        answers = converse(talk, request_headers(mode=FDS), request_body(b'{"model":"any/one"}', end_of_stream=True))
        assert_routes(answers[0], "any/one", "any/one")


class TestInvalidJson:
    BODIES = (
        pytest.param(b'{"a":NaN,"model":"qwen"}', "non-finite-number", id="NaN"),
        pytest.param(b'\xef\xbb\xbf{"model":"qwen"}', "byte-order-mark", id="BOM"),
        pytest.param(b'{"model":"qwen"}{}', "trailing-bytes", id="trailing"),
        pytest.param(b"no JSON", "invalid-json", id="no JSON"),
    )

    @pytest.mark.parametrize(("body", "reason"), BODIES)
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_passes_stripped_if_the_policy_says_so(self, body: bytes, reason: str, mode: BodyMode) -> None:
        talk = exchange(on_invalid_json=InvalidJson.PASS_STRIPPED)
        answers = converse(talk, request_headers(mode=mode), request_body(body, end_of_stream=True))
        assert len(answers) == 2
        assert_strips(answers[0])
        if mode is FDS:
            assert echoed(answers[1:]) == (body, [True])
        else:
            assert_strips(answers[1])
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.INVALID, reason)
        assert talk.finish() == OK

    @pytest.mark.parametrize("body", [b'{"model":"qwen","model":"foo"}', b'{"model":1}', b'{"model":"llama"}'])
    def test_other_refusals_stay(self, body: bytes) -> None:
        talk = exchange(on_invalid_json=InvalidJson.PASS_STRIPPED)
        converse(talk, request_headers(mode=FDS), request_body(body, end_of_stream=True))
        assert talk.verdict.outcome is Outcome.REFUSED


class TestDialect:
    def test_errors_speak_the_clients_api(self) -> None:
        talk = exchange()
        converse(talk, request_headers({":path": "/v1/messages"}, mode=FDS))
        (answer,) = converse(talk, request_body(b'{"model":"llama"}', end_of_stream=True))
        error = orjson.loads(answer.immediate_response.body)
        assert (error["type"], error["error"]["type"]) == ("error", "not_found_error")
        assert "`llama`" in error["error"]["message"]


class TestTrailers:
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_what_a_client_may_not_say_is_removed_there_too(self, mode: BodyMode) -> None:
        sent = [request_headers(mode=mode), request_body(BODY), request_trailers({"x-gateway-model-name": "phi"})]
        *_, answer = converse(exchange(), *sent)
        removed = answer.request_trailers.header_mutation.remove_headers
        assert list(removed) == [MODEL, BASE, DESTINATION]


class TestPatience:
    def test_full_duplex_body(self) -> None:
        talk = exchange(duplex_idle_seconds=60.0, buffered_wait_seconds=300.0)
        assert talk.patience_seconds == 60
        converse(talk, request_headers(mode=FDS))
        assert talk.patience_seconds == 60
        converse(talk, request_body(BODY))
        assert talk.patience_seconds == 60
        converse(talk, request_body(b"", end_of_stream=True))
        assert talk.patience_seconds is None

    @pytest.mark.parametrize("mode", [BUFFERED, BodyMode.BUFFERED_PARTIAL, BodyMode.STREAMED])
    def test_awaited_body(self, mode: BodyMode) -> None:
        talk = exchange(duplex_idle_seconds=60.0, buffered_wait_seconds=300.0)
        converse(talk, request_headers(mode=mode))
        assert talk.patience_seconds == 300

    def test_response_event_tells_that_no_body_comes(self) -> None:
        for fields in ({}, TestForm.FORM):
            talk = exchange()
            converse(talk, request_headers(fields, mode=BUFFERED), messages.response_headers())
            assert talk.patience_seconds is None
            assert talk.verdict.outcome is Outcome.NO_BODY
            assert talk.finish() == OK

    @pytest.mark.parametrize("mode", [FDS, BUFFERED, BodyMode.NONE])
    def test_unread_body_may_take_for_ever(self, mode: BodyMode) -> None:
        talk = exchange()
        converse(talk, request_headers({"upgrade": "websocket"}, mode=mode))
        assert talk.patience_seconds is None

    def test_response_events_alone(self) -> None:
        talk = exchange()
        converse(talk, messages.response_headers(mode=FDS))
        assert talk.patience_seconds is None

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("form", [False, True])
    def test_expiry_is_408_in_the_clients_dialect(self, mode: BodyMode, form: bool) -> None:
        talk = exchange(duplex_idle_seconds=7.5, buffered_wait_seconds=7.5)
        converse(talk, request_headers(TestForm.FORM if form else {}, mode=mode))
        answers = [parse(answer) for answer in talk.expire()]
        assert "7.5 seconds" in assert_refused(answers, 408, "body-timeout")
        assert talk.end == OK

    def test_silent_stream_is_not_ok(self) -> None:
        talk = exchange()
        assert talk.expire() == ()
        assert talk.end is not None
        assert talk.end.code is StatusCode.DEADLINE_EXCEEDED


class TestResponseEvents:
    @pytest.mark.parametrize("end_of_stream", [False, True])
    def test_full_duplex_body_is_echoed_at_once(self, end_of_stream: bool) -> None:
        talk = exchange()
        (headers,) = converse(talk, messages.response_headers(mode=FDS, response_mode=FDS))
        assert not headers.response_headers.HasField("response")
        for octets in (b"", b"data: 1\n\n", b"x" * 130_000):
            answers = converse(talk, messages.response_body(octets, end_of_stream=end_of_stream))
            pieces = [answer.response_body.response.body_mutation.streamed_response for answer in answers]
            assert b"".join(piece.body for piece in pieces) == octets
            assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [end_of_stream]
            assert max(len(piece.body) for piece in pieces) <= 62_000
        assert kinds(converse(talk, messages.response_trailers())) == ["response_trailers"]

    @pytest.mark.parametrize("mode", [BodyMode.NONE, BodyMode.STREAMED, BUFFERED, BodyMode.BUFFERED_PARTIAL])
    def test_other_modes_get_an_empty_answer(self, mode: BodyMode) -> None:
        talk = exchange()
        answers = converse(
            talk, messages.response_headers(mode=FDS, response_mode=mode), messages.response_body(b"data: 1\n\n")
        )
        assert kinds(answers) == ["response_headers", "response_body"]
        assert not answers[1].response_body.HasField("response")

    def test_they_do_not_disturb_a_request_that_is_still_being_read(self) -> None:
        talk = exchange()
        converse(talk, request_headers(mode=FDS), request_body(BODY[:5]), messages.response_headers())
        answers = converse(talk, request_body(BODY[5:], end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")

    def test_bodyless_get_through_every_event(self) -> None:
        answers = converse(
            exchange(),
            request_headers({":method": "GET"}, end_of_stream=True, mode=FDS, response_mode=FDS),
            messages.response_headers(),
            messages.response_body(b"{}", end_of_stream=False),
            messages.response_trailers(),
        )
        assert kinds(answers) == ["request_headers", "response_headers", "response_body", "response_trailers"]


class TestFaults:
    @pytest.mark.parametrize(
        ("sent", "code", "reason"),
        [
            pytest.param([b"\xff"], StatusCode.INVALID_ARGUMENT, "undecodable-message", id="no protobuf"),
            pytest.param([b""], StatusCode.UNIMPLEMENTED, "unknown-message", id="empty message"),
            pytest.param([b"\xa2\x06\x00"], StatusCode.UNIMPLEMENTED, "unknown-message", id="message of a later API"),
            pytest.param(
                [request_headers(mode=FDS), request_headers()],
                StatusCode.FAILED_PRECONDITION,
                "headers-twice",
                id="headers twice",
            ),
            pytest.param(
                [request_headers(mode=BUFFERED), request_body(BODY, end_of_stream=True), request_headers()],
                StatusCode.FAILED_PRECONDITION,
                "headers-twice",
                id="headers after the body",
            ),
        ],
    )
    def test_end_the_stream_with_an_error(self, sent: list[bytes], code: StatusCode, reason: str) -> None:
        talk = exchange()
        converse(talk, *sent)
        assert talk.end is not None
        assert talk.end.code is code
        assert talk.end.message
        assert talk.finish() == talk.end
        assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.FAULT, reason)

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param([], id="nothing sent"),
            pytest.param([request_headers(mode=FDS)], id="full duplex, headers"),
            pytest.param([request_headers(mode=FDS), request_body(BODY)], id="full duplex, no end"),
            pytest.param([request_headers({"content-type": "audio/wav"}, mode=FDS)], id="passing, no end"),
            pytest.param([request_headers(mode=BUFFERED)], id="buffered, headers"),
        ],
    )
    def test_stream_that_ends_too_early_is_not_ok(self, sent: list[bytes]) -> None:
        talk = exchange()
        converse(talk, *sent)
        assert talk.finish().code is StatusCode.CANCELLED


def test_constants_are_single_messages() -> None:
    constants = [
        replies.RESPONSE_HEADERS,
        replies.RESPONSE_BODY,
        replies.RESPONSE_TRAILERS,
    ]
    assert kinds([parse(constant) for constant in constants]) == [
        "response_headers",
        "response_body",
        "response_trailers",
    ]


@pytest.mark.interpreted("it chooses what reads the headers, which a build has settled")
def test_headers_that_are_read_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_READS_OPENINGS", True)
    talk = exchange()
    fields = [*messages.JSON_POST.items(), ("x-request-id", "7"), ("x_gateway_model_name", "a")]
    assert converse(talk, request_headers(fields, mode=FDS)) == []
    answer, _ = converse(talk, request_body(BODY, end_of_stream=True))
    assert "x_gateway_model_name" in answer.request_headers.response.header_mutation.remove_headers
    assert [talk.request_field(name) for name in ("x-request-id", "x-request-id", "x")] == ["7", "7", ""]
    assert (talk.body_mode, talk.verdict.outcome) == (FDS, Outcome.ROUTED)


@pytest.mark.interpreted("it chooses what reads the headers, which a build has settled")
def test_headers_that_are_left_to_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_READS_OPENINGS", True)
    talk = exchange()
    converse(talk, request_headers([*messages.JSON_POST.items(), *[("x", "")] * 200], mode=FDS))
    converse(talk, request_body(BODY, end_of_stream=True))
    assert talk.verdict.outcome is Outcome.ROUTED
