"""The picture of what went where, as SVG: names, base models and pools, joined by ribbons as wide as their rates.

Labels are HTML in the picture, so that they wrap, can be selected and are links. Each column is an SVG of its own in a
grid, whose widths the style sheet sets, and the ribbons between columns are stretched. So one picture fits every
screen. One SVG for all of it would need `x` and `width` of foreignObject from the style sheet, which WebKit ignores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from bbr.admin.forms import FORMS, cut
from bbr.text import escape, printable

# Pixels, which a picture has along its height: of all ribbons together, of a label, between two of these.
_RIBBONS: Final = 150
_LABEL: Final = 50
_GAP: Final = 8
_THIN: Final = 1.5

# Colours that the style sheet has for base models.
_COLOURS: Final = 6

_SHOWN: Final = 64


@dataclass
class _Node:
    """A box of a column: its text and link, its colour, and how much goes through it."""

    text: str
    search: str | None
    colour: str
    per_second: float = 0.0
    top: float = 0.0
    height: float = 0.0
    left_used: float = 0.0
    right_used: float = 0.0


# From, to, requests per second, colour.
_Link = tuple[_Node, _Node, float, str]


@dataclass
class _Picture:
    names: list[_Node] = field(default_factory=list)
    bases: dict[str | None, _Node] = field(default_factory=dict)
    pools: dict[str, _Node] = field(default_factory=dict)
    links: list[_Link] = field(default_factory=list)
    onward: list[_Link] = field(default_factory=list)


_NONE_YET: Final = (
    '<p class="none">No request has come yet. If you have sent one to your gateway, run <code>bbr doctor</code>: it '
    'says why the gateway does not ask this router. <a href="help#more">More help</a></p>'
)
_NONE_NOW: Final = '<p class="none">No requests in the last minute.</p>'


def flow(rows: Sequence[Mapping[str, Any]], ever: int) -> Iterator[str]:
    """Draw rows of bbr.admin.flow; a sentence without any.

    Args:
        ever: how many requests there were since the start.
    """
    if not rows:
        yield _NONE_NOW if ever else _NONE_YET
        return
    picture = _arranged(rows)
    every = sum(row["per_second"] for row in rows) or 1.0
    columns = [picture.names, [*picture.bases.values()], [*picture.pools.values()]]
    height = max(_stacked(column, every) for column in columns)
    sort = "three" if picture.pools else "two"
    yield f'<div class="flow {sort}" role="group" aria-labelledby="flow">'
    nothing: list[_Link] = []
    ribbons = (picture.links, picture.onward, nothing)
    kinds = (("names", "first"), ("bases", "second"), ("pools", ""))
    for (kind, after), column, links in zip(kinds, columns, ribbons, strict=True):
        if column:
            yield _svg(
                f"{kind} bars", height, "".join(_bar(node, boxed=kind == "bases") for node in column), hidden=True
            )
            yield _svg(f"{kind} labels", height, "".join(_label(node, every) for node in column))
        if links:
            yield _svg(after, height, "".join(_ribbons(links, every)), hidden=True)
    yield "</div>"


def _svg(kind: str, height: float, inside: str, *, hidden: bool = False) -> str:
    """Return a column of the picture; one of ribbons is stretched to its place's width."""
    stretched = f' viewBox="0 0 100 {height:.0f}" preserveAspectRatio="none"' if kind in ("first", "second") else ""
    unread = ' aria-hidden="true"' if hidden else ""
    return f'<svg class="{kind}" width="100%" height="{height:.0f}"{stretched}{unread}>{inside}</svg>'


def _arranged(rows: Sequence[Mapping[str, Any]]) -> _Picture:
    """Return the nodes and links of the picture."""
    found = _Picture()
    for row in rows:
        base_model, rate = row["base_model"], row["per_second"]
        base = found.bases.get(base_model)
        if base is None:
            colour = f"c{sum(map(bool, found.bases)) % _COLOURS}" if base_model else "c-none"
            text = base_model or ("not routed" if base_model == "" else "other base models")
            base = found.bases[base_model] = _Node(text, base_model or None, colour)
        base.per_second += rate
        name = _Node(_name(row), row["name"] or None, base.colour, rate)
        found.names.append(name)
        found.links.append((name, base, rate, base.colour))
        if row["pools"]:
            text = ", ".join(row["pools"])
            pool = found.pools.setdefault(text, _Node(text, row["pools"][0], base.colour))
            pool.per_second += rate
            if found.onward and found.onward[-1][0] is base:
                rate += found.onward.pop()[2]
            found.onward.append((base, pool, rate, base.colour))
    return found


def _name(row: Mapping[str, Any]) -> str:
    match row["kind"]:
        case "none":
            return "not in the table"
        case "others" | "rest":
            return "other names"
    return str(row["name"])


def _stacked(column: Sequence[_Node], every: float) -> float:
    """Place the nodes of a column below each other; return where they end."""
    top = 0.0
    for node in column:
        node.height = max(node.per_second / every * _RIBBONS, _THIN)
        slot = max(node.height, _LABEL)
        node.top = top + (slot - node.height) / 2
        top += slot + _GAP
    return max(top - _GAP, 0.0)


def _ribbons(links: Sequence[_Link], every: float) -> Iterator[str]:
    for left, right, rate, colour in links:
        wide = rate / every * _RIBBONS
        thick = max(wide, _THIN)
        begin, end = left.top + left.right_used, right.top + right.left_used
        left.right_used += wide
        right.left_used += wide
        yield (
            f'<path class="{colour}" d="M0 {begin:.1f}C50 {begin:.1f} 50 {end:.1f} 100 {end:.1f}V{end + thick:.1f}'
            f'C50 {end + thick:.1f} 50 {begin + thick:.1f} 0 {begin + thick:.1f}Z"/>'
        )


def _bar(node: _Node, *, boxed: bool) -> str:
    place = f'y="{node.top:.1f}" height="{node.height:.1f}"'
    box = f'<rect class="box {node.colour}" {place} width="100%"/>' if boxed and node.search is not None else ""
    return f'{box}<rect class="{node.colour}" {place} width="4"/>'


def _label(node: _Node, every: float) -> str:
    shown = escape(cut(printable(node.text), _SHOWN))
    text = f"<bdi>{shown}</bdi>"
    if node.search is not None:
        query = escape(urlencode({"q": node.search}))
        text = f'<a href="?{query}#where" title="{escape(printable(node.text))}">{text}</a>'
    rate, share = FORMS["rate"](node.per_second), FORMS["share"](node.per_second / every)
    top = node.top + node.height / 2 - _LABEL / 2
    return (
        f'<foreignObject x="0" y="{top:.1f}" width="100%" height="{_LABEL}">'
        f'<div class="label"><div class="what">{text}</div><div class="rate"><bdi>{rate}/s · {share}</bdi></div></div>'
        "</foreignObject>"
    )
