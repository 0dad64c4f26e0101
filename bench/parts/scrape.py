"""What a scrape of a busy router takes, and what its exchanges notice of it. Run: python -m bench.parts.scrape

A router with 1,000 base models of which each has had a request (so each is a label), under load from four connections,
while nobody scrapes, and while somebody scrapes three times a second (Prometheus does once in 15 s), in turn. The
router runs on processor 0; load and scraper on processor 1, and the load stands still while the scraper reads, which
makes a scrape look longer than it is, and never shorter. Times of exchanges are what a client sees.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import grpc

from bbr.exchange.policy import BodyMode
from bench.harness import machine, messages, workload
from bench.harness.ext_proc_load import Load, pool
from bench.harness.figures import Row, Target, Variant, compare, heading, save
from bench.harness.grpc_client import PROCESS
from bench.harness.ports import free_port
from bench.parts.table import percentile

MODELS: Final = 1_000
CONNECTIONS: Final = 4
SIZE: Final = 1_000
WINDOW_SECONDS: Final = 3.0
EVERY_SECONDS: Final = 0.3


class Scraper:
    """Scrapes in a thread, while it is let.

    Attributes:
        seconds: how long each scrape took, from its connection to its last octet.
    """

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self.octets = 0
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Scraper":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def scrape(self) -> str:
        """Scrape once."""
        begun = time.perf_counter()
        with urlopen(self._url, timeout=30) as answer:  # noqa: S310 (loopback)
            text = answer.read()
        self.seconds.append(time.perf_counter() - begun)
        self.octets = len(text)
        return str(text, "utf-8")

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.scrape()


def window(load: Load) -> list[float]:
    """Return the milliseconds of all exchanges of a while."""
    load.seconds = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < WINDOW_SECONDS:
        load.run(100)
    return [seconds * 1e3 for seconds in load.seconds]


def ask_for_each(port: int, names: list[str]) -> None:
    """Make one request for each model, so that each becomes a label."""
    head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        process = channel.stream_stream(PROCESS)
        for name in names:
            body = messages.request_body(b'{"model": "%s"}' % name.encode(), end_of_stream=True)
            assert list(process(iter((head, body))))


def measure(rounds: int) -> list[Row]:
    """Measure with and without scrapes, in turn."""
    names = [f"model-{number}" for number in range(MODELS)]
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models.yaml"
        models.write_text("models:\n" + "".join(f"- name: {name}\n" for name in [workload.MODEL, *names]))
        port = free_port()
        with machine.router("uv", f"--models={models}", f"--metrics-port={port}") as router:
            ask_for_each(router.port, names)
            made = pool(SIZE)
            answer = machine.answer(router, made.sent)
            scraper = Scraper(f"http://127.0.0.1:{port}/metrics")
            labels = sum(line.startswith("bbr_requests_total") for line in scraper.scrape().splitlines())
            assert labels > MODELS, labels
            scraper.seconds.clear()  # the first one loads prometheus_client
            quiet, scraped, took = [], [], []
            with Load(router.port, CONNECTIONS, 1, made, answer) as load:
                window(load)  # warm
                for _ in range(rounds):
                    quiet.append(window(load))
                    with Scraper(f"http://127.0.0.1:{port}/metrics") as each:
                        scraped.append(window(load))
                    took.append(statistics.median(each.seconds) * 1e3)
            idle = []
            for _ in range(rounds):
                scraper.seconds.clear()
                for _ in range(5):
                    scraper.scrape()
                idle.append(statistics.median(scraper.seconds) * 1e3)
    print(f"{labels:,} series of bbr_requests_total, {scraper.octets:,} octets; {sum(map(len, scraped)):,} exchanges")
    rows = compare("a scrape of an idle router", "ms", [Variant("idle")], {"idle": idle})
    rows += compare("a scrape of a busy router", "ms", [Variant("busy", limit=Target(20))], {"busy": took})
    for percent in (50, 99, 99.9):
        figures = {
            "alone": [percentile(each, percent) for each in quiet],
            "scraped": [percentile(each, percent) for each in scraped],
        }
        rows += compare(f"exchanges, {percent}th percentile", "ms", [Variant("alone"), Variant("scraped")], figures)
    moved = [percentile(busy, 99) - percentile(alone, 99) for alone, busy in zip(quiet, scraped, strict=True)]
    return rows + compare("p99, moved by", "ms", [Variant("scraped", limit=Target(2))], {"scraped": moved})


def main() -> int:
    """Measure, print, and say which limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    machine.require("taskset")
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    print(heading())
    rows = measure(given.rounds)
    if given.json:
        save(given.json, rows, vars(given))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
