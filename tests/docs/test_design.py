"""DESIGN.md and the pages of design stay true: what they point to exists, and their tables are those of the code."""

import re
from pathlib import Path

import pytest

from bbr.config.settings import OPTIONS
from tests.unit.test_imports import ROOMS

ROOT = Path(__file__).parents[2]
OVERVIEW = ROOT / "DESIGN.md"
PAGES = sorted((ROOT / "docs/design").glob("*.md"))
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in (OVERVIEW, *PAGES)}

MAX_LINES = 150
ROOTS = ("bbr", "bench", "deploy", "docs", "protos", "tests")
# Flags of other programs, or what only looks like a flag.
NOT_OURS = {
    "boundary",
    "help",
    "help-all",
    "list",
    "served-model-name",
    "verbosity",
    "rounds",
    "plugin",
    "streaming",
    "v",
}


@pytest.fixture(params=sorted(TEXTS))
def text(request):
    return TEXTS[request.param]


def test_each_subject_has_a_page_that_the_overview_names():
    linked = re.findall(r"\]\(docs/design/([a-z0-9]+)\.md\)", TEXTS["DESIGN.md"])
    assert set(linked) == {page.stem for page in PAGES}


def test_a_page_can_be_read_in_one_go(text):
    assert text.count("\n") <= MAX_LINES


def test_rooms_are_those_that_the_code_has():
    rows = re.findall(r"^\| `([a-z0-9]+)` \| .+ \| (.*?) ?\|$", TEXTS["DESIGN.md"], re.MULTILINE)
    assert {room: {name for name in allowed.split(", ") if name} for room, allowed in rows} == ROOMS


def quoted(text: str) -> list[str]:
    """Return what stands between backticks, in one line or two."""
    return [
        " ".join(each.split()) for each in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]


def test_files_that_are_named_exist(text):
    paths = [each for each in quoted(text) if re.fullmatch(rf"(?:{'|'.join(ROOTS)})/[\w./-]+", each)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_modules_that_are_named_exist(text):
    modules = [match[1] for each in quoted(text) if (match := re.match(r"python -m ([\w.]+)", each))]
    assert [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()] == []


def test_make_targets_that_are_named_exist(text):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {match[1] for each in quoted(text) if (match := re.match(r"make ([a-z-]+)", each))}
    assert named - targets == set()


def test_flags_that_are_named_exist(text):
    ours = {name.replace("_", "-") for name in OPTIONS} | NOT_OURS
    named = {flag for each in quoted(text) for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", each)}
    assert named - ours == set()


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [OVERVIEW, *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^):]+)\)", page.read_text("utf-8").replace("\n", " ")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
