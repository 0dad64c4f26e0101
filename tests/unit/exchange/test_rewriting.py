import gzip

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import CHANGED_HEADERS, Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.reading.templates import parse_templates
from bench.harness.conversation import (
    BUFFERED,
    FDS,
    assert_refused,
    assert_routes,
    converse,
    echoed,
)
from bench.harness.messages import JSON_POST, request_body, request_headers, set_headers

URLS = {
    "query_model_paths": frozenset([b"/v1/realtime"]),
    "path_templates": parse_templates("/model/{model}/invoke"),
}


def at(path: str, **fields: str) -> dict[str, str | bytes]:
    return {**JSON_POST, ":path": path, **{name.replace("_", "-"): value for name, value in fields.items()}}


PLAIN, _ = finish(merging([Declaration(Origin(), (BaseModel("qwen"),), (Alias("gpt", "qwen"),))]))
NOISE = b'"x":"' + b"y" * 300_000 + b'"'


class TestAliasRewriteInBodies:
    def talk(self, **policy: object) -> Exchange:
        return Exchange(Policy(Replies(), rewrites_body=True, **policy), PLAIN)  # type: ignore[arg-type]

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize(
        "body",
        [b'{"model":"gpt"}', b'{"model":"gpt",%b}' % NOISE, b'{%b,"model":"gpt"}' % NOISE],
        ids=["short", "long, model first", "long, model last"],
    )
    @pytest.mark.parametrize("encoded", [False, True])
    def test_the_string_is_replaced(self, mode: BodyMode, body: bytes, encoded: bool) -> None:
        talk = self.talk(forward_decoded=True)
        headers = {**JSON_POST, "content-encoding": "gzip"} if encoded else JSON_POST
        sent = gzip.compress(body) if encoded else body
        answers = converse(talk, request_headers(headers, mode=mode), request_body(sent, end_of_stream=True))
        expected = body.replace(b"gpt", b"qwen")
        if mode == FDS:
            octets, ends = echoed(answers[1:])
            assert (octets, ends[-1]) == (expected, True)
            mutation = answers[0].request_headers.response.header_mutation
            assert {*CHANGED_HEADERS} <= {*mutation.remove_headers}
            assert len(mutation.remove_headers) == len({*mutation.remove_headers})
        else:
            mutation = answers[1].request_body.response.header_mutation
            assert answers[1].request_body.response.body_mutation.body == expected
            assert set_headers(mutation)["content-length"] == b"%d" % len(expected)
            assert "content-length" not in mutation.remove_headers
        assert talk.verdict.rewritten
        assert talk.verdict.outcome is Outcome.ROUTED

    def test_it_goes_on_before_its_end_with_the_other_model(self) -> None:
        talk = self.talk()
        pieces = [b'{"model":"g', b'pt",' + NOISE[:200_000], NOISE[200_000:]]
        answers = converse(talk, request_headers(mode=FDS), *map(request_body, pieces))
        assert talk.verdict.early
        answers += converse(talk, request_body(b"}", end_of_stream=True))
        assert echoed(answers[1:])[0] == b'{"model":"qwen",%b}' % NOISE

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            ({"content-type": "application/x-www-form-urlencoded"}, b"model=gpt"),
            ({"content-encoding": "gzip"}, gzip.compress(b'{"model":"gpt"}')),
        ],
        ids=["a form", "encoded"],
    )
    def test_elsewhere_an_alias_is_refused(self, mode: BodyMode, fields: dict[str, str], body: bytes) -> None:
        sent = [request_headers({**JSON_POST, **fields}, mode=mode), request_body(body, end_of_stream=True)]
        assert_refused(converse(self.talk(), *sent), 400, "alias-not-replaced")

    @pytest.mark.parametrize("mode", [FDS, BUFFERED])
    def test_other_bodies_stay_as_they_are(self, mode: BodyMode) -> None:
        form = {"content-type": "application/x-www-form-urlencoded"}
        for fields, body in (
            ({}, b'{"model":"qwen"}'),
            ({}, b'{"model":"qwen",%b}' % NOISE),
            (form, b"model=qwen"),
            ({}, b"{}"),
        ):
            talk = self.talk()
            sent = [request_headers({**JSON_POST, **fields}, mode=mode), request_body(body, end_of_stream=True)]
            answers = converse(talk, *sent)
            if mode == FDS:
                assert echoed(answers[1:])[0] == body
            else:
                assert not answers[1].request_body.response.HasField("body_mutation")
            assert not talk.verdict.rewritten

    def test_an_alias_that_the_url_names_stays_in_the_body_too(self) -> None:
        talk = self.talk(**URLS)
        body = b'{"model":"gpt"}'
        answers = converse(
            talk, request_headers(at("/model/gpt/invoke"), mode=FDS), request_body(body, end_of_stream=True)
        )
        assert_routes(answers[0], "qwen", "qwen")
        assert echoed(answers[1:])[0] == body
