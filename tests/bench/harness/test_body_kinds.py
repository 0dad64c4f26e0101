import gzip
import json

import pytest

from bench.harness import body_kinds, workload

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
