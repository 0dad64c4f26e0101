import pytest

from bbr.models.access import NOBODY, as_route, is_allowed, is_listed
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.merging import merging
from bbr.models.routing import Rules, UnknownModel, route
from bbr.models.steps import finish


def table(*grants):
    models = (BaseModel("qwen", ("sql", "chat")), BaseModel("phi"))
    aliases = (
        Alias("gpt", "sql"),
        Alias("both", "qwen", (("qwen", 9), ("phi", 1))),
        Alias("off", "phi", (("phi", 1), ("qwen", 0))),
    )
    lists = tuple(Grant(name, frozenset(askers)) for name, askers in grants)
    registry, _ = finish(merging([Declaration(Origin(), models, aliases, lists)]))
    return registry


def allowed(registry, name, *askers):
    entry = registry.find(name)
    found = is_allowed(registry, name, as_route(name, entry), frozenset(askers))
    assert is_listed(registry, name, entry, frozenset(askers)) is found
    return found


def test_a_model_without_a_list_is_for_everyone():
    registry = table(("phi", "a"))
    assert allowed(registry, "qwen")
    assert allowed(registry, "sql")
    assert table().grants == {}


def test_a_list_is_for_those_in_it_and_for_nobody_unknown():
    registry = table(("qwen", ["team-a", "team-b"]))
    assert allowed(registry, "qwen", "team-a")
    assert allowed(registry, "qwen", "x", "team-b")
    assert not allowed(registry, "qwen", "team-c")
    assert not allowed(registry, "qwen", "TEAM-A")
    assert not allowed(registry, "qwen")


@pytest.mark.parametrize(("listed", "known", "unknown"), [(["*"], True, False), ([], False, False)])
def test_a_star_is_everyone_who_is_known_and_an_empty_list_nobody(listed, known, unknown):
    registry = table(("qwen", listed))
    assert allowed(registry, "qwen", "anyone") is known
    assert allowed(registry, "qwen") is unknown


def test_an_adapter_has_its_base_model_s_list_unless_it_has_its_own():
    registry = table(("qwen", "a"), ("sql", "b"))
    assert allowed(registry, "chat", "a")
    assert not allowed(registry, "chat", "b")
    assert allowed(registry, "sql", "b")
    assert not allowed(registry, "sql", "a")


def test_an_alias_opens_nothing():
    registry = table(("sql", "a"))
    assert allowed(registry, "gpt", "a")
    assert not allowed(registry, "gpt", "b")
    registry = table(("sql", "ab"), ("gpt", "b"))
    assert not allowed(registry, "gpt", "a")
    assert allowed(registry, "gpt", "b")
    registry = table(("qwen", "a"))
    assert not allowed(registry, "gpt", "b")


def test_of_an_alias_of_several_all_have_to_be_allowed_that_get_requests():
    registry = table(("phi", "a"))
    assert allowed(registry, "both", "a")
    assert not allowed(registry, "both", "b")
    registry = table(("qwen", "a"))
    assert allowed(registry, "off", "b")


def test_whoever_asks_has_to_be_in_all_lists_for_a_name():
    first = Declaration(Origin("file", "a"), (BaseModel("qwen"),), (), (Grant("qwen", frozenset("ab")),))
    second = Declaration(Origin("ConfigMap", "b"), (), (), (Grant("qwen", frozenset("bc")),))
    registry, _ = finish(merging([second, first]))
    assert [allowed(registry, "qwen", asker) for asker in "abc"] == [False, True, False]


def test_a_default_is_held_to_its_own_list_and_an_unknown_name_to_a_list_for_it():
    registry = table(("phi", "a"), ("made-up", "b"))
    default = route(registry, Rules(UnknownModel.DEFAULT, default_model="phi"), "other")
    assert is_allowed(registry, "other", default, frozenset("a"))
    assert not is_allowed(registry, "other", default, frozenset("b"))
    assert not is_allowed(registry, None, default, NOBODY)
    passed = route(registry, Rules(UnknownModel.PASSTHROUGH), "made-up")
    assert is_allowed(registry, "made-up", passed, frozenset("b"))
    assert not is_allowed(registry, "made-up", passed, frozenset("a"))


def test_a_pattern_s_list_is_for_all_that_fit_it():
    lists = tuple(Grant(name, frozenset(askers)) for name, askers in (("qwen", "a"), ("team-*", "b"), ("gpt-*", "bc")))
    models, aliases = (BaseModel("qwen", ("team-*", "team-x")), BaseModel("phi")), (Alias("gpt-*", "phi"),)
    registry, _ = finish(merging([Declaration(Origin(), models, aliases, (*lists, Grant("team-y", frozenset("d"))))]))

    def who(name):
        found = route(registry, Rules(), name)
        return "".join(asker for asker in "abcd" if is_allowed(registry, name, found, frozenset(asker)))

    assert who("team-1") == "b"
    assert who("team-x") == "a"
    assert who("gpt-4") == "bc"
    assert who("team-y") == "d"


def test_lists_for_names_that_nothing_declares_are_told():
    assert table(("qwen", "a"), ("qwne", "a"), ("gtp", "a")).idle_grants() == ["gtp", "qwne"]


def test_many_lists_are_merged_in_steps():
    lists = tuple(Grant(f"model-{number}", frozenset("a")) for number in range(2_500))
    declared = [Declaration(Origin(), (BaseModel("qwen"),), (), lists)]
    assert sum(1 for _ in merging(declared)) >= 3
    assert len(finish(merging(declared))[0].grants) == 2_500
