"""The page of help: what each reason and each problem on the status page means, and what to do about it.

The router serves it, so it fits the router's version, and people can read it where no other site can be reached.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from bbr import __version__
from bbr.admin.problems import KINDS
from bbr.admin.reasons import REASONS, Reason
from bbr.text import escape

_PAGES: Final = (
    ("docs/troubleshooting.md", "symptoms, their causes and remedies"),
    ("docs/reference/answers.md", "every answer of the router, with its status"),
    ("docs/reference/observing.md", "what this port serves"),
    ("docs/reference/alerts.md", "what each alert of Prometheus means, and what to do"),
)


def render(style: str) -> Iterator[bytes]:
    """Give the page.

    Args:
        style: the style sheet of the status page.
    """
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<title>bbr help</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        '<header><h1>bbr help</h1><p>What the status page names, and what to do</p></header>\n<main class="helps">\n'
        '<p><a href="./">Back to the status page</a></p>\n'
    ).encode()
    yield _section("problems", "Problems", "p", KINDS).encode()
    yield _section("reasons", "Reasons of requests that were rejected", "r", REASONS).encode()
    pages = "".join(f"<li><code>{name}</code>: {what}</li>" for name, what in _PAGES)
    yield (
        f'<section aria-labelledby="more"><h2 id="more">More</h2><p>In the documentation of version '
        f"{escape(__version__)}:</p><ul>{pages}</ul></section>\n</main>\n</body>\n</html>\n"
    ).encode()


def _section(name: str, title: str, prefix: str, entries: Mapping[str, Reason]) -> str:
    rows = "".join(
        f'<div id="{prefix}-{key}"><dt><code>{key}</code> {escape(entry.what)}</dt>'
        f"<dd>{escape(entry.remedy)}</dd></div>"
        for key, entry in entries.items()
    )
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2><dl class="help">{rows}</dl></section>\n'
