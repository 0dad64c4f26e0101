import pytest

from bbr import refusal
from bbr.exchange.naming import agreed, check_query, check_serde, excuse, is_unnamed, model_of
from bbr.exchange.policy import InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import BaseModel
from bbr.models.routing import MissingModel, Rules
from bbr.refusal import Refusal
from bench.harness.model_tables import merged

TABLE, _ = merged([BaseModel("a"), BaseModel("b"), BaseModel("models/b")])
LONGER = ("models/a", "models/b")
INVALID = refusal.invalid_json("invalid-json", "x", 0)
TOO_LARGE = refusal.decoded_too_large(1)


def policy(missing: MissingModel = MissingModel.PASS, **fields: object) -> Policy:
    return Policy(Replies(), rules=Rules(missing_model=missing), **fields)


@pytest.mark.parametrize(
    ("url_model", "name", "expected"),
    [(None, None, None), (None, "a", "a"), ("a", None, "a"), ("a", "a", "a"), ("a", "models/a", "a")],
)
def test_agreed(url_model: str | None, name: str | None, expected: str | None) -> None:
    assert agreed(policy(), TABLE, url_model, LONGER, name) == expected


@pytest.mark.parametrize(("url_model", "name"), [("a", "b"), ("b", "models/b"), ("a", "v1/models/a")])
def test_two_models(url_model: str, name: str) -> None:
    with pytest.raises(Refusal, match=f"names the model `{url_model}`, and the request body names `{name}`"):
        agreed(policy(), TABLE, url_model, LONGER, name)
    assert agreed(policy(url_wins=True), TABLE, url_model, LONGER, name) == url_model


def test_the_body_counts_where_the_url_names_none() -> None:
    assert agreed(policy(url_wins=True), TABLE, None, (), "b") == "b"


def test_a_query_names_the_same_model_or_none() -> None:
    for query in ("?x=1", "?model=a", "?x=1&m%6fdel=a", "?", ""):
        check_query(policy(), b"/x" + query.encode(), "a")
    for query, why in (("model=b", "model-disagrees"), ("Model=a", "form-model"), ("model=", "model-empty")):
        with pytest.raises(Refusal) as caught:
            check_query(policy(), b"/x?" + query.encode(), "a")
        assert caught.value.reason == why


def test_lists() -> None:
    check_serde(policy(), None)
    check_serde(policy(url_wins=True), "a")
    for of, url_model in ((policy(), "a"), (policy(MissingModel.DEFAULT), None), (policy(MissingModel.DEFAULT), "a")):
        with pytest.raises(Refusal, match="is a JSON list"):
            check_serde(of, url_model)


def test_what_names_none() -> None:
    for refused in (refusal.model_empty(), refusal.model_not_string("null").at(3)):
        assert is_unnamed(policy(MissingModel.DEFAULT), refused)
        assert not is_unnamed(policy(), refused)
    for refused in (refusal.model_not_string("a number"), refusal.model_missing(), refusal.model_empty("URL path")):
        assert not is_unnamed(policy(MissingModel.DEFAULT), refused)


@pytest.mark.interpreted("replaces a body")
@pytest.mark.parametrize("refused", [refusal.model_empty(), refusal.model_duplicate()])
def test_the_model_of_a_body(refused: Refusal) -> None:
    class Refused:
        def model(self) -> str:
            raise refused

    class Named:
        def model(self) -> str:
            return "a"

    assert model_of(policy(), Named()) == "a"
    with pytest.raises(Refusal) as caught:
        model_of(policy(), Refused())
    assert caught.value is refused
    default = policy(MissingModel.DEFAULT)
    if refused.unnamed:
        assert model_of(default, Refused()) is None
    else:
        with pytest.raises(Refusal):
            model_of(default, Refused())


def test_what_may_pass() -> None:
    assert excuse(policy(), INVALID, is_text=False) is None
    assert excuse(policy(), INVALID, is_text=True) is Outcome.NOT_READ
    assert excuse(policy(on_invalid_json=InvalidJson.PASS_STRIPPED), INVALID, is_text=False) is Outcome.INVALID
    assert excuse(policy(), TOO_LARGE, is_text=False) is None
    assert excuse(policy(over_limit=OverLimit.PASS), TOO_LARGE, is_text=True) is Outcome.OVER_LIMIT
    assert excuse(policy(), refusal.model_duplicate(), is_text=True) is None
