"""What `make docs` does beside MkDocs: pages that stand at the root of the checkout, links out of docs, strictness.

The pages are read on GitHub as well. So links are as GitHub wants them, and are turned into the site's here: DESIGN.md
and CHANGELOG.md become pages, and a link to a file that is no page, such as a test, becomes its text.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT: Final = Path(__file__).parents[2]
# Pages of the site that are files at the root. README is GitHub's first page; the site has one of its own.
AT_THE_ROOT: Final = {"design/index.md": "DESIGN.md", "changelog.md": "CHANGELOG.md"}
PAGES: Final = {source: page for page, source in AT_THE_ROOT.items()} | {"README.md": "index.md"}

# They name everything, so a search for anything would begin with them.
FOUND_LAST: Final = ("changelog.md", "tested.md")

_DESIGN: Final = re.compile(r"^\| \[\w+\]\(docs/design/(\w+)\.md\)", re.MULTILINE)
_FENCE: Final = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
_PICTURE: Final = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img src="([^"]+)"([^>]*)>\s*</picture>'
)
# What a browser loads by itself; a link that somebody clicks is none.
_LOADED: Final = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*>""")
_SHEET: Final = re.compile(r"""rel=["']?(?:stylesheet|preload|icon)[^>]*href=["']?(?:https?:)?//|preconnect""")


def on_config(config: Any) -> Any:
    """Add the pages of design to the navigation, in the order of the overview."""
    (design,) = (entry["Design"] for entry in config.nav if "Design" in entry)
    design += [f"design/{name}.md" for name in _DESIGN.findall((ROOT / "DESIGN.md").read_text("utf-8"))]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand at the root."""
    for page, source in AT_THE_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links of the checkout into the site's; a theme of the site, not of the system, chooses the plots."""
    there = page.file.src_uri
    if there in FOUND_LAST:
        page.meta["search"] = {"boost": 0.2}
    source = AT_THE_ROOT.get(there, f"docs/{there}")
    link = site_link(posixpath.dirname(source), posixpath.dirname(there))
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(link, part) for part in parts[::2]]
    return _PICTURE.sub(r'<img src="\2#only-light"\3><img src="\1#only-dark"\3>', "".join(parts))


def site_link(source: str, there: str) -> Callable[[re.Match[str]], str]:
    """Return what replaces a link in a file of directory `source` that becomes a page of directory `there`."""

    def replaced(match: re.Match[str]) -> str:
        image, said, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        meant = posixpath.normpath(posixpath.join(source, path))
        if not (ROOT / meant).exists():
            raise PluginError(f"{source or '.'}: a link leads to {meant}, which does not exist")
        if meant in PAGES:
            meant = PAGES[meant]
        elif meant.startswith("docs/") and (image or meant.endswith(".md")):
            meant = meant.removeprefix("docs/")
        else:
            return said
        return f"{image}[{said}]({posixpath.relpath(meant, there or '.')}{hash_}{anchor})"

    return replaced


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Fail if a page makes a browser ask another host."""
    for tag in _LOADED.findall(output):
        if not tag.startswith("<link") or _SHEET.search(tag):
            raise PluginError(f"{page.file.src_uri} makes a browser load something from elsewhere: {tag}")
    return output
