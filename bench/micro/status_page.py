"""What the status page takes of a large table, in all and at a time. Run: python -m bench.micro.status_page

100,000 names on 10,000 base models of which each has had requests; then three names. Medians of rounds, in milliseconds
of processor time; "longest" is the longest step, for which a request may have to wait. Python's garbage collector
stands still meanwhile: to look at all of a large table takes it 40 ms, whoever has made it run.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bbr.admin import status_facts, status_page
from bbr.admin.status_facts import StatusFacts
from bbr.admin.vitals import Vitals
from bbr.admin.window import Window
from bbr.models.entries import BaseModel
from bbr.telemetry.metrics import ModelCounts
from bench.harness.model_tables import merged
from bench.harness.vitals import vitals

ROUNDS: Final = 7
BASE_MODELS: Final = 10_000
ADAPTERS: Final = 9


def timed(steps: Iterator[Any]) -> tuple[int, float, float]:
    """Return how many steps there are, and the milliseconds of all and of the longest."""
    took = []
    while True:
        begun = time.thread_time()
        more = next(steps, steps) is not steps
        took.append((time.thread_time() - begun) * 1e3)
        if not more:
            return len(took), sum(took), max(took)


def report(what: str, steps: Callable[[], Iterator[Any]]) -> None:
    """Print medians."""
    numbers, sums, longest = zip(*(timed(steps()) for _ in range(ROUNDS)), strict=True)
    print(
        f"{what:<44} {numbers[0]:5} steps {statistics.median(sums):7.2f} ms, longest {statistics.median(longest):5.2f}"
    )


def large(path: Path) -> Vitals:
    """Return a router with a large table, and counts for each base model."""
    of = vitals(path)
    names = [f"org/base-model-{number}" for number in range(BASE_MODELS)]
    models = [BaseModel(name, tuple(f"{name}-lora-{number}" for number in range(ADAPTERS))) for name in names]
    of.sources.table.registry, _ = merged(models)
    count(of, names)
    return of


def count(of: Vitals, names: list[str]) -> None:
    """Count a request for each."""
    for name in names:
        counts = of.metrics.models.setdefault(name, ModelCounts())
        counts.outcomes["routed"] = counts.outcomes.get("routed", 0) + 1
        counts.duration.add(0.001)


def main() -> None:
    """Measure and print."""
    gc.disable()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "models.yaml"
        path.write_text("models: [{name: qwen, adapters: [sql-lora, summarize-lora]}]\n")
        for what, of in (("100,000 names", large(path)), ("3 names", vitals(path))):
            window = Window(of.metrics)
            kept = StatusFacts(of, window)
            report(f"{what}: a search, its page", lambda: status_page.render(StatusFacts(of, window).gathering("7")))  # noqa: B023
            report(f"{what}: the page again", lambda: status_page.render(kept.gathering()))  # noqa: B023
            report(f"{what}: status.json", lambda: status_facts.as_json(kept.gathering()))  # noqa: B023

            def slide() -> Iterator[None]:
                count(of, [*of.metrics.models])  # noqa: B023
                return window.sliding(0.0)  # noqa: B023

            report(f"{what}: a look at all counts", slide)


if __name__ == "__main__":
    main()
