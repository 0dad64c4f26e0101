import dataclasses
import json
import time

import orjson
import pytest

from bbr import __version__, built
from bbr.admin import status_facts
from bbr.admin.reasons import reason
from bbr.admin.status_facts import StatusFacts, finding
from bbr.admin.window import Window
from bbr.models.entries import BaseModel
from bbr.models.steps import finish
from bbr.reading.fields import BodyField, BodyFields
from bbr.sources.routes import Mismatches, Unknown
from bbr.telemetry.field_counts import FieldCounts
from bbr.telemetry.metrics import DURATION_BOUNDS, ModelCounts
from bbr.telemetry.observed import clock
from bbr.transports.serving import TransportCounts
from bench.harness.model_tables import merged
from bench.harness.vitals import vitals
from tests.support import steps

MODELS = "models:\n  - {name: qwen, adapters: [sql-lora, Art]}\n  - {name: phi}\naliases: {best: qwen, zip: art}\n"


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    return path


def gather(of, *asked):
    return finish(StatusFacts(of, Window(of.metrics)).gathering(*asked))


def add(of, name, outcome, times, seconds=0.002):
    counts = of.metrics.models.setdefault(name, ModelCounts())
    counts.outcomes[outcome] = counts.outcomes.get(outcome, 0) + times
    for _ in range(times):
        counts.duration.add(seconds)


def test_a_router_that_is_ready(model_file):
    of = vitals(model_file)
    of.metrics.running = 4
    found = gather(of)
    assert (found["version"], found["build"], found["transport"]) == (__version__, built.HOW, "uv")
    assert (found["ready"], found["why_not_ready"]) == (True, "")
    # Whatever the system's time was when it started.
    assert 0 <= found["uptime_seconds"] < 60 < found["time"] - of.started
    assert found["time"] == pytest.approx(time.time(), abs=60)
    table = found["table"]
    assert table["summary"] == "base models: 2; names in all: 5"
    assert (table["identity"], table["synced"], table["reloads"], table["names"], table["base_models"]) == (
        *(False, True, 1, 5),
        2,
    )
    assert found["connections"] == {"streams": 4, "open": 1, "accepted": 2, "turned_away": 3}
    assert found["buffered"] == {"held_bytes": 0, "limit_bytes": 1000, "peak_bytes": 0, "refusals": 0}
    assert found["route_mismatches"] == {"total": 0, "rows": [], "compared": False}


def test_one_that_is_not_and_does_not_tell_all():
    of = vitals(counts=TransportCounts())
    of.serving.stop()
    found = gather(of)
    assert (found["ready"], found["why_not_ready"]) == (False, of.why_not_ready())
    assert found["connections"] == {"streams": 0, "open": None, "accepted": None, "turned_away": None}
    assert found["table"]["summary"] == "no model table: every model is its own base model"
    assert found["names"]["rows"] == []


def test_base_models_by_their_requests(model_file):
    of = vitals(model_file)
    add(of, "qwen", "routed", 6)
    add(of, "qwen", "refused", 2)
    add(of, "", "refused", 3, seconds=100.0)
    add(of, "gone", "routed", 1)
    found = gather(of)
    assert found["window_seconds"] == pytest.approx(1, abs=0.5)
    assert [row["base_model"] for row in found["models"]["rows"]] == ["qwen", "", "gone", "phi"]
    qwen, none, _, phi = found["models"]["rows"]
    assert (qwen["requests"], qwen["errors"], qwen["recent_errors"]) == (8, 2, 2)
    assert qwen["per_second"] == qwen["per_second_now"] == pytest.approx(8, rel=0.3)
    assert qwen["p50"] == qwen["p99"] == {"at_most_seconds": 0.0025}
    assert none["p50"] == {"more_than_seconds": 60.0}
    assert (phi["requests"], phi["per_second"], phi["per_second_now"], phi["p50"]) == (0, 0, 0, None)
    every = found["requests"]
    assert (every["requests"], every["errors"]) == (12, 5)
    assert (every["p50"], every["p99"]) == ({"at_most_seconds": 0.0025}, {"more_than_seconds": 60.0})
    assert (every["busy_p50"], every["busy_p99"]) == (None, None)
    assert (qwen["error_share"], none["error_share"], phi["error_share"]) == (0.25, 1.0, None)
    assert every["error_share"] == pytest.approx(5 / 12, abs=1e-6)


def test_of_a_full_process_no_step_is_long(model_file):
    of = vitals(model_file)
    names = [f"m{number}" for number in range(60)]
    of.metrics.models.update((name, ModelCounts()) for name in names)
    window = Window(of.metrics)
    for number in range(status_facts.ROWS + window.history._slots):
        for name in names:
            of.metrics.models[name].outcomes["routed"] = number
        finish(window.sliding(window._opened + 10))
    of.metrics.aliases.update(((f"alias{number}", "qwen"), number) for number in range(1000))
    pieces = status_facts.as_json(StatusFacts(of, window).gathering())
    made: list[bytes | None] = []
    longest = 0
    while None not in made:
        longest = max(longest, steps.lines(lambda: made.append(next(pieces, None))))
    found = json.loads(b"".join(filter(None, made)))
    assert (len(found["models"]["rows"]), found["models"]["total"]) == (50, 63)
    assert found["aliases"]["rows"][0] == {"alias": "alias999", "model": "qwen", "requests": 999, "percent": 100.0}
    assert (len(found["aliases"]["rows"]), found["aliases"]["total"]) == (50, 1000)
    assert longest < 12_000  # two milliseconds'; the rows of 50 base models in one go are 115,000
    assert max(len(each or b"") for each in made) < 100_000


def test_it_is_json_as_it_always_was(model_file):
    of = vitals(model_file)
    facts = StatusFacts(of, Window(of.metrics))
    text = b"".join(status_facts.as_json(facts.gathering()))
    found = json.loads(text)
    assert list(found) == list(finish(facts.gathering()))
    for name, value in found.items():
        if isinstance(value, dict) and "rows" in value:
            found[name] = {**{key: each for key, each in value.items() if key != "rows"}, "rows": value["rows"]}
    assert text == orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"


def test_a_search_leaves_all_but_the_names_alone(model_file):
    of = vitals(model_file)
    add(of, "qwen", "routed", 6)
    found = gather(of, "lora")
    assert [row["base_model"] for row in found["models"]["rows"]] == ["qwen", "", "phi"]
    assert [row["name"] for row in found["names"]["rows"]] == ["sql-lora"]


def test_a_search_by_pool():
    registry, _ = merged([BaseModel("qwen", ("lora",)), BaseModel("phi")])
    pools = {"qwen": ("Big-Pool",), "phi": ("small", "b")}
    assert [row["name"] for row in finish(finding(registry, "big-p", "", pools))["rows"]] == ["qwen", "lora"]
    assert finish(finding(registry, "pool", "", {}))["rows"] == []


def test_the_rates_of_names(model_file):
    of = vitals(model_file)
    add(of, "qwen", "routed", 60)
    of.metrics.adapters["sql-lora"] = 20
    of.metrics.aliases["best", "qwen"] = 30
    rates = {row["name"]: row["per_second"] for row in gather(of)["names"]["rows"]}
    assert rates["qwen"] > 0
    assert rates["qwen"] / rates["sql-lora"] == pytest.approx(3, rel=0.01)
    assert rates["qwen"] / rates["best"] == pytest.approx(2, rel=0.01)
    assert (rates["phi"], rates["Art"]) == (0, 0)


def test_the_last_hour(model_file):
    of = vitals(model_file)
    window = Window(of.metrics)
    add(of, "qwen", "routed", 3)
    add(of, "qwen", "refused", 1, seconds=100.0)
    finish(window.sliding(clock() + 10))
    found = finish(StatusFacts(of, window).gathering())
    assert found["history"]["column_seconds"] == [pytest.approx(10, abs=1)]
    bounds = found["history"]["bounds_seconds"]
    assert bounds == list(DURATION_BOUNDS)
    qwen = found["models"]["rows"][0]["history"]
    assert qwen == found["requests"]["history"]
    assert (qwen["requests"], qwen["errors"]) == ([4], [1])
    assert (bounds[qwen["p50"][0]], qwen["p99"]) == (0.0025, [len(bounds)])
    assert [row["history"] for row in found["models"]["rows"][1:]] == [None, None]


def test_why_not_and_who_is_unknown(model_file):
    of = vitals(model_file)
    of.metrics.reasons.update({("refused", "invalid-json"): 2, ("fault", "headers-not-sent"): 3})
    now = clock()
    of.metrics.unknown.add("gpt", now - 10)
    found = gather(of)
    assert found["reasons"]["rows"] == [
        {"outcome": "fault", "reason": "headers-not-sent", "requests": 3, **reason("headers-not-sent")._asdict()},
        {"outcome": "refused", "reason": "invalid-json", "requests": 2, **reason("invalid-json")._asdict()},
    ]
    ((unknown,), total) = found["unknown_models"]["rows"], found["unknown_models"]["total"]
    assert (unknown["name"], unknown["times"], total) == ("gpt", 1, 1)
    assert unknown["seconds_ago"] == pytest.approx(10, abs=5)


def test_aliases_by_what_they_stood_for(model_file):
    of = vitals(model_file)
    of.metrics.aliases.update({("a", "x"): 1, ("b", "y"): 30, ("b", "x"): 70})
    assert gather(of)["aliases"]["rows"] == [
        {"alias": "b", "model": "x", "requests": 70, "percent": 70.0},
        {"alias": "b", "model": "y", "requests": 30, "percent": 30.0},
        {"alias": "a", "model": "x", "requests": 1, "percent": 100.0},
    ]


def test_what_is_wrong_with_the_table(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("models: [{name: qwen, adapters: [x, y]}]\n")
    (tmp_path / "b.yaml").write_text("models: [{name: phi, adapters: [x, y]}]\n")
    monkeypatch.setattr(status_facts, "ROWS", 1)
    of = vitals(tmp_path)
    of.sources.table.broken["file", "c\udcff.yaml"] = "line 1: no\udcff"
    unfit = Mismatches(("phi",), (Unknown("default/x", "X-Gateway-Model-Name", "x"),))
    monkeypatch.setattr(type(of.sources), "mismatches", property(lambda _: unfit))
    found = json.loads(b"".join(status_facts.as_json(StatusFacts(of, Window(of.metrics)).gathering())))
    assert found["conflicts"] == {"total": 2, "rows": [{"what": str(of.sources.table.conflicts[0])}]}
    assert found["broken"] == {"total": 1, "rows": [{"object": "file c\\udcff.yaml", "why": "line 1: no\\udcff"}]}
    assert found["route_mismatches"] == {
        "total": 2,
        "rows": [{"what": "No HTTPRoute matches the base model phi"}],
        "compared": True,
    }
    monkeypatch.setattr(status_facts, "ROWS", 2)
    assert gather(of)["route_mismatches"]["rows"][1] == {"what": str(unfit.unknown[0])}


def listed(found):
    return [(row["name"], row["kind"], row["base_model"]) for row in found["rows"]]


def test_names_by_base_model_then_kind(model_file):
    found = gather(vitals(model_file))["names"]
    assert listed(found) == [
        ("phi", "base model", "phi"),
        ("qwen", "base model", "qwen"),
        ("Art", "adapter", "qwen"),
        ("sql-lora", "adapter", "qwen"),
        ("best", "alias of qwen", "qwen"),
    ]
    assert {row["declared_by"] for row in found["rows"]} == {
        *(f"file {model_file}, line {number}" for number in (2, 3, 4)),
    }
    assert (found["total"], found["query"], found["after"], found["next"]) == (5, "", "", None)


@pytest.mark.parametrize(
    ("query", "names"),
    [("ART", ["Art"]), ("qWe", ["qwen", "Art", "sql-lora", "best"]), ("ph", ["phi"]), ("none", []), ("%", [])],
)
def test_a_search(model_file, query, names):
    found = gather(vitals(model_file), query)["names"]
    assert [row["name"] for row in found["rows"]] == names
    assert (found["total"], found["query"]) == (len(names), query)


def test_page_after_page_shows_each_name_once():
    adapters = tuple(f"adapter-{number}" for number in range(1000))
    registry, _ = merged([BaseModel("b", adapters[::2]), BaseModel("a", adapters[1::2])])
    seen, after = [], ""
    while after is not None:
        steps = finding(registry, "", after, limit=7)
        found = finish(steps)
        assert found["total"] == 1002
        assert found["after"] == after
        seen += [row["name"] for row in found["rows"]]
        after = found["next"]
    assert seen == ["a", *sorted(adapters[1::2]), "b", *sorted(adapters[::2])]
    gone = finish(finding(registry, "", "gone", limit=7))
    assert (gone["after"], gone["rows"][0]["name"]) == ("", "a")


def test_the_last_page_has_no_next():
    registry, _ = merged([BaseModel(name) for name in "abcd"])
    first = finish(finding(registry, "", limit=2))
    assert first["next"] == "b"
    assert finish(finding(registry, "", "b", limit=2))["next"] is None


def test_a_search_is_kept_until_the_table_changes(model_file, monkeypatch):
    of = vitals(model_file)
    searches = []

    def counted(registry, query, after, pools):
        searches.append(query)
        return finding(registry, query, after, pools)

    monkeypatch.setattr(status_facts, "finding", counted)
    facts = StatusFacts(of, Window(of.metrics))
    for query in ("a", "a", *"bcdefghijklmnopq", "a"):
        finish(facts.gathering(query))
    assert searches == [*"abcdefghijklmnopq", "a"]
    model_file.write_text("models: [{name: new}]\n")
    of.sources.read()
    assert listed(finish(facts.gathering("n"))["names"]) == [("new", "base model", "new")]
    finish(facts.gathering("a"))
    assert searches[-2:] == ["n", "a"]


def test_a_large_table_is_gathered_in_short_steps(model_file):
    of = vitals(model_file)
    base = [BaseModel(f"base-{number}", tuple(f"a-{number}-{each}" for each in range(9))) for number in range(10_000)]
    of.sources.table.registry, _ = merged(base)
    for number in range(10_000):
        add(of, f"base-{number}", "routed", number % 7)
    steps, found = 0, None
    gathering = StatusFacts(of, Window(of.metrics)).gathering("")
    while found is None:
        try:
            next(gathering)
            steps += 1
        except StopIteration as done:
            found = done.value
    assert steps >= 10_000 / 50 + 100_000 / 500
    assert (found["names"]["total"], len(found["names"]["rows"])) == (100_000, 100)
    assert (found["models"]["total"], len(found["models"]["rows"])) == (10_001, 50)
    assert {row["requests"] for row in found["models"]["rows"]} == {6}


def test_fields_of_the_body(model_file):
    of = vitals(model_file)
    assert gather(of)["body_fields"] == {"total": 0, "rows": []}
    counts = FieldCounts(BodyFields([BodyField("user", "X-User")], 0))
    counts.requests[0, "found"] = 7
    assert gather(dataclasses.replace(of, body_fields=counts))["body_fields"]["rows"] == [
        {"field": "user", "header": "X-User", "found": 7, "absent": 0, "late": 0, "refused": 0}
    ]
