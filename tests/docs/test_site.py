"""The documentation's site: every page is in its navigation, and it builds strictly where its environment is."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".cache/docs/env/bin/mkdocs"
# Pages that docs/site/hooks.py makes of files at the root.
MADE = {"design/index.md", "changelog.md"}


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without running the functions that it names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda _loader, _suffix, _node: None)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)  # noqa: S506  # a SafeLoader


def pages(entries):
    """Give the pages of a part of the navigation."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for inner in entry.values():
            yield from [inner] if isinstance(inner, str) else pages(inner)


def test_each_page_is_in_the_navigation_once():
    named = list(pages(SITE["nav"]))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    # DESIGN.md lists the pages of design (test_design.py), and the site takes them from there.
    there = {page for page in there if not page.startswith("design/")}
    assert sorted(named) == sorted(there | MADE), "each page of docs must be in `nav` of mkdocs.yml"


def test_nothing_is_loaded_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert "repo_url" not in SITE
    assert not SITE.keys() & {"extra_javascript", "google_analytics"}


def test_links_and_anchors_are_checked():
    checked = SITE["validation"]
    assert set(checked["links"].values()) | set(checked["nav"].values()) == {"warn"}
    (command,) = re.findall(r"^docs: .*\n\t@(.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert "--strict" in command


@pytest.mark.skipif(not MKDOCS.exists(), reason="`make docs` has made no environment")
def test_the_site_builds(tmp_path):
    command = [MKDOCS, "build", "--strict", "--quiet", "--site-dir", tmp_path / "html"]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    assert (tmp_path / "html/design/index.html").exists()
    found = json.loads((tmp_path / "html/search/search_index.json").read_text("utf-8"))["docs"]
    last = {each["location"].split("#")[0] for each in found if each.get("boost", 1) < 1}
    assert last == {"changelog.html", "tested.html"}
