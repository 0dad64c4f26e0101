import base64
import hashlib
import inspect
import re
import socket
from html.parser import HTMLParser

import pytest

from bbr.admin import problems
from bbr.admin import status_page as page
from bbr.admin.status_facts import StatusFacts
from bbr.admin.window import Window
from bbr.models.steps import finish
from bbr.telemetry.metrics import ModelCounts
from bbr.telemetry.observed import clock
from bbr.transports.serving import TransportCounts
from bench.harness.vitals import vitals
from tests.support.status_page import HOSTILE, INVISIBLE, INVISIBLE_SHOWN


class Texts(HTMLParser):
    """The text of each cell and value, and every tag and attribute's name that there is."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.cells = set(), set(), []
        self._inside = False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "bdi":
            self._inside = True
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag == "bdi":
            self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.cells[-1] += data


def pieces(of, *asked):
    return list(page.render(StatusFacts(of, Window(of.metrics)).gathering(*asked)))


def read(html):
    found = Texts()
    found.feed(html)
    return found


def rendered(of, *asked):
    return b"".join(pieces(of, *asked)).decode()


def test_it_is_one_page_without_anything_from_elsewhere():
    html = rendered(vitals())
    assert html.startswith("<!doctype html>")
    assert "{{" not in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:[a-z]+:)?//""", html)
    assert "url(" not in html
    assert "@import" not in html


def test_its_policy_lets_nothing_run_but_what_is_its_own():
    html = rendered(vitals())
    policy = dict(page.HEADERS)["content-security-policy"]
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    found = read(html)
    assert "style" not in found.attributes
    assert not any(name.startswith("on") for name in found.attributes)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(name, tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: []\n")
    before = vitals(path)
    before.metrics.unknown.add("x", clock())
    before.metrics.models["x"] = counts = ModelCounts()
    counts.outcomes.update({"routed": 50, "refused": 50})
    counts.duration.add(0.001)
    window = Window(before.metrics)
    finish(window.sliding(clock() + 10))
    before = read(b"".join(page.render(StatusFacts(before, window).gathering())).decode())
    quoted = name.replace("'", "''")
    path.write_text(
        f"models: [{{name: '{quoted}', adapters: ['{quoted} adapter']}}]\naliases: {{no: 'not {quoted}'}}\n"
    )
    of = vitals(path)
    of.metrics.unknown.add(f"{name} unknown", clock())
    of.sources.table.broken["file", INVISIBLE + name] = INVISIBLE + name
    of.metrics.models[name] = counts = ModelCounts()
    counts.outcomes.update({"routed": 50, "refused": 50})
    counts.duration.add(0.001)
    of.metrics.adapters[f"{name} adapter"] = 20
    window = Window(of.metrics)
    finish(window.sliding(clock() + 10))
    html = b"".join(page.render(StatusFacts(of, window).gathering())).decode()
    found = read(html)
    assert name in found.cells
    assert f"{name} adapter" in found.cells
    assert f"{name} unknown" in found.cells
    assert {INVISIBLE_SHOWN + name, f"file {INVISIBLE_SHOWN}{name}"} <= set(found.cells)
    assert found.tags <= before.tags | {"wbr"}
    assert found.attributes <= before.attributes
    searched = read(rendered(of, name.strip()))
    assert searched.tags <= before.tags | {"wbr"}
    assert searched.attributes <= before.attributes


def test_what_a_reader_looks_for(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n- {name: qwen, adapters: [sql-lora]}\n")
    of = vitals(path)
    of.ledger.take(512)
    cells = read(rendered(of)).cells
    row = cells.index("sql-lora")
    assert cells[row - 4 : row] == ["qwen", "base model", "0", f"file {path}, line 2"]
    assert cells[row : row + 4] == ["sql-lora", "adapter", "0", f"file {path}, line 2"]
    assert socket.gethostname() in cells
    assert "ready" in cells
    assert "512 B" in cells
    of.serving.stop()
    cells = read(rendered(of)).cells
    assert "not ready" in cells
    assert of.why_not_ready() in cells


def test_the_links_between_pages_of_names(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n" + "".join(f'- name: "m&{number:03}"\n' for number in range(250)))
    of = vitals(path)
    html = rendered(of, "M&")
    assert '<a href="?q=M%26#where" hidden>Back to the first</a>' in html
    assert '<a rel="next" href="?q=M%26&amp;after=m%26099#where">The next 100</a>' in html
    assert "100 of 250 are shown." in html
    html = rendered(of, "M&", "m&199")
    assert '<a href="?q=M%26#where">Back to the first</a>' in html
    assert 'href="?q=M%26&amp;after=#where" hidden>' in html


def test_it_comes_in_small_pieces(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n" + "".join(f"- name: {number}-{'x' * 200}\n" for number in range(2000)))
    found = pieces(vitals(path))
    assert 1 <= max(piece.count(b"<tr") for piece in found) <= 21
    assert found.count(b"") >= 2000 / 500


def test_a_search_filters_the_names_alone(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n- {name: qwen, adapters: [sql-lora]}\n- {name: phi}\n")

    def tables(html):
        return dict(re.findall(r'data-table="(\w+)">(.*?)</table>', html, re.DOTALL))

    of = vitals(path)
    everything, searched = tables(rendered(of)), tables(rendered(of, "lora"))
    assert [name for name in everything if everything[name] != searched[name]] == ["names"]
    assert "sql-<wbr/>lora" in searched["names"]
    assert "phi" not in searched["names"]
    assert '<i class="of">of</i> <bdi>qwen</bdi>' in searched["names"]


def test_what_has_no_rows_is_folded(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen}]\n")
    of = vitals(path, counts=TransportCounts(1, 2, 0))
    assert "No problems</h2>" in rendered(of)
    assert '<details id="fold-problems" data-fold="closed">' in rendered(of)
    of.metrics.unknown.add("x", clock())
    html = rendered(of)
    assert '<details id="fold-problems" data-fold="open" open>' in html
    assert '<details id="fold-unknown_models" data-fold="open" open>' in html
    assert '<details id="fold-conflicts" data-fold="closed">' in html
    assert "1 unknown model was asked for in the last hour." in read(html).cells


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([], "Curves begin ten seconds after the start."),
        ([10.01], "Curves: the last 10 s, 10 s a column."),
        ([20.1, 20.2, 10.1], "Curves: the last 50 s, 20 s a column."),
        ([60.2] * 60, "Curves: the last 1 h 0 min, 1 min a column."),
    ],
)
def test_over_which_time_the_curves_are(seconds, said):
    assert page._span(seconds) == said


def test_a_reason_has_its_sentence_and_a_link(tmp_path):
    of = vitals()
    of.metrics.reasons["refused", "invalid-json"] = 3
    html = rendered(of)
    assert "The body is not valid JSON." in read(html).cells
    assert 'href="help#r-invalid-json"' in html
    assert 'id="r-invalid-json"' in b"".join(page.help_body()).decode()


def test_links_within_the_page_lead_somewhere():
    html = rendered(vitals())
    ids = set(re.findall(r' id="([^"]+)"', html))
    assert len(re.findall(r' id="', html)) == len(ids)
    assert set(re.findall(r' aria-labelledby="([^"]+)"', html)) <= ids
    source = inspect.getsource(problems)
    assert set(re.findall(r'yield _row\(.*, "([a-z]+)"\)$', source, re.MULTILINE)) <= ids
