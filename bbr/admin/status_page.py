"""The status page: status_page.html filled with what bbr.admin.status_facts has gathered; nothing is from elsewhere.

status_page.html holds the layout, and in double braces what is filled in:

    a.b as FORM       the value found["a"]["b"]; FORM is one of FORMS, and the class of its element
    table NAME        one of TABLES
    meter a.b a.c     how much of found["a"]["c"] found["a"]["b"] is
    style, script     status_page.css, status_page.js

All text, whoever wrote it, is escaped, its invisible characters are spelled out, and it stands in a <bdi> so that no
direction of writing leaves its cell. The page works without JavaScript. With it, status_page.js asks for the whole page
again every few seconds and takes over what has changed, so that values are written here alone.
"""

import base64
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib import resources
from typing import Any, Final, NamedTuple
from unicodedata import category
from urllib.parse import urlencode

from bbr.admin.status_facts import NAMES, in_pieces
from bbr.models.registry import Steps


class Column(NamedTuple):
    """A column of a table: its heading, the key of a row, the form of its cells."""

    heading: str
    key: str
    form: str = "text"


class TableLayout(NamedTuple):
    """A table of the page: its columns, and what stands there if it has no rows."""

    columns: tuple[Column, ...]
    empty: str = "None."


TABLES: Final[Mapping[str, TableLayout]] = {
    "models": TableLayout(
        (
            Column("Base model", "base_model", "name"),
            Column("Requests/s now", "per_second_now", "rate"),
            Column("Requests/s, last minute", "per_second", "rate"),
            Column("p50", "p50", "bound"),
            Column("p99", "p99", "bound"),
            Column("Errors, last minute", "recent_errors", "count"),
            Column("Requests", "requests", "count"),
            Column("Errors", "errors", "count"),
        )
    ),
    "sources": TableLayout(
        (Column("Followed", "source"), Column("Last seen", "age_seconds", "ago"), Column("Fails just now", "failing")),
        "Nothing.",
    ),
    "names": TableLayout(
        (
            Column("Name", "name", "name"),
            Column("Kind", "kind"),
            Column("Base model", "base_model", "name"),
            Column("Declared by", "declared_by"),
        )
    ),
    "aliases": TableLayout(
        (
            Column("Alias", "alias", "name"),
            Column("Stood for", "model", "name"),
            Column("Requests", "requests", "count"),
            Column("%", "percent", "rate"),
        ),
    ),
    "unknown_models": TableLayout(
        (Column("Model", "name", "name"), Column("Times", "times", "count"), Column("Last", "seconds_ago", "ago"))
    ),
    "reasons": TableLayout(
        (Column("Outcome", "outcome"), Column("Reason", "reason"), Column("Requests", "requests", "count"))
    ),
    "conflicts": TableLayout((Column("Ignored", "what"),)),
    "broken": TableLayout((Column("Object", "object"), Column("Why", "why"))),
    "route_mismatches": TableLayout((Column("What does not fit", "what"),)),
}


def _file(name: str) -> str:
    return resources.files("bbr.admin").joinpath(name).read_text("utf-8")


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

# Rows that are written in one go, 0.2 ms.
_ROWS_AT_ONCE: Final = 20

# Unicode's categories of controls, of formats (overrides of the direction, characters without a width), and the like.
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")

_NONE: Final = "–"  # noqa: RUF001 (no hyphen: it stands for a number)


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
            yield _value(form, _at(found, path))
        case ["table", name]:
            yield from _table(name, found[name])
        case ["meter", path, limit]:
            value, most = _at(found, path), _at(found, limit)
            yield f'<meter value="{value}" max="{most}"></meter>'
        case ["style"]:
            yield _STYLE
        case ["script"]:
            yield _SCRIPT
        case ["query"]:
            yield escape(found["names"]["query"])
        case ["pages"]:
            yield _pages(found["names"])
        case _:
            assert directive == "", directive  # noqa: S101 (status_page.html is ours)


def _at(found: Mapping[str, Any], path: str) -> Any:
    value: Any = found
    for key in path.split("."):
        value = value[key]
    return value


def _value(form: str, value: Any) -> str:
    text = escape(FORMS[form](value))
    return f'<bdi class="{form}" data-is="{text}">{text}</bdi>'


def _table(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    table, rows = TABLES[name], found["rows"]
    headings = "".join(_heading(column) for column in table.columns)
    yield (
        f'<div class="rows" data-table="{name}"><p class="none"{" hidden" if rows else ""}>{table.empty}</p>'
        f'<div class="wide"{"" if rows else " hidden"} tabindex="0"><table><thead><tr>{headings}</tr></thead><tbody>'
    )
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield "".join(_row(table, row) for row in rows[start : start + _ROWS_AT_ONCE])
    more = found["total"] > len(rows)
    yield f'</tbody></table></div><p class="more"{"" if more else " hidden"}>{_more(found)}</p></div>'


def _heading(column: Column) -> str:
    return f'<th scope="col" class="{column.form}">{column.heading}</th>'


def _row(table: TableLayout, row: Mapping[str, Any]) -> str:
    cells = (
        f'<td class="{column.form}"><bdi>{escape(FORMS[column.form](row[column.key]))}</bdi></td>'
        for column in table.columns
    )
    return f"<tr>{''.join(cells)}</tr>"


def _more(found: Mapping[str, Any]) -> str:
    return f"{_count(len(found['rows']))} of {_count(found['total'])} are shown."


def _pages(names: Mapping[str, Any]) -> str:
    """Return the links between pages of names; relative, so that they work behind a proxy's path."""
    first = {"q": names["query"]}
    following = {**first, "after": names["next"] or ""}
    return (
        f'<a href="?{escape(urlencode(first))}"{"" if names["after"] else " hidden"}>Back to the first</a> '
        f'<a rel="next" href="?{escape(urlencode(following))}"{"" if names["next"] else " hidden"}>'
        f"The next {NAMES}</a>"
    )


# How values are written.


def _text(value: str) -> str:
    return _visible(value) or _NONE


def _named(value: str) -> str:
    return _visible(value) or "(none)"


def _visible(value: str) -> str:
    """Return a text with its invisible characters spelled out: with them one name can look like another."""
    if value.isprintable():
        return value
    return "".join(_spelled(ord(each)) if category(each) in _INVISIBLE else each for each in value)


def _spelled(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    if value is None:
        return _NONE
    if 0 < value < 0.1:
        return "< 0.1"
    return _count(_rounded(value)) if value >= 100 else _tenths(value)


def _bytes(value: float) -> str:
    if value < 1024:
        return f"{value} B"
    for unit in ("KiB", "MiB"):
        value /= 1024
        if value < 1024:
            return f"{_tenths(value)} {unit}"
    return f"{_tenths(value / 1024)} GiB"


def _duration(value: float) -> str:
    seconds = math.floor(value)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds // 60 % 60} min"
    return f"{seconds // 86_400} d {seconds // 3600 % 24} h"


def _ago(value: float) -> str:
    return f"{_duration(value)} ago"


def _bound(value: Mapping[str, float] | None) -> str:
    if value is None:
        return _NONE
    ((sort, seconds),) = value.items()
    sign = "≤" if sort == "at_most_seconds" else ">"
    return f"{sign} {seconds:g} s" if seconds >= 1 else f"{sign} {_rounded(seconds * 1e6) / 1e3:g} ms"


def _clock(value: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))


def _state(value: bool) -> str:
    return "ready" if value else "not ready"


def _whether(value: bool) -> str:
    return "yes" if value else "no"


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)  # round() would go to the even one


def _tenths(value: float) -> str:
    return f"{_rounded(value * 10) / 10:g}"


FORMS: Final[Mapping[str, Callable[[Any], str]]] = {
    "text": _text,
    "name": _named,
    "count": _count,
    "rate": _rate,
    "bytes": _bytes,
    "duration": _duration,
    "ago": _ago,
    "bound": _bound,
    "clock": _clock,
    "state": _state,
    "whether": _whether,
}
