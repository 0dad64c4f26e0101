"""The picture of what went where, as SVG: names, base models and pools, joined by ribbons as wide as their rates.

Labels are HTML in the picture, so that they wrap, can be selected and are links. Places along the width are
percentages, and the ribbons between the columns are stretched, so that one picture fits every screen: the style sheet
moves the columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

from bbr.admin.forms import FORMS, cut, visible

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


@dataclass
class _Picture:
    names: list[_Node] = field(default_factory=list)
    bases: dict[str | None, _Node] = field(default_factory=dict)
    pools: dict[str, _Node] = field(default_factory=dict)
    links: list[tuple[_Node, _Node, float, str]] = field(default_factory=list)
    onward: list[tuple[_Node, _Node, float, str]] = field(default_factory=list)


def flow(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Draw rows of bbr.admin.flow; a sentence without any."""
    if not rows:
        yield '<p class="none">No requests in the last minute.</p>'
        return
    picture = _arranged(rows)
    every = sum(row["per_second"] for row in rows) or 1.0
    columns = [picture.names, [*picture.bases.values()], [*picture.pools.values()]]
    height = max(_stacked(column, every) for column in columns)
    sort = "three" if picture.pools else "two"
    yield f'<svg class="flow {sort}" width="100%" height="{height:.0f}" role="group" aria-labelledby="flow">'
    for name, links in (("first", picture.links), ("second", picture.onward)):
        if links:
            yield f'<foreignObject class="{name}" y="0" height="{height:.0f}"><svg viewBox="0 0 100 {height:.0f}"'
            yield f' width="100%" height="{height:.0f}" preserveAspectRatio="none" aria-hidden="true">'
            yield f"{''.join(_ribbons(links, every))}</svg></foreignObject>"
    for name, column in zip(("names", "bases", "pools"), columns, strict=True):
        for node in column:
            yield _label(name, node, every)
    yield "</svg>"


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
            return "no name of the table"
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


def _ribbons(links: Sequence[tuple[_Node, _Node, float, str]], every: float) -> Iterator[str]:
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


def _label(column: str, node: _Node, every: float) -> str:
    shown = escape(cut(visible(node.text), _SHOWN))
    text = f"<bdi>{shown}</bdi>"
    if node.search is not None:
        query = escape(urlencode({"q": node.search}))
        text = f'<a href="?{query}#where" title="{escape(visible(node.text))}">{text}</a>'
    rate, share = FORMS["rate"](node.per_second), FORMS["share"](node.per_second / every)
    top = node.top + node.height / 2 - _LABEL / 2
    box = ""
    if column == "bases" and node.search is not None:
        box = f'<rect class="box {node.colour}" y="{node.top:.1f}" height="{node.height:.1f}"/>'
    return (
        f'{box}<rect class="{column} {node.colour}" y="{node.top:.1f}" height="{node.height:.1f}" width="4"/>'
        f'<foreignObject class="{column}" y="{top:.1f}" height="{_LABEL}">'
        f'<div class="label"><div class="what">{text}</div><div class="rate"><bdi>{rate}/s · {share}</bdi></div></div>'
        "</foreignObject>"
    )
