import hashlib
import importlib.machinery
import json
import sys

import pytest

from bench.harness import figures
from bench.harness.figures import Target, Variant


@pytest.mark.parametrize(
    ("target", "ratio", "met", "text"),
    [
        (Target(1.25), 1.25, True, "<= 1.25"),
        (Target(1.25), 1.26, False, "<= 1.25"),
        (Target(10, at_least=True, aim=20), 10, True, ">= 10 (aim 20)"),
        (Target(10, at_least=True), 9.9, False, ">= 10"),
    ],
)
def test_target(target, ratio, met, text):
    assert target.met(ratio) is met
    assert str(target) == text


def test_variants_take_turns_and_the_warm_up_does_not_count():
    turns = []
    readings = iter([1000, 1000, 1, 10, 2, 40, 3, 30])

    def measure(name):
        turns.append(name)
        return next(readings)

    slow = Variant("slow")
    fast = Variant("fast", "slow", times_cheaper=True, target=Target(0.2))
    rows = figures.alternate("case", "us", {slow: lambda: measure("slow"), fast: lambda: measure("fast")}, 3)
    assert turns == ["slow", "fast"] * 4
    assert [row.figures for row in rows] == [[1, 2, 3], [10, 40, 30]]
    assert rows[1].median == 30
    assert rows[1].ratio == pytest.approx(0.1)  # of each round's ratios, not of the medians
    assert rows[1].verdicts == [(Target(0.2), True)]


def test_a_limit_is_for_the_figure_itself(capsys):
    (row,) = figures.compare("memory", "KiB", [Variant("uv", limit=Target(64))], {"uv": [63, 65, 66]})
    assert row.verdicts == [(Target(64), False)]
    assert capsys.readouterr().out.split() == ["memory", "uv", "65", "KiB", "63", "-", "66", "<=", "64:", "MISSED"]


def test_a_file_says_where_its_figures_come_from(tmp_path):
    variants = [Variant("none"), Variant("uv", "none", target=Target(2))]
    rows = figures.compare("1,000 bytes", "us", variants, {"none": [10.0, 10.0], "uv": [15.0, 17.0]}, {"bytes": 1000})
    path = tmp_path / "figures.json"
    figures.save(path, rows, {"rounds": 2, "json": path}, [b"one", b"two"])
    found = json.loads(path.read_text())
    assert found["machine"]["processors"] > 0
    assert found["versions"].keys() >= {"python", "bbr", "orjson"}
    assert found["commit"]
    assert found["seed"] > 0
    assert found["options"] == {"rounds": 2}
    assert found["workload_sha256"] == hashlib.sha256(b"onetwo").hexdigest()
    assert found["rows"][1] == {
        "case": "1,000 bytes",
        "facts": {"bytes": 1000},
        "variant": "uv",
        "unit": "us",
        "figures": [15.0, 17.0],
        "median": 16.0,
        "against": "none",
        "ratio": 1.6,
        "targets": [{"target": "<= 2", "met": True}],
    }


def test_a_file_says_which_command_makes_it(monkeypatch):
    monkeypatch.delenv(figures.COMMAND_VARIABLE, raising=False)
    spec = importlib.machinery.ModuleSpec("bench.published.direct", None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["direct.py", "--json", "a file.json", "--rounds", "3", "--peer=a b", "--json=x"])
    assert figures.command() == "python -m bench.published.direct --rounds 3 '--peer=a b'"
    monkeypatch.setenv(figures.COMMAND_VARIABLE, "make bench")
    assert figures.command() == "make bench"
