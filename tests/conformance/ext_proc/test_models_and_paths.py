"""The operator's rules in an exchange: unknown and missing models, paths that are not read, the list of models."""

import json

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Kind, Origin
from bbr.models.listing import ModelsList
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Rule, Rules, UnknownModel
from bbr.models.steps import finish
from bbr.reading.paths import PathFilter, PathPattern
from bench.harness.conversation import (
    BASE,
    BUFFERED,
    FDS,
    MODEL,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    echoed,
    exchange,
    kinds,
)
from bench.harness.messages import request_body, request_headers, set_headers

OBJECT = Origin("ConfigMap", "qwen", "default", 1.0)
TABLE, _ = finish(merging([Declaration(OBJECT, (BaseModel("qwen", ("lora",)),), (Alias("gpt", "lora"),))]))

BOTH = pytest.mark.parametrize("mode", [FDS, BUFFERED], ids=lambda mode: mode.name)
EVERY = pytest.mark.parametrize("mode", [mode for mode in BodyMode if mode is not BodyMode.GRPC], ids=lambda m: m.name)


def ask(mode, body, path="/v1/chat/completions", registry=TABLE, **policy):
    """Return the answer that decides, and the verdict."""
    talk = exchange(registry, assume_body_mode=mode, **policy)
    headers = request_headers({":path": path, ":method": "POST", "content-type": "application/json"})
    answers = converse(talk, headers, request_body(body, end_of_stream=True))
    deciding = [each for each in answers if not each.request_body.response.body_mutation.HasField("streamed_response")]
    return deciding[-1], talk.verdict


ROUTED = {
    "an alias": ({}, b'{"model":"gpt"}', ("lora", "qwen"), Kind.ALIAS),
    "unknown, passthrough": ({"unknown_model": UnknownModel.PASSTHROUGH}, b'{"model":"x"}', ("x", "x"), None),
    "unknown, default": ({"unknown_model": UnknownModel.DEFAULT}, b'{"model":"x"}', ("lora", "qwen"), None),
    "missing, default": ({"missing_model": MissingModel.DEFAULT}, b"{}", ("lora", "qwen"), Rule.MISSING_DEFAULT),
    "no object, default": ({"missing_model": MissingModel.DEFAULT}, b"null", ("lora", "qwen"), Rule.MISSING_DEFAULT),
}


@BOTH
@pytest.mark.parametrize(("rules", "body", "route", "rule"), ROUTED.values(), ids=ROUTED)
def test_routed_by_the_rules(mode, rules, body, route, rule):
    answer, verdict = ask(mode, body, rules=Rules(**rules, default_model="gpt"))
    assert_routes(answer, *route)
    assert verdict.outcome is Outcome.ROUTED
    assert verdict.base_model == route[1]
    assert verdict.route.rule is (rule or verdict.route.rule)


@BOTH
def test_an_empty_base_model_is_set_as_the_go_routers_do(mode):
    answer, _ = ask(mode, b'{"model":"x"}', rules=Rules(UnknownModel.EMPTY))
    common = (answer.request_headers if mode is FDS else answer.request_body).response
    assert set_headers(common.header_mutation) == {MODEL: b"x", BASE: b""}
    assert common.clear_route_cache


REFUSED = {
    "unknown": ({}, b'{"model":"x"}', 404, "model-not-found"),
    "missing": ({"missing_model": MissingModel.REJECT}, b"{}", 400, "model-missing"),
    "no default": ({"missing_model": MissingModel.DEFAULT, "default_model": "x"}, b"{}", 500, "default-model-unknown"),
}


@BOTH
@pytest.mark.parametrize(("rules", "body", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_by_the_rules(mode, rules, body, status, reason):
    answer, verdict = ask(mode, body, rules=Rules(**rules))
    assert_refused([answer], status, reason)
    assert (verdict.outcome, verdict.reason) == (Outcome.REFUSED, reason)


@BOTH
def test_a_missing_model_passes_by_default(mode):
    answer, verdict = ask(mode, b"{}")
    assert_strips(answer)
    assert verdict.outcome is Outcome.NO_MODEL


def test_a_request_without_a_body_is_no_request_of_a_missing_model():
    talk = exchange(TABLE, rules=Rules(missing_model=MissingModel.REJECT))
    (answer,) = converse(talk, request_headers({":method": "GET", ":path": "/"}, end_of_stream=True))
    assert_strips(answer)


@BOTH
def test_what_an_exchange_was_routed_by_is_told(mode):
    _, verdict = ask(mode, b'{"model":"gpt"}')
    assert (verdict.model, verdict.base_model) == ("gpt", "qwen")
    assert (verdict.route.model, verdict.route.origin) == ("lora", OBJECT)


TOLD = {
    "an adapter": (b'{"model":"lora"}', "lora"),
    "an alias": (b'{"model":"gpt"}', "gpt"),
    "an unknown model": (b'{"model":"x"}', "x"),
    "a long unknown model": (b'{"model":"%s"}' % (b"x" * 300), "x" * 300),
    "none: the default": (b"{}", "lora"),
}


@BOTH
@pytest.mark.parametrize(("body", "requested"), TOLD.values(), ids=TOLD)
def test_metadata_tell_the_requested_model(mode, body, requested):
    rules = Rules(UnknownModel.DEFAULT, MissingModel.DEFAULT, "gpt")
    talk = exchange_of(Replies(metadata_namespace="bbr"), mode, rules)
    answers = converse(
        talk, request_headers({"content-type": "application/json"}), request_body(body, end_of_stream=True)
    )
    (told,) = [each.dynamic_metadata for each in answers if each.HasField("dynamic_metadata")]
    fields = told.fields["bbr"].struct_value.fields
    assert {name: value.string_value for name, value in fields.items()} == {
        "outcome": "routed",
        "requested_model": requested,
        "base_model": "qwen",
    }


def exchange_of(replies, mode, rules):
    policy = Policy(replies, assume_body_mode=mode, rules=rules, max_model_bytes=4096)
    return Exchange(policy, TABLE)


# Paths.

CHAT_ONLY = PathFilter(include=(PathPattern("/v1/chat/completions"),))


@pytest.mark.parametrize("body", [b'{"model":"lora"}', b'{"model":', b"\xff" * 100_000], ids=["json", "broken", "long"])
def test_a_path_out_of_scope_passes_unread_and_stripped(body):
    talk = exchange(TABLE, paths=CHAT_ONLY, max_body_bytes=10)
    headers = request_headers({":path": "/v1/files", ":method": "POST"})
    first, *pieces = converse(talk, headers, request_body(body), request_body(b"", end_of_stream=True))
    assert_strips(first)
    back, ends = echoed(pieces)
    assert (back, ends[-1]) == (body, True)
    assert talk.verdict.outcome is Outcome.NOT_READ


def test_a_path_out_of_scope_passes_in_buffered_as_well():
    talk = exchange(TABLE, paths=CHAT_ONLY, assume_body_mode=BUFFERED)
    headers = request_headers({":path": "/v1/files", ":method": "POST"})
    first, second = converse(talk, headers, request_body(b'{"model":"lora"}', end_of_stream=True))
    assert_strips(first)
    assert_strips(second)


@BOTH
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/chat/completions?x=1", "/v1//chat/completions", "/v1/x/%2e./chat/completions"]
)
def test_a_path_in_scope_is_read_however_it_is_spelled(mode, path):
    answer, _ = ask(mode, b'{"model":"lora"}', path, paths=CHAT_ONLY)
    assert_routes(answer, "lora", "qwen")


def test_a_request_that_tells_no_path_is_out_of_an_including_scope():
    talk = exchange(TABLE, paths=CHAT_ONLY)
    (answer,) = converse(talk, request_headers({}))
    assert_strips(answer)


# The list of models.

LISTED = {"id": "lora", "object": "model", "created": 1, "owned_by": "bbr", "root": "lora", "parent": "qwen"}


def get(mode, path, registry=TABLE, method="GET", limit=60_000, end_of_stream=True):
    talk = exchange(registry, assume_body_mode=mode, models_list=ModelsList(limit))
    fields = {":method": method, ":path": path}
    return converse(talk, request_headers(fields, end_of_stream=end_of_stream)), talk


@EVERY
@pytest.mark.parametrize("end_of_stream", [True, False], ids=["without a body", "with a body"])
def test_the_list_is_answered(mode, end_of_stream):
    (answer,), talk = get(mode, "/v1/models", end_of_stream=end_of_stream)
    immediate = answer.immediate_response
    assert (immediate.status.code, immediate.details) == (200, "bbr:models-list")
    assert set_headers(immediate.headers) == {"content-type": b"application/json"}
    found = json.loads(immediate.body)
    assert found["object"] == "list"
    assert [each["id"] for each in found["data"]] == ["qwen", "lora", "gpt"]
    assert found["data"][1] == LISTED
    assert talk.verdict.outcome is Outcome.ANSWERED
    assert talk.finish().code == 0
    assert talk.receive(request_body(b"x")) == ()


@BOTH
def test_one_model_is_answered(mode):
    (answer,), _ = get(mode, "/v1/models/lora")
    assert json.loads(answer.immediate_response.body) == LISTED


@BOTH
def test_a_model_that_is_not_listed_is_a_404(mode):
    answers, talk = get(mode, "/v1/models/x")
    assert_refused(answers, 404, "model-not-found")
    assert talk.verdict.outcome is Outcome.REFUSED


PASSING = {
    "another path": {"path": "/v1/chat/completions"},
    "another method": {"path": "/v1/models", "method": "DELETE"},
    "without a table": {"path": "/v1/models", "registry": Registry()},
}


@BOTH
@pytest.mark.parametrize("request_", PASSING.values(), ids=PASSING)
def test_other_requests_pass(mode, request_):
    (answer,), talk = get(mode, **request_)
    assert_strips(answer)
    assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.NO_BODY, "")


@BOTH
def test_a_list_that_is_too_long_passes_and_is_told(mode):
    (answer,), talk = get(mode, "/v1/models", limit=100)
    assert_strips(answer)
    assert (talk.verdict.outcome, talk.verdict.reason) == (Outcome.NO_BODY, "models-list-too-long")


def test_the_list_is_not_answered_unless_asked_for():
    talk = exchange(TABLE)
    (answer,) = converse(talk, request_headers({":method": "GET", ":path": "/v1/models"}, end_of_stream=True))
    assert kinds([answer]) == ["request_headers"]
