"""The whole answer in one CONTINUE_AND_REPLACE message (ext_proc's CommonResponse.status)."""

import orjson
import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.rpc.status import OK
from bench.harness.conversation import BODY, FDS, TABLE, assert_routes, assert_strips, converse, exchange, kinds
from bench.harness.messages import request_body, request_headers, request_trailers


@pytest.mark.parametrize("size", [0, 100, 200, 20_000, 61_900])
@pytest.mark.parametrize("model", ["foo", "f\u00f8\u00f8" * 70, None])
def test_a_single_reply_holds_all_of_the_answer(size: int, model: str | None) -> None:
    named = {} if model is None else {"model": model}
    body = orjson.dumps({"prompt": "x" * size, **named})
    policy = {"single_reply_bytes": len(body), "max_model_bytes": 1000}
    talk = exchange(Registry(), **policy)
    (answer,) = converse(talk, request_headers(mode=FDS), request_body(body, end_of_stream=True))
    common = answer.request_headers.response
    assert common.status == common.CONTINUE_AND_REPLACE
    assert common.body_mutation.body == body
    if model is None:
        assert_strips(answer)
    else:
        assert_routes(answer, model, model)
    assert talk.finish() == OK
    # One octet more, or trailers, and it is the headers first and the body after them.
    longer = (request_headers(mode=FDS), request_body(body + b" ", end_of_stream=True))
    assert kinds(converse(exchange(Registry(), **policy), *longer))[:2] == ["request_headers", "request_body"]
    by_trailers = (request_headers(mode=FDS), request_body(body), request_trailers())
    assert kinds(converse(exchange(Registry(), **policy), *by_trailers))[:2] == ["request_headers", "request_body"]


def test_a_single_reply_tells_the_metadata_too() -> None:
    policy = Policy(Replies(metadata_namespace="bbr"), single_reply_bytes=1000)
    talk = Exchange(policy, TABLE)
    (answer,) = converse(talk, request_headers(mode=FDS), request_body(BODY, end_of_stream=True))
    fields = answer.dynamic_metadata.fields["bbr"].struct_value.fields
    assert {name: value.string_value for name, value in fields.items()} == {
        "outcome": "routed",
        "requested_model": "qwen",
        "base_model": "qwen",
    }
    assert answer.request_headers.response.body_mutation.body == BODY


def test_an_empty_body_is_no_single_reply() -> None:
    talk = exchange(single_reply_bytes=1000)
    answers = converse(talk, request_headers(mode=FDS), request_body(b"", end_of_stream=True))
    assert kinds(answers) == ["request_headers", "request_body"]
