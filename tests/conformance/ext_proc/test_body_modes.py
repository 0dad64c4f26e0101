"""The body modes beside FULL_DUPLEX_STREAMED and BUFFERED: a defined, safe answer to everything, and never a hang."""

from bbr.exchange.policy import BodyMode
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.rpc.status import OK
from bench.harness.conversation import (
    BODY,
    FDS,
    NO_MODEL_BODY,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    exchange,
    kinds,
)
from bench.harness.messages import request_body, request_headers, request_trailers


class TestStreamed:
    MODE = BodyMode.STREAMED

    def pieces(self, body: bytes) -> list[bytes]:
        return [request_headers(mode=self.MODE), request_body(body[:9]), request_body(body[9:], end_of_stream=True)]

    def test_pieces_that_name_no_model_pass_stripped(self) -> None:
        talk = exchange()
        answers = converse(talk, *self.pieces(NO_MODEL_BODY))
        assert kinds(answers) == ["request_headers", "request_body", "request_body"]
        for answer in answers:
            assert_strips(answer)
        assert talk.verdict.outcome is Outcome.NO_MODEL
        assert talk.finish() == OK

    def test_pieces_that_name_a_model_are_refused_at_the_last(self) -> None:
        answers = converse(exchange(), *self.pieces(BODY))
        assert "FULL_DUPLEX_STREAMED or BUFFERED" in assert_refused(answers, 500, "body-in-pieces")
        assert kinds(answers) == ["request_headers", "request_body", "immediate_response"]

    def test_pieces_ended_by_trailers_are_read_too(self) -> None:
        sent = [request_headers(mode=self.MODE), request_body(BODY), request_trailers()]
        assert_refused(converse(exchange(), *sent), 500, "body-in-pieces")
        sent[1] = request_body(NO_MODEL_BODY)
        answers = converse(exchange(), *sent)
        assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]

    def test_too_large(self) -> None:
        assert_refused(converse(exchange(max_body_bytes=20), *self.pieces(BODY)), 413, "body-too-large")


class TestBufferedPartial:
    MODE = BodyMode.BUFFERED_PARTIAL

    def test_cut_off_body_is_refused_by_name(self) -> None:
        answers = converse(exchange(), request_headers(mode=self.MODE), request_body(BODY[:40]))
        assert "first 40 bytes" in assert_refused(answers, 413, "body-cut-off")

    def test_body_without_its_end_is_never_routed(self) -> None:
        # A document may be complete in the part that the gateway shows, and go on behind it.
        answers = converse(exchange(), request_headers(mode=self.MODE), request_body(BODY))
        assert_refused(answers, 413, "body-cut-off")

    def test_body_without_its_end_that_names_no_model_passes_stripped(self) -> None:
        answers = converse(exchange(), request_headers(mode=self.MODE), request_body(NO_MODEL_BODY), request_trailers())
        assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
        assert_strips(answers[1])

    def test_whole_body_routes(self) -> None:
        answers = converse(exchange(), request_headers(mode=self.MODE), request_body(BODY, end_of_stream=True))
        assert_routes(answers[1], "qwen", "qwen")

    def test_broken_whole_body_is_called_what_it_is(self) -> None:
        sent = [request_headers(mode=self.MODE), request_body(b"{", end_of_stream=True)]
        assert_refused(converse(exchange(), *sent), 400, "invalid-json")


class TestOtherModes:
    def test_none_is_stripped_at_the_headers(self) -> None:
        talk = exchange()
        (answer,) = converse(talk, request_headers(mode=BodyMode.NONE))
        assert_strips(answer)
        assert talk.verdict.outcome is Outcome.NOT_READ
        assert talk.finish() == OK
        assert_strips(converse(talk, request_body(b"unexpected"))[0])

    def test_grpc_messages_go_back_one_by_one_and_uncut(self) -> None:
        talk = exchange()
        (answer,) = converse(talk, request_headers(mode=BodyMode.GRPC, response_mode=BodyMode.GRPC))
        assert_strips(answer)
        for kind in ("request_body", "response_body"):
            request = ProcessingRequest()
            body = getattr(request, kind)
            body.body, body.grpc_message_compressed = b"x" * 70_000, True
            body.end_of_stream = body.end_of_stream_without_message = True
            (answer,) = converse(talk, request.SerializeToString())
            assert kinds([answer]) == [kind]
            echo = getattr(answer, kind).response.body_mutation.streamed_response
            assert (echo.body, echo.grpc_message_compressed) == (b"x" * 70_000, True)
            assert (echo.end_of_stream, echo.end_of_stream_without_message) == (True, True)
        assert talk.finish() == OK

    def test_unknown_mode_is_refused_by_number(self) -> None:
        request = ProcessingRequest.FromString(request_headers(mode=FDS))
        request.protocol_config.request_body_mode = 9  # type: ignore[assignment]
        answers = converse(exchange(), request.SerializeToString())
        assert "request_body_mode 9" in assert_refused(answers, 500, "body-mode-unknown")

    def test_unknown_mode_does_not_matter_without_a_body(self) -> None:
        request = ProcessingRequest.FromString(request_headers(end_of_stream=True, mode=FDS))
        request.protocol_config.request_body_mode = 9  # type: ignore[assignment]
        assert_strips(converse(exchange(), request.SerializeToString())[0])


class TestObservability:
    def test_gets_no_answer(self) -> None:
        talk = exchange()
        for message in (request_headers(mode=FDS), request_body(b"no JSON", end_of_stream=True), request_trailers()):
            request = ProcessingRequest.FromString(message)
            request.observability_mode = True
            assert talk.receive(request.SerializeToString()) == ()
        assert talk.verdict.outcome is Outcome.OBSERVED
        assert talk.patience_seconds is None
        assert talk.finish() == OK
