"""The status page as somebody sees it in a browser."""

import json
import re

import pytest

from bbr.admin import page as page_module
from bbr.admin import pages
from bbr.telemetry.metrics import ModelCounts
from bbr.telemetry.observed import clock
from bench.harness.ports import free_port
from bench.harness.processes import serving
from bench.harness.vitals import vitals
from deploy.local.chromium import Chromium
from tests.integration.test_admin import exchange
from tests.support.status_page import FORMED, HOSTILE, shown
from tests.support.tools import needs

pytestmark = needs("chromium")

REFRESHED = "document.getElementById('fresh').textContent.startsWith('as of')"

# Rows of a table by its name, as heading -> text; what is not shown is not there.
ROWS = """((name) => {
  const shown = (each) => each.checkVisibility();
  const place = document.querySelector(`[data-table=${name}]`);
  const headings = [...place.querySelectorAll("th")].filter(shown).map((each) => each.innerText);
  return [...place.querySelectorAll("tbody tr")].filter(shown).map((row) => Object.fromEntries(
    [...row.cells].filter(shown).map((cell, number) => [headings[number], cell.innerText])));
})"""

# The lowest contrast of any text with what is behind it, as WCAG 2 counts.
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (each) => {
    const colour = getComputedStyle(each).backgroundColor;
    return parts(colour)[3] === 0 ? behind(each.parentElement) : colour;
  };
  const ratios = [...document.body.querySelectorAll("*")]
    .filter((each) => each.checkVisibility())
    .filter((each) => [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map((each) => [luminance(getComputedStyle(each).color), luminance(behind(each))].sort((a, b) => b - a))
    .map(([light, dark]) => (light + 0.05) / (dark + 0.05));
  return [ratios.length, Math.min(...ratios), luminance(behind(document.body))];
})()"""


@pytest.fixture(scope="module")
def browser(background):
    browser = Chromium()
    background.run(browser.__aenter__())
    yield browser
    background.run(browser.__aexit__())


@pytest.fixture(scope="module")
def show(background, browser):
    """Give a function that opens a page; nothing may have gone wrong with any of them in the end."""
    opened = []

    def open_page(url, **options):
        page = background.run(browser.open(url, **options))
        if options.get("scripts", True):
            background.run(page.until(REFRESHED))
        opened.append((url, page))
        return page

    yield open_page
    for url, page in opened:
        assert page.complaints == []
        origin = re.match("http://[^/]+/", url)[0]
        assert page.requests
        assert all(each.startswith(origin) or each == "data:," for each in page.requests)


@pytest.fixture
def see(background):
    """Give a function that evaluates an expression in a page."""
    return lambda page, expression: background.run(page.evaluate(expression))


@pytest.fixture
def rows(see):
    return lambda page, name: see(page, f"{ROWS}('{name}')")


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """Give a running router and its page's address."""
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text("models:\n- {name: qwen, adapters: [sql-lora]}\n- {name: phi}\naliases: {best: qwen}\n")
    port = free_port()
    with serving(f"--metrics-port={port}", f"--models={models}") as process:
        yield process, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def troubled(background, tmp_path_factory):
    """Give the address of a router that has everything to tell, under hostile names."""
    directory = tmp_path_factory.mktemp("models")
    models = [{"name": f"{name} {number}", "adapters": [name, "twice"]} for number, name in enumerate(HOSTILE)]
    for number, model in enumerate(models):  # in one file a name that stands twice would be an error
        (directory / f"{number}.yaml").write_text(json.dumps({"models": [model]}))
    of = vitals(directory)
    for number, model in enumerate(models):
        counts = of.metrics.models[model["name"]] = ModelCounts()
        counts.outcomes.update({"routed": 1234 * number, "refused": number})
        counts.duration.add(10.0**-number)
        of.metrics.unknown.add(model["name"] + "?", clock() - 100 * number)
        of.sources.table.broken["file", model["name"]] = f"line 1: {model['name']}"
    of.metrics.reasons["refused", "invalid-json"] = 3
    of.ledger.take(900)
    admin = pages.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    yield f"http://127.0.0.1:{port}/"
    background.run(admin.stop())


def test_a_reader_without_javascript(router, show, rows, background):
    process, url = router
    for model in ("qwen", "sql-lora", "made-up"):
        exchange(process.port, json.dumps({"model": model}).encode())
    page = show(url, scripts=False)
    qwen = next(row for row in rows(page, "models") if row["Base model"] == "qwen")
    assert "Requests/s now" not in qwen
    assert int(qwen["Requests"]) >= 2
    assert qwen["Errors"] == "0"
    assert re.fullmatch(r"≤ [\d.]+ ms", qwen["p99"])
    assert [row["Model"] for row in rows(page, "unknown_models")] == ["made-up"]
    assert [row["Reason"] for row in rows(page, "reasons")] == ["model-not-found"]
    names = rows(page, "names")
    assert [(row["Name"], row["Kind"], row["Base model"]) for row in names] == [
        ("phi", "base model", "phi"),
        ("qwen", "base model", "qwen"),
        ("sql-lora", "adapter", "qwen"),
        ("best", "alias of qwen", "qwen"),
    ]
    assert all(re.fullmatch(r"file .*/models\.yaml, line [234]", row["Declared by"]) for row in names)
    background.run(page.enter("input[name=q]", "SQL"))
    assert [row["Name"] for row in rows(page, "names")] == ["sql-lora"]


def test_numbers_follow_the_requests(router, show, rows, background):
    process, url = router
    page = show(url)
    before = {row["Base model"]: int(row["Requests"]) for row in rows(page, "models")}
    for _ in range(5):
        exchange(process.port, b'{"model": "phi"}')
    background.run(page.until(f"{ROWS}('models').some((row) => row['Base model'] === 'phi' && row.Requests === '5')"))
    phi = next(row for row in rows(page, "models") if row["Base model"] == "phi")
    assert before["phi"] == 0
    assert float(phi["Requests/s now"]) > 0.1
    assert phi["Errors"] == "0"
    stopped = f"{ROWS}('models').some((row) => row['Base model'] === 'phi' && row['Requests/s now'] === '0')"
    background.run(page.until(stopped))


def test_it_says_when_the_router_is_gone_and_when_it_is_back(show, see, background, browser):
    of = vitals()
    admin = pages.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    page = background.run(browser.open(f"http://127.0.0.1:{port}/"))
    background.run(page.until(REFRESHED))
    background.run(admin.stop())
    see(page, "refresh()")
    assert see(page, "document.getElementById('fresh').innerText").startswith("the router does not answer (")
    assert page.complaints
    admin = pages.server(of)
    background.run(admin.start("127.0.0.1", port))
    of.serving.stop()
    background.run(page.until(REFRESHED))
    text = see(page, "document.querySelector('header').innerText")
    assert "not ready" in text
    assert of.why_not_ready() in text
    background.run(admin.stop())


def test_hostile_names_are_text_and_nothing_else(troubled, show, see, rows):
    for scripts in (False, True):
        page = show(troubled, scripts=scripts)
        assert {row["Name"] for row in rows(page, "names")} >= set(map(shown, HOSTILE))
        assert {row["Model"] for row in rows(page, "unknown_models")} == {
            f"{shown(name)} {number}?" for number, name in enumerate(HOSTILE)
        }
        assert len(rows(page, "conflicts")) == len(HOSTILE) - 1
        assert len(rows(page, "broken")) == len(HOSTILE)
        assert see(page, "document.title") == "bbr status"
        assert see(page, "document.querySelectorAll('img, iframe, main script').length") == 0
        searched = show(f"{troubled}?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&after=%3C", scripts=scripts)
        assert see(searched, "document.querySelector('input[name=q]').value") == '"><script>alert(1)</script>'
        assert rows(searched, "names") == []


def test_both_ways_to_fill_the_page_in_write_the_same(troubled, show, see):
    texts = []
    for scripts in (False, True):
        page = show(troubled, scripts=scripts)
        if scripts:  # everything that is there afterwards was written by the script
            see(page, "document.querySelectorAll('bdi').forEach((each) => each.textContent = '?')")
            see(page, "document.querySelectorAll('tbody, .more').forEach((each) => each.replaceChildren())")
            see(page, "document.querySelectorAll('meter').forEach((each) => each.value = each.max = 1)")
            see(page, "refresh()")
        passing = ":is([data-as=ago], [data-as=rate])"
        see(
            page,
            f"document.querySelectorAll('bdi{passing}, {passing} > bdi')"
            ".forEach((each) => { delete each.dataset.is; each.textContent = 'of the moment'; })",
        )
        texts.append(see(page, "document.querySelector('main').innerHTML"))
    assert len(texts[0]) > 10_000
    assert texts[0] == texts[1]


def test_every_form_of_the_script_is_as_the_servers(troubled, show, see):
    page = show(troubled)
    assert set(see(page, "Object.keys(forms)")) == page_module.FORMS.keys()
    for form, value, text in FORMED:
        assert see(page, f"forms[{json.dumps(form)}]({json.dumps(value)})") == text


def test_its_policy_stops_scripts_that_are_not_its_own(troubled, browser, background):
    page = background.run(browser.open(troubled))
    background.run(
        page.evaluate(
            "const script = document.createElement('script'); script.textContent = 'document.title = 1';"
            "document.body.append(script);"
            "const button = document.createElement('div'); button.innerHTML = '<b onclick=\"document.title = 2\">';"
            "document.body.append(button); button.firstChild.click();"
        )
    )
    assert background.run(page.evaluate("document.title")) == "bbr status"
    assert any("Content Security Policy" in each for each in page.complaints)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(troubled, show, see, dark):
    page = show(troubled, dark=dark)
    texts, contrast, ground = see(page, CONTRAST)
    assert texts > 100
    assert contrast >= 4.5
    assert ground < 0.05 if dark else ground > 0.8


@pytest.mark.parametrize("scripts", [False, True])
def test_a_phone_shows_its_whole_width(troubled, show, see, scripts):
    page = show(troubled, width=360, scripts=scripts)
    assert see(page, "document.documentElement.scrollWidth") <= 360
    assert see(page, "document.querySelector('meter').checkVisibility()")
