import gzip
import json

import pytest

from bbr.models.registry import Registry
from bench.harness import body_kinds, conversation, machine, messages, workload
from bench.published.direct import Case, check, exchange

SIZES = (1_000, 10_000, 100_000)
JSON = [kind for kind in body_kinds.KINDS if kind not in ("multipart", "gzip")]


@pytest.mark.parametrize("size", [30_000, 100_000])
@pytest.mark.parametrize("kind", JSON)
def test_a_kind_has_the_size_that_is_asked_for(kind, size):
    octets = body_kinds.body(kind, size).octets
    assert abs(len(octets) - size) <= size * 0.02
    assert json.loads(octets)["model"] == workload.MODEL


def test_a_chat_has_it_exactly():
    assert [len(body_kinds.body(kind, size).octets) for kind in ("chat", "chat, model first") for size in SIZES] == [
        *SIZES,
        *SIZES,
    ]


def test_gzip_is_of_the_conversation():
    assert gzip.decompress(body_kinds.body("gzip", 100_000).octets) == body_kinds.body("conversation", 100_000).octets


def test_a_kind_is_the_same_each_time():
    for kind, make in body_kinds.KINDS.items():
        assert make(20_000) == make(20_000), kind


def test_tools_are_many_and_calls_too():
    document = json.loads(body_kinds.body("tools", 100_000).octets)
    assert len(document["tools"]) > 20
    assert sum(message["role"] == "tool" for message in document["messages"]) > 5


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("kind", body_kinds.KINDS)
def test_the_router_finds_the_model_in_each(kind, mode):
    case = Case("kind", 20_000, kind, mode)
    sent = exchange(case)
    answers = [answer.SerializeToString() for answer in conversation.converse(conversation.exchange(Registry()), *sent)]
    assert check(case, sent, answers)
    with pytest.raises(AssertionError):
        check(case, sent, answers[1:])
    assert messages.parse(answers[0]).WhichOneof("response") == "request_headers"


TOLD = """
finished in 410.21ms, 2437.77 req/s, 38.93KB/s
requests: 1000 total, 1000 started, 1000 done, {done} succeeded, 0 failed, 0 errored, 0 timeout
traffic: 15.97KB (16352) total, 1.32KB (1351) headers (space savings 95.50%), 14.65KB (15000) data
"""


def test_h2load_is_read():
    assert machine.loaded(TOLD.format(done=1000), 1000) == (2437.77, 15000)


def test_exchanges_that_h2load_has_lost_are_noticed():
    with pytest.raises(AssertionError, match="999 succeeded"):
        machine.loaded(TOLD.format(done=999), 1000)
