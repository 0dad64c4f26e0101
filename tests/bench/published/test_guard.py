import json
import sys

import pytest

from bench.harness.figures import Row, Variant
from bench.published import direct, guard
from bench.published.direct import Case
from bench.published.guard import Compared


def rows(case, **figures):
    return [
        Row(f"{case.name}, cpu", "us", Variant(name), each, None, case.facts | {"metric": "cpu"})
        for name, each in figures.items()
    ]


SMALL = rows(Case("size", 1_000), uv=[30.0, 33.0, 60.0], grpcio=[300.0, 300.0, 300.0])


def committed(uv):
    return [row.as_json() for row in rows(Case("size", 1_000), uv=[uv] * 5, grpcio=[400.0] * 5)]


def test_ratios_of_rounds_are_compared_not_microseconds():
    (found,) = guard.compare(SMALL, committed(44.0))
    assert found == Compared("1 KB chat", pytest.approx(0.11), pytest.approx(0.11))
    assert list(guard.verdict([found], 0.15))[-1] == "nothing of 1 cases is worse by more than 15%"


@pytest.mark.parametrize(("before", "named"), [(0.1, False), (0.0999, True), (0.2, False)])
def test_what_is_worse_by_more_than_the_bound_is_named(before, named):
    (case,) = [Compared("1 KB chat", before, 0.115)]
    said = list(guard.verdict([case], 0.15 + 1e-9))
    assert any(line.startswith("WORSE by") and "1 KB chat" in line for line in said) is named


def test_a_case_without_a_counterpart_is_told():
    (found,) = guard.compare(SMALL, [])
    assert found.before is None
    assert "not among the committed figures" in next(guard.verdict([found], 0.15))
    assert found.worse == 0


def test_other_metrics_and_variants_are_left_alone():
    other = Row("1 KB chat, rate", "1/s", Variant("uv"), [1.0], None, Case("size", 1_000).facts | {"metric": "rate"})
    alone = rows(Case("mode", 1_000, mode="BUFFERED"), uv=[1.0])
    assert len(guard.compare([*SMALL, other, *alone], committed(44.0))) == 1


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--strict"], 1), (["--strict", "--within=2"], 0)])
def test_the_exit_status_is_no_verdict_unless_asked(monkeypatch, tmp_path, capsys, arguments, status):
    path = tmp_path / "direct.json"
    path.write_text(json.dumps({"rows": committed(30.0)}))
    monkeypatch.setattr(sys, "argv", ["guard", "--results", str(path), *arguments])
    monkeypatch.setattr(guard.machine, "require", lambda *programs: None)
    monkeypatch.setattr(guard.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(direct, "run", lambda cases, peers, rounds: SMALL)
    assert guard.main() == status
    assert ("WORSE by 47%: 1 KB chat" in capsys.readouterr().out) is ("--within=2" not in arguments)


def test_without_committed_figures_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["guard", "--results", str(tmp_path / "none.json")])
    assert guard.main() == 2
    assert "none.json has no figures to compare with" in capsys.readouterr().err


def test_the_published_figures_are_where_it_looks():
    assert guard.RESULTS.is_file()
