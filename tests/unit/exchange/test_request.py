import gzip
from typing import ClassVar

import pytest

from bbr.exchange.convention import Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.request import MAX_HEADER_FIELDS, SHOWN_BYTES
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Kind, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Rule, Rules
from bbr.models.steps import finish
from bbr.pb.ext_proc_pb2 import HeaderMap, HttpHeaders, ProcessingRequest
from bbr.reading.templates import parse_templates
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
)
from bench.harness.messages import JSON_POST, request_body, request_headers, request_trailers, set_headers
from bench.harness.model_tables import merged

URLS = {
    "query_model_paths": frozenset([b"/v1/realtime"]),
    "path_templates": parse_templates("/model/{model}/invoke"),
}


def at(path: str, **fields: str) -> dict[str, str | bytes]:
    return {**JSON_POST, ":path": path, **{name.replace("_", "-"): value for name, value in fields.items()}}


class TestUrl:
    @pytest.mark.parametrize("path", ["/v1/realtime?model=qwen", "/model/qwen/invoke", "/model/qwen/invoke?x=1"])
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_request_without_a_body_is_routed(self, path: str, mode) -> None:
        talk = exchange(**URLS)
        (answer,) = converse(talk, request_headers(at(path), mode=mode, end_of_stream=True))
        assert_routes(answer, "qwen", "qwen")
        assert talk.verdict.outcome is Outcome.ROUTED

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize(
        ("content_type", "body"),
        [("application/json", BODY), ("application/x-www-form-urlencoded", b"model=qwen")],
    )
    def test_a_query_on_any_path_names_no_other_model(self, mode, content_type: str, body: bytes) -> None:
        # Java's getParameter, fasthttp's FormValue and Werkzeug's values take the query's before a form's.
        def sent(query: str) -> list[ProcessingRequest]:
            fields = at(f"/v1/chat/completions?{query}", content_type=content_type)
            return [request_headers(fields, mode=mode), request_body(body, end_of_stream=True)]

        for query in ("model=other", "x=1&%6dodel=other"):
            answers = converse(exchange(**URLS), *sent(query))
            assert_refused(answers[-1:], 400, "model-disagrees")
        assert_refused(converse(exchange(**URLS), *sent("Model=other"))[-1:], 400, "form-model")
        for query in ("api-version=1", "models=other", "model=qwen"):
            talk = exchange(**URLS)
            converse(talk, *sent(query))
            assert (talk.verdict.outcome, talk.verdict.model) == (Outcome.ROUTED, "qwen")

    def test_a_query_does_not_matter_where_nothing_is_routed(self) -> None:
        for fields, body in (
            (at("/v1/listen?model=nova", content_type="audio/wav"), b"RIFF"),
            (at("/x?model=nova"), NO_MODEL_BODY),
        ):
            talk = exchange(**URLS)
            converse(talk, request_headers(fields, mode=FDS), request_body(body, end_of_stream=True))
            assert talk.verdict.outcome in (Outcome.NOT_READ, Outcome.NO_MODEL)

    def test_nor_does_it_name_another_than_the_path_or_the_default(self) -> None:
        for path in ("/model/qwen/invoke?model=foo", "/model/qwen/invoke?Model=qwen"):
            talk = exchange(**URLS)
            converse(talk, request_headers(at(path), mode=FDS, end_of_stream=True))
            assert talk.verdict.reason in ("model-disagrees", "form-model")
        table, _ = merged([BaseModel("qwen")])
        rules = Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")
        for query, outcome in (("model=foo", Outcome.REFUSED), ("model=qwen", Outcome.ROUTED)):
            talk = exchange(table, rules=rules)
            sent = request_headers(at(f"/x?{query}"), mode=FDS), request_body(NO_MODEL_BODY, end_of_stream=True)
            converse(talk, *sent)
            assert talk.verdict.outcome is outcome

    def test_upgrade_is_routed_and_passes(self) -> None:
        talk = exchange(**URLS)
        sent = request_headers(at("/v1/realtime?model=qwen", upgrade="websocket"), mode=FDS), request_body(b"frame")
        first, *rest = converse(talk, *sent)
        assert_routes(first, "qwen", "qwen")
        assert echoed(rest) == (b"frame", [False])

    def test_buffering_gateway_is_asked_to_send_no_body(self) -> None:
        fields = at("/v1/realtime?model=qwen", upgrade="websocket")
        (answer,) = converse(exchange(**URLS), request_headers(fields, mode=BUFFERED))
        assert_routes(answer, "qwen", "qwen")
        assert answer.HasField("mode_override")
        long = "x" * 256
        (answer,) = converse(
            exchange(**URLS, max_model_bytes=300),
            request_headers(at(f"/v1/realtime?model={long}", upgrade="websocket"), mode=BUFFERED),
        )
        assert_refused([answer], 404, "model-not-found")

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/grpc", "x"])
    def test_a_body_of_another_type_has_to_agree_if_it_could_be_json(self, mode, content_type: str) -> None:
        headers = request_headers(at("/model/foo/invoke", content_type=content_type), mode=mode)
        assert_refused(
            converse(exchange(**URLS), headers, request_body(BODY, end_of_stream=True)), 400, "model-disagrees"
        )
        headers = request_headers(at("/model/qwen/invoke", content_type=content_type), mode=mode)
        for body in (BODY, NO_MODEL_BODY, b"RIFF"):
            answers = converse(exchange(**URLS), headers, request_body(body, end_of_stream=True))
            assert_routes(answers[0 if mode == FDS else 1], "qwen", "qwen")

    def test_a_body_of_another_type_passes_as_soon_as_it_is_no_json(self) -> None:
        talk = exchange(**URLS, max_body_bytes=1000)
        headers = request_headers(at("/model/qwen/invoke", content_type="audio/wav"), mode=FDS)
        first, *rest = converse(talk, headers, request_body(b" RIFF"))
        assert_routes(first, "qwen", "qwen")
        assert echoed(rest) == (b" RIFF", [False])
        assert echoed(converse(talk, request_body(b"x" * 2000))) == (b"x" * 2000, [False])

    def test_a_body_that_names_none_or_the_same(self) -> None:
        for body in (NO_MODEL_BODY, BODY):
            sent = request_headers(at("/v1/realtime?model=qwen"), mode=FDS), request_body(body, end_of_stream=True)
            assert_routes(converse(exchange(**URLS), *sent)[0], "qwen", "qwen")

    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
    @pytest.mark.parametrize("body", [b' ["foo"]', b' {"$serde_json::private::RawValue":"{\\"model\\":\\"foo\\"}"}'])
    def test_what_serde_alone_would_read_otherwise(self, body: bytes, threshold: int, mode, content_type: str) -> None:
        for policy, path in (
            (URLS, "/model/qwen/invoke"),
            ({"rules": Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")}, "/"),
        ):
            if content_type == "text/plain" and path == "/":
                continue  # it passes
            talk = exchange(**policy, stream_threshold_bytes=threshold)
            headers = request_headers(at(path, content_type=content_type), mode=mode)
            answers = converse(talk, headers, request_body(body, end_of_stream=True))
            assert_refused(answers, 400, "model-in-list")
        talk = exchange(**URLS, stream_threshold_bytes=threshold)
        headers = request_headers(at("/", content_type=content_type), mode=mode)
        assert_strips(converse(talk, headers, request_body(body, end_of_stream=True))[0])

    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    def test_a_body_that_names_another(self, threshold: int) -> None:
        sent = request_headers(at("/v1/realtime?model=foo"), mode=FDS), request_body(BODY, end_of_stream=True)
        answers = converse(exchange(**URLS, stream_threshold_bytes=threshold), *sent)
        assert_refused(answers, 400, "model-disagrees")

    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_a_body_that_names_it_with_the_segments_before_it(self, threshold: int, mode) -> None:
        table, _ = merged([BaseModel("qwen"), BaseModel("models/phi"), BaseModel("phi")])
        policy = {"path_templates": parse_templates("gemini"), "stream_threshold_bytes": threshold}

        def answers(url: str, body: str):
            talk = exchange(table, **policy)
            headers = request_headers(at(f"/v1beta/models/{url}:generateContent"), mode=mode)
            return converse(talk, headers, request_body(b'{"model":"%b"}' % body.encode(), end_of_stream=True))

        assert_routes(answers("qwen", "models/qwen")[0 if mode == FDS else 1], "qwen", "qwen")
        for url, body in (("phi", "models/phi"), ("qwen", "v1beta/models/qwen"), ("qwen", "models/phi")):
            assert_refused(answers(url, body), 400, "model-disagrees")

    def test_both_names_are_told(self) -> None:
        sent = request_headers(at("/model/foo/bar/invoke"), mode=FDS), request_body(BODY, end_of_stream=True)
        (answer,) = converse(exchange(**URLS), *sent)
        assert (
            b"The URL names the model `foo/bar`, and the request body names `qwen`." in answer.immediate_response.body
        )

    @pytest.mark.parametrize(
        "path", ["/model/foo%2Fbar/invoke", "/model/foo/bar/invoke", "/Model/qwen/invoke", "/model//invoke"]
    )
    def test_one_of_a_templates_shape_never_becomes_the_default(self, path: str) -> None:
        rules = Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")
        sent = request_headers(at(path), mode=FDS), request_body(NO_MODEL_BODY, end_of_stream=True)
        (answer,) = converse(exchange(**URLS, rules=rules), *sent)
        assert answer.immediate_response.status.code in (400, 404)

    def test_path_and_query_that_disagree(self) -> None:
        urls = {**URLS, "query_model_paths": frozenset([b"/model/qwen/invoke"])}
        answers = converse(exchange(**urls), request_headers(at("/model/qwen/invoke?model=foo"), mode=FDS))
        assert_refused(answers, 400, "model-disagrees")
        (answer,) = converse(
            exchange(**urls), request_headers(at("/model/qwen/invoke?model=qwen"), mode=FDS, end_of_stream=True)
        )
        assert_routes(answer, "qwen", "qwen")

    def test_other_paths_name_nothing(self) -> None:
        (answer,) = converse(
            exchange(**URLS), request_headers(at("/v1/other?model=qwen"), mode=FDS, end_of_stream=True)
        )
        assert_strips(answer)


def test_a_field_of_the_request_by_its_name():
    talk = Exchange(Policy(Replies()), Registry(identity=True))
    assert talk.request_field("x-request-id") == ""
    talk.receive(request_headers({**JSON_POST, "x-request-id": "7"}, mode=BodyMode.FULL_DUPLEX_STREAMED))
    assert talk.request_field("x-request-id") == "7"
    assert talk.request_field("x-other") == ""


def test_a_field_that_is_no_header_value_is_not_there():
    talk = Exchange(Policy(Replies()), Registry(identity=True))
    broken = b"\x0a\x0cx-request-id" + b"\xff"
    headers = HttpHeaders(headers=HeaderMap(headers=[broken]))
    talk.receive(ProcessingRequest(request_headers=headers).SerializeToString())
    assert talk.request_field("x-request-id") == ""


def test_of_a_long_field_its_beginning_is_told():
    talk = Exchange(Policy(Replies()), Registry(identity=True))
    path = "/" + "\xe9" * 60_000
    talk.receive(request_headers({**JSON_POST, ":path": path}, mode=BodyMode.FULL_DUPLEX_STREAMED))
    told = talk.request_field(":path")
    assert told.startswith("/\\xc3\\xa9")
    assert len(told) < 4 * SHOWN_BYTES


def test_of_many_fields_each_is_found():
    fields = {**JSON_POST, **{f"x{number}": str(number) for number in range(100)}}
    talk = exchange()
    converse(talk, request_headers(fields, mode=FDS))
    assert (talk.request_field("x99"), talk.request_field("y")) == ("99", "")


def test_fields_that_are_too_many_are_refused():
    for count, refused in ((MAX_HEADER_FIELDS - len(JSON_POST), False), (MAX_HEADER_FIELDS, True)):
        fields = {**JSON_POST, **{f"x{number}": "" for number in range(count)}}
        talk = exchange()
        answers = converse(talk, request_headers(fields, mode=FDS))
        assert (talk.verdict.reason == "headers-too-many") is refused
        if refused:
            assert f"more than {MAX_HEADER_FIELDS} header fields" in assert_refused(answers, 431, "headers-too-many")
    message = ProcessingRequest()
    message.request_trailers.trailers.headers.extend([b""] * (MAX_HEADER_FIELDS + 1))
    talk = exchange()
    answers = converse(talk, request_headers(mode=FDS), request_body(b"{}"), message.SerializeToString())
    assert_refused(answers, 431, "headers-too-many")


STRAYS = ["x_gateway_model_name", "x-gateway_base-model-name", "x.gateway.destination.endpoint"]


class TestOtherSpellingsOfRoutingHeaders:
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("body", [BODY, NO_MODEL_BODY])
    def test_they_are_removed_by_every_answer(self, mode: BodyMode, body: bytes) -> None:
        headers = {**JSON_POST, **dict.fromkeys(STRAYS, "a"), "x-gateway-model": "a", "x_gateway": "a"}
        talk = exchange()
        answers = converse(talk, request_headers(headers, mode=mode), request_body(body), request_trailers())
        mutations = [getattr(each, each.WhichOneof("response") or "") for each in answers]
        removed = [
            list(
                (
                    each.header_mutation if hasattr(each, "header_mutation") else each.response.header_mutation
                ).remove_headers
            )
            for each in mutations
            if hasattr(each, "header_mutation") or each.response.HasField("header_mutation")
        ]
        assert len(removed) == (2 if mode == FDS else 3)
        assert all(names[-4:] == [DESTINATION, *STRAYS] for names in removed)

    def test_in_trailers_too(self) -> None:
        talk = exchange()
        converse(talk, request_headers(mode=BUFFERED), request_body(BODY, end_of_stream=False))
        (answer,) = converse(talk, request_trailers([("x_gateway_model_name", "a"), ("grpc-status", "0")]))
        removed = answer.request_trailers.header_mutation.remove_headers
        assert list(removed) == [MODEL, BASE, DESTINATION, "x_gateway_model_name"]

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_one_answer_removes_those_of_headers_and_trailers_so_they_are_counted_together(
        self, mode: BodyMode
    ) -> None:
        spelled = [f"x{a}gateway{b}model-name" for a in "!#$%&'*+._" for b in "!#$%&'"]
        for count, refused in ((20, False), (21, True)):
            talk = exchange()
            converse(talk, request_headers({**JSON_POST, **dict.fromkeys(spelled[:30], "a")}, mode=mode))
            converse(talk, request_body(BODY, end_of_stream=False))
            # One of them is in both.
            answers = converse(talk, request_trailers([(name, "a") for name in spelled[29 : 30 + count]]))
            if refused:
                assert_refused(answers, 431, "headers-stray")
            else:
                removed = list(answers[-1].request_trailers.header_mutation.remove_headers)
                assert removed == [MODEL, BASE, DESTINATION, *spelled[:50]]

    def test_the_next_request_is_answered_as_ever(self) -> None:
        replies = Replies()
        other = replies.stripping_also(["x"])
        assert replies.request_trailers != other.request_trailers
        assert replies.stripped("") == Replies().stripped("") != other.stripped("")
        assert replies.convention.guarded is other.convention.guarded

    def test_nothing_is_removed_of_what_a_client_may_say(self) -> None:
        assert not Ours(trust_client_headers=True, strip_headers=()).guarded.is_stray(STRAYS[0])
        assert Ours(model_headers=["x-m"]).guarded.is_stray("x_m")
        assert Ours(model_headers=["x-m"]).guarded.is_stray(STRAYS[0])


SEVERAL, _ = finish(
    merging(
        [
            Declaration(
                Origin(),
                (BaseModel("qwen", ("foo",)), BaseModel("phi")),
                (Alias("chat", "foo", (("foo", 50), ("phi", 50))),),
            )
        ]
    )
)
REWRITES = ("x-rewrite",)


class TestAliases:
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize(("drawn", "model", "base"), [(0.0, "foo", "qwen"), (0.5, "phi", "phi")])
    def test_one_of_several_models_is_drawn_and_told_to_the_picker(
        self, mode: BodyMode, drawn: float, model: str, base: str
    ) -> None:
        policy = Policy(Replies(Ours(rewrite_headers=REWRITES)), rules=Rules(draw=lambda: drawn))
        talk = Exchange(policy, SEVERAL)
        answers = converse(talk, request_headers(mode=mode), request_body(b'{"model": "chat"}', end_of_stream=True))
        common = (answers[0].request_headers if mode == FDS else answers[1].request_body).response
        assert set_headers(common.header_mutation) == {
            MODEL: model.encode(),
            BASE: base.encode(),
            "x-rewrite": model.encode(),
        }
        assert (talk.verdict.model, talk.verdict.base_model) == ("chat", base)
        assert talk.verdict.route is not None
        assert (talk.verdict.route.rule, talk.verdict.route.model) == (Kind.ALIAS, model)

    def test_equal_values_of_the_sticky_header_get_the_same_model(self) -> None:
        draws = iter([0.0, 0.9])
        policy = Policy(Replies(Ours()), rules=Rules(draw=lambda: next(draws), sticky_header="x-session"))

        def asked(**fields: str) -> str | None:
            talk = Exchange(policy, SEVERAL)
            headers = at("/v1/completions", **fields)
            converse(talk, request_headers(headers, mode=FDS), request_body(b'{"model": "chat"}', end_of_stream=True))
            return talk.verdict.base_model

        sessions = {asked(x_session=str(number)) for number in range(20)}
        assert sessions == {"qwen", "phi"}
        assert all(asked(x_session="a") == asked(x_session="a") for _ in range(3))
        assert [asked(), asked(x_session="")] == ["qwen", "phi"]

    def test_a_long_body_keeps_the_model_that_it_is_on_its_way_to(self) -> None:
        draws = iter([0.9, 0.0])
        policy = Policy(Replies(Ours()), rules=Rules(draw=lambda: next(draws)))
        talk = Exchange(policy, SEVERAL)
        pieces = [b'{"model": "chat", "x": "', b"x" * 300_000, b'"}']
        answers = converse(
            talk, request_headers(mode=FDS), *(request_body(piece, end_of_stream=False) for piece in pieces)
        )
        assert talk.verdict.early
        answers += converse(talk, request_body(b"", end_of_stream=True))
        assert_routes(answers[0], "phi", "phi")
        assert echoed(answers[1:])[0] == b"".join(pieces)
        assert talk.verdict.base_model == "phi"

    def test_a_default_model_may_be_one_of_several(self) -> None:
        rules = Rules(missing_model=MissingModel.DEFAULT, default_model="chat", draw=lambda: 0.9)
        talk = Exchange(Policy(Replies(), rules=rules), SEVERAL)
        answers = converse(talk, request_headers(mode=FDS), request_body(b"{}", end_of_stream=True))
        assert_routes(answers[0], "phi", "phi")


FORM = "application/x-www-form-urlencoded"
GZIP = b"\x1f\x8b"
MULTIPART = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


class TestUnnamed:
    """A `model` of null or "": many servers take it for none."""

    BODIES: ClassVar = {
        "null": ("application/json", b'{"x":[1,2],"model":null,"y":1}', "model-not-string"),
        "empty": ("application/json", b'{"model":""}', "model-empty"),
        "form": (FORM, b"x=1&model=&y=2", "model-empty"),
        "form, at its end": (FORM, b"x=1&model", "model-empty"),
        "JSON of curl": (FORM, b'{"model":null}', "model-not-string"),
        "multipart": (MULTIPART, PART % (b"model", b"") + PART % (b"x", b"y") + b"--b--", "model-empty"),
        "several types": (f"{FORM}, application/json", b'{"model":""}', "model-empty"),
    }
    DEFAULT = Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")

    def answers(self, mode, content_type: str, body: bytes, path: str = "/", **policy):
        fields = at(path, content_type=content_type)
        if body.startswith(GZIP):
            fields["content-encoding"] = "gzip"
        pieces = [body[start : start + 9] for start in range(0, len(body), 9)] if mode == FDS else [body]
        talk = exchange(**policy)
        sent = [request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces]
        return converse(talk, request_headers(fields, mode=mode), *sent), talk.verdict

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    @pytest.mark.parametrize(("content_type", "body", "_reason"), BODIES.values(), ids=BODIES)
    def test_becomes_the_default(self, mode, content_type: str, body: bytes, _reason: str, threshold: int) -> None:
        answers, verdict = self.answers(mode, content_type, body, rules=self.DEFAULT, stream_threshold_bytes=threshold)
        assert_routes(answers[0 if mode == FDS else 1], "qwen", "qwen")
        assert (verdict.outcome, verdict.model, verdict.route.rule) == (Outcome.ROUTED, None, Rule.MISSING_DEFAULT)

    @pytest.mark.parametrize("missing", [MissingModel.PASS, MissingModel.REJECT])
    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    @pytest.mark.parametrize(("content_type", "body", "reason"), BODIES.values(), ids=BODIES)
    def test_is_refused_otherwise(
        self, mode, content_type: str, body: bytes, reason: str, threshold: int, missing
    ) -> None:
        rules = Rules(missing_model=missing)
        answers, _ = self.answers(mode, content_type, body, rules=rules, stream_threshold_bytes=threshold)
        assert_refused(answers, 400, reason)

    def test_is_decoded(self) -> None:
        for content_type, body in (("application/json", b'{"model":null}'), (FORM, b"x=1&y=2")):
            answers, _ = self.answers(FDS, content_type, gzip.compress(body), rules=self.DEFAULT)
            assert_routes(answers[0], "qwen", "qwen")

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    def test_the_url_names_one(self, mode, threshold: int) -> None:
        policy = {"rules": self.DEFAULT, "stream_threshold_bytes": threshold, **URLS}
        for body in (b'{"model":null}', b'{"model":""}'):
            answers, verdict = self.answers(mode, "application/json", body, "/model/foo/invoke", **policy)
            assert_routes(answers[0 if mode == FDS else 1], "foo", "qwen")
            assert verdict.model == "foo"

    FAULTY: ClassVar = {
        "another": ("application/json", b'{"model":null,"model":"foo"}', "model-duplicate"),
        "another, empty": ("application/json", b'{"model":"","model":""}', "model-duplicate"),
        "letter case": ("application/json", b'{"model":"","Model":"foo"}', "model-duplicate"),
        "no end": ("application/json", b'{"model":null,', "invalid-json"),
        "more": ("application/json", b'{"model":""}x', "trailing-bytes"),
        "another type": ("application/json", b'{"model":false}', "model-not-string"),
        "blank": ("application/json", b'{"model":" "}', "model-illegal"),
        "form, another": (FORM, b"model=&x=1&model=foo", "model-duplicate"),
        "form, brackets": (FORM, b"model=&model[]=foo", "form-model"),
        "form in JSON": (FORM, b'{"model":null,"x":"&model=&y="}', "form-model"),
        "multipart, another": (
            MULTIPART,
            PART % (b"model", b"") + PART % (b"model", b"foo") + b"--b--",
            "model-duplicate",
        ),
        "multipart, no end": (MULTIPART, PART % (b"model", b""), "multipart-cut-off"),
    }

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("threshold", [1, 1 << 20])
    @pytest.mark.parametrize(("content_type", "body", "reason"), FAULTY.values(), ids=FAULTY)
    def test_other_faults_count(self, mode, content_type: str, body: bytes, reason: str, threshold: int) -> None:
        answers, _ = self.answers(mode, content_type, body, rules=self.DEFAULT, stream_threshold_bytes=threshold)
        assert_refused([answers[-1]], 400, reason)


def test_names_that_fit_one_pattern_share_its_keys() -> None:
    weights = tuple((f"m{number}", 1) for number in range(8))
    declared = Declaration(Origin(), tuple(BaseModel(name) for name, _ in weights), (Alias("gpt-*", "m0", weights),))
    table, _ = finish(merging([declared]))
    rules = Rules(sticky_header="x-session-id")
    chosen = set()
    for number in range(20):
        talk = exchange(table, rules=rules)
        body = b'{"model":"gpt-%d"}' % number
        converse(talk, request_headers({**JSON_POST, "x-session-id": "s"}), request_body(body, end_of_stream=True))
        chosen.add(talk.verdict.route.model)
    assert len(chosen) == 1


class TestText:
    """JSON that a browser calls text."""

    DEFAULT = Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")

    def outcome(self, mode, body: bytes, content_type: str = "text/plain;charset=UTF-8", **options):
        fields = at("/", content_type=content_type, **{"content-length": str(options.pop("announced", len(body)))})
        talk = exchange(**options)
        answers = converse(talk, request_headers(fields, mode=mode), request_body(body, end_of_stream=True))
        return answers, talk.verdict

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_json_that_names_a_model_is_routed(self, mode) -> None:
        for body in (BODY, b" \r\n" + BODY):
            answers, verdict = self.outcome(mode, body)
            assert_routes(answers[0 if mode == FDS else 1], "qwen", "qwen")
            assert verdict.outcome is Outcome.ROUTED

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize("rules", [Rules(), DEFAULT, Rules(missing_model=MissingModel.REJECT)])
    @pytest.mark.parametrize(
        "body", [b"Hello", b"{{ name }}, hello", b"{", b'{"x":1}', b"[1]", b'"x"', b'{"x":"\xff"}']
    )
    def test_anything_else_passes(self, mode, rules: Rules, body: bytes) -> None:
        answers, verdict = self.outcome(mode, body, rules=rules)
        assert_strips(answers[0])
        assert verdict.outcome is Outcome.NOT_READ
        if mode == FDS:
            assert echoed(answers[1:]) == (body, [True])

    @pytest.mark.parametrize("announced", [0, 101])
    def test_long_text_passes_unread(self, announced: int) -> None:
        answers, verdict = self.outcome(FDS, BODY, announced=announced, stream_threshold_bytes=100)
        assert_strips(answers[0])
        assert verdict.outcome is Outcome.NOT_READ

    def test_other_types_pass_unread(self) -> None:
        for content_type in ("text/plain; charset=utf-16", "text/html", "application/octet-stream"):
            assert self.outcome(FDS, BODY, content_type)[1].outcome is Outcome.NOT_READ

    def test_what_names_two_models_or_none_to_use_is_told(self) -> None:
        for body, reason in (
            (b'{"model":"qwen","model":"foo"}', "model-duplicate"),
            (b'{"model":1}', "model-not-string"),
        ):
            assert_refused(self.outcome(FDS, body)[0], 400, reason)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[{}]", "a list"),
        (b' "x"', "a string"),
        (b"-1", "a number"),
        (b"7", "a number"),
        (b"true", "a boolean"),
        (b"null", "null"),
        (b"{}", ""),
        (b"", ""),
    ],
)
@pytest.mark.parametrize("threshold", [1, 1 << 20])
def test_what_a_body_without_a_model_is(body: bytes, found: str, threshold: int) -> None:
    talk = exchange(rules=Rules(missing_model=MissingModel.REJECT), stream_threshold_bytes=threshold)
    sent = request_headers(JSON_POST, mode=FDS), request_body(body, end_of_stream=True)
    message = assert_refused(converse(talk, *sent), 400, "model-missing")
    if found and (len(body) <= threshold or found == "a list"):
        assert f"it is JSON, but {found} and not an object" in message
    else:
        assert message == "The request body names no model: the field `model` is missing."


def test_an_object_that_only_serde_reads_otherwise_is_not_called_a_list() -> None:
    talk = exchange(rules=Rules(missing_model=MissingModel.REJECT))
    body = request_body(b' {"$serde_json::private::RawValue":"{}"}', end_of_stream=True)
    message = assert_refused(converse(talk, request_headers(JSON_POST, mode=FDS), body), 400, "model-missing")
    assert message == "The request body names no model: the field `model` is missing."


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize("threshold", [1, 1 << 20])
def test_the_url_wins_where_it_is_to(mode, threshold: int) -> None:
    for body in (BODY, NO_MODEL_BODY, b'["foo"]', b'{"model":"nobody"}'):
        talk = exchange(**URLS, url_wins=True, stream_threshold_bytes=threshold)
        sent = request_headers(at("/model/foo/invoke"), mode=mode), request_body(body, end_of_stream=True)
        assert_routes(converse(talk, *sent)[0 if mode == FDS else 1], "foo", "qwen")
        assert talk.verdict.model == "foo"
    talk = exchange(**URLS, url_wins=True)
    sent = request_headers(at("/v1/chat/completions"), mode=mode), request_body(BODY, end_of_stream=True)
    assert_routes(converse(talk, *sent)[0 if mode == FDS else 1], "qwen", "qwen")


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("application/xml", b"<x><Model>B</Model></x>", "content-type-ambiguous"),
        ("application/msgpack", b"\x81\xa5model\xa1B", "content-type-ambiguous"),
        ("text/plain", b'/* x */ {"model":"B"}', "invalid-json"),
        ("application/octet-stream", b'\x1e{"model":"B"}', "invalid-json"),
        ("text/plain; x=xml", b'{"model":"B"}', "model-disagrees"),
    ],
)
def test_what_lenient_servers_find_in_other_types_does_not_pass_beside_a_url(mode, content_type, body, why) -> None:
    fields = at("/model/foo/invoke") | {"content-type": content_type, "content-length": str(len(body))}
    sent = request_headers(fields, mode=mode), request_body(body, end_of_stream=True)
    talk = exchange(**URLS)
    converse(talk, *sent)
    assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.REFUSED, why)
    assert_routes(converse(exchange(**URLS, url_wins=True), *sent)[0], "foo", "qwen")


@pytest.mark.parametrize("wins", [False, True])
def test_pickers_are_told_of_the_urls_model_where_it_wins(wins: bool) -> None:
    table, _ = merged([BaseModel("qwen")])
    replies = Replies(Ours(rewrite_headers=("x-rewrite",)))
    policy = Policy(replies, **URLS, url_wins=wins)
    for path, told in (("/model/qwen/invoke", wins), ("/v1/chat/completions", False)):
        sent = request_headers(at(path), mode=FDS), request_body(BODY, end_of_stream=True)
        answer = converse(Exchange(policy, table), *sent)[0]
        headers = set_headers(answer.request_headers.response.header_mutation)
        assert headers.get("x-rewrite") == (b"qwen" if told else None)


@pytest.mark.parametrize("coding", ["utf-8", "UTF-8", "utf8", "identity, utf-8"])
def test_a_charset_in_the_wrong_field_is_no_coding(coding: str) -> None:
    fields = {**JSON_POST, "content-encoding": coding}
    sent = request_headers(fields, mode=FDS), request_body(BODY, end_of_stream=True)
    assert_routes(converse(exchange(), *sent)[0], "qwen", "qwen")
