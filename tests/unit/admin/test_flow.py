import pytest

from bbr.admin import flow
from bbr.admin.flow import flowing
from bbr.admin.window import Window
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.telemetry.metrics import Metrics

MODELS = (BaseModel("qwen", ("sql", "chat")), BaseModel("phi"))
REGISTRY, _ = finish(merging([Declaration(Origin(), MODELS, (Alias("best", "sql"), Alias("fast", "phi")))]))


def found(busiest, adapters=(), aliases=(), pools=None, registry=REGISTRY):
    metrics = Metrics()
    metrics.adapters.update(adapters)
    metrics.aliases.update(aliases)
    rows = finish(flowing(metrics, registry, Window(metrics), pools or {}, busiest, 10.0))
    return [(row["kind"], row["name"], row["base_model"], row["requests"]) for row in rows]


def test_nothing():
    assert found([]) == []
    assert found([("qwen", 0), ("", 0)]) == []


def test_names_by_base_model():
    assert found(
        [("qwen", 100), ("phi", 50), ("", 7)],
        {"sql": 30, "chat": 40},
        {("best", "sql"): 10, ("fast", "phi"): 50},
    ) == [
        ("base model", "qwen", "qwen", 20),
        ("adapter", "chat", "qwen", 40),
        ("adapter", "sql", "qwen", 30),
        ("alias", "best", "qwen", 10),
        ("alias", "fast", "phi", 50),
        ("none", "", "", 7),
    ]


def test_names_that_the_table_no_longer_has_count_as_the_base_model():
    assert found([("qwen", 10)], {"gone": 4}, {("old", "gone"): 2}) == [("base model", "qwen", "qwen", 10)]


def test_more_names_and_base_models_than_are_shown(monkeypatch):
    monkeypatch.setattr(flow, "NAMES", 2)
    monkeypatch.setattr(flow, "BASE_MODELS", 2)
    registry, _ = finish(merging([Declaration(Origin(), (BaseModel("a", tuple("123")), BaseModel("b", tuple("456"))))]))
    rows = found(
        [("a", 60), ("b", 50), ("c", 9), ("d", 8)], {"1": 9, "2": 8, "3": 7, "4": 10, "5": 1}, registry=registry
    )
    assert rows == [
        ("base model", "a", "a", 36),
        ("adapter", "1", "a", 9),
        ("others", "", "a", 15),
        ("base model", "b", "b", 39),
        ("adapter", "4", "b", 10),
        ("others", "", "b", 1),
        ("rest", "", None, 17),
    ]


def test_pools_and_rates():
    metrics = Metrics()
    pools = {"qwen": ("qwen-pool", "spare")}
    rows = finish(flowing(metrics, REGISTRY, Window(metrics), pools, [("qwen", 5), ("phi", 1)], 10.0))
    assert [row["pools"] for row in rows] == [["qwen-pool", "spare"], []]
    assert [row["per_second"] for row in rows] == [0.5, 0.1]


def test_many_names_are_looked_at_in_short_steps():
    metrics = Metrics()
    metrics.adapters.update({f"lora-{number}": 1 for number in range(1000)})
    steps = flowing(metrics, REGISTRY, Window(metrics), {}, [("qwen", 5)], 10.0)
    assert sum(1 for _ in steps) == pytest.approx(1000 / 200)
