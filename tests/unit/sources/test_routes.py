import asyncio
import logging

import msgspec
import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import routes
from bbr.sources.objects import SourceObject
from bbr.sources.routes import HTTPRoute, Mismatches, RouteCheck, Unknown, Wanted, compare, comparing, pooling, wanted
from bbr.sources.table import Table
from tests.support.loops import in_loop
from tests.support.stack import until

BASE, MODEL = "X-Gateway-Base-Model-Name", "X-Gateway-Model-Name"

REGISTRY, _ = finish(
    merging([Declaration(Origin(), (BaseModel("qwen", ("lora",)), BaseModel("phi")), (Alias("gpt", "qwen"),))])
)


def route(*headers, **fields):
    """Return a route with one rule for each (name, value) or (name, value, type)."""
    keys = ("name", "value", "type")
    rules = [{"matches": [{"headers": [dict(zip(keys, header, strict=False))]}]} for header in headers]
    metadata = {"name": "r", "namespace": "ns"}
    return msgspec.convert({"metadata": metadata, "spec": {"rules": rules}, **fields}, HTTPRoute)


def of(*headers):
    """Return what is kept of such a route."""
    return RouteCheck(Table()).read(route(*headers))


def test_wanted():
    found = wanted(
        route((BASE, "qwen"), (BASE.lower(), "phi", "Exact"), (MODEL, ".*", "RegularExpression"), ("x-other", "a"))
    )
    assert found == {Wanted(BASE, "qwen"), Wanted(BASE, "phi"), Wanted(MODEL, ".*", False)}


@pytest.mark.parametrize(
    "spec",
    [None, {}, {"rules": None}, {"rules": [{}]}, {"rules": [{"matches": None}]}, {"rules": [{"matches": [{}]}]}],
)
def test_routes_that_want_nothing(spec):
    assert wanted(route(spec=spec)) == frozenset()


@pytest.mark.parametrize(
    ("headers", "unrouted", "unknown"),
    [
        ([(BASE, "qwen"), (BASE, "phi")], [], []),
        ([(BASE, "qwen")], ["phi"], []),
        ([], ["qwen", "phi"], []),
        ([(MODEL, "qwen"), (BASE, "phi")], [], []),
        ([(MODEL, "lora"), (BASE, "phi")], ["qwen"], []),
        ([(BASE, "qwen"), (BASE, "phi"), (MODEL, "gpt"), (MODEL, "lora")], [], [(MODEL, "gpt")]),
        ([(BASE, "lora"), (BASE, "Qwen")], ["qwen", "phi"], [(BASE, "Qwen"), (BASE, "lora")]),
        ([(MODEL, "llama"), (BASE, "qwen"), (BASE, "phi")], [], [(MODEL, "llama")]),
        ([(BASE, "q.*", "RegularExpression")], [], []),
        ([(BASE, "q.*", "RegularExpression"), (BASE, "llama")], [], [(BASE, "llama")]),
    ],
)
def test_compare(headers, unrouted, unknown):
    found = compare(REGISTRY, {"ns/r": wanted(route(*headers))})
    assert found == Mismatches(tuple(unrouted), tuple(Unknown("ns/r", *each) for each in unknown))


def with_backends(*rules):
    """Return a route with one rule for each (header, value, backends)."""
    written = [
        {"matches": [{"headers": [{"name": name, "value": value}]}], "backendRefs": [{"name": each} for each in to]}
        for name, value, to in rules
    ]
    return msgspec.convert({"metadata": {"name": "r"}, "spec": {"rules": written}}, HTTPRoute)


def test_the_pools_of_base_models():
    found = with_backends((BASE, "qwen", ["qwen-pool"]), (MODEL, "lora", ["other"]), (BASE, "phi", list("abcdef")))
    assert wanted(found.reduced()) == wanted(found)
    first = with_backends((BASE, "qwen", ["first"]), (BASE, "none", []))
    kept = {"ns/r": wanted(found), "ns/a": wanted(first)}
    assert finish(pooling(kept)) == {"qwen": ("first",), "phi": ("a", "b", "c", "d")}


def test_a_value_that_goes_to_two_places_is_unknown_once():
    found = with_backends((BASE, "llama", ["a"]), (BASE, "llama", ["b"]), (BASE, "qwen", ["a"]), (BASE, "phi", ["a"]))
    assert compare(REGISTRY, {"ns/r": wanted(found)}) == Mismatches((), (Unknown("ns/r", BASE, "llama"),))


def test_pools_are_bounded_and_found_in_short_steps(monkeypatch):
    monkeypatch.setattr(routes, "MAX_POOLS", 3)
    monkeypatch.setattr(routes, "_STEP_CLAIMS", 2)
    kept = {"ns/r": wanted(with_backends(*((BASE, f"m-{number}", ["p"]) for number in range(10))))}
    steps = pooling(kept)
    assert sum(1 for _ in steps) == 1 + 5  # one of them sorts
    assert len(finish(pooling(kept))) == 3


def test_of_unknown_values_no_more_are_kept_than_can_be_sorted_at_once(monkeypatch):
    monkeypatch.setattr(routes, "MAX_UNKNOWN", 3)
    claims = {f"ns/{number}": [Wanted(MODEL, f"{number}-{each}") for each in range(10)] for number in range(9)}
    found = compare(REGISTRY, {**claims, "ns/last": [Wanted(BASE, "qwen")]})
    assert found.unknown == tuple(Unknown("ns/0", MODEL, f"0-{each}") for each in range(3))
    assert found.unrouted == ("phi",)


def test_models_of_scopes_need_routes_too():
    declared = [
        Declaration(Origin(), (BaseModel("qwen"),)),
        *(Declaration(Origin(), (BaseModel(name, ("x",)), BaseModel("both")), scope=name) for name in ("phi", "gemma")),
    ]
    registry, _ = finish(merging(declared))
    found = compare(registry, {"ns/r": wanted(route((BASE, "phi"), (MODEL, "x"), (BASE, "x")))})
    assert found.unrouted == ("qwen", "gemma", "both")
    assert [each.value for each in found.unknown] == ["x"]
    many, _ = finish(merging(Declaration(Origin(), (BaseModel("qwen"),), scope=str(number)) for number in range(600)))
    assert compare(many, {"ns/r": wanted(route((BASE, "x")))}).unknown == (Unknown("ns/r", BASE, "x"),)


def test_unknown_says_what_it_is():
    assert str(Unknown("ns/r", BASE, "x")) == f"HTTPRoute ns/r matches {BASE}: x, but no base model has this name"
    assert str(Unknown("ns/r", MODEL, "x")) == f"HTTPRoute ns/r matches {MODEL}: x, but no model has this name"


def models(*names):
    declaration = Declaration(Origin(), tuple(map(BaseModel, names)))

    def parse():
        yield
        return (declaration,)

    return SourceObject("all", names, parse)


def checking(*names):
    table = Table(["one"])
    table.replace("one", [models(*names)])
    table.apply_now()
    return table, RouteCheck(table, settle_seconds=0.0)


def logged(caplog):
    lines = [record.getMessage() for record in caplog.records if record.name == "bbr.sources.routes"]
    caplog.clear()
    return lines


def test_each_mismatch_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    table, check = checking("qwen", "phi")
    finish(check.replace({"ns/r": of((BASE, "qwen")), "ns/s": of((BASE, "llama"))}))
    finish(check.checking())
    phi, llama = logged(caplog)
    assert phi.startswith(f"no HTTPRoute matches {BASE}: phi: ")
    assert llama.startswith("HTTPRoute ns/s matches ")
    assert check.mismatches == Mismatches(("phi",), (Unknown("ns/s", BASE, "llama"),))
    finish(check.checking())
    assert logged(caplog) == []
    table.replace("one", [models("qwen", "phi", "llama", "gemma")])
    table.apply_now()
    finish(check.checking())
    assert [line.split(": ")[1] for line in logged(caplog)] == ["gemma"]
    check.put("ns/t", of((BASE, "phi"), (BASE, "gemma")))
    finish(check.checking())
    assert logged(caplog) == ["every base model has an HTTPRoute, and every model that a route names exists"]
    check.remove("ns/s")
    check.remove("ns/t")
    check.remove("ns/never")
    finish(check.checking())
    assert [line.split(": ")[1] for line in logged(caplog)] == ["phi", "llama", "gemma"]


def test_of_many_mismatches_the_first_are_logged(caplog):
    _, check = checking(*(f"m{number}" for number in range(100)))
    finish(check.replace({}))
    finish(check.checking())
    lines = logged(caplog)
    assert len(lines) == 21
    assert lines[-1] == "80 more mismatches of models and HTTPRoutes"


def test_nothing_is_compared_before_both_are_complete():
    table = Table(["one"])
    check = RouteCheck(table)
    finish(check.checking())
    finish(check.replace({"ns/r": of((BASE, "qwen"))}))
    finish(check.checking())
    assert check.mismatches is None


@in_loop
async def test_follows_table_and_routes():
    table, check = checking("qwen")
    tasks = [asyncio.create_task(each()) for each in (check.run, check.follow_table)]
    finish(check.replace({"ns/r": of((BASE, "qwen"))}))
    await until(lambda: check.mismatches == Mismatches())
    table.replace("one", [models("qwen", "phi")])
    table.apply_now()
    await until(lambda: check.mismatches == Mismatches(("phi",)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@in_loop
async def test_a_comparison_that_fails_is_made_again(monkeypatch):
    _, check = checking("qwen")
    real, failures = routes.comparing, [MemoryError(), MemoryError()]

    def compare(*arguments):
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(routes, "comparing", compare)
    finish(check.replace({"ns/r": of((BASE, "qwen"))}))
    for _ in range(2):
        with pytest.raises(MemoryError):
            await check.run()
    task = asyncio.create_task(check.run())
    await until(lambda: check.mismatches == Mismatches())
    task.cancel()
    await asyncio.wait([task])


def test_many_scopes_and_patterns_make_no_step_long():
    shared = Declaration(Origin(), (BaseModel("qwen", tuple(f"a{number:03}*" for number in range(100))),))
    scopes = [
        Declaration(Origin("ConfigMap", f"n{number}"), (BaseModel("phi", (f"own-{number}-*",)),), scope=f"s{number}")
        for number in range(200)
    ]
    registry, _ = finish(merging([shared, *scopes]))
    asked = [f"nobody-{number}" for number in range(30)] + ["own-7-x", "a001-x"]
    kept = {"ns/r": frozenset(Wanted(BASE, each) for each in asked) | {Wanted(MODEL, "own-7-x"), Wanted(MODEL, "a001")}}
    steps = comparing(registry, kept)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found = done.value
            break
        count += 1
    # 30 and more matches times 201 tables, 20 in a step; 3.4 s in one go when they were 500 and 400.
    assert count >= 30 * 200 // 20
    assert {each.value for each in found.unknown if each.header == MODEL} == set()
    assert len([each for each in found.unknown if each.header == BASE]) == len(asked)
