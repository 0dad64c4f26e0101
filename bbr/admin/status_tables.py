"""The tables of the status page: their columns, and how a row is written.

On a narrow screen each row is a card, so a cell carries its heading along. Roles are spelled out, since a table that is
laid out otherwise would be none for a screen reader.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from bbr.admin import drawing
from bbr.admin.forms import cell, level
from bbr.text import escape

Row = Mapping[str, Any]
Found = Mapping[str, Any]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: of the column.
        kind: the class of its cells.
        html: a row's cell, of the row and all that the page shows.
    """

    heading: str
    kind: str
    html: Callable[[Row, Found], str]


class TableLayout(NamedTuple):
    """A table of the page.

    Attributes:
        columns: the first one names the row.
        empty: what stands there if it has no rows.
        at_once: rows that are written in one go, less than half a millisecond's.
        first: rows that are not folded; of names, none is.
    """

    columns: tuple[Column, ...]
    empty: str = "None."
    at_once: int = 20
    first: int = 20


def plain(heading: str, key: str, form: str = "text") -> Column:
    """Return a column of values in a form."""
    return Column(heading, form, lambda row, _: cell(form, row[key]))


def table(name: str, found: Found) -> Iterator[str]:
    """Give a table of what the page shows, in pieces."""
    layout, listed = TABLES[name], found[name]
    rows = [row for row in listed["rows"] if name != "models" or row["base_model"] or row["requests"]]
    idle = len(listed["rows"]) - len(rows)  # what has no base model, before there was any
    yield f'<div class="rows" data-table="{name}"><p class="none"{" hidden" if rows else ""}>{layout.empty}</p>'
    yield _begin(name, layout, hidden=not rows)
    yield from _grouped(layout, rows, found) if name == "names" else _flat(layout, rows[: layout.first], found)
    yield "</table>"
    if name != "names" and (folded := rows[layout.first :]):
        yield f'<details id="fold-more-{name}" data-fold="closed"><summary>{len(folded)} more</summary>'
        yield _begin(name, layout)
        yield from _flat(layout, folded, found)
        yield "</table></details>"
    total = listed["total"] - idle
    more = f"{len(rows):,} of {total:,} are shown."
    yield f'<p class="more"{"" if total > len(rows) else " hidden"}>{more}</p></div>'


def _begin(name: str, layout: TableLayout, *, hidden: bool = False) -> str:
    headings = "".join(
        f'<th scope="col" role="columnheader" class="{each.kind}">{each.heading}</th>' for each in layout.columns
    )
    return (
        f'<table role="table" class="{name}"{" hidden" if hidden else ""}>'
        f'<thead role="rowgroup"><tr role="row">{headings}</tr></thead>'
    )


def _flat(layout: TableLayout, rows: list[Row], found: Found) -> Iterator[str]:
    yield '<tbody role="rowgroup">'
    for start in range(0, len(rows), layout.at_once):
        yield "".join(_row(layout, row, found) for row in rows[start : start + layout.at_once])
    yield "</tbody>"


def _grouped(layout: TableLayout, rows: list[Row], found: Found) -> Iterator[str]:
    """Give names below their base models, each of which has a body of the table."""
    base_model = None
    for start in range(0, len(rows), layout.at_once):
        piece = ""
        for row in rows[start : start + layout.at_once]:
            if row["base_model"] != base_model:
                piece += "" if base_model is None else "</tbody>"
                base_model = row["base_model"]
                piece += '<tbody role="rowgroup">'
                if row["name"] != base_model:
                    piece += _continued(base_model, len(layout.columns))
            piece += _row(layout, row, found, "base" if row["name"] == base_model else "under")
        yield piece
    yield "" if base_model is None else "</tbody>"


def _continued(base_model: str, columns: int) -> str:
    return (
        f'<tr role="row" class="base"><th scope="rowgroup" role="rowheader" class="name" colspan="{columns}">'
        f'<i class="of">of</i> {cell("name", base_model)}</th></tr>'
    )


def _row(layout: TableLayout, row: Row, found: Found, kind: str = "") -> str:
    first, *others = layout.columns
    cells = f'<th scope="row" role="rowheader" class="{first.kind}">{first.html(row, found)}</th>'
    cells += "".join(
        f'<td role="cell" class="{each.kind}" data-label="{escape(each.heading)}">{each.html(row, found)}</td>'
        for each in others
    )
    return f'<tr role="row"{f" class={kind}" if kind else ""}>{cells}</tr>'


def share(given: float | None) -> str:
    """Return a share of errors in the class of its level."""
    return f'<span class="share {level(given)}">{cell("share", given)}</span>'


def help_link(anchor: str, text: str) -> str:
    """Return a link to the page of help; the anchor is ours."""
    return f'<a class="help" href="help#{anchor}">{text}</a>'


def _model(row: Row, _: Found) -> str:
    pools = f'<span class="under">to {cell("text", ", ".join(row["pools"]))}</span>' if row["pools"] else ""
    return cell("name", row["base_model"]) + pools


def _requests(row: Row, found: Found) -> str:
    curve = drawing.rates(row["history"], found["history"]["column_seconds"])
    return f'{curve}<span class="big rate">{cell("rate", row["per_second"])}<small>/s</small></span>'


def _errors(row: Row, _: Found) -> str:
    # What has no base model is mostly what was rejected: to mark it would be to cry wolf.
    judged = bool(row["base_model"])
    shown = share(row["error_share"]) if judged else f'<span class="share">{cell("share", row["error_share"])}</span>'
    return drawing.errors(row["history"], judged=judged) + shown


def _durations(row: Row, _: Found) -> str:
    bounds = f"<span>p50 {cell('bound', row['p50'])}</span> <span>p99 {cell('bound', row['p99'])}</span>"
    return f'{drawing.durations(row["history"])}<span class="bounds">{bounds}</span>'


def _since_start(row: Row, _: Found) -> str:
    failed = f'<span class="under">{cell("count", row["errors"])} failed</span>' if row["errors"] else ""
    return cell("count", row["requests"]) + failed


def _reason(row: Row, _: Found) -> str:
    name = cell("name", row["reason"])
    return f'{name}<span class="under">{cell("text", row["what"])}</span>'


def _named(row: Row, _: Found) -> str:
    return cell("name", row["name"])


TABLES: Final[Mapping[str, TableLayout]] = {
    "models": TableLayout(
        (
            Column("Base model", "name", _model),
            Column("Requests", "curved", _requests),
            Column("Errors", "curved", _errors),
            Column("Time to a decision", "curved", _durations),
            plain("Now, /s", "per_second_now", "rate"),
            Column("Since the start", "count", _since_start),
        ),
        "No request yet.",
        at_once=2,
        first=10,
    ),
    "sources": TableLayout(
        (plain("Source", "source"), plain("Last seen", "age_seconds", "ago"), plain("Error", "failing")),
        "Nothing.",
    ),
    "names": TableLayout(
        (
            Column("Name", "name", _named),
            plain("Kind", "kind"),
            plain("Requests/s", "per_second", "rate"),
            plain("Declared by", "declared_by"),
        )
    ),
    "aliases": TableLayout(
        (
            plain("Alias", "alias", "name"),
            plain("Model", "model", "name"),
            plain("Requests", "requests", "count"),
            plain("%", "percent", "rate"),
        ),
    ),
    "body_fields": TableLayout(
        (
            plain("Field", "field", "name"),
            plain("Header", "header", "name"),
            plain("Found", "found", "count"),
            plain("Absent", "absent", "count"),
            plain("Late", "late", "count"),
            plain("Rejected", "refused", "count"),
        ),
    ),
    "unknown_models": TableLayout(
        (plain("Model", "name", "name"), plain("Times", "times", "count"), plain("Last", "seconds_ago", "ago"))
    ),
    "reasons": TableLayout(
        (
            Column("Reason", "name", _reason),
            plain("Outcome", "outcome"),
            plain("Requests", "requests", "count"),
            Column("Help", "help", lambda row, _: help_link(f"r-{row['reason']}", "what to do")),
        )
    ),
    "conflicts": TableLayout((plain("Ignored", "what"),)),
    "broken": TableLayout((plain("Object", "object"), plain("Why", "why"))),
    "route_mismatches": TableLayout((plain("What does not fit", "what"),)),
}
