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
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, PercentFormatter

from bbr.exchange.policy import BodyMode
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.ports import free_port
from bench.harness.processes import serving
from deploy.dashboards import build
from tests.support.prometheus import Prometheus, prometheus

SECONDS = 120
FILE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.png"
MODELS = "models:\n- {name: qwen, adapters: [sql-lora, chat-lora]}\n- {name: phi}\n- {name: gemma}\n"
UNITS = {"bytes": "B", "Bps": "B/s", "s": "s", "reqps": "req/s", "cps": "/s", "d": "days", "short": ""}


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


def draw(axes: Axes, panel: build.Panel, found: Prometheus, begin: float, end: float) -> None:
    """Draw one panel."""
    axes.set_title(panel.title, fontsize=9, loc="left")
    for query in panel.queries:
        asked = query.expression.replace("$__rate_interval", "15s").replace("$job", ".*").replace("$instance", ".*")
        answer = found.ask("query_range", query=asked, start=str(begin), end=str(end), step="1")
        for series in answer["result"]:
            points = [(float(when) - begin, float(value)) for when, value in series["values"]]
            axes.plot(*zip(*points, strict=True), label=named(query.legend, series["metric"]), linewidth=1.2)
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        axes.yaxis.set_major_formatter(EngFormatter(UNITS[panel.unit]))
    axes.set_xlim(0, end - begin)
    top = axes.dataLim.y1  # with room above it for the legend
    axes.set_ylim(0, 1.35 * top if top > 0 else 1)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=6.5, loc="upper left", framealpha=0.6, ncols=2)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, fontsize=8, alpha=0.6)


def picture(file: Path, found: Prometheus, begin: float, end: float) -> None:
    """Draw all panels into a file."""
    panels = [panel for row in build.ROWS.values() for panel in row]
    columns = 3
    rows = -(-len(panels) // columns)
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure, grid = pyplot.subplots(rows, columns, figsize=(15, 2.3 * rows), layout="constrained")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            draw(axes, panel, found, begin, end)
        figure.supxlabel("seconds", fontsize=8)
        file.parent.mkdir(exist_ok=True)
        figure.savefig(file, dpi=80, metadata={"Software": None})


def main() -> None:
    """Run two routers under load, with a Prometheus, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    given = parser.parse_args()
    ports = [free_port(), free_port()]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models = scratch / "models.yaml"
        models.write_text(MODELS, "utf-8")
        with (
            serving(f"--models={models}", f"--metrics-port={ports[0]}") as one,
            serving(f"--models={models}", f"--metrics-port={ports[1]}") as other,
            prometheus(scratch, ports, build.FILE.with_name("alerts.yaml")) as found,
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
