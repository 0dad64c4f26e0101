import datetime
import time

import pytest

from bbr.admin.problems import KINDS, problems
from bbr.admin.status_facts import StatusFacts
from bbr.admin.vitals import Vitals
from bbr.admin.window import Window
from bbr.models.steps import finish
from bbr.telemetry.metrics import ModelCounts
from bbr.telemetry.observed import clock
from bbr.transports.serving import TransportCounts
from bench.harness import vitals as harness
from bench.harness.vitals import vitals


def told(of, **changes):
    found = finish(StatusFacts(of, Window(of.metrics)).gathering())
    return [(row["level"], row["kind"], row["what"]) for row in problems({**found, **changes}, of)]


def healthy(**flags):
    return vitals(counts=TransportCounts(1, 2, 0), **flags)


def count(of, name, routed, refused):
    of.metrics.models[name] = counts = ModelCounts()
    counts.outcomes.update({"routed": routed, "refused": refused})


def test_none():
    assert told(healthy()) == []


def test_not_ready():
    of = healthy()
    of.serving.stop()
    assert told(of) == [("bad", "not-ready", f"This replica takes no requests: {of.why_not_ready()}.")]


def test_what_is_not_followed(monkeypatch):
    monkeypatch.setattr(Vitals, "troubles", lambda _: ["files: not seen for 200 s\udcff"])
    assert told(healthy()) == [("bad", "not-followed", "files: not seen for 200 s\\udcff.")]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, [("bad", "certificate", "The certificate has expired.")]),
        (3 * 86_400 + 60, [("warn", "certificate", "The certificate expires in 3 d 0 h.")]),
        (8 * 86_400, []),
    ],
)
def test_the_certificate(monkeypatch, seconds, expected):
    until = datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC)
    monkeypatch.setattr(harness, "NOT_AFTER", until)
    assert told(healthy(secure_serving="true")) == expected


def test_memory_and_connections():
    of = vitals(counts=TransportCounts(1, 2, 1))
    of.ledger.take(800)
    assert told(of) == [
        ("bad", "buffer", "Bodies use nearly all of the memory that they may use."),
        ("warn", "turned-away", "1 connection was turned away since the start."),
    ]
    of.ledger.give_back(800)
    buffered = {"held_bytes": 0, "limit_bytes": 1000, "refusals": 1200}
    assert told(of, buffered=buffered)[0] == (
        "warn",
        "buffer",
        "1,200 bodies have been rejected since the start because no memory was left.",
    )


def test_shares_of_errors():
    of = healthy()
    count(of, "qwen", 97, 3)
    count(of, "phi", 90, 2)
    count(of, "gemma", 50, 50)
    count(of, "", 0, 5)
    assert told(of) == [
        ("bad", "errors", "20.2% of the requests of the last minute failed."),
        ("bad", "errors", "gemma: 50% of its requests failed."),
        ("warn", "errors", "qwen: 3% of its requests failed."),
    ]


def test_no_more_than_a_few_base_models_are_named():
    of = healthy()
    for number in range(20):
        count(of, f"m-{number}", 0, 10)
    assert len(told(of)) == 1 + 5


def test_the_table(tmp_path):
    (tmp_path / "a.yaml").write_text("models: [{name: qwen, adapters: [x, y]}]\n")
    (tmp_path / "b.yaml").write_text("models: [{name: phi, adapters: [x]}]\n")
    of = vitals(tmp_path, counts=TransportCounts(1, 2, 0))
    of.sources.table.broken["file", "c.yaml"] = "line 1"
    of.metrics.unknown.add("x", clock())
    of.metrics.unknown.add("y", clock())
    mismatches = {"total": 3, "rows": [], "compared": True}
    assert told(of, route_mismatches=mismatches) == [
        ("bad", "broken", "1 object can't be used."),
        ("bad", "mismatches", "3 models or HTTPRoutes do not fit."),
        ("warn", "unknown-models", "2 unknown models were asked for in the last hour."),
        ("warn", "conflicts", "1 claim on a name is ignored."),
    ]


def test_every_kind_has_a_remedy():
    for each in KINDS.values():
        assert each.what.endswith(".")
        assert each.remedy.endswith(".")
