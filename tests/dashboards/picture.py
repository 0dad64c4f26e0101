"""Draw the dashboard's panels from the data of a short run. Run: python -m tests.dashboards.picture [FILE]

There is no Grafana here: the panels, their queries and their names are the dashboard's, the data are a real Prometheus'
of two real routers under a little load for two minutes, and only the drawing is matplotlib's.
"""

import argparse
import random
import tempfile
import threading
import time
from pathlib import Path

import grpc
import matplotlib as mpl
import PIL.Image
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bbr.exchange.policy import BodyMode
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import serving
from deploy.dashboards import build, panels
from tests.support.prometheus import Prometheus, prometheus

SECONDS = 120
FILE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.png"
MODELS = "models:\n- {name: qwen, adapters: [sql-lora, chat-lora]}\n- {name: phi}\n- {name: gemma}\n"
UNITS = {"bytes": "B", "Bps": "B/s", "s": "s", "reqps": "req/s", "suffix:/min": "/min", "d": " days", "none": ""}
GROUND, SHEET, INK, FAINT, LINE = "#f4f5f8", "#ffffff", "#1f2733", "#5b6675", "#e3e7ee"
PAINTS = {
    "green": "#2f9e58",
    "orange": "#e08a1e",
    "red": "#d64545",
    "purple": "#8e6bd8",
    "light-blue": "#8ab8ff",
    "blue": "#3b7dde",
    "dark-blue": "#1b4a9c",
}


def requests(port: int, until: float) -> None:
    """Make requests, more in the middle than at the ends."""
    head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    chance = random.Random(port)
    begun = time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        process = channel.stream_stream(PROCESS)
        while (now := time.monotonic()) < until:
            share = (now - begun) / SECONDS
            name = chance.choices(["qwen", "sql-lora", "phi", "gemma", "gpt-9", ""], [6, 4, 5, 2 * share, 0.3, 0.5])[0]
            body = b'{"model": "%s", "prompt": "%s"}' % (name.encode(), b"x" * int(chance.lognormvariate(7.5, 1.5)))
            if chance.random() < 0.01:
                body = body[:-1]
            list(process(iter((head, messages.request_body(body, end_of_stream=True)))))
            time.sleep(chance.expovariate(20 + 60 * min(share, 1 - share)))


def named(legend: str, labels: dict[str, str]) -> str:
    """Return a series' name as Grafana makes it."""
    for key, value in labels.items():
        legend = legend.replace("{{" + key + "}}", value or "(none)")
    return legend


def read(panel: panels.Panel, value: float) -> str:
    """Return a value as Grafana writes it in the panel's unit."""
    for given, (text, _) in panel.words:
        if float(given) == value:
            return text
    if panel.unit == "percentunit":
        digits = 0 if value in (0, 1) else 1 if panel.decimals is None else panel.decimals
        return f"{value * 100:.{digits}f}%"
    if panel.unit in ("none", "suffix:/min", "d"):
        return f"{value:,.{0 if value >= 10 or value == int(value) else 1}f}{UNITS[panel.unit]}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{UNITS[panel.unit]}"
    return f"0 {UNITS[panel.unit]}"


def colour_of(panel: panels.Panel, value: float) -> str:
    """Return the colour of a value by the panel's thresholds."""
    found = panels.BAD if panel.falling else panels.FINE
    for step, colour in panel.steps:
        found = colour if value >= step else found
    return PAINTS[found]


def points(panel: panels.Panel, found: Prometheus, begin: float, end: float) -> dict[str, list[tuple[float, float]]]:
    """Return the series of a panel by their names."""
    series = {}
    for query in panel.queries:
        asked = query.expression.replace("$__rate_interval", "15s").replace("$job", ".*").replace("$instance", ".*")
        answer = found.ask("query_range", query=asked, start=str(begin), end=str(end), step="1")
        for each in answer["result"]:
            places = [(float(when) - begin, float(value)) for when, value in each["values"]]
            series[named(query.legend, each["metric"])] = [place for place in places if place[1] == place[1]]
    return {name: places for name, places in series.items() if places}


def draw_tile(axes: Axes, panel: panels.Panel, series: dict[str, list[tuple[float, float]]], span: float) -> None:
    """Draw a tile: the latest value in its colour, and the time behind it."""
    axes.set(xlim=(0, span), ylim=(0, 1), xticks=[], yticks=[])
    axes.text(0.03, 0.88, panel.title, transform=axes.transAxes, fontsize=8.5, color=INK, va="center")
    several = len(series) > 1
    for number, (name, places) in enumerate(series.items()):
        latest = places[-1][1]
        middle = (number + 0.5) / len(series)
        axes.text(middle, 0.5, read(panel, latest), transform=axes.transAxes, ha="center", va="center",
                  fontsize=13 if several else 20, color=colour_of(panel, latest))  # fmt: skip
        if several:
            axes.text(middle, 0.25, name, transform=axes.transAxes, ha="center", fontsize=6.5, color=FAINT)
        if not panel.words and (top := max(value for _, value in places)) > 0:
            xs, ys = zip(*((when, value / top * 0.28) for when, value in places), strict=True)
            axes.fill_between(xs, ys, color=colour_of(panel, latest), alpha=0.18, linewidth=0)
            axes.plot(xs, ys, color=colour_of(panel, latest), linewidth=1)
    if not series:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", fontsize=20, color=FAINT)


def draw_graph(axes: Axes, panel: panels.Panel, series: dict[str, list[tuple[float, float]]], span: float) -> None:
    """Draw a graph, with its thresholds as dashed lines."""
    axes.set_title(panel.title, fontsize=8.5, loc="left", color=INK)
    if panel.stacked and series:
        whens = sorted({when for places in series.values() for when, _ in places})
        heights = [[dict(places).get(when, 0.0) for when in whens] for places in series.values()]
        colours = [PAINTS.get(panels.COLOURS.get(name, "")) or f"C{number}" for number, name in enumerate(series)]
        axes.stackplot(whens, heights, labels=series, colors=colours, alpha=0.45)
    else:
        for number, (name, places) in enumerate(series.items()):
            colour = PAINTS.get(panels.COLOURS.get(name, "")) or f"C{number}"
            limit = name in panels.LIMITS
            axes.plot(
                *zip(*places, strict=True), label=name, linewidth=1.3, color=colour, linestyle="--" if limit else "-"
            )
            if not limit:
                axes.fill_between(*zip(*places, strict=True), color=colour, alpha=0.1, linewidth=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: read(panel, value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    top = axes.dataLim.y1  # with room above it for the legend
    top = 1.4 * top if series and top > 0 else 1
    axes.set(xlim=(0, span), ylim=(0, top))
    for step, colour in panel.steps:
        if step < top:
            axes.axhline(step, color=PAINTS[colour], linewidth=1, linestyle=(0, (4, 3)))
    axes.tick_params(labelsize=6.5, colors=FAINT, length=0)
    axes.grid(color=LINE, linewidth=0.7)
    if series:
        axes.legend(fontsize=6.3, loc="upper left", frameon=False, ncols=3, labelcolor=FAINT, handlelength=1)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, fontsize=8, color=FAINT)


def picture(file: Path, found: Prometheus, begin: float, end: float) -> None:
    """Draw all panels into a file, as Grafana places them."""
    lines = [("Now", panels.TILES[:4], 4), ("", panels.TILES[4:], 4)]
    for title, row in panels.ROWS.items():
        lines += [(title if not start else "", row[start : start + 3], 3) for start in range(0, len(row), 3)]
    heights = [(1.0 if columns == 4 else 2.0) + (0.25 if title else 0.0) for title, _, columns in lines]
    paints = {"font.family": "DejaVu Sans", "axes.edgecolor": LINE, "axes.facecolor": SHEET, "axes.axisbelow": True}
    with mpl.rc_context(paints):
        figure = pyplot.figure(figsize=(14, sum(heights)), facecolor=GROUND)
        parts = figure.subfigures(len(lines), 1, height_ratios=heights)
        for part, (title, row, columns) in zip(parts, lines, strict=True):
            part.set_facecolor(GROUND)
            if title:
                part.suptitle(title, fontsize=10, x=0.012, y=0.99, ha="left", va="top", fontweight="bold", color=INK)
            tiles = columns == 4
            margins = {"left": 0.012, "wspace": 0.04} if tiles else {"left": 0.05, "wspace": 0.2}
            bottom, top = (0.06, 0.72 if title else 0.94) if tiles else (0.13, 0.74 if title else 0.86)
            grid = part.subplots(
                1, columns, squeeze=False, gridspec_kw={**margins, "right": 0.988, "bottom": bottom, "top": top}
            )
            for axes in grid.flat[len(row) :]:
                axes.set_axis_off()
            for axes, panel in zip(grid.flat, row, strict=False):
                series = points(panel, found, begin, end)
                (draw_tile if panel.stat else draw_graph)(axes, panel, series, end - begin)
        file.parent.mkdir(exist_ok=True)
        figure.savefig(file, dpi=85, metadata={"Software": None})
    small = PIL.Image.open(file).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
    small.save(file, optimize=True)


def main() -> None:
    """Run two routers under load, with a Prometheus, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models = scratch / "models.yaml"
        models.write_text(MODELS, "utf-8")
        with (
            serving(f"--models={models}", admin=True) as one,
            serving(f"--models={models}", admin=True) as other,
            prometheus(scratch, [one.admin_port, other.admin_port], build.FILE.with_name("alerts.yaml")) as found,
        ):
            begin = time.time()
            until = time.monotonic() + SECONDS
            loads = [
                threading.Thread(target=requests, args=(router.port, until)) for router in (one, other) for _ in "12"
            ]
            for load in loads:
                load.start()
            for load in loads:
                load.join()
            picture(given.file, found, begin + 10, time.time())


if __name__ == "__main__":
    main()
