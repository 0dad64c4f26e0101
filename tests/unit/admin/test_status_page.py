import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from bbr.admin import status_page as page
from bbr.admin.status_facts import StatusFacts
from bbr.admin.window import Window
from bbr.telemetry.observed import clock
from bench.harness.vitals import vitals
from tests.support.status_page import FORMED, HOSTILE, INVISIBLE, INVISIBLE_SHOWN


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
    before = read(rendered(vitals(path)))
    quoted = name.replace("'", "''")
    path.write_text(
        f"models: [{{name: '{quoted}', adapters: ['{quoted} adapter']}}]\naliases: {{no: 'not {quoted}'}}\n"
    )
    of = vitals(path)
    of.metrics.unknown.add(f"{name} unknown", clock())
    of.sources.table.broken["file", INVISIBLE + name] = INVISIBLE + name
    html = rendered(of)
    found = read(html)
    assert name in found.cells
    assert f"{name} adapter" in found.cells
    assert f"{name} unknown" in found.cells
    assert {INVISIBLE_SHOWN + name, f"file {INVISIBLE_SHOWN}{name}"} <= set(found.cells)
    assert found.tags == before.tags
    assert found.attributes == before.attributes
    searched = read(rendered(of, name.strip()))
    assert searched.tags == before.tags
    assert searched.attributes == before.attributes


def test_what_a_reader_looks_for(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n- {name: qwen, adapters: [sql-lora]}\n")
    of = vitals(path)
    of.ledger.take(512)
    cells = read(rendered(of)).cells
    row = cells.index("sql-lora")
    assert cells[row : row + 4] == ["sql-lora", "adapter", "qwen", f"file {path}, line 2"]
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
    assert '<a href="?q=M%26" hidden>Back to the first</a>' in html
    assert '<a rel="next" href="?q=M%26&amp;after=m%26099">The next 100</a>' in html
    assert "100 of 250 are shown." in html
    html = rendered(of, "M&", "m&199")
    assert '<a href="?q=M%26">Back to the first</a>' in html
    assert 'href="?q=M%26&amp;after=" hidden>' in html


def test_it_comes_in_small_pieces(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n" + "".join(f"- name: {number}-{'x' * 200}\n" for number in range(2000)))
    found = pieces(vitals(path))
    assert max(piece.count(b"<tr>") for piece in found) <= 20
    assert found.count(b"") >= 2000 / 500


@pytest.mark.parametrize(("form", "value", "text"), FORMED)
def test_forms(form, value, text):
    assert page.FORMS[form](value) == text


def test_every_form_is_tried():
    assert {form for form, _, _ in FORMED} == page.FORMS.keys()
