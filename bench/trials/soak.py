"""All kinds of requests through Envoy at 70% of capacity, and faults beside them, for long. `make soak`

Capacity is measured first, in the same run, on the same parts: the rate of AT_ONCE clients, each of which sends its
next request when the last is answered. Then requests come at a steady rate of 70% of that. Meanwhile clients that speak
HTTP/2 to the router itself break off, send nonsense and vanish. One router, one Envoy of one worker, pools that forget.

It fails if an answer is not what it must be, if the router has reset a stream of the gateway's or lost a connection, if
a task, a descriptor or anything of a stream is left once all clients are gone, or, in runs of MIN_FIT_SECONDS or more,
if resident memory grows by MAX_SLOPE_MB or more in ten minutes. The slope is that of a line through the medians of
blocks, after a warm-up; beside it occurs twice its standard error.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.harness import envoy
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import INTERNAL_ERROR, data, headers, rst_stream
from bench.harness.machine import cpu_seconds, memory_kib
from bench.harness.processes import Bbr, serving
from bench.harness.raw_client import CALL_BLOCK, HEAD, REQUEST, RawClient
from bench.harness.steady_load import Report, Steady
from bench.trials import inspectable, soak_requests

SHARE: Final = 0.7
AT_ONCE: Final = 16
CAPACITY_SECONDS: Final = 10.0
SAMPLE_SECONDS: Final = 1.0
FAULT_SECONDS: Final = 0.1
END_SECONDS: Final = 60.0

WARM_UP_SHARE: Final = 0.2
BLOCKS: Final = 24
MIN_FIT_SECONDS: Final = 300.0
MAX_SLOPE_MB: Final = 1.0

# What must stay 0 at the gateway.
RESETS: Final = ("upstream_rq_rx_reset", "upstream_cx_destroy_remote_with_active_rq", "upstream_cx_protocol_error")

# What clients of the router itself do on a connection before they vanish: octets, and how often.
MISDEEDS: Final = {
    "reset in the middle of a message": headers(1, CALL_BLOCK) + data(1, REQUEST[:60]) + rst_stream(1, INTERNAL_ERROR),
    "a message that is none": headers(1, CALL_BLOCK) + data(1, framed(b"\xff" * 40)),
    "a message of 2 GB": headers(1, CALL_BLOCK) + data(1, b"\x00\x80\x00\x00\x00"),
    "gone in the middle of a message": headers(1, CALL_BLOCK) + data(1, REQUEST[:60]),
    "gone after the headers": headers(1, CALL_BLOCK) + data(1, framed(HEAD)),
    "gone in the middle of a frame": headers(1, CALL_BLOCK)[:12],
    "no HTTP/2": b"GET / HTTP/1.1\r\n\r\n",
}


@dataclass
class Samples:
    """The router's resident bytes at times, in seconds."""

    seconds: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def slope(self) -> tuple[float, float]:
        """Return the growth in MB per ten minutes after the warm-up, and twice its standard error."""
        blocks = self.blocks()
        return fit([at for at, _ in blocks], [resident for _, resident in blocks])

    def blocks(self) -> list[tuple[float, float]]:
        """Return the time and the median of each block after the warm-up."""
        first = next(at for at, each in enumerate(self.seconds) if each >= WARM_UP_SHARE * self.seconds[-1])
        size = max(1, (len(self.seconds) - first) // BLOCKS)
        return [
            (statistics.mean(self.seconds[at : at + size]), statistics.median(self.resident[at : at + size]))
            for at in range(first, len(self.seconds) - size + 1, size)
        ]


def fit(seconds: list[float], resident: list[float]) -> tuple[float, float]:
    """Return the slope of a line by least squares, MB per ten minutes, and twice its standard error."""
    slope, origin = statistics.linear_regression(seconds, resident)
    rests = [value - origin - slope * at for at, value in zip(seconds, resident, strict=True)]
    mean = statistics.fmean(seconds)
    spread = sum((at - mean) ** 2 for at in seconds)
    error = (sum(rest**2 for rest in rests) / max(1, len(rests) - 2) / spread) ** 0.5
    return slope * 600 / 1e6, 2 * error * 600 / 1e6


@dataclass
class Outcome:
    """What a soak has come to.

    Attributes:
        capacity: requests per second of AT_ONCE clients; None if it was not measured.
        left: what the router still had when all were gone; nothing, if all is well.
        resets: those of RESETS that are not 0.
        cpu_share: of a processor, that the router took.
    """

    report: Report
    capacity: float | None
    misdeeds: Counter[str]
    samples: Samples
    left: list[str]
    resets: dict[str, int]
    cpu_share: float

    def faults(self) -> list[str]:
        """Return everything that makes this soak fail."""
        found = [f"{self.report.failures} requests failed"] if self.report.failures else []
        found += [f"{name} is {count}" for name, count in self.resets.items()]
        found += [f"left: {each}" for each in self.left]
        if self.report.seconds >= MIN_FIT_SECONDS:
            slope, _ = self.samples.slope()
            found += [f"memory grows by {slope:.2f} MB in ten minutes"] if slope >= MAX_SLOPE_MB else []
        return found

    def lines(self) -> Iterator[str]:
        """Give what to print."""
        if self.capacity is not None:
            yield f"capacity {self.capacity:.0f} requests/s with {AT_ONCE} at a time"
        yield from self.report.lines()
        yield f"beside them on connections of their own: {', '.join(f'{n} x {k}' for k, n in self.misdeeds.items())}"
        resident, (slope, error) = self.samples.resident, self.samples.slope()
        yield (
            f"router: {self.cpu_share:.0%} of a processor, {max(self.samples.descriptors)} descriptors; resident "
            f"{resident[0] / 1e6:.1f} MB at first, {max(resident) / 1e6:.1f} at most, {resident[-1] / 1e6:.1f} at the "
            f"end, slope {slope:+.2f} +- {error:.2f} MB in ten minutes"
        )
        yield "  by blocks, MB: " + " ".join(f"{median / 1e6:.1f}" for _, median in self.samples.blocks())
        yield from self.faults() or ["nothing lost, reset or left"]


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def observe(router: Bbr) -> dict[str, Any]:
    """Return what the router says that it has (bench.trials.inspectable)."""
    seen = router.stderr.count(inspectable.PREFIX)
    router.signal(signal.SIGUSR1)
    deadline = time.monotonic() + END_SECONDS
    while router.stderr.count(inspectable.PREFIX) == seen:
        assert time.monotonic() < deadline, "the router does not say what it has"
        time.sleep(0.01)
    line = router.stderr.rpartition(inspectable.PREFIX)[2].partition("\n")[0]
    found: dict[str, Any] = json.loads(line)
    return {**found, "descriptors": descriptors(router.pid)}


async def misbehave(port: int, count: Counter[str]) -> None:
    """Open a connection to the router every FAULT_SECONDS, do one of MISDEEDS on it and vanish, until cancelled."""
    while True:
        for misdeed, octets in MISDEEDS.items():
            client = await RawClient.connect(port)
            try:
                client.write(octets)
                await client.receive()  # the router's preface, so that it has read ours
            finally:
                client.writer.transport.abort()
            count[misdeed] += 1
            await asyncio.sleep(FAULT_SECONDS)


async def sample(pid: int, samples: Samples) -> None:
    """Look at the router every SAMPLE_SECONDS, until cancelled."""
    begun = time.perf_counter()
    while True:
        samples.seconds.append(time.perf_counter() - begun)
        samples.resident.append(memory_kib(pid) << 10)
        samples.descriptors.append(descriptors(pid))
        await asyncio.sleep(SAMPLE_SECONDS)


async def run(seconds: float, rate: float | None = None) -> Outcome:
    """Soak a router for so long, at `rate` requests per second or at SHARE of what is the capacity."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [
            f"--models={soak_requests.write_table(Path(folder))}",
            f"--max-body-bytes={soak_requests.MAX_BODY_BYTES}",
        ]
        with serving(*flags, module="bench.trials.inspectable") as router:
            before = observe(router)
            outcome = await _through_envoy(router, seconds, rate)
            outcome.left = await _left(router, before)
            outcome.left += await _end(router)
    return outcome


async def _through_envoy(router: Bbr, seconds: float, rate: float | None) -> Outcome:
    misdeeds: Counter[str] = Counter()
    samples = Samples()
    async with soak_requests.pools() as ports:
        config = envoy.configuration([envoy.router_filter()], router.port, ports, access_log=[])
        with envoy.gateway(config) as gateway:
            load = Steady(gateway.port, soak_requests.requests())
            capacity = None
            if rate is None:
                capacity = (await load.saturate(AT_ONCE, CAPACITY_SECONDS)).rate
                rate = SHARE * capacity
            cpu = cpu_seconds(router.pid)
            beside = [
                asyncio.create_task(misbehave(router.port, misdeeds)),
                asyncio.create_task(sample(router.pid, samples)),
            ]
            report = await load.run(rate, seconds)
            for task in beside:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            share = (cpu_seconds(router.pid) - cpu) / report.seconds
            load.close()
            stats = await asyncio.to_thread(gateway.stats, "cluster.bbr.")
    resets = {name: stats[f"cluster.bbr.{name}"] for name in RESETS if stats[f"cluster.bbr.{name}"]}
    return Outcome(report, capacity, misdeeds, samples, [], resets, share)


async def _left(router: Bbr, before: dict[str, Any]) -> list[str]:
    """Return what the router still has of what it had not before; connections have END_SECONDS to end."""
    deadline = time.monotonic() + END_SECONDS
    now = await asyncio.to_thread(observe, router)
    while now != before and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        now = await asyncio.to_thread(observe, router)
    return [f"{name} {now[name]}, {value} before" for name, value in before.items() if now[name] != value]


async def _end(router: Bbr) -> list[str]:
    """End the router; return what it has to complain of."""
    status = await asyncio.to_thread(router.stop)
    bad = [
        line for line in router.stderr.splitlines() if " ERROR " in line or "Traceback" in line or "destroyed" in line
    ]
    return [*([f"exit status {status}"] if status else []), *bad]


def main() -> int:
    """Soak; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--rate", type=float, help=f"requests per second ({SHARE:.0%} of the capacity)")
    given = parser.parse_args()
    outcome = uvloop.run(run(given.seconds, given.rate))
    print(*outcome.lines(), sep="\n")
    return bool(outcome.faults())


if __name__ == "__main__":
    raise SystemExit(main())
