"""How many instructions an exchange takes. Run: python -m bench.micro.exchange [KIND...]

Whole exchanges, timed and counted as a server's are: a head of 12 fields, then the body in messages of 16 KB
(FULL_DUPLEX_STREAMED) or one message (BUFFERED). valgrind counts the instructions of two runs of different length; what
is between them is the exchanges' own, whatever else the machine does meanwhile. Only figures of one interpreter can be
compared: Python's own code is nearly all of it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Final

from bbr.exchange.convention import Convention, Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bbr.models.routing import Rules, UnknownModel
from bbr.reading.fields import BodyField, BodyFields
from bbr.telemetry.metrics import Metrics
from bench.harness import messages, workload
from bench.harness.model_tables import merged

FDS: Final = BodyMode.FULL_DUPLEX_STREAMED
BUFFERED: Final = BodyMode.BUFFERED

# Body bytes and mode; None without a body.
KINDS: Final = {
    "none": (0, FDS),
    "1k": (1_000, FDS),
    "1k-buffered": (1_000, BUFFERED),
    "1k-compat": (1_000, FDS),
    "1k-user": (1_000, FDS),
    "1k-field": (1_000, FDS),
    "1k-hashed": (1_000, FDS),
    "10k": (10_000, FDS),
    "100k": (100_000, FDS),
    "1m": (1_000_000, FDS),
}
# Bodies with a `user`: without --body-field, with it, and with its SHA-256.
_USERS: Final = {
    "1k-user": None,
    "1k-field": BodyFields([BodyField("user", "x-user")], 1 << 18),
    "1k-hashed": BodyFields([BodyField("user", "x-user", hashed=True)], 1 << 18),
}
# Exchanges of the shorter run, and of the longer, up to 10 KB; a tenth of it and less beyond.
FEWER: Final = 100
MORE: Final = 1_100

TABLE, _ = merged([BaseModel("qwen", (workload.MODEL,))])


def sent(kind: str) -> list[bytes]:
    """Return the messages of one exchange."""
    size, mode = KINDS[kind]
    fields = {**workload.HEADERS, "content-length": str(size)}
    head = messages.request_headers(fields, mode=mode, end_of_stream=not size)
    if not size:
        return [head]
    body = workload.body(size)
    if kind in _USERS:
        body = b'{"user":"3f0c9a1e-user",' + workload.body(size - 23)[1:]
    step = size if mode is BUFFERED else workload.PIECE_BYTES
    pieces = [body[start : start + step] for start in range(0, size, step)]
    return [head, *(messages.request_body(piece, end_of_stream=piece is pieces[-1]) for piece in pieces)]


def policy(kind: str) -> Policy:
    """Return the policy for exchanges of a kind."""
    convention: Convention = GoRouter() if kind.endswith("compat") else Ours(fields=_USERS.get(kind))
    return Policy(Replies(convention), rules=Rules(UnknownModel.EMPTY))


def run(kind: str, count: int) -> Metrics:
    """Let exchanges of a kind happen; return what was counted of them."""
    common = policy(kind)
    metrics = Metrics()
    script = sent(kind)
    for _ in range(count):
        exchange = Exchange(common, TABLE, time.perf_counter, None, metrics.count)
        for message in script:
            exchange.receive(message)
            while exchange.pending:
                exchange.work()
        exchange.over()
    return metrics


def instructions(kind: str, count: int) -> int:
    """Return how many instructions a process takes for so many exchanges, its start with it."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "bench.micro.exchange", "--run", kind, str(count)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    found = re.search(r"I *refs: *([0-9,]+)", done.stderr)
    assert found, done.stderr
    return int(found[1].replace(",", ""))


def measure(kinds: Iterable[str]) -> None:
    """Print the instructions of an exchange of each kind."""
    print(f"{'kind':<14}{'instructions':>14}")
    for kind in kinds:
        scale = 1 if KINDS[kind][0] <= 10_000 else 4 if KINDS[kind][0] <= 100_000 else 40
        fewer, more = FEWER // scale, MORE // scale
        took = (instructions(kind, more) - instructions(kind, fewer)) // (more - fewer)
        print(f"{kind:<14}{took:>14,}", flush=True)


def main() -> None:
    """Measure, or be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; by default all")
    parser.add_argument("--run", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        kind, count = given.run[0], int(given.run[1])
        outcome = "routed" if KINDS[kind][0] else "no-body"
        models = run(kind, count).models.values()
        assert sum(counts.outcomes.get(outcome, 0) for counts in models) == count
        return
    unknown = [kind for kind in given.kinds if kind not in KINDS]
    if unknown:
        parser.error(f"no such kind: {', '.join(unknown)}")
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    measure(given.kinds or KINDS)


if __name__ == "__main__":
    main()
