import json

import pytest

from bench import report
from bench.report import Target, Variant


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
    figures = iter([1000, 1000, 1, 10, 2, 40, 3, 30])

    def measure(name):
        turns.append(name)
        return next(figures)

    slow = Variant("slow")
    fast = Variant("fast", "slow", times_cheaper=True, target=Target(0.2))
    rows = report.alternate("case", "us", {slow: lambda: measure("slow"), fast: lambda: measure("fast")}, 3)
    assert turns == ["slow", "fast"] * 4
    assert [row.figures for row in rows] == [[1, 2, 3], [10, 40, 30]]
    assert rows[1].median == 30
    assert rows[1].ratio == pytest.approx(0.1)  # of each round's ratios, not of the medians
    assert rows[1].verdicts == [(Target(0.2), True)]


def test_a_limit_is_for_the_figure_itself(capsys):
    (row,) = report.compare("memory", "KiB", [Variant("uv", limit=Target(64))], {"uv": [63, 65, 66]})
    assert row.verdicts == [(Target(64), False)]
    assert capsys.readouterr().out.split() == ["memory", "uv", "65", "KiB", "63", "-", "66", "<=", "64:", "MISSED"]


def test_a_file_says_where_its_figures_come_from(tmp_path, capsys):
    variants = [Variant("none"), Variant("uv", "none", target=Target(2))]
    rows = report.compare("1,000 bytes", "us", variants, {"none": [10.0, 10.0], "uv": [15.0, 17.0]})
    path = tmp_path / "figures.json"
    report.save(path, rows, {"rounds": 2, "json": path})
    found = json.loads(path.read_text())
    assert found["machine"]["processors"] > 0
    assert found["versions"].keys() >= {"python", "bbr", "orjson"}
    assert found["commit"]
    assert found["seed"] > 0
    assert found["rows"][1] == {
        "case": "1,000 bytes",
        "variant": "uv",
        "unit": "us",
        "figures": [15.0, 17.0],
        "median": 16.0,
        "against": "none",
        "ratio": 1.6,
        "targets": [{"target": "<= 2", "met": True}],
    }
    capsys.readouterr()
    assert report.main([str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == [
        "| case | variant | median | spread | ratio | target |",
        "|---|---|---|---|---|---|",
        "| 1,000 bytes | none | 10 us | 10 - 10 | | |",
        "| 1,000 bytes | uv | 16 us | 15 - 17 | 1.60 to none | <= 2: met |",
    ]
