"""What the access log costs an exchange. Run: python -m bench.micro.access_log

Without a line, for a request that was routed and is not wanted; with one, from the verdict to the octets written to
/dev/null; and for one that the bound leaves out. Medians of alternating rounds, in microseconds, beside an empty call.
"""

import logging
import os
import statistics
import timeit
from collections.abc import Callable
from typing import Any

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.telemetry import logs, observed
from bbr.telemetry.access_log import AccessLog
from bench.harness import messages
from bench.harness.model_tables import merged

ROUNDS = 9
SECONDS_PER_ROUND = 0.05


def exchange(model: str) -> Exchange:
    """Return an exchange that is over, of a request as Envoy sends it."""
    table, _ = merged([BaseModel("qwen", ("sql-lora",))])
    made = Exchange(Policy(Replies()), table, observed.clock)
    headers = {f"x-header-{number}": "value" for number in range(10)} | dict(messages.JSON_POST)
    headers["x-request-id"] = "8c3d7e0a-5a3f-4a57-9a0b-5f0f7f3e1c2d"
    headers["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    made.receive(messages.request_headers(headers, mode=BodyMode.FULL_DUPLEX_STREAMED))
    made.receive(messages.request_body(b'{"model": "%s"}' % model.encode(), end_of_stream=True))
    return made


class Nothing:
    """The same call, for its own cost."""

    def ended(self, _exchange: Exchange) -> None:
        """Do nothing."""


def once(call: Callable[[Any], object], argument: object) -> float:
    """Return the mean time of a call over one round, in microseconds."""
    timer = timeit.Timer("call(argument)", globals={"call": call, "argument": argument})
    number = max(1, int(SECONDS_PER_ROUND / max(timer.timeit(100) / 100, 1e-7)))
    return timer.timeit(number) / number * 1e6


def main() -> None:
    """Measure and print."""
    routed, refused = exchange("sql-lora"), exchange("made-up")

    def later(_seconds: float, _call: Callable[[], None]) -> None:
        return None

    cases: dict[str, tuple[Callable[[Any], object], Exchange, str]] = {
        "an empty call": (Nothing().ended, routed, "json"),
        "not wanted": (AccessLog(0.0, 100, 256, later).ended, routed, "json"),
        "not picked (1 in a million is)": (AccessLog(1e-6, 100, 256, later).ended, routed, "json"),
        "left out by the bound": (AccessLog(0.0, 1, 256, later).ended, refused, "json"),
        "a line of JSON": (AccessLog(0.0, 0, 256, later).ended, refused, "json"),
        "a line of text": (AccessLog(0.0, 0, 256, later).ended, refused, "text"),
    }
    rounds: dict[str, list[float]] = {name: [] for name in cases}
    with open(os.devnull, "w", encoding="utf-8") as stream:
        for _ in range(ROUNDS):
            for name, (call, argument, form) in cases.items():
                logs.set_up("info", form, stream)
                rounds[name].append(once(call, argument))
        for handler in logging.getLogger().handlers[:]:
            logging.getLogger().removeHandler(handler)
    for name, figures in rounds.items():
        print(f"{name:<32} {statistics.median(figures):>8.3f} us   (spread {max(figures) - min(figures):.3f})")


if __name__ == "__main__":
    main()
