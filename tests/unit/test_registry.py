import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.registry import BaseModel, Conflict, Registry


def merge(*models):
    return Registry.merge(models)


def table(*models):
    registry, conflicts = merge(*models)
    assert conflicts == []
    return registry


QWEN = BaseModel("qwen", ("sql-lora", "1"))
LLAMA = BaseModel("llama", ("chat-lora",))

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
    assert table(QWEN, LLAMA).resolve(model) == base_model


@pytest.mark.parametrize("model", ["qwen", "", " qwen", "模型"], ids=repr)
def test_without_a_table_every_model_is_its_own_base_model(model):
    registry = Registry()
    assert registry.identity
    assert registry.resolve(model) == model
    assert registry.base_models == ()


def test_a_table_of_nothing_is_a_table():
    registry = table()
    assert not registry.identity
    assert registry.resolve("qwen") is None
    assert registry.base_models == ()


MERGED = [
    pytest.param([QWEN, LLAMA], ("qwen", "llama"), [], id="two"),
    pytest.param([LLAMA, QWEN], ("llama", "qwen"), [], id="two, the other way round"),
    pytest.param([QWEN, BaseModel("qwen", ("more",))], ("qwen",), [], id="one in two parts"),
    pytest.param([BaseModel("a", ("a", "x", "x"))], ("a",), [], id="repeats within one"),
    pytest.param(
        [BaseModel("a", ("x",)), BaseModel("b", ("x",))],
        ("a", "b"),
        [Conflict("x", kept="a", refused="b")],
        id="an adapter belongs to the first that claims it",
    ),
    pytest.param(
        [BaseModel("b", ("x",)), BaseModel("a", ("x",))],
        ("b", "a"),
        [Conflict("x", kept="b", refused="a")],
        id="precedence is order, not name",
    ),
    pytest.param(
        [BaseModel("a", ("b",)), BaseModel("b")],
        ("a", "b"),
        [Conflict("b", kept="b", refused="a")],
        id="a base model means itself, though claimed before",
    ),
    pytest.param(
        [BaseModel("a", ("b",)), BaseModel("b", ("a",))],
        ("a", "b"),
        [Conflict("b", kept="b", refused="a"), Conflict("a", kept="a", refused="b")],
        id="base models that claim each other",
    ),
    pytest.param(
        [BaseModel("a", ("x", "y")), BaseModel("b", ("y", "x")), BaseModel("c", ("x",))],
        ("a", "b", "c"),
        [Conflict("y", "a", "b"), Conflict("x", "a", "b"), Conflict("x", "a", "c")],
        id="conflicts in the order found",
    ),
]


@pytest.mark.parametrize(("models", "base_models", "conflicts"), MERGED)
def test_merge(models, base_models, conflicts):
    registry, found = Registry.merge(models)
    assert registry.base_models == base_models
    assert found == conflicts
    for conflict in conflicts:
        assert registry.resolve(conflict.name) == conflict.kept


def test_merge_takes_any_iterable():
    assert Registry.merge(iter([QWEN, LLAMA])) == Registry.merge([QWEN, LLAMA])


def test_a_snapshot_does_not_change():
    registry = table(QWEN)
    with pytest.raises(TypeError):
        registry.base_of["x"] = "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.base_of = {}
    with pytest.raises(TypeError):
        Registry().base_of["x"] = "y"


NAMES = st.sampled_from("abcdefgh")
MODELS = st.lists(st.builds(BaseModel, NAMES, st.lists(NAMES, max_size=6).map(tuple)), max_size=6)


@given(MODELS)
def test_every_name_is_known_and_every_base_model_its_own(models):
    registry, conflicts = Registry.merge(models)
    bases = {model.name for model in models}
    assert set(registry.base_models) == bases
    assert set(registry.base_of) == bases | {name for model in models for name in model.adapters}
    assert all(registry.resolve(base) == base for base in bases)
    for model in models:
        for adapter in model.adapters:
            lost = Conflict(adapter, registry.base_of[adapter], model.name) in conflicts
            assert lost == (registry.base_of[adapter] != model.name)


@given(MODELS)
def test_merge_is_a_function_of_its_input(models):
    assert Registry.merge(models) == Registry.merge(list(models))


@given(MODELS.flatmap(lambda models: st.tuples(st.just(models), st.permutations(models))))
def test_order_only_decides_conflicts(pair):
    models, shuffled = pair
    registry, conflicts = Registry.merge(models)
    other, _ = Registry.merge(shuffled)
    contested = {conflict.name for conflict in conflicts}
    assert dict(registry.base_of).keys() == dict(other.base_of).keys()
    assert {name for name in registry.base_of if registry.base_of[name] != other.base_of[name]} <= contested


@given(MODELS, st.randoms())
def test_order_and_repeats_within_a_base_model_do_not_matter(models, random):
    shuffled = [
        BaseModel(model.name, tuple(random.sample(model.adapters * 2, len(model.adapters) * 2))) for model in models
    ]
    registry, conflicts = Registry.merge(models)
    other, found = Registry.merge(shuffled)
    assert registry == other
    assert set(conflicts) == set(found)


@given(MODELS)
def test_splitting_a_base_model_does_not_matter(models):
    parts = [BaseModel(model.name, (adapter,)) for model in models for adapter in model.adapters or (model.name,)]
    assert Registry.merge(models)[0] == Registry.merge(parts)[0]
