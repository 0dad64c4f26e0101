import re
from xml.etree import ElementTree

import pytest

from bbr.admin import drawing
from bbr.telemetry.metrics import DURATION_BOUNDS

SECONDS = [10.0, 10.0, 20.0, 10.0]
HISTORY = {
    "requests": [10, 0, 40, 200],
    "errors": [0, 0, 1, 20],
    "p50": [3, None, 2, len(DURATION_BOUNDS)],
    "p99": [5, None, 2, len(DURATION_BOUNDS)],
}


def parsed(svg):
    root = ElementTree.fromstring(svg)  # noqa: S314 (ours)
    numbers = [float(each) for path in root.iter("path") for each in re.findall(r"-?[\d.]+", path.get("d"))]
    assert all(-100 <= number <= 100 for number in numbers)
    return root, root.findtext("title")


def test_rates():
    root, said = parsed(drawing.rates(HISTORY, SECONDS))
    assert said == "Requests a second, at most 20, in the latest column 20"
    area, line = root.iter("path")
    assert (area.get("class"), line.get("class")) == ("area", "line")
    heights = [float(each) for each in re.findall(r"L[\d.]+ ([\d.]+)", line.get("d"))]
    assert [heights[1], heights[0], heights[2], heights[3]] == sorted(heights, reverse=True)
    assert (heights[1], heights[3]) == (94.0, 6.0)
    assert area.get("d") == line.get("d") + "V100H0Z"


def test_rates_of_no_request_are_a_flat_line():
    _, said = parsed(drawing.rates({"requests": [0, 0]}, [10.0, 0.0]))
    assert said == "Requests a second, at most 0, in the latest column 0"


def test_errors_are_bars_by_level():
    root, said = parsed(drawing.errors(HISTORY))
    assert said == "Share of errors, at most 10%, in the latest column 10%"
    bars = {path.get("class"): path.get("d").count("M") for path in root.iter("path")}
    assert bars == {"ground": 1, "warn": 1, "bad": 1}
    root, _ = parsed(drawing.errors(HISTORY, judged=False))
    assert [path.get("class") for path in root.iter("path")] == ["ground", "ok"]
    small = drawing.errors({"requests": [1000], "errors": [1]})
    assert 'class="ok"' in small


def test_durations_are_a_band_with_gaps():
    root, said = parsed(drawing.durations(HISTORY))
    assert said == "Time to a decision: p50 > 60 s, p99 > 60 s in the latest column, p99 > 60 s at worst"
    band, line = root.iter("path")
    assert band.get("d").count("M") == line.get("d").count("M") == 2
    assert band.get("d").count("Z") == 2


@pytest.mark.parametrize("columns", [1, 2, 60])
def test_any_number_of_columns(columns):
    history = {"requests": [5] * columns, "errors": [1] * columns, "p50": [0] * columns, "p99": [14] * columns}
    for svg in (drawing.rates(history, [60.0] * columns), drawing.errors(history), drawing.durations(history)):
        root, _ = parsed(svg)
        assert root.get("role") == "img"
        assert len(svg) < 4000


@pytest.mark.parametrize("history", [None, {"requests": [], "errors": [], "p50": [], "p99": []}])
def test_without_a_history_nothing_is_drawn_or_said(history):
    for svg in (drawing.rates(history, []), drawing.errors(history), drawing.durations(history)):
        root, said = parsed(svg)
        assert said is None
        assert root.get("aria-hidden") == "true"
        assert list(root) == []


def test_the_last_column_may_have_no_decision():
    _, said = parsed(drawing.durations({"p50": [1, None], "p99": [1, None]}))
    assert said.endswith("p50 –, p99 – in the latest column, p99 ≤ 0.25 ms at worst")  # noqa: RUF001
