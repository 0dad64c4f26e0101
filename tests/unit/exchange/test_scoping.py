import json

import pytest
from google.protobuf.message import DecodeError

from bbr.exchange import exchange as exchange_module
from bbr.exchange.asker import MAX_BYTES, Asker
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.scoping import by_headers, by_message
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.listing import ModelsList
from bbr.models.merging import merging
from bbr.models.routing import MissingModel, Rules, UnknownModel
from bbr.models.steps import finish
from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue, ProcessingRequest
from bench.harness.conversation import BUFFERED, FDS, assert_refused, assert_routes, converse
from bench.harness.messages import JSON_POST, request_body, request_headers

TABLE, _ = finish(
    merging(
        [
            Declaration(Origin(), (BaseModel("qwen", ("sql",)),), (Alias("gpt", "qwen"),)),
            Declaration(
                Origin(),
                (BaseModel("phi", ("sql", "a-only", "a-*")),),
                (Alias("gpt", "a-only"), Alias("both", "phi", (("phi", 1), ("qwen", 0)))),
                (Grant("a-only", frozenset({"one"})),),
                "a",
                ("a.example.com",),
            ),
            Declaration(Origin(), (BaseModel("gemma", ("sql",)),), scope="b", hosts=("*.example.com",)),
        ]
    )
)
HEADER = Asker(header="x-scope")
METADATA = Asker(metadata=("auth", "scope"))
ATTRIBUTE = Asker(attribute="connection.sni")


def section(*fields):
    return HeaderMap(headers=[HeaderValue(key=key, raw_value=value).SerializeToString() for key, value in fields])


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ([(":authority", b"a.example.com")], "a"),
        ([(":authority", b"A.Example.Com.:8080")], "a"),
        ([(":authority", b"x.example.com")], "b"),
        ([(":authority", b"example.com")], ""),
        ([("host", b"a.example.com")], "a"),
        ([(":authority", b"other"), ("host", b"a.example.com")], ""),
        ([(":authority", b"a.example.com"), ("host", b"other")], ""),
        ([(":authority", b"a.example.com"), ("host", b"x.example.com")], ""),
        ([(":authority", b"a.example.com"), ("host", b"A.EXAMPLE.com:80")], "a"),
        ([(":authority", b"a.example.com"), ("host", b"a.example.com"), ("host", b"a.example.com")], ""),
        ([(":authority", b"user@a.example.com")], ""),
        ([(":authority", b""), ("host", b"a.example.com")], ""),
        ([(":authority", b"a.example.com"), (":authority", b"a.example.com")], ""),
        ([("host", b"a.example.com"), ("host", b"a.example.com")], ""),
        ([("x-forwarded-host", b"a.example.com"), ("x-scope", b"a")], ""),
        ([], ""),
    ],
)
def test_the_host_tells_the_scope(fields, scope):
    assert by_headers(TABLE, None, section(*fields)).scope == scope


@pytest.mark.parametrize(
    ("values", "scope"),
    [
        ([b"a"], "a"),
        ([b" b "], "b"),
        ([b"A"], ""),
        ([b"c"], ""),
        ([b""], ""),
        ([], ""),
        ([b"a", b"a"], ""),
        ([b"a,b"], ""),
        ([b"a,a"], "a"),
        ([b"*"], ""),
        ([b"a\xff"], ""),
        ([b"a" * (MAX_BYTES + 1)], ""),
    ],
)
def test_a_header_tells_the_scope_and_the_host_does_not(values, scope):
    fields = [(":authority", b"a.example.com"), *(("x-scope", value) for value in values)]
    assert by_headers(TABLE, HEADER, section(*fields)).scope == scope


def test_without_headers_and_with_broken_ones():
    assert by_headers(TABLE, None, None) is TABLE
    broken = HeaderMap(headers=[b"\x0a\x0a:authority\xff"])
    assert by_headers(TABLE, HEADER, broken) is TABLE
    with pytest.raises(DecodeError):
        by_headers(TABLE, None, broken)


@pytest.mark.parametrize("where", [METADATA, ATTRIBUTE])
def test_what_is_told_beside_the_headers(where):
    for names, scope in ((["a"], "a"), (["a", "b"], ""), (["x"], ""), ([], "")):
        message = ProcessingRequest()
        where.put_into(message, names)
        assert by_message(TABLE, where, message).scope == scope
    assert by_message(TABLE, HEADER, ProcessingRequest()) is TABLE


def ask(model, host="", *, mode=FDS, told="", **policy):
    """Let a gateway ask for a model, and return the last answer and the verdict."""
    given = Policy(Replies(), **policy)
    talk = Exchange(given, TABLE)
    fields = {**JSON_POST, ":authority": host, **({"x-scope": told} if told and given.scope == HEADER else {})}
    first = request_headers(fields, mode=mode)
    if told and given.scope is not None:
        message = ProcessingRequest.FromString(first)
        given.scope.put_into(message, [told])
        first = message.SerializeToString()
    answers = converse(
        talk, first, request_body(json.dumps({"model": model} if model else {}).encode(), end_of_stream=True)
    )
    return answers[0 if mode == FDS else -1], talk.verdict


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize(
    ("host", "base_model"), [("a.example.com:1", "phi"), ("x.example.com", "gemma"), ("y", "qwen")]
)
def test_one_name_in_three_tables(host, base_model, mode):
    answer, verdict = ask("sql", host, mode=mode)
    assert_routes(answer, "sql", base_model)
    assert verdict.scope == {"phi": "a", "gemma": "b", "qwen": ""}[base_model]


@pytest.mark.parametrize("by_hand", [False, True])
def test_however_the_headers_are_read(monkeypatch, by_hand):
    monkeypatch.setattr(exchange_module, "_READS_OPENINGS", by_hand)
    answer, _ = ask("sql", "a.example.com")
    assert_routes(answer, "sql", "phi")
    answer, _ = ask("sql", "y", scope=METADATA, told="b")
    assert_routes(answer, "sql", "gemma")


@pytest.mark.parametrize("where", [HEADER, METADATA, ATTRIBUTE])
@pytest.mark.parametrize(("told", "base_model"), [("a", "phi"), ("b", "gemma"), ("c", "qwen"), ("", "qwen")])
def test_where_the_gateway_names_the_scope_no_host_does(where, told, base_model):
    answer, _ = ask("sql", "a.example.com", scope=where, told=told)
    assert_routes(answer, "sql", base_model)


def test_who_asks_and_the_scope_may_both_be_told_beside_the_headers():
    given = Policy(Replies(), asker=Asker(metadata=("auth", "team")), scope=METADATA)
    for team, status in (("one", None), ("two", 403)):
        message = ProcessingRequest.FromString(request_headers(JSON_POST, mode=FDS))
        given.asker.put_into(message, [team])
        given.scope.put_into(message, ["a"])
        talk = Exchange(given, TABLE)
        answer = converse(talk, message.SerializeToString(), request_body(b'{"model":"a-only"}', end_of_stream=True))[0]
        if status is None:
            assert_routes(answer, "a-only", "phi")
        else:
            assert_refused([answer], status, "model-not-allowed")


@pytest.mark.parametrize("name", ["phi", "a-only", "a-x", "both", "gemma"])
def test_what_a_host_may_not_see_is_unknown_to_it(name):
    answer, verdict = ask(name, "y")
    assert_refused([answer], 404, "model-not-found")
    assert (verdict.reason, verdict.scope) == ("model-not-found", "")
    unknown, _ = ask("no-such-model", "y")
    assert answer.immediate_response.body.replace(name.encode(), b"?") == unknown.immediate_response.body.replace(
        b"no-such-model", b"?"
    )


def test_the_default_model_is_that_of_the_scope():
    rules = Rules(missing_model=MissingModel.DEFAULT, unknown_model=UnknownModel.DEFAULT, default_model="gpt")
    for host, model, base_model in (("a.example.com", "a-only", "phi"), ("y", "qwen", "qwen")):
        answer, _ = ask("", host, rules=rules, asker=None)
        if model == "a-only":
            assert_refused([answer], 403, "model-not-allowed")  # its list counts
        else:
            assert_routes(answer, model, base_model)
    only_in_a = Rules(missing_model=MissingModel.DEFAULT, default_model="phi")
    assert_routes(ask("", "a.example.com", rules=only_in_a)[0], "phi", "phi")
    assert_refused([ask("", "y", rules=only_in_a)[0]], 500, "default-model-unknown")


def test_patterns_and_weights_of_a_scope():
    assert_routes(ask("a-x", "a.example.com")[0], "a-x", "phi")
    assert_routes(ask("both", "a.example.com")[0], "phi", "phi")


def test_lists_of_a_scope_are_its_own():
    assert_routes(ask("gpt", "y")[0], "qwen", "qwen")
    assert_refused([ask("gpt", "a.example.com")[0]], 403, "model-not-allowed")


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.example.com", {"phi", "sql", "both", "qwen"}),
        ("x.example.com", {"gemma", "sql", "qwen", "gpt"}),
        ("y", {"qwen", "sql", "gpt"}),
    ],
)
def test_the_list_of_models(host, names):
    models_list = ModelsList()
    for _ in range(2):
        talk = Exchange(Policy(Replies(), models_list=models_list), TABLE)
        fields = {":method": "GET", ":path": "/v1/models", ":authority": host}
        (answer,) = converse(talk, request_headers(fields, mode=FDS, end_of_stream=True))
        assert {each["id"] for each in json.loads(answer.immediate_response.body)["data"]} == names
        for name, status in (("phi", 200 if "phi" in names else 404), ("gemma", 200 if "gemma" in names else 404)):
            talk = Exchange(Policy(Replies(), models_list=models_list), TABLE)
            fields[":path"] = f"/v1/models/{name}"
            (answer,) = converse(talk, request_headers(fields, mode=FDS, end_of_stream=True))
            assert answer.immediate_response.status.code == status
            fields[":path"] = "/v1/models"


def test_a_body_before_any_headers_is_in_no_scope():
    talk = Exchange(Policy(Replies(), assume_body_mode=BodyMode.BUFFERED), TABLE)
    (answer,) = converse(talk, request_body(b'{"model":"sql"}', end_of_stream=True))
    assert_routes(answer, "sql", "qwen")
