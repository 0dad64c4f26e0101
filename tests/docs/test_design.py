"""DESIGN.md and the pages of design stay true: what they point to exists, and their tables are those of the code."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from bbr.config.loading import load
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
    "config-file",
    "config-text",
    "streaming",
    "v",
}


@pytest.fixture(params=sorted(TEXTS))
def text(request):
    return TEXTS[request.param]


def test_each_subject_has_a_page_that_the_overview_names():
    linked = re.findall(r"\]\(docs/design/([a-z0-9-]+)\.md\)", TEXTS["DESIGN.md"])
    assert set(linked) == {page.stem for page in PAGES}


def test_a_page_can_be_read_in_one_go(text):
    assert text.count("\n") <= MAX_LINES


def test_each_decision_has_its_evidence(text):
    """A test, a command that prints the figure, or a page that has it; what was not done can have none."""
    points = [point for point in re.split(r"\n(?=- |\n|#)", text) if point.strip().startswith("- **")]
    without = [
        point
        for point in points
        if not re.search(r"`(tests/|python -m bench|make )|\]\(", " ".join(point.split()))
        and not re.match(r"- \*\*Not (built|expressed|tried)", point.strip())
    ]
    assert without == []


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


# A flag, or a file and the names in it that a row of the pages of limits points to.
POINTERS = re.compile(r"`--([a-z-]+)`|`(bbr/[\w/]+)\.py`((?: `[A-Za-z_][\w.]*`)*)")
DEFAULTS = load({}, {})


def named(text: str) -> list[tuple[str, object]]:
    """Return what a text points to, in its order: the name, and the flag's default or the object."""
    found: list[tuple[str, object]] = []
    for flag, path, names in POINTERS.findall(text):
        if flag:
            found.append((flag, getattr(DEFAULTS, flag.replace("-", "_"))))
            continue
        module = importlib.import_module(path.replace("/", "."))
        for name in re.findall(r"`([^`]+)`", names):
            holder, _, field = name.rpartition(".")
            owner = reduce(getattr, holder.split("."), module) if holder else module
            declared = getattr(owner, "__dataclass_fields__", {}).get(field)
            default = getattr(owner, "_field_defaults", {}).get(field)
            found.append((name, declared.default if declared else default or getattr(owner, field)))
    return found


def spellings(value: int | float) -> set[str]:
    """Return how a bound may be written, its unit aside unless it is part of the figure."""
    found = {f"{value:,g}" if isinstance(value, float) else f"{value:,}", f"{value * 1000:g} ms"}
    for unit, octets in (("KiB", 1 << 10), ("MiB", 1 << 20)):
        if value >= octets and value % octets == 0:
            found.add(f"{value // octets:g} {unit}")
    return found


def wrong(row: str) -> list[str]:
    """Return the names in a row of limits whose values are not the bounds that it says, one after another."""
    _, bound, where, *_ = row.split(" | ")
    values = named(where)
    bounds = [re.match(r"[\d,.]+(?: (?:KiB|MiB|ms)\b)?", each)[0] for each in bound.split("; ")]
    assert len(values) in (0, len(bounds)), row
    return [name for (name, value), said in zip(values, bounds, strict=False) if said not in spellings(value)]


def rows(page: str, heading: str) -> list[str]:
    """Return the rows of a page's tables one of whose columns is called so."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", TEXTS[f"docs/design/{page}.md"], re.MULTILINE):
        head, _, *body = table.splitlines()
        if heading in head.split(" | "):
            found += body
    return found


LIMITS = ("limits", "limits-of-connections", "limits-of-sources")


@pytest.mark.parametrize("row", [row for page in LIMITS for row in rows(page, "enforced by")])
def test_a_limit_is_what_the_code_has(row):
    assert wrong(row) == []


def test_a_wrong_limit_is_found():
    where = "`bbr/reading/multipart.py` `MAX_PARTS` `MAX_PART_FIELDS` | |"
    assert wrong(f"| parts; fields | 1,000; 8 | {where}") == []
    assert wrong(f"| parts; fields | 8; 1,000 | {where}") == ["MAX_PARTS", "MAX_PART_FIELDS"]
    assert wrong("| a body | 63 MiB | `--max-body-bytes` | |") == ["max-body-bytes"]


@pytest.mark.parametrize("row", rows("input", "bound of the input"))
def test_a_place_that_reads_a_clients_bytes_is_there(row):
    assert len(named(row.split(" | ")[0])) == 1
