from itertools import product

import pytest

from bbr.pb.ext_proc_pb2 import HeaderValue
from bbr.reading.head import read_head
from bbr.reading.header_names import BEGINNING_BYTES, MAX_ALWAYS_REMOVED, MAX_STRAYS, NO_NAMES, GuardedNames
from bbr.refusal import Refusal
from bench.harness.messages import header_map

NAMES = GuardedNames(["X-Gateway-Model-Name", "x-y", "secret"])


@pytest.mark.parametrize(
    "key",
    ["x_gateway_model_name", "x-gateway_model-name", "x.gateway.model.name", "x~gateway!model|name", "X_Y", "x_y"],
)
def test_other_spellings(key: str) -> None:
    assert NAMES.is_stray(key)
    assert HeaderValue(key=key.lower()).SerializeToString()[:BEGINNING_BYTES] in NAMES.beginnings
    assert read_head(header_map([(key.lower(), "a")]).headers, NAMES)[0].strays == (key.lower(),)


@pytest.mark.parametrize(
    "key",
    ["x-gateway-model-name", "X-Gateway-Model-Name", "x-gateway-model-name2", "xgatewaymodelname", "x-z", "secret", ""],
)
def test_other_names(key: str) -> None:
    assert not NAMES.is_stray(key)
    assert read_head(header_map([(key, "a")]).headers, NAMES)[0].strays == ()


def test_each_is_told_once() -> None:
    headers = header_map(
        [("x_y", "a"), ("x_y", "b"), ("x-y", "c"), ("x.y", "d"), ("content-type", "text/plain")]
    ).headers
    assert NAMES.strays(headers) == read_head(headers, NAMES)[0].strays == ("x_y", "x.y")
    assert NO_NAMES.strays(headers) == read_head(headers)[0].strays == ()


PREFIXED = GuardedNames(["x-llm-d-rewrite"], ["x-llm-d-", "a"], spared=["X-LLM-D-Model"])
LONG = "x-llm-d-" + "y" * 300


@pytest.mark.parametrize("key", ["x-llm-d-slo", "X-LLM-D-", "x_llm_d.slo", "x-llm-d_rewrite", "a", "about", LONG])
def test_what_begins_like_a_prefix_is_a_stray(key: str) -> None:
    assert PREFIXED.is_stray(key)
    headers = header_map([("content-type", "text/plain"), (key, "a"), (key, "b")]).headers
    assert PREFIXED.strays(headers) == read_head(headers, PREFIXED)[0].strays == (key,)


@pytest.mark.parametrize("key", ["x-llm-d", "x-llm-d-rewrite", "x-llm-d-model", "x_llm_d_model", ":authority", "b-a"])
def test_what_does_not_or_has_rules_of_its_own_is_none(key: str) -> None:
    assert not PREFIXED.is_stray(key)
    headers = header_map([(key, "a")]).headers
    assert PREFIXED.strays(headers) == read_head(headers, PREFIXED)[0].strays == ()


@pytest.mark.parametrize("guarded", [GuardedNames(["x-a-b-c-d-e"]), GuardedNames([], ["x-a"])], ids=["names", "prefix"])
def test_more_strays_than_can_be_removed_are_refused(guarded: GuardedNames) -> None:
    spelled = ["x-a_b" + "".join(each) + "e" for each in product("-_.!", ["c"], "-_.!#", ["d"], "-_.!")]
    few, many = (header_map([(key, "a") for key in spelled[:count]]).headers for count in (MAX_STRAYS, MAX_STRAYS + 1))
    assert len(guarded.strays(few)) == len(read_head(few, guarded)[0].strays) == MAX_STRAYS
    for look in (lambda: guarded.strays(many), lambda: read_head(many, guarded)):
        with pytest.raises(Refusal) as refused:
            look()
        assert (refused.value.status, refused.value.reason) == (431, "headers-stray")


@pytest.mark.parametrize(("removed", "most"), [(0, MAX_STRAYS), (44, MAX_STRAYS), (45, 49), (MAX_ALWAYS_REMOVED, 10)])
def test_one_answer_removes_no_more_names_than_a_gateway_allows(removed: int, most: int) -> None:
    guarded = GuardedNames(["x-y"], removed=removed)
    assert guarded.max_strays == most
    assert guarded.checked(("x",) * most)
    with pytest.raises(Refusal, match=f"more than {most} header fields"):
        guarded.checked(("x",) * (most + 1))
