"""The plots of docs/performance.md, as SVG for light and dark pages, from what was recorded.

The same figures give the same octets: no date, and ids by a fixed salt.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.harness import go_router, limit
from bench.harness.figures import Facts, short
from bench.harness.processes import INTERPRETED
from bench.render.results import Entry, Record, Results, variants
from bench.render.tables import IN_PROCESS, STREAMED, size


@dataclass(frozen=True)
class Theme:
    """Colours of a page; `series` in the order of variants, to be told apart by colour-blind people too."""

    name: str
    paper: str
    ink: str
    grid: str
    series: tuple[str, ...]


THEMES: Final = (
    Theme("light", "#ffffff", "#1f2328", "#d8dee4", ("#0550ae", "#bc4c00", "#1a7f37", "#8250df", "#6e7781", "#bf3989")),
    Theme("dark", "#0d1117", "#e6edf3", "#30363d", ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#8b949e", "#f778ba")),
)
_MARKERS: Final = "osD^vP"
_KNOWN: Final = ("uv", "grpcio", "Go", limit.NAME)
# In tables alone: they would hide the lines that they lie near to.
_NOT_DRAWN: Final = (f"{go_router.NAME}, 2 processors", INTERPRETED)

# 800 points wide as GitHub shows a README; text stays text, in whatever sans serif the reader has.
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "bbr",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 12,
    "figure.dpi": 72,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_SHORT: Final = {"none": "no filter", "none, body read": "body read"}
_WIDTH, _HEIGHT = 800 / 72, 380 / 72
_NEAR: Final = 0.055  # of the axis's height: labels are no nearer to each other
_NEAR_TICKS: Final = 0.17  # the same of its width, for those below it

Line = tuple[str, list[tuple[float, Entry]]]


def _points(found: Iterable[Entry], fact: str) -> list[tuple[float, Entry]]:
    """Return entries by a number among their facts; none that a logarithmic axis can't show."""
    numbered = [(float(entry.facts.get(fact, 0)), entry) for entry in found]
    return sorted(((at, entry) for at, entry in numbered if at > 0 and entry.median > 0), key=lambda point: point[0])


def _lines(record: Record, by: str, **facts: str | int | float) -> list[Line]:
    """Return a line for each variant that has points, ours first."""
    names = variants(record.where(None, **facts))
    lines = [(name, _points(record.where(name, **facts), by)) for name in names]
    return [(name, points) for name, points in lines if points and name not in _NOT_DRAWN]


def _draw(axes: Axes, lines: Sequence[Line], theme: Theme, names: Sequence[str]) -> None:
    """Draw lines with their spread, on logarithmic axes, each named at its end."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for name, points in lines:
        order = _order(name, names)
        colour, at = theme.series[order], [x for x, _ in points]
        axes.plot(at, [entry.median for _, entry in points], color=colour, marker=_MARKERS[order], markersize=5, lw=2)
        low, high = ([pick(entry.figures) for _, entry in points] for pick in (min, max))
        axes.fill_between(at, [max(each, 1e-6) for each in low], high, color=colour, alpha=0.15, lw=0)
        ends.append((points[-1], name, colour))
    axes.set_ylim(*_limits(lines))
    _name(axes, ends)


def _order(name: str, names: Sequence[str]) -> int:
    """Return which colour a variant has: the routers the same in every plot, others those that are left."""
    for order, known in enumerate(_KNOWN):
        if name.split(" v")[0] == known:
            return order
    others = [each for each in names if each.split(" v")[0] not in _KNOWN]
    return len(_KNOWN) + others.index(name) % (len(_MARKERS) - len(_KNOWN))


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    found = [figure for _, points in lines for _, entry in points for figure in (entry.median, max(entry.figures))]
    return min(found) / 1.5, max(found) * 1.5


def _name(axes: Axes, ends: Sequence[tuple[tuple[float, Entry], str, str]]) -> None:
    """Write names to the right of the lines' ends, moved apart where they would overlap."""
    transform = axes.transScale + axes.transLimits
    taken = -1.0
    ordered = sorted(ends, key=lambda end: end[0][1].median)
    right = max(x for (x, _), _, _ in ends)
    for (_, entry), name, colour in ordered:
        height = max(float(transform.transform((right, entry.median))[1]), taken + _NEAR)
        taken = height
        axes.text(
            1.02, height, _SHORT.get(name, name), transform=axes.transAxes, color=colour, va="center", fontweight="bold"
        )


def _dress(axes: Axes, theme: Theme, title: str, x: str, y: str, ticks: Iterable[tuple[float, str]]) -> None:
    """Give axes their words, ticks and colours."""
    axes.set_title(title, color=theme.ink, loc="left", fontsize=13)
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)
    axes.set_facecolor(theme.paper)
    axes.grid(True, which="major", color=theme.grid, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, which="both")
    for spine in axes.spines.values():
        spine.set_color(theme.ink)
    at, names = zip(*ticks, strict=True)
    axes.set_xticks(at, names)
    axes.xaxis.set_minor_locator(NullLocator())
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        steps = (1, 2, 5) if high / low < 200 else (1,)
        marks = [step * 10.0**power for power in range(-4, 9) for step in steps]
        axes.set_yticks([mark for mark in marks if low <= mark <= high])
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _ticks(lines: Sequence[Line], says: Callable[[float], str]) -> list[tuple[float, str]]:
    """Return what was measured along the axis; of values that are near each other the last, or words would overlap."""
    measured = sorted({x for _, points in lines for x, _ in points})
    near = (measured[-1] / measured[0]) ** _NEAR_TICKS
    kept: list[float] = []
    for at in reversed(measured):
        if not kept or at * near <= kept[-1]:
            kept.append(at)
    return [(at, says(at)) for at in reversed(kept)]


def _figure(theme: Theme, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), facecolor=theme.paper)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.subplots_adjust(left=0.105, right=0.87, bottom=0.15, top=0.9, wspace=0.7 if panels > 1 else 0)
    return figure, list(axes)


def _panels(
    theme: Theme, panels: Sequence[tuple[str, str, str, Sequence[Line], Callable[[float], str]]]
) -> Figure | None:
    """Return panels side by side (title, axes, lines, ticks), those that have lines; None if none has."""
    kept = [panel for panel in panels if panel[3]]
    if not kept:
        return None
    # A variant has its colour in all panels.
    names = list(dict.fromkeys(name for panel in kept for name, _ in panel[3]))
    figure, axes = _figure(theme, len(kept))
    for each, (title, x, y, lines, says) in zip(axes, kept, strict=True):
        _draw(each, lines, theme, names)
        _dress(each, theme, title, x, y, _ticks(lines, says))
    return figure


def direct(results: Results, theme: Theme) -> Figure | None:
    """Processor time of an exchange by body size."""
    record = results["direct"]
    if record is None:
        return None
    facts: Facts = {"family": "size", "metric": "cpu", "kind": "chat", "mode": STREAMED, "tls": 0, "tracing": 0}
    title = "Processor time of an exchange, without a gateway"
    return _panels(theme, [(title, "body", "us / exchange", _lines(record, "bytes", **facts), size)])


def added(results: Results, theme: Theme) -> Figure | None:
    """Added latency by body size, one request at a time."""
    record = results["gateway"]
    if record is None:
        return None
    panels = []
    for point in ("p50", "p99"):
        facts: Facts = {
            "loop": "closed",
            "concurrency": 1,
            "mode": STREAMED,
            "kind": "chat",
            "metric": f"added {point}",
        }
        lines = [line for line in _lines(record, "bytes", **facts) if line[0] not in IN_PROCESS]
        panels.append((f"Added latency, {point}, one at a time", "body", "ms", lines, size))
    return _panels(theme, panels)


def load(results: Results, theme: Theme) -> Figure | None:
    """Requests per second by concurrency, and latency by the rate that is offered, for the smallest body of each."""
    record = results["gateway"]
    if record is None:
        return None
    panels = []
    for loop, by, metric, title, x, y in (
        ("closed", "concurrency", "rate", "Closed loop: rate by concurrency", "requests at a time", "requests / s"),
        ("open", "rate", "p99", "Open loop: p99 by offered rate", "requests / s offered", "p99, ms"),
    ):
        facts: Facts = {"loop": loop, "mode": STREAMED, "kind": "chat", "metric": metric}
        count = _most_measured(record.where(None, **facts), by)
        lines = [line for line in _lines(record, by, **facts, bytes=count) if line[0] not in IN_PROCESS]
        panels.append((f"{title}, {size(count)}", x, y, lines, lambda value: f"{value:,.0f}"))
    return _panels(theme, panels)


def _most_measured(found: Iterable[Entry], by: str) -> float:
    """Return the body size with the most values of `by`; the smallest of several."""
    values: dict[float, set[object]] = {}
    for entry in found:
        values.setdefault(float(entry.facts.get("bytes", 0)), set()).add(entry.facts.get(by))
    return min(values, key=lambda count: (-len(values[count]), count), default=0)


def memory(results: Results, theme: Theme) -> Figure | None:
    """Memory for each MB of bodies in flight, a bar for each case and variant."""
    record = results["memory"]
    found = record.where(None, what="MB in flight") if record else []
    if not found:
        return None
    names, cases = variants(found), list(dict.fromkeys(entry.case for entry in found))
    figure = Figure(figsize=(_WIDTH, max(_HEIGHT * 0.6, 0.32 * len(found) + 1.3)), facecolor=theme.paper)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.36, right=0.9, bottom=0.9 / figure.get_figheight(), top=0.9)
    height = 0.8 / len(names)
    for entry in found:
        at = cases.index(entry.case) + (names.index(entry.variant) - (len(names) - 1) / 2) * height
        colour = theme.series[_order(entry.variant, names)]
        axes.barh(at, entry.median, height * 0.9, color=colour)
        said = f"{entry.variant} {short(entry.median)}"
        axes.annotate(
            said,
            (max(entry.median, 0), at),
            xytext=(3, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontweight="bold",
        )
    top = max(entry.median for entry in found)
    step = 10.0 ** (len(f"{top:.0f}") - 1) / (2 if top < 2 else 1)
    marks = [step * count for count in range(int(top / step) + 2)]
    axes.set_xlim(0, top * 1.1)
    _dress(axes, theme, "Memory for bodies in flight", found[0].unit, "", [(mark, f"{mark:,g}") for mark in marks])
    axes.set_xlim(0, top * 1.1)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    return figure


Plot = Callable[[Results, Theme], Figure | None]

# Name -> what draws it, and what a reader who does not see it is told.
PLOTS: Final[Mapping[str, tuple[Plot, str]]] = {
    "direct": (direct, "Processor time of an exchange by body size, for each router"),
    "added": (added, "Added latency by body size at the median and the 99th percentile, for each router behind Envoy"),
    "load": (load, "Requests per second by concurrency, and 99th percentile of the latency by offered rate"),
    "memory": (memory, "Memory for each MB of bodies in flight"),
}


def save(figure: Figure, kind: str) -> bytes:
    """Return a figure as "svg" or "png"."""
    octets = io.BytesIO()
    figure.savefig(octets, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return octets.getvalue()


def files(results: Results) -> dict[str, bytes | None]:
    """Return the plots by their files' names; None for those that must not be there, for want of figures."""
    found: dict[str, bytes | None] = {}
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
        for name, (draw, _) in PLOTS.items():
            for theme in THEMES:
                figure = draw(results, theme)
                found[f"{name}-{theme.name}.svg"] = None if figure is None else save(figure, "svg")
    return found


def picture(name: str, results: Results) -> list[str]:
    """Return the lines that show a plot on a page in docs/, or a sentence."""
    draw, said = PLOTS[name]
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
        there = draw(results, THEMES[0]) is not None
    if not there:
        return ["No plot yet: its figures are not measured. Run `make bench`."]
    return [
        "<picture>",
        f'  <source media="(prefers-color-scheme: dark)" srcset="plots/{name}-dark.svg">',
        f'  <img src="plots/{name}-light.svg" alt="{said}" width="800">',
        "</picture>",
    ]


BLOCKS: Final = {f"plot-{name}": partial(picture, name) for name in PLOTS}
