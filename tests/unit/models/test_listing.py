import dataclasses
import json

import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.listing import ModelsList, asked_for, in_order, own_in_order
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.refusal import Refusal
from bench.harness.model_tables import merged
from tests.support import steps

QWEN = "Qwen/Qwen2.5-3B-Instruct"
OBJECT = Origin("ConfigMap", "qwen", "default", 1_700_000_000.5)
TABLE, _ = finish(
    merging(
        [
            Declaration(
                OBJECT,
                (BaseModel(QWEN, ("sql", "chat")), BaseModel("phi")),
                (Alias("gpt-4", QWEN), Alias("db", "sql"), Alias("é", "phi")),
            )
        ]
    )
)

ASKED = {
    "all": (b"GET", b"/v1/models", ""),
    "all, with a query": (b"GET", b"/v1/models?limit=1", ""),
    "one": (b"GET", b"/v1/models/phi", "phi"),
    "one with a slash": (b"GET", b"/v1/models/Qwen/Qwen2.5-3B-Instruct", QWEN),
    "one with an escaped slash": (b"GET", b"/v1/models/Qwen%2FQwen2.5-3B-Instruct?x", QWEN),
    "one beyond ASCII": (b"GET", b"/v1/models/%C3%A9", "é"),
    "a POST": (b"POST", b"/v1/models", None),
    "a HEAD": (b"HEAD", b"/v1/models", ""),
    "a HEAD for one": (b"HEAD", b"/v1/models/phi", "phi"),
    "a slash at the end": (b"GET", b"/v1/models/?x=1", ""),
    "one with a slash at the end": (b"GET", b"/v1/models/phi/", "phi"),
    "an OPTIONS": (b"OPTIONS", b"/v1/models", None),
    "another path": (b"GET", b"/v1/modelsx", None),
    "above it": (b"GET", b"/v1", None),
    "behind a prefix": (b"GET", b"/openai/v1/models", None),
    "not UTF-8": (b"GET", b"/v1/models/%E9", None),
    "the longest": (b"GET", b"/v1/models/" + b"x" * 4085, "x" * 4085),
    "too long": (b"GET", b"/v1/models/" + b"x" * 4086, None),
}


@pytest.mark.parametrize(("method", "path", "expected"), ASKED.values(), ids=ASKED)
def test_asked_for(method, path, expected):
    assert asked_for(method, path) == expected


def model(name, root=None, parent=None):
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "bbr",
        "root": root or name,
        "parent": parent,
    }


EXPECTED = [
    model(QWEN),
    model("chat", parent=QWEN),
    model("sql", parent=QWEN),
    model("db", root="sql", parent=QWEN),
    model("gpt-4", root=QWEN),
    model("phi"),
    model("é", root="phi"),
]


def test_the_list_holds_base_models_adapters_and_aliases():
    assert json.loads(ModelsList().answer(TABLE, "")) == {"object": "list", "data": EXPECTED}
    assert [name for name, _ in in_order(TABLE)] == [each["id"] for each in EXPECTED]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda each: each["id"])
def test_one_model(expected):
    assert json.loads(ModelsList().answer(TABLE, expected["id"])) == expected


def test_an_unknown_model_is_a_404():
    with pytest.raises(Refusal) as caught:
        ModelsList().answer(TABLE, "x")
    assert (caught.value.status, caught.value.reason) == (404, "model-not-found")


@pytest.mark.parametrize("name", ["", "phi"])
def test_before_the_table_is_complete_there_is_no_list(name):
    with pytest.raises(Refusal) as caught:
        ModelsList().answer(dataclasses.replace(TABLE, complete=False), name)
    assert caught.value.status == 503


def test_the_list_follows_the_table():
    models = ModelsList()
    assert models.answer(TABLE, "") is models.answer(TABLE, "")
    other, _ = merged([BaseModel("llama")])
    assert [each["id"] for each in json.loads(models.answer(other, ""))["data"]] == ["llama"]
    assert json.loads(models.answer(TABLE, ""))["data"] == EXPECTED


def test_a_list_of_nothing():
    assert json.loads(ModelsList().answer(merged([])[0], "")) == {"object": "list", "data": []}


def test_an_answer_that_is_too_long_is_none():
    size = len(ModelsList().answer(TABLE, ""))
    assert ModelsList(size).answer(TABLE, "")
    assert ModelsList(size - 1).answer(TABLE, "") is None
    assert ModelsList(50).answer(TABLE, "phi") is None


def test_a_list_of_long_names_ends_before_it_is_made():
    long, _ = finish(merging([Declaration(OBJECT, (BaseModel("x" * 200),), ())]))
    assert ModelsList().answer(long, "")
    assert ModelsList(200).answer(long, "") is None


def test_as_many_lists_are_kept_as_fit():
    models = ModelsList(max_kept_bytes=3 * len(ModelsList().answer(TABLE, "")))
    scopes = [dataclasses.replace(TABLE, scope=name) for name in "abcd"]
    kept = [models.answer(each, "") for each in scopes[:3]]
    assert [models.answer(each, "") is first for each, first in zip(scopes, kept, strict=False)] == [True] * 3
    last = models.answer(scopes[3], "")
    assert [models.answer(each, "") is first for each, first in zip(scopes[1:], [*kept[1:], last], strict=True)] == [
        True
    ] * 3
    assert models.answer(scopes[0], "") is not kept[0]


def test_no_more_lists_are_kept_than_may_be():
    models = ModelsList(max_lists=2)
    scopes = [dataclasses.replace(TABLE, scope=name) for name in "abc"]
    first, second, third = [models.answer(each, "") for each in scopes]
    assert models.answer(scopes[1], "") is second
    assert models.answer(scopes[2], "") is third
    assert models.answer(scopes[0], "") is not first


def test_a_large_table_is_too_long_at_once():
    large, _ = merged([BaseModel("a", tuple(str(i) for i in range(1000)))])
    assert ModelsList(70_000).answer(large, "") is None
    assert ModelsList(1 << 20).answer(large, "")


@pytest.mark.interpreted("counts lines")
@pytest.mark.parametrize("anthropic", [False, True])
def test_a_list_that_is_not_kept_takes_little(anthropic):
    adapters = [tuple(f"adapter-{number}-{other}" for other in range(7)) for number in range(60)]
    models = tuple(BaseModel(f"base-{number}", several) for number, several in enumerate(adapters))
    grants = tuple(Grant(model.adapters[0], frozenset(("a", "b"))) for model in models)
    table, _ = finish(merging([Declaration(OBJECT, models, (), grants)]))
    made = []
    cost = steps.lines(lambda: made.append(ModelsList().answer(table, "", frozenset("c"), anthropic=anthropic)))
    assert made[0] is not None
    assert len(json.loads(made[0])["data"]) == 480 - 60
    assert cost < 22 * 480

    # One that is too long is not made to its end.
    short = steps.lines(lambda: made.append(ModelsList(20_000).answer(table, "", frozenset("c"), anthropic=anthropic)))
    assert made[1] is None
    assert short < cost


def test_no_list_is_longer_than_estimated():
    shortest, _ = merged([BaseModel("a", tuple("bcdefghij"))])
    size = len(ModelsList().answer(shortest, ""))
    assert shortest.size * 75 < size


def test_patterns_are_not_listed_but_what_fits_one_is_told():
    declared = Declaration(OBJECT, (BaseModel("phi", ("team-*",)),), (Alias("gpt-*", "phi"), Alias("gpt", "phi")))
    table, _ = finish(merging([declared]))
    models = ModelsList()
    assert [each["id"] for each in json.loads(models.answer(table, ""))["data"]] == ["phi", "gpt"]
    assert json.loads(models.answer(table, "team-a"))["parent"] == "phi"
    assert json.loads(models.answer(table, "gpt-4"))["root"] == "phi"


def test_anthropics_format():
    models = ModelsList()
    found = json.loads(models.answer(TABLE, "", anthropic=True))
    names = [each["id"] for each in json.loads(models.answer(TABLE, ""))["data"]]
    assert [each["id"] for each in found["data"]] == names
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, names[0], names[-1])
    one = {"type": "model", "id": "phi", "display_name": "phi", "created_at": "2023-11-14T22:13:20Z"}
    assert one in found["data"]
    assert json.loads(models.answer(TABLE, "phi", anthropic=True)) == one
    assert models.answer(TABLE, "", anthropic=True) is models.answer(TABLE, "", anthropic=True)


def test_a_time_of_anthropics_format():
    # Times are kept. This one is no other test's, so that it is written here, where coverage is measured.
    made = OBJECT._replace(created=2_000_000_001.0)
    table, _ = finish(merging([Declaration(made, (BaseModel("phi"),), ())]))
    one = json.loads(ModelsList().answer(table, "phi", anthropic=True))
    assert one["created_at"] == "2033-05-18T03:33:21Z"


def test_anthropics_format_without_models_and_too_long():
    empty, _ = merged([])
    assert json.loads(ModelsList().answer(empty, "", anthropic=True)) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    assert ModelsList(600).answer(TABLE, "", anthropic=True) is None
    with pytest.raises(Refusal):
        ModelsList().answer(TABLE, "x", anthropic=True)


def test_a_list_has_what_the_asker_may_use():
    grants = (Grant("phi", frozenset("a")), Grant("sql", frozenset("b")))
    models = (BaseModel("qwen", ("sql",)), BaseModel("phi"))
    table, _ = finish(merging([Declaration(OBJECT, models, (Alias("gpt", "phi"),), grants)]))
    answers = ModelsList()

    def names(*askers):
        return [each["id"] for each in json.loads(answers.answer(table, "", frozenset(askers)))["data"]]

    for _ in range(2):
        assert names() == ["qwen"]
        assert names("a") == ["qwen", "phi", "gpt"]
        assert names("b") == ["qwen", "sql"]
    assert json.loads(answers.answer(table, "phi", frozenset("a")))["id"] == "phi"
    for name in ("phi", "gpt"):
        with pytest.raises(Refusal) as refused:
            answers.answer(table, name, frozenset("b"))
        assert refused.value.reason == "model-not-allowed"


def test_lists_are_kept_for_few_askers():
    table, _ = finish(merging([Declaration(OBJECT, (BaseModel("qwen"),), (), (Grant("qwen", frozenset("a")),))]))
    answers = ModelsList()
    for number in range(200):
        assert answers.answer(table, "", frozenset({str(number)})) == b'{"object":"list","data":[]}'
    assert b"qwen" in answers.answer(table, "", frozenset("a"))
    without, _ = finish(merging([Declaration(OBJECT, (BaseModel("qwen"),))]))
    assert b"qwen" in answers.answer(without, "", frozenset("b"))


def test_lists_are_kept_for_each_scope():
    declared = [Declaration(OBJECT, (BaseModel("qwen", ("sql",)),))]
    declared += [Declaration(OBJECT, (BaseModel(name, ("sql",)),), scope=name) for name in ("a", "b")]
    table, _ = finish(merging(declared))
    answers = ModelsList()
    kept = [answers.answer(layer, "") for layer in table.layers()]
    names = [[each["id"] for each in json.loads(each)["data"]] for each in kept]
    assert names == [["qwen", "sql"], ["a", "sql", "qwen"], ["b", "sql", "qwen"]]
    assert all(answers.answer(layer, "") is each for layer, each in zip(table.layers(), kept, strict=True))
    assert [name for name, _ in own_in_order(table.within("a"))] == ["a", "sql"]
    other, _ = finish(merging(declared[:-1]))
    assert answers.answer(other.within("a"), "") is not kept[1]
