"""What it costs an exchange to be timed and counted. Run: python -m bench.micro.observing

Whole exchanges of three messages (headers, a chat body of 1 KB, its end) by turns: as they are, timed
(bbr.telemetry.observed), and timed and counted (bbr.telemetry.metrics). Then the counting alone.
"""

import statistics
import time
import timeit
from collections.abc import Callable
from typing import Final

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.registry import Registry
from bbr.telemetry import observed
from bbr.telemetry.metrics import Metrics
from bench.harness import messages, workload
from bench.harness.model_tables import merged

ROUNDS: Final = 15
EXCHANGES: Final = 5_000

TABLE, _ = merged([BaseModel("qwen", (workload.MODEL,))])
POLICY: Final = Policy(Replies())
SENT: Final = (
    messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED),
    messages.request_body(workload.body(1_000), end_of_stream=False),
    messages.request_body(b"", end_of_stream=True),
)


def microseconds(new: Callable[[Policy, Registry], Exchange], ended: Callable[..., None]) -> float:
    """Return what an exchange takes."""
    begun = time.perf_counter()
    for _ in range(EXCHANGES):
        exchange = new(POLICY, TABLE)
        for message in SENT:
            exchange.receive(message)
        ended(exchange)
    return (time.perf_counter() - begun) / EXCHANGES * 1e6


def main() -> None:
    """Time all three, alternating, and print medians in microseconds."""
    metrics = Metrics()
    plain, timed, counted = [], [], []
    for _ in range(ROUNDS):
        plain.append(microseconds(Exchange, lambda exchange: None))
        timed.append(microseconds(Exchange, lambda exchange: None))
        counted.append(microseconds(Exchange, metrics.count))
    assert sum(counts.outcomes.get("routed", 0) for counts in metrics.models.values()) == ROUNDS * EXCHANGES
    exchange = Exchange(POLICY, TABLE, observed.clock)
    for message in SENT:
        exchange.receive(message)
    alone = min(timeit.repeat(lambda: metrics.count(exchange), number=EXCHANGES, repeat=ROUNDS)) / EXCHANGES * 1e6

    def added(figures: list[float], to: list[float]) -> str:
        return f"{statistics.median(one - other for one, other in zip(figures, to, strict=True)):6.2f} us"

    print(f"an exchange            {statistics.median(plain):6.2f} us")
    print(f"  timing it adds       {added(timed, plain)}")
    print(f"  counting it adds     {added(counted, timed)} (alone {alone:.2f})")


if __name__ == "__main__":
    main()
