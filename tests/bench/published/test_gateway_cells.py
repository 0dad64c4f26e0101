import gzip
import json

import pytest

from bench.harness import workload
from bench.published import gateway_cells
from bench.published.gateway_cells import BUFFERED, CELLS, FDS, Cell


def test_the_list():
    assert len(CELLS) == len({cell.name for cell in CELLS}) == 30
    assert all(bool(cell.rate) != bool(cell.concurrency) for cell in CELLS)
    assert {cell.concurrency for cell in CELLS} >= {1, 8, 32, 128, 512, 1_024}
    assert {cell.mode for cell in CELLS} == {FDS, BUFFERED}


def test_an_open_loop_sends_enough_for_a_median_in_each_round():
    assert all(cell.rate * cell.seconds >= 4 for cell in CELLS if cell.rate)


def test_names_and_facts():
    closed = Cell(1_000_000, concurrency=1_024, mode=BUFFERED)
    assert closed.name == "closed 1 MB x 1,024 BUFFERED"
    assert closed.facts == {
        "loop": "closed", "concurrency": 1_024, "kind": "chat", "bytes": 1_000_000, "mode": "BUFFERED"
    }  # fmt: skip
    opened = Cell(10_000, rate=1_500, kind="gzip")
    assert opened.name == "open 10 KB gzip 1,500/s FDS"
    assert opened.facts == {"loop": "open", "rate": 1_500, "kind": "gzip", "bytes": 10_000, "mode": FDS}


def test_cells_are_chosen_by_their_names():
    assert gateway_cells.chosen(CELLS, "", quick=False) == list(CELLS)
    assert [cell.name for cell in gateway_cells.chosen(CELLS, "1 KB x 32 ", quick=True)] == [
        "closed 1 KB x 32 FDS",
        "closed 1 KB x 32 BUFFERED",
    ]
    assert gateway_cells.chosen(CELLS, "2 KB", quick=False) == []
    assert 4 <= len(gateway_cells.chosen(CELLS, "", quick=True)) <= 5


@pytest.mark.parametrize("cell", {(cell.kind, cell.bytes): cell for cell in CELLS}.values(), ids=lambda cell: cell.name)
def test_bodies(cell):
    octets = gateway_cells.body(cell)
    text = gzip.decompress(octets) if cell.kind == "gzip" else octets
    assert abs(len(text) - cell.bytes) <= (cell.bytes * 0.02 if cell.kind == "gzip" else 0)
    assert json.loads(text)["model"] == workload.MODEL
    assert (next(iter(json.loads(text))) == "model") == (cell.kind == "chat, model first")
    if cell.kind == "gzip":
        assert 0.2 < len(octets) / cell.bytes < 0.6


def test_a_percentile_is_the_value_that_so_many_lie_below():
    values = list(range(1_000, 0, -1))
    assert [gateway_cells.percentile(values, percent) for percent in (0, 50, 99, 99.9)] == [1, 501, 991, 1_000]
    assert gateway_cells.percentile([7], 99.9) == 7


def test_percentiles_are_of_each_round_where_all_have_enough():
    rounds = {"a": [range(200), range(1_000, 1_200)], "b": [range(300)] * 2}
    assert gateway_cells.percentiles(rounds) == {
        "a": {50: [100, 1_100], 90: [180, 1_180], 99: [198, 1_198]},
        "b": {50: [150, 150], 90: [270, 270], 99: [297, 297]},
    }


def test_percentiles_are_of_all_rounds_where_one_has_too_few():
    rounds = {"slow": [range(100)] * 2, "fast": [range(1_000)] * 2, "slower": [range(50)] * 3}
    found = gateway_cells.percentiles(rounds)
    assert found["slow"] == {50: [50, 50], 90: [90, 90], 99: [99]}
    assert found["fast"] == {50: [500, 500], 90: [900, 900], 99: [990], 99.9: [999]}
    assert found["slower"] == {50: [25] * 3, 90: [45] * 3}
