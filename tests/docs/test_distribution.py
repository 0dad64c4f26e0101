"""Every text names the distribution as PyPI knows it. `bbr` on PyPI is another project's."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
THIS = Path(__file__).relative_to(ROOT)

# Folders of this checkout that are not in git.
NOT_OURS = {".git", ".venv", ".cache", "build", "dist"}
PLACES = ("bbr", "bench", "deploy", "docs", "tests", "protos", ".github", ".ci")
TEXTS = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".tpl", ".in", ".html", ".cfg", ""}

INSTALLER = re.compile(
    r"(?:pip3?|pipx|uv|uvx|poetry|pdm|conda|rye)\b[^\n`]*?\b(?:install|add|download|run|tool|wheel)\b|\buvx\b"
)
# A requirement that a shell or a lock would read as the project `bbr`. `bbr serve` behind `uv run` is a command.
STRANGER = re.compile(r"""(?<![\w./\[-])['"]?bbr(?:\[[a-z,]+\])?(?:\s*(?:[=<>~!]=?|@)[^\s'"]*)?['"]?(?=[\s;)'"`]|$)""")
EXTRA_OF_STRANGER = re.compile(r"(?<![\w./-])bbr\[[a-z][a-z,]*\]")
EXTRAS_OF_OURS = re.compile(r"\bbody[-_]based[-_]router\[([a-z, ]+)\]")


def texts() -> list[Path]:
    """Return the text files of the repository, relative to its root."""
    found = [each for each in ROOT.iterdir() if each.is_file() and each.name != ".git"]
    for place in PLACES:
        found += [each for each in (ROOT / place).rglob("*") if each.is_file()]
    named = sorted(each.relative_to(ROOT) for each in found)
    return [
        each
        for each in named
        if each.suffix in TEXTS and not NOT_OURS.intersection(each.parts) and "corpus" not in each.parts
    ]


def strangers(text: str) -> list[str]:
    """Return the lines that would install the stranger's project."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        installer = INSTALLER.search(line)
        installs = installer and STRANGER.search(line, installer.end()) and " run bbr" not in line
        if installs or EXTRA_OF_STRANGER.search(line):
            found.append(line.strip())
    return found


@pytest.mark.parametrize(
    "line",
    [
        "pip install bbr",
        "python -m pip install --upgrade bbr",
        "pip install 'bbr[kubernetes]'",
        "Needs bbr[otel]",
        "uv tool install bbr",
        "uv add bbr==0.1.0",
        "uvx bbr serve",
        "pipx install bbr",
        "run `pip install bbr`.",
        "RUN pip install \\\n  --no-cache-dir bbr",
    ],
)
def test_a_line_that_installs_the_stranger_is_seen(line):
    assert strangers(line)


@pytest.mark.parametrize(
    "line",
    [
        "pip install body-based-router",
        "pip install 'body-based-router[kubernetes]' && bbr-serve",
        "COPY bbr /out/opt/bbr/bbr",
        "uv run bbr serve",
        'bbr["load_assignment"]["endpoints"]',
        "helm upgrade --install router ./deploy/chart",
        "--target /out/opt/bbr --requirement requirements.lock",
    ],
)
def test_other_lines_are_not(line):
    assert strangers(line) == []


def test_no_text_tells_to_install_the_strangers_project() -> None:
    found = {}
    for path in texts():
        if path != THIS:
            lines = strangers((ROOT / path).read_text("utf-8", "replace"))
            if lines:
                found[str(path)] = lines
    assert found == {}


def test_every_text_is_looked_at() -> None:
    seen = {str(path) for path in texts()}
    assert {"README.md", "Makefile", "Dockerfile", "pyproject.toml", "bbr/server.py"} <= seen
    assert "deploy/chart/values.yaml" in seen
    assert len(seen) > 500


def test_the_extras_that_texts_name_exist() -> None:
    named = set()
    for path in texts():
        for extras in EXTRAS_OF_OURS.findall((ROOT / path).read_text("utf-8", "replace")):
            named.update(extra.strip() for extra in extras.split(","))
    assert named == {"doctor", "kubernetes", "otel"}
    assert named <= set(PROJECT["optional-dependencies"])


def test_the_command_and_the_distribution() -> None:
    assert PROJECT["name"] == "body-based-router"
    assert set(PROJECT["scripts"]) == {"bbr"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", each)[0] for each in requirements}


def test_the_page_of_dependencies_has_them_all() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text("utf-8")
    router = re.findall(r"^\| `([\w.-]+)` \| [^|`]+ \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    extras = re.findall(r"^\| `(\w+)` \| `([\w.-]+)` \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert sorted(router) == sorted(names(PROJECT["dependencies"]))
    wanted = {(extra, name) for extra, each in PROJECT["optional-dependencies"].items() for name in names(each)}
    assert set(extras) == wanted


def test_a_checkouts_tools_are_no_extras() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert set(PROJECT["optional-dependencies"]) == {"doctor", "kubernetes", "otel"}
    assert {"demo", "dev"} <= set(groups)
    page = (ROOT / "docs/design/dependencies.md").read_text("utf-8")
    for group, name in re.findall(r"^\| `(\w+)` \| `([\w.-]+)` \| [^|]+ \|$", page, re.MULTILINE):
        assert name in names([each for each in groups[group] if isinstance(each, str)])
