"""The status page: status_page.html filled with what bbr.admin.status_facts has gathered; nothing is from elsewhere.

status_page.html holds the layout, and in double braces what is filled in:

    a.b as FORM       the value found["a"]["b"]; FORM is one of bbr.admin.forms, and the class of its element
    table NAME        one of bbr.admin.status_tables
    fold NAME         <details>, open if found[NAME] has any rows
    curve KIND        of all requests: rates, errors, durations
    meter a.b a.c     how much of found["a"]["c"] found["a"]["b"] is
    style, script     status_page.css, status_page.js
    and others        see _filled

All text is escaped by bbr.admin.forms. The page works without JavaScript. With it, status_page.js asks for the whole
page again every few seconds and takes over what has changed, so that values are written here alone.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bbr.admin import drawing, help_page
from bbr.admin.flow_drawing import flow
from bbr.admin.forms import FORMS, cell, value
from bbr.admin.status_facts import NAMES, in_pieces
from bbr.admin.status_tables import help_link, share, table
from bbr.models.steps import Steps
from bbr.text import escape, printable


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Literal text and directives, in turn.
_PARTS: Final = re.split(r"\{\{ ?(.+?) ?\}\}", _file("status_page.html"))
_STYLE: Final = _file("status_page.css")
_SCRIPT: Final = _file("status_page.js")

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_source(_STYLE)}",
        f"script-src {_source(_SCRIPT)}",
        "img-src data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = (("content-security-policy", _POLICY), ("referrer-policy", "no-referrer"))


def render(gathering: Steps[dict[str, Any]]) -> Iterator[bytes]:
    """Give the page in pieces of less than a millisecond each, an empty one after each step of gathering."""
    found = yield from in_pieces(gathering)
    for literal, directive in zip(_PARTS[::2], [*_PARTS[1::2], ""], strict=True):
        yield literal.encode()
        for text in _filled(directive, found):
            yield text.encode()


def _filled(directive: str, found: Mapping[str, Any]) -> Iterator[str]:
    match directive.split():
        case [path, "as", form]:
            yield value(form, _at(found, path))
        case ["table", name]:
            yield from table(name, found)
        case ["fold", name]:
            yield _fold(name, bool(found[name]["total"]))
        case ["curve", kind]:
            yield _curve(kind, found)
        case ["share", path]:
            yield share(_at(found, path))
        case ["problems"]:
            yield _problems(found["problems"])
        case ["headline"]:
            total = found["problems"]["total"]
            yield f"Problems and notices {value('count', total)}" if total else "No problems"
        case ["flow"]:
            yield from flow(found["flow"]["rows"], found["requests"]["requests"])
        case ["span"]:
            yield _span(found["history"]["column_seconds"])
        case ["meter", path, limit]:
            used, most = _at(found, path), _at(found, limit)
            yield f'<meter value="{used}" max="{most}" aria-label="{used} of {most} bytes"></meter>'
        case ["style"]:
            yield _STYLE
        case ["script"]:
            yield _SCRIPT
        case ["query"]:
            yield escape(printable(found["names"]["query"]))  # a link may bring it
        case ["pages"]:
            yield _pages(found["names"])
        case _:
            assert directive == "", directive  # noqa: S101 (status_page.html is ours)


def _at(found: Mapping[str, Any], path: str) -> Any:
    given: Any = found
    for key in path.split("."):
        given = given[key]
    return given


def _fold(name: str, opened: bool) -> str:
    """Return the tag of what is folded without rows. A reader may fold it otherwise: status_page.js heeds data-fold."""
    return f'<details id="fold-{name}" data-fold="{"open" if opened else "closed"}"{" open" if opened else ""}>'


def _curve(kind: str, found: Mapping[str, Any]) -> str:
    history = found["requests"]["history"]
    match kind:
        case "rates":
            return drawing.rates(history, found["history"]["column_seconds"])
        case "errors":
            return drawing.errors(history)
        case _:
            return drawing.durations(history)


def _problems(found: Mapping[str, Any]) -> str:
    return f"<ul>{''.join(map(_problem, found['rows']))}</ul>"


def _problem(row: Mapping[str, Any]) -> str:
    remedy = help_link(f"p-{row['kind']}", "what to do")
    return (
        f'<li class="{row["level"]}"><span class="level">{_LEVELS[row["level"]]}</span> '
        f'<span class="what">{cell("text", row["what"])}</span> '
        f'<span class="ways"><a href="#{row["where"]}">see it</a> {remedy}</span></li>'
    )


_LEVELS: Final = {"bad": "Problem", "warn": "Notice"}


def _span(seconds: list[float]) -> str:
    """Say over which time the curves are."""
    if not seconds:
        return "Curves begin ten seconds after the start."
    column = round(max(seconds), -1)  # a slot is a little longer than ten seconds
    return f"Curves: the last {FORMS['duration'](sum(seconds))}, {FORMS['duration'](column)} a column."


def _pages(names: Mapping[str, Any]) -> str:
    """Return the links between pages of names; relative, so that they work behind a proxy's path."""
    first = {"q": names["query"]}
    following = {**first, "after": names["next"] or ""}
    return (
        f'<a href="?{escape(urlencode(first))}#where"{"" if names["after"] else " hidden"}>Back to the first</a> '
        f'<a rel="next" href="?{escape(urlencode(following))}#where"{"" if names["next"] else " hidden"}>'
        f"The next {NAMES}</a>"
    )


def help_body() -> Iterator[bytes]:
    """Give the page of help, in the same style and under the same policy."""
    return help_page.render(_STYLE)
