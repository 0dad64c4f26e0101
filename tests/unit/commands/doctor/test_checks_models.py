import copy

import pytest

from bbr.commands.doctor import checks_models
from bbr.models.entries import BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.steps import finish
from bench.harness.in_process_router import PHI, QWEN
from bench.harness.model_tables import merged
from tests.support.doctor import demo, hcm, routes, saved

CONFIG = demo()


def registry(*models):
    table, _ = merged([BaseModel(name, adapters) for name, adapters in models])
    return table


def found(edit, *models):
    config = copy.deepcopy(CONFIG)
    edit(config)
    return [(each.id, each.evidence[0].value) for each in checks_models.check(saved(config), registry(*models))]


BOTH = ((QWEN, ()), (PHI, ()))


def first(**fields):
    def edit(config):
        routes(config)[0]["match"]["headers"] = [{"name": "X-Gateway-Base-Model-Name", **fields}]

    return edit


def by_model(config):
    routes(config)[0]["match"]["headers"][0].update(name="x-gateway-model-name", string_match={"exact": "sql-lora"})


@pytest.mark.parametrize(
    ("expected", "edit", "models"),
    [
        ([], lambda _: None, BOTH),
        ([("route-unknown-model", PHI)], lambda _: None, ((QWEN, ()),)),
        ([("route-unknown-model", "typo"), ("model-unrouted", "")], first(string_match={"exact": "typo"}), BOTH),
        ([("route-unknown-model", "typo"), ("model-unrouted", "")], first(exact_match="typo"), BOTH),
        ([], first(string_match={"prefix": "Qwen"}), BOTH),  # may mean any of them
        ([("model-unrouted", "")], first(present_match=True), BOTH),
        ([("model-unrouted", "")], by_model, ((QWEN, ("sql-lora",)), (PHI, ()))),
        ([], lambda config: hcm(config).update(http_filters=[]), BOTH),
        ([], lambda config: routes(config).__delitem__(slice(0, 3)), BOTH),
    ],
)
def test_models(expected, edit, models):
    assert [(id_, value.strip()) for id_, value in found(edit, *models)] == expected


def test_without_a_table_every_name_is_right():
    assert list(checks_models.check(saved(CONFIG), Registry())) == []


def test_an_unrouted_model_is_told_with_its_object():
    origin = Origin("file", "models.yaml", line=3)
    merged, _ = finish(merging([Declaration(origin, (BaseModel(QWEN), BaseModel(PHI), BaseModel("x")))]))
    (one,) = checks_models.check(saved(CONFIG), merged)
    assert (one.id, str(one.evidence[0])) == ("model-unrouted", "table x = file models.yaml, line 3")
