import dataclasses

import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Kind, Origin, Share
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Route, Rule, Rules, UnknownModel, route, route_unnamed
from bbr.models.steps import finish
from bbr.refusal import Refusal
from bench.harness.model_tables import merged

OBJECT = Origin("file", "models.yaml", line=2)
TABLE, _ = finish(merging([Declaration(OBJECT, (BaseModel("qwen", ("lora",)),), (Alias("gpt", "lora"),))]))
NO_TABLE = Registry()


PATTERNS, _ = finish(
    merging([Declaration(OBJECT, (BaseModel("qwen", ("team-*",)),), (Alias("gpt-*", "qwen", (("qwen", 1),)),))])
)
SHARES = (Share("qwen", "qwen", 1),)


def routed(registry, rules, requested):
    return route_unnamed(registry, rules) if requested is None else route(registry, rules, requested)


UNKNOWN = {each: Rules(unknown_model=each, default_model="gpt") for each in UnknownModel}
MISSING = {each: Rules(missing_model=each, default_model="gpt") for each in MissingModel}
BAD_DEFAULT = Rules(UnknownModel.DEFAULT, MissingModel.DEFAULT, "nobody")

ROUTED = {
    "a base model": (TABLE, Rules(), "qwen", Route("qwen", "qwen", Kind.BASE_MODEL, OBJECT)),
    "an adapter": (TABLE, Rules(), "lora", Route("lora", "qwen", Kind.ADAPTER, OBJECT)),
    "an alias is routed as what it stands for": (TABLE, Rules(), "gpt", Route("lora", "qwen", Kind.ALIAS, OBJECT)),
    "an adapter by a pattern": (
        PATTERNS,
        Rules(),
        "team-a",
        Route("team-a", "qwen", Kind.ADAPTER, OBJECT, (), "team-*"),
    ),
    "an alias by a pattern": (PATTERNS, Rules(), "gpt-4", Route("qwen", "qwen", Kind.ALIAS, OBJECT, SHARES, "gpt-*")),
    "without a table": (NO_TABLE, Rules(), "x", Route("x", "x", Rule.NO_TABLE)),
    "unknown, passthrough": (TABLE, UNKNOWN[UnknownModel.PASSTHROUGH], "x", Route("x", "x", Rule.UNKNOWN_PASSTHROUGH)),
    "unknown, empty": (TABLE, UNKNOWN[UnknownModel.EMPTY], "x", Route("x", "", Rule.UNKNOWN_EMPTY)),
    "unknown, default": (
        TABLE,
        UNKNOWN[UnknownModel.DEFAULT],
        "x",
        Route("lora", "qwen", Rule.UNKNOWN_DEFAULT, OBJECT),
    ),
    "missing, pass": (TABLE, MISSING[MissingModel.PASS], None, None),
    "missing, default": (
        TABLE,
        MISSING[MissingModel.DEFAULT],
        None,
        Route("lora", "qwen", Rule.MISSING_DEFAULT, OBJECT),
    ),
    "missing, default, without a table": (
        NO_TABLE,
        MISSING[MissingModel.DEFAULT],
        None,
        Route("gpt", "gpt", Rule.MISSING_DEFAULT),
    ),
}


@pytest.mark.parametrize(("registry", "rules", "requested", "expected"), ROUTED.values(), ids=ROUTED)
def test_route(registry, rules, requested, expected):
    assert routed(registry, rules, requested) == expected


def test_why_a_pattern():
    assert route(PATTERNS, Rules(), "team-a").why == "it fits the pattern team-* of adapters"
    assert route(PATTERNS, Rules(), "gpt-4").why == "it fits the pattern gpt-* of an alias"
    assert route(PATTERNS, Rules(), "qwen").why == "it is a base model"


@pytest.mark.parametrize("rules", [*UNKNOWN.values(), *MISSING.values()], ids=lambda rules: str(rules))
@pytest.mark.parametrize("requested", ["qwen", "lora", "gpt"])
def test_rules_for_unknown_and_missing_models_change_nothing_for_known_ones(rules, requested):
    assert route(TABLE, rules, requested) == route(TABLE, Rules(), requested)


REFUSED = {
    "unknown, reject": (TABLE, Rules(), "x", (404, "model-not-found")),
    "an empty table knows nothing": (merged([])[0], Rules(), "x", (404, "model-not-found")),
    "unknown, a default that is unknown too": (TABLE, BAD_DEFAULT, "x", (404, "model-not-found")),
    "missing, reject": (TABLE, MISSING[MissingModel.REJECT], None, (400, "model-missing")),
    "missing, a default that is unknown": (TABLE, BAD_DEFAULT, None, (500, "default-model-unknown")),
}


@pytest.mark.parametrize(("registry", "rules", "requested", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(registry, rules, requested, expected):
    with pytest.raises(Refusal) as caught:
        routed(registry, rules, requested)
    assert (caught.value.status, caught.value.reason) == expected


# The Go routers' cases U6: what their base-model plugin makes of a name, with --unknown-model=empty.
GO_BASE_MODEL = {
    "base": ("qwen", "qwen"),
    "adapter": ("lora", "qwen"),
    "unknown": ("x", ""),
}


@pytest.mark.parametrize(("requested", "base_model"), GO_BASE_MODEL.values(), ids=GO_BASE_MODEL)
def test_as_the_go_routers_do(requested, base_model):
    assert route(TABLE, UNKNOWN[UnknownModel.EMPTY], requested).base_model == base_model


def test_why_is_for_people():
    assert route(TABLE, Rules(), "qwen").why == "it is a base model"
    assert route(TABLE, Rules(), "lora").why == "it is an adapter"
    assert route(TABLE, Rules(), "gpt").why == "it is an alias"
    assert route(NO_TABLE, Rules(), "x").why == "without a table every model is its own base model"


@pytest.mark.parametrize(
    ("rules", "requested"),
    [*((each, "x") for each in UNKNOWN.values()), (MISSING[MissingModel.DEFAULT], None)],
    ids=[*map(str, UNKNOWN), "missing, default"],
)
def test_before_the_table_is_complete_what_it_does_not_hold_may_yet_come(rules, requested):
    with pytest.raises(Refusal) as caught:
        routed(Registry(identity=False, complete=False), rules, requested)
    assert (caught.value.status, caught.value.reason) == (503, "table-incomplete")


def test_before_the_table_is_complete_what_it_holds_is_routed():
    partial = dataclasses.replace(TABLE, complete=False)
    assert route(partial, Rules(), "lora") == route(TABLE, Rules(), "lora")
    assert route_unnamed(partial, Rules()) is None
