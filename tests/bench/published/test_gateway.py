import pytest

from bench.harness.figures import Variant
from bench.harness.http1_load import Run, WrongReplyError
from bench.published import gateway
from bench.published.contenders import NONE, POLLING, READ, Contender, Turn
from bench.published.gateway_cells import BUFFERED, Cell

CLOSED = Cell(1_000, concurrency=1)
LOADED = Cell(1_000, concurrency=32)
OPEN = Cell(1_000, rate=100)


def contender(name, *milliseconds, late=(), seconds=1.0, mode=""):
    turns = [
        Turn(Run([each / 1e3] * 100, list(late), 100, seconds), {"Envoy": 100.0 + each, "client": 9.0})
        for each in milliseconds
    ]
    return Contender(name, None, mode, turns=turns)


def test_added_is_what_the_same_round_took_longer():
    found = gateway.figures([contender(NONE, 1, 5), contender(READ, 2, 6), contender("uv", 4, 7)])
    assert found["uv"]["added p50"] == pytest.approx([3, 2])
    assert found["uv"]["added p99"] == pytest.approx([2])  # of both rounds together: 7 less 5
    assert found["uv"]["added to read p50"] == pytest.approx([2, 1])
    assert found["uv"]["Envoy"] == [104, 107]
    assert found[READ]["added p50"] == pytest.approx([1, 1])
    assert not {metric for metric in found[NONE] if metric.startswith("added")}
    assert "added to read p50" not in found[READ]
    assert all("p99.9" not in each and "late" not in each for each in found.values())


def test_rows_tell_what_they_are_about(capsys):
    found = gateway.rows([contender(NONE, 1, 1, late=[0.002]), contender("uv", 2, 3, late=[0.003], seconds=1.1)], OPEN)
    facts = {(row.facts["metric"], row.variant.name): row.facts for row in found}
    assert facts["added p50", "uv"] == {
        **OPEN.facts, "metric": "added p50", "samples": 200, "overloaded": 1
    }  # fmt: skip
    assert facts["p50", NONE] == {**OPEN.facts, "metric": "p50", "samples": 200, "overloaded": 0}
    medians = {(row.facts["metric"], row.variant.name): row.median for row in found}
    assert medians["late", "uv"] == pytest.approx(3)
    assert medians["added p50", "uv"] == pytest.approx(1.5)
    assert "open 1 KB 100/s FDS: uv is overloaded" in capsys.readouterr().out


def test_a_closed_loop_is_never_overloaded():
    assert all("overloaded" not in row.facts for row in gateway.rows([contender(NONE, 1)], CLOSED))


@pytest.mark.parametrize(
    ("metric", "name", "cell", "right"),
    [
        ("router", "uv", LOADED, Variant("uv", "grpcio", True, gateway.CPU_TARGETS[1_000])),
        ("router", "uv", CLOSED, Variant("uv", "grpcio", True)),
        ("router", "uv", Cell(1_000, concurrency=32, mode=BUFFERED), Variant("uv", "grpcio", True)),
        ("added p50", "uv", CLOSED, Variant("uv", "grpcio", target=gateway.ADDED_TARGETS[1_000])),
        ("added p50", POLLING, CLOSED, Variant(POLLING, "grpcio", target=gateway.ADDED_TARGETS[1_000])),
        ("added p50", "uv", LOADED, Variant("uv", "grpcio")),
        ("added p90", "uv", CLOSED, Variant("uv", "grpcio")),
        ("Envoy", "Lua", CLOSED, Variant("Lua", NONE)),
        ("Envoy", NONE, CLOSED, Variant(NONE)),
        ("p50", "uv", CLOSED, Variant("uv")),
    ],
)
def test_what_a_figure_is_compared_with(metric, name, cell, right):
    assert gateway.variant(metric, name, cell, {NONE: [], "grpcio": []}) == right


def test_nothing_is_compared_with_what_did_not_take_part():
    assert gateway.variant("added p50", "uv", CLOSED, {"uv": []}) == Variant("uv")
    assert gateway.variant("Envoy", "uv", CLOSED, {"uv": []}) == Variant("uv")


def test_a_variant_takes_part_in_its_mode():
    assert contender("uv", mode=BUFFERED).takes_part(Cell(1_000, concurrency=1, mode=BUFFERED))
    assert not contender("uv", mode=BUFFERED).takes_part(CLOSED)
    assert contender(POLLING).takes_part(CLOSED)
    assert not contender(POLLING).takes_part(LOADED)
    assert not contender(POLLING).takes_part(OPEN)


def test_a_variant_that_answers_wrongly_is_left_out_or_ends_the_run(capsys):
    def fail():
        raise WrongReplyError("answered by nothing")

    other = Contender("Lua", None, must=False)
    assert other.attempt(CLOSED, fail) is None
    assert other.missed == ["closed 1 KB x 1 FDS: without Lua: answered by nothing"]
    assert other.missed[0] in capsys.readouterr().out
    assert other.attempt(CLOSED, lambda: 7) == 7
    with pytest.raises(WrongReplyError):
        Contender("uv", None).attempt(CLOSED, fail)


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["--cells=2 KB"], "--cells '2 KB': no cell"), (["--rounds=0"], "--rounds 0: at least 1")]
)
def test_what_can_not_be_measured_is_refused_with_a_reason(arguments, reason, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gateway", *arguments])
    with pytest.raises(SystemExit):
        gateway.main()
    assert reason in capsys.readouterr().err


def test_the_cells_are_listed(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gateway", "--list", "--cells=1,024"])
    assert gateway.main() == 0
    assert capsys.readouterr().out == "closed 1 KB x 1,024 FDS\n"
