import dataclasses

import pytest

from bbr.models.entries import BaseModel, Grant
from bbr.models.registry import MAX_IDLE, Registry
from tests.support.model_tables import LLAMA, QWEN, base_model_of, in_scope, merge, table

RESOLVED = [
    pytest.param("qwen", "qwen", id="a base model is its own"),
    pytest.param("llama", "llama", id="a second base model is its own"),
    pytest.param("sql-lora", "qwen", id="an adapter is its base model's"),
    pytest.param("1", "qwen", id="a name of digits is a name"),
    pytest.param("chat-lora", "llama", id="an adapter of the second"),
    pytest.param("other", None, id="an unknown name is nobody's"),
    pytest.param("", None, id="nor is the empty name"),
    pytest.param("Qwen", None, id="letter case counts"),
    pytest.param(" qwen", None, id="blanks count"),
]


@pytest.mark.parametrize(("model", "base_model"), RESOLVED)
def test_resolve(model, base_model):
    registry = table(QWEN, LLAMA)
    assert base_model_of(registry, model) == base_model
    entry = registry.find(model)
    assert (entry and entry.base_model) == base_model


@pytest.mark.parametrize("model", ["qwen", "", " qwen", "模型"], ids=repr)
def test_without_a_table_every_model_is_its_own_base_model(model):
    registry = Registry()
    assert registry.identity
    assert base_model_of(registry, model) == model
    assert registry.find(model) is None
    assert (registry.base_models, registry.size, [*registry.items()]) == ((), 0, [])


def test_a_table_of_nothing_is_a_table():
    registry = table()
    assert not registry.identity
    assert base_model_of(registry, "qwen") is None
    assert registry.base_models == ()


def test_size_and_items_hold_every_name_once():
    registry = table(QWEN, LLAMA)
    assert registry.size == 5
    assert sum(map(len, registry.parts())) == 5
    assert sorted(name for name, _ in registry.items()) == ["1", "chat-lora", "llama", "qwen", "sql-lora"]


def test_a_snapshot_does_not_change():
    registry = table(QWEN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.base_models = ()
    with pytest.raises(AttributeError):
        registry.find("qwen").base_model = "x"


def test_one_name_is_another_model_in_each_scope():
    registry, conflicts = merge(
        in_scope("", BaseModel("qwen", ("sql", "chat"))),
        in_scope("a", BaseModel("phi", ("sql",)), hosts=("a.example",)),
        in_scope("b", BaseModel("gemma", ("sql", "b-only")), hosts=("b.example",)),
    )
    assert conflicts == []
    found = {layer.scope: base_model_of(layer, "sql") for layer in registry.layers()}
    assert found == {"": "qwen", "a": "phi", "b": "gemma"}
    a, b = registry.within("a"), registry.within("b")
    assert [base_model_of(layer, "chat") for layer in (registry, a, b)] == ["qwen"] * 3
    assert [layer.find("b-only") is not None for layer in (registry, a, b)] == [False, False, True]
    assert [layer.find("phi") is not None for layer in (registry, a, b)] == [False, True, False]
    assert [layer.holds(name) for layer in (registry, a) for name in ("sql", "chat", "phi", "gemma")] == [
        *(True, True, False, False),
        *(True, True, True, False),
    ]
    assert registry.within("c") is registry
    assert (registry.size, a.size, a.own_size, len([*a.items()])) == (3, 4, 2, 4)
    assert registry.anywhere("b-only").base_model == "gemma"
    assert registry.anywhere("x") is None
    assert registry.snapshot is a.snapshot is b.snapshot
    assert registry.snapshot is not table(QWEN).snapshot


def test_patterns_of_a_scope_come_before_those_of_all_and_names_before_both():
    registry, conflicts = merge(
        in_scope("", BaseModel("qwen"), names=[("gpt-*", "qwen"), ("claude-sonnet-*", "qwen"), ("gpt-4", "qwen")]),
        in_scope("a", BaseModel("phi"), names=[("gpt-*", "phi"), ("claude-*", "phi")]),
        in_scope("b", BaseModel("gemma")),
    )
    assert conflicts == []
    a, b = registry.within("a"), registry.within("b")
    assert [base_model_of(a, name) for name in ("gpt-4", "gpt-5", "claude-sonnet-4")] == ["qwen", "phi", "phi"]
    assert [base_model_of(b, name) for name in ("gpt-4", "gpt-5", "claude-sonnet-4")] == ["qwen"] * 3
    assert [pattern.text for pattern in a.patterns] == ["claude-*", "gpt-*", "claude-sonnet-*"]
    assert a.find("other") is None


def test_what_a_scope_declares_itself():
    registry, _ = merge(
        in_scope("", BaseModel("qwen", ("sql", "all-*"))),
        in_scope("a", BaseModel("phi", ("chat", "own-*"))),
    )
    scope = registry.within("a")
    asked = ("phi", "chat", "own-1", "sql", "all-1", "x")
    assert [each for each in asked if scope.find_own(each)] == ["phi", "chat", "own-1"]
    assert [each for each in asked if registry.find_own(each)] == ["sql", "all-1"]


def test_lists_for_everyone_count_in_each_scope_and_those_of_a_scope_there_alone():
    one, two = frozenset({"one"}), frozenset({"two"})
    registry, _ = merge(
        in_scope("", BaseModel("qwen"), grants=(Grant("qwen", one), Grant("typo", one))),
        in_scope("a", BaseModel("phi"), grants=(Grant("qwen", two), Grant("phi", two), Grant("typo-2", one))),
        in_scope("b", BaseModel("gemma")),
    )
    a, b = registry.within("a"), registry.within("b")
    assert registry.grants["qwen"] == b.grants["qwen"] == {one}
    assert (a.grants["qwen"], a.grants["phi"], a.grants["typo"]) == ({one, two}, {two}, {one})
    assert "phi" not in registry.grants
    assert registry.idle_grants() == ["typo", "typo-2 (scope a)"]
    alone, _ = merge(in_scope("a", BaseModel("phi"), grants=(Grant("phi", two),)))
    assert (alone.grants, alone.within("a").grants) == ({}, {"phi": {two}})


def test_lists_of_no_model_are_looked_for_in_steps_and_those_of_everyone_once():
    everyone = tuple(Grant(f"typo-{number}", frozenset()) for number in range(2_000))
    names = tuple(f"typo-{number}" for number in range(1, 2_000))
    own = (in_scope(f"s{number}", BaseModel("phi"), grants=(Grant("phi", frozenset()),)) for number in range(200))
    registry, _ = merge(in_scope("", BaseModel("qwen", names), grants=everyone), *own)
    steps = registry.finding_idle_grants()
    # 2,000 lists for everyone and 200 of scopes, 20 in a step; not 200 times 2,001.
    assert sum(1 for _ in steps) == 110
    assert registry.idle_grants() == ["typo-0"]


def test_so_many_lists_of_no_model_are_looked_for():
    lists = tuple(Grant(f"{number:05}", frozenset()) for number in range(MAX_IDLE + 50))
    registry, _ = merge(in_scope("", BaseModel("qwen"), grants=lists))
    assert registry.idle_grants() == [grant.name for grant in lists[:MAX_IDLE]]
