"""The status page as somebody sees it in a browser."""

import asyncio
import json
import re
import socket
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from bbr.admin import endpoints, window
from bbr.telemetry.metrics import ModelCounts
from bbr.telemetry.observed import clock
from bbr.transports.serving import TransportCounts
from bench.harness.processes import serving
from bench.harness.vitals import vitals
from deploy.local.browser import complaints, launch_options
from tests.integration.test_admin import exchange
from tests.support.status_page import HOSTILE, INVISIBLE, INVISIBLE_SHOWN
from tests.support.tools import needs

pytestmark = needs("chromium")

# How long a page may take to show what has happened: it asks every three seconds.
PATIENCE_MS = 30_000

# Rows of a table by its name, as heading -> text; what is not shown is not there.
ROWS = """((name) => {
  const shown = (each) => each.checkVisibility();
  const place = document.querySelector(`[data-table=${name}]`);
  const headings = [...place.querySelectorAll("th")].filter(shown).map((each) => each.innerText);
  return [...place.querySelectorAll("tbody tr")].filter(shown).map((row) => Object.fromEntries(
    [...row.cells].filter(shown).map((cell, number) => [headings[number], cell.innerText.trim()])));
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


# What a hostile name would like to do.
TELL_OF_DIALOGS = "window.alert = window.prompt = (text) => console.error(`a dialog: ${text}`)"


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright, playwright.chromium.launch(**launch_options()) as browser:
        yield browser


@pytest.fixture
def open_page(chromium):
    """Give a function that opens a page in a context of its own: it, what it complained of, and what it asked for."""
    contexts = []

    def opened(url, *, scripts=True, width=1200, dark=False):
        context = chromium.new_context(
            java_script_enabled=scripts,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.add_init_script(TELL_OF_DIALOGS)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        found = complaints(page)
        page.goto(url)
        return page, found, asked

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def show(open_page):
    """Give a function that opens a page; nothing may have gone wrong with any of them in the end."""
    shown_pages = []

    def opened(url, **options):
        page, found, asked = open_page(url, **options)
        shown_pages.append((url, found, asked))
        return page

    yield opened
    for url, found, asked in shown_pages:
        assert found == []
        assert asked
        assert {urlsplit(each).netloc for each in asked if each != "data:,"} == {urlsplit(url).netloc}


def rows(page, name):
    return page.evaluate(f"{ROWS}('{name}')")


def row_of(page, model):
    """Return what finds the row of a base model."""
    return page.locator("[data-table=models] tbody tr").filter(has_text=model)


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """Give a running router and its page's address."""
    models = tmp_path_factory.mktemp("models") / "models.yaml"
    models.write_text("models:\n- {name: qwen, adapters: [sql-lora]}\n- {name: phi}\naliases: {best: qwen}\n")
    with serving(f"--models={models}", admin=True) as process:
        yield process, f"http://127.0.0.1:{process.admin_port}/"


@pytest.fixture(scope="module")
def troubled(background, tmp_path_factory):
    """Give the address of a router that has everything to tell, under hostile names."""
    directory = tmp_path_factory.mktemp("models")
    models = [{"name": f"{name} {number}", "adapters": [name, "twice"]} for number, name in enumerate(HOSTILE)]
    for number, model in enumerate(models):  # in one file a name that occurs twice would be an error
        (directory / f"{number}.yaml").write_text(json.dumps({"models": [model]}, ensure_ascii=False), "utf-8")
    of = vitals(directory)
    for number, model in enumerate(models):
        counts = of.metrics.models[model["name"]] = ModelCounts()
        counts.outcomes.update({"routed": 1234 * number, "refused": number})
        counts.duration.add(10.0**-number)
        of.metrics.unknown.add(model["name"] + "?", clock() - 100 * number)
        of.sources.table.broken["file", model["name"]] = f"line 1: {INVISIBLE}{model['name']}"
        of.metrics.adapters[HOSTILE[number]] = 50
    of.metrics.reasons["refused", "invalid-json"] = 3
    of.ledger.take(900)
    with patched() as made:
        admin = endpoints.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    background.run(slide(made[0]))
    yield f"http://127.0.0.1:{port}/"
    background.run(admin.stop())


@contextmanager
def patched():
    """Give a list that gets the window which a server is made with, and which stays as it is."""
    made = []

    def window_of(metrics):
        found = window.Window(metrics)
        found.follow = asyncio.Event().wait
        made.append(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoints, "Window", window_of)
        yield made


async def slide(of):
    """Let a window have seen two slots, the last one just now."""
    now = clock()
    of._opened = now - 20
    for ago in (10, 0):
        for _ in of.sliding(now - ago):
            pass


def test_a_reader_without_javascript(router, show):
    process, url = router
    for model in ("qwen", "sql-lora", "made-up"):
        exchange(process.port, json.dumps({"model": model}).encode())
    page = show(url, scripts=False)
    qwen = next(row for row in rows(page, "models") if row["Base model"] == "qwen")
    assert float(qwen["Now, /s"]) > 0
    assert re.fullmatch(r"[\d.]+/s", qwen["Requests"])
    assert int(qwen["Since the start"]) >= 2
    assert qwen["Errors"] == "0%"
    assert re.fullmatch(r"p50 ≤ [\d.]+ ms\s+p99 ≤ [\d.]+ ms", qwen["Time to a decision"])
    assert [row["Model"] for row in rows(page, "unknown_models")] == ["made-up"]
    assert [row["Reason"] for row in rows(page, "reasons")] == [
        "model-not-found\nThe model table does not hold the requested model."
    ]
    assert page.inner_text(".replica").removeprefix("replica").strip() == socket.gethostname()
    names = rows(page, "names")
    assert [(row["Name"], row["Kind"]) for row in names] == [
        ("phi", "base model"),
        ("qwen", "base model"),
        ("sql-lora", "adapter"),
        ("best", "alias of qwen"),
    ]
    assert all(re.fullmatch(r"file .*/models\.yaml, line [234]", row["Declared by"]) for row in names)
    assert re.fullmatch(r"as of [\d-]{10} [\d:]{8} UTC", page.inner_text("#fresh"))
    page.fill("input[name=q]", "SQL")
    page.press("input[name=q]", "Enter")
    page.wait_for_url("**/?q=SQL#where")
    assert [row["Name"] for row in rows(page, "names")] == ["of qwen", "sql-lora"]
    assert {row["Base model"] for row in rows(page, "models")} == {"qwen", "phi", "(none)"}


def test_numbers_follow_the_requests(router, show):
    process, url = router
    page = show(url)
    before = {row["Base model"]: int(row["Since the start"].split()[0]) for row in rows(page, "models")}
    assert before["phi"] == 0
    for _ in range(5):
        exchange(process.port, b'{"model": "phi"}')
    expect(row_of(page, "phi").locator("td").nth(4)).to_have_text("5", timeout=PATIENCE_MS)
    phi = next(row for row in rows(page, "models") if row["Base model"] == "phi")
    assert float(phi["Now, /s"]) > 0.1
    assert phi["Errors"] == "0%"


def test_the_rate_of_now_is_that_of_the_last_seconds(show, background, monkeypatch):
    monkeypatch.setattr(window, "SLOT_SECONDS", 0.5)
    of = vitals()
    counts = of.metrics.models["qwen"] = ModelCounts()
    counts.outcomes["routed"] = 1000
    admin = endpoints.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    page = show(f"http://127.0.0.1:{port}/")
    expect(row_of(page, "qwen").locator("td").nth(3)).to_have_text("0", timeout=PATIENCE_MS)
    assert rows(page, "models")[0]["Since the start"] == "1,000"
    background.run(admin.stop())


def test_it_says_when_the_router_is_gone_and_when_it_is_back(open_page, background):
    of = vitals()
    admin = endpoints.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    page, found, _ = open_page(f"http://127.0.0.1:{port}/")
    assert page.inner_text("#fresh").startswith("as of ")
    background.run(admin.stop())
    page.evaluate("refresh()")
    assert page.inner_text("#fresh").startswith("the router does not answer (")
    assert page.text_content("#said") == "The router does not answer."
    assert found
    admin = endpoints.server(of)
    background.run(admin.start("127.0.0.1", port))
    of.serving.stop()
    expect(page.locator("#fresh")).to_contain_text("as of ", timeout=PATIENCE_MS)
    text = page.inner_text("header")
    assert "not ready" in text
    assert of.why_not_ready() in text
    assert page.evaluate("document.documentElement.className") == ""
    assert page.text_content("#said") == "The router answers again."
    background.run(admin.stop())


def test_another_page_is_not_taken_for_it(troubled, open_page):
    page, _, _ = open_page(troubled)
    page.route("**/", lambda route: route.fulfill(body="<title>Log in</title><main>Who are you?</main>"))
    before = page.inner_text("main")
    page.evaluate("refresh()")
    assert page.inner_text("#fresh").startswith("the router does not answer (something else answers)")
    assert page.inner_text("main") == before


def test_hostile_names_are_text_and_nothing_else(troubled, show):
    for scripts in (False, True):
        page = show(troubled, scripts=scripts)
        if scripts:
            page.evaluate("refresh()")
        assert {row["Name"] for row in rows(page, "names")} >= set(HOSTILE)
        assert {row["Model"] for row in rows(page, "unknown_models")} == {
            f"{name} {number}?" for number, name in enumerate(HOSTILE)
        }
        assert len(rows(page, "conflicts")) == len(HOSTILE) - 1
        assert {row["Why"] for row in rows(page, "broken")} == {
            f"line 1: {INVISIBLE_SHOWN}{name} {number}" for number, name in enumerate(HOSTILE)
        }
        assert page.title() == "bbr status"
        assert page.locator("img, iframe, main script").count() == 0
        searched = show(f"{troubled}?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&after=%3C", scripts=scripts)
        assert searched.input_value("input[name=q]") == '"><script>alert(1)</script>'
        assert rows(searched, "names") == []
        assert len(rows(searched, "models")) == len(HOSTILE)


# What the seconds that pass between two looks change.
PASSING = ":is(.ago, .rate, .duration)"
WITHOUT_PASSING = f"""(() => {{
  document.querySelectorAll("bdi{PASSING}, {PASSING} > bdi").forEach((each) => {{
    each.textContent = "of the moment";
    delete each.dataset.is;
  }});
  return document.querySelector("main").innerHTML;
}})()"""


def test_a_refresh_makes_the_page_what_the_server_says(troubled, show):
    expected = show(troubled, scripts=False).evaluate(WITHOUT_PASSING)
    page = show(troubled)
    page.evaluate("document.querySelectorAll('bdi').forEach((each) => each.replaceChildren('?', '!'))")
    page.evaluate("document.querySelectorAll('tbody').forEach((each) => each.replaceChildren())")
    page.evaluate("document.querySelectorAll('.more').forEach((each) => each.replaceWith('nothing'))")
    page.evaluate("document.querySelectorAll('meter').forEach((each) => { each.value = 1; each.title = 'x'; })")
    page.evaluate("refresh()")
    assert len(expected) > 10_000
    assert "<svg" in expected
    assert page.evaluate(WITHOUT_PASSING) == expected


def test_a_refresh_leaves_alone_what_the_reader_does(troubled, show):
    page = show(troubled)
    page.fill("input[name=q]", "half a na")
    page.evaluate("(of) => getSelection().selectAllChildren(document.querySelector(of))", "h2")
    selected = page.evaluate("String(getSelection())")
    page.evaluate("refresh()")
    assert page.input_value("input[name=q]") == "half a na"
    assert page.evaluate("document.activeElement.name") == "q"
    assert selected
    assert page.evaluate("String(getSelection())") == selected


def test_it_asks_every_three_seconds_and_not_while_nobody_looks(troubled, open_page):
    page, _, asked = open_page(troubled)
    page.clock.install(time=0)
    page.clock.pause_at(60)
    page.reload()
    asked.clear()
    page.clock.run_for(2900)
    assert asked == []
    with page.expect_response(troubled):
        page.clock.run_for(200)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("refresh()")
    asked.clear()
    page.clock.run_for(60_000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(60_000)
    assert asked == []
    page.evaluate("delete document.hidden")
    with page.expect_response(troubled):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_its_policy_stops_scripts_that_are_not_its_own(troubled, open_page):
    page, found, _ = open_page(troubled)
    page.evaluate(
        """(() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 1";
          document.body.append(script);
          const button = document.createElement("div");
          button.innerHTML = "<b onclick='document.title = 2'>";
          document.body.append(button);
          button.firstChild.click();
        })()"""
    )
    assert page.title() == "bbr status"
    assert any("Content Security Policy" in each for each in found)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(troubled, show, dark):
    page = show(troubled, dark=dark)
    texts, contrast, ground = page.evaluate(CONTRAST)
    assert texts > 100
    assert contrast >= 4.5
    assert ground < 0.05 if dark else ground > 0.8


@pytest.mark.parametrize("scripts", [False, True], ids=["without scripts", "with scripts"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_shows_its_whole_width(troubled, show, width, scripts):
    page = show(troubled, width=width, scripts=scripts)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("meter").is_visible()
    wider = page.evaluate(
        """(width) => [...document.querySelectorAll("td, th, .tile, .label, section, li, dd")]
          .filter((each) => each.checkVisibility() && !each.closest("thead"))
          .map((each) => [each.getBoundingClientRect(), each])
          .filter(([box, each]) => box.left < 0 || box.right > width + 1 || each.scrollWidth > each.clientWidth + 1)
          .map(([box, each]) => each.outerHTML.slice(0, 100))""",
        width,
    )
    assert wider == []


def held(page):
    """Return a page that no longer refreshes itself."""
    page.evaluate("(async () => { paused = true; await refresh(); })()")
    return page


def violations(page):
    return [(each["id"], node["html"]) for each in Axe().run(page).response["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_axe_finds_nothing(troubled, show, width, dark):
    page = held(show(troubled, width=width, dark=dark))
    assert page.locator("svg.curve[role=img]").count() >= 3
    assert page.locator(".flow").count() == 1
    assert violations(page) == []
    helping = show(f"{troubled}help", width=width, dark=dark)
    assert helping.locator("dt").count() > 50
    assert violations(helping) == []


def test_axe_finds_nothing_on_a_page_without_problems(show, background):
    of = vitals(counts=TransportCounts(1, 2, 0))
    admin = endpoints.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    page = held(show(f"http://127.0.0.1:{port}/"))
    assert page.inner_text("#problems") == "No problems"
    assert page.locator("#fold-problems").get_attribute("open") is None
    assert violations(page) == []
    background.run(admin.stop())


def test_axe_would_find_something(troubled, show):
    page = held(show(troubled))
    page.evaluate("document.querySelector('label[for=q]').remove()")
    assert [name for name, _ in violations(page)] == ["label"]


def focused(page):
    return page.evaluate("(() => { const e = document.activeElement; return e.id || e.href || e.nodeName; })()")


def test_it_is_used_by_keyboard(troubled, show):
    page = show(troubled)
    page.keyboard.press("Tab")
    assert focused(page).endswith("#now")
    page.keyboard.press("Tab")
    assert focused(page) == "pause"
    page.keyboard.press("Enter")
    assert page.inner_text("#pause") == "Resume"
    assert page.text_content("#said") == "Paused."
    page.keyboard.press("Tab")
    assert focused(page) == "SUMMARY"
    fold = page.locator("#fold-problems")
    assert fold.get_attribute("open") is not None
    page.keyboard.press("Enter")
    assert fold.get_attribute("open") is None
    page.evaluate("refresh()")
    assert fold.get_attribute("open") is None
    assert focused(page) == "SUMMARY"


def test_what_is_folded_opens_when_it_gets_rows(show, background):
    of = vitals(counts=TransportCounts(1, 2, 0))
    admin = endpoints.server(of)
    port = background.run(admin.start("127.0.0.1", 0))
    page = show(f"http://127.0.0.1:{port}/")
    fold = page.locator("#fold-unknown_models")
    assert fold.get_attribute("open") is None
    of.metrics.unknown.add("made-up", clock())
    page.evaluate("refresh()")
    assert fold.get_attribute("open") is not None
    assert [row["Model"] for row in rows(page, "unknown_models")] == ["made-up"]
    background.run(admin.stop())


def test_while_it_is_paused_it_asks_nothing(troubled, open_page):
    page, _, asked = open_page(troubled)
    page.clock.install(time=0)
    page.clock.pause_at(60)
    page.reload()
    page.click("#pause")
    asked.clear()
    page.clock.run_for(60_000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_response(troubled):
        page.click("#pause")


def test_a_name_of_the_flow_leads_to_its_entry(router, show):
    process, url = router
    exchange(process.port, b'{"model": "sql-lora"}')
    page = show(url, scripts=False)
    page.click(".flow .names a:has-text('sql-lora')")
    page.wait_for_url("**/?q=sql-lora#where")
    assert [row["Name"] for row in rows(page, "names")] == ["of qwen", "sql-lora"]


def test_a_reason_leads_to_its_help(router, show):
    process, url = router
    exchange(process.port, b'{"model": "made-up"}')
    page = show(url, scripts=False)
    page.click("[data-table=reasons] a:has-text('what to do')")
    page.wait_for_url("**/help#r-model-not-found")
    assert "The model table does not hold the requested model." in page.inner_text("#r-model-not-found")
