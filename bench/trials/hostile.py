"""Whether any one attacker keeps other clients out: a row for each attack, with its ceilings. `make hostile`

A real Envoy with a router behind it, a client that sends small requests at a steady rate, probes of the health and the
admin port as a kubelet sends them, and, in every other turn, one attacker in a process of its own: a client of the same
Envoy, a peer that reaches a port of the router itself, or what writes hostile objects and files. Each row has a router
and an Envoy of its own. A row holds if

- no request of the client and no probe has failed,
- the p99 of the requests, over all rounds, has risen by MOST_ADDED_MS at most (not in the rows A.0, whose requests are
  harmless: they show what as many at once cost Envoy, and the client beside it),
- the router has used no more processor time for one dose of the attack than the row allows, nor has the process that
  parses for it. Wall times on a busy machine say little; these bounds are some four times what a core of 2026 takes,
- the router's memory has stayed below `--max-buffered-bytes` and BASE_MIB more, and
- the attack's own requests have ended as the row says, so that an attack that misses is seen.

The router has processor 0. Envoy, the client and the attacker share processor 1, where the attacker runs only when the
others do not (SCHED_IDLE).
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from bench.harness import envoy, machine
from bench.harness.certificates import Authority
from bench.harness.grpc_client import GrpcFrames, framed
from bench.harness.http1 import ReplyReader, post
from bench.harness.ports import free_port
from bench.harness.processes import Bbr, serving
from bench.harness.steady_load import Report, Request, Steady
from bench.trials import soak_requests
from bench.trials.hostile_clients import Target
from bench.trials.hostile_peers import AUTHORITY, MODELS
from bench.trials.hostile_rows import CONTROL, ROWS, Row, chosen
from bench.trials.sources import children_seconds

MOST_ADDED_MS: Final = 20.0
RATE: Final = 200.0
PROBE_SECONDS: Final = 0.2
PROBE_TIMEOUT_SECONDS: Final = 1.0  # a kubelet's
UNPINNED_TIMES: Final = 10  # so much longer a probe may take where the scheduler decides who runs
REST_SECONDS: Final = 0.3

_SIZES: Final = (200, 1_000, 4_000)
_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"


def honest() -> Iterator[Request]:
    """Give the other client's small requests, without an end."""
    made = [
        Request("small", post(soak_requests.CHATS, soak_requests.chat(model, size)), soak_requests.routed(base, model))
        for model, base in soak_requests.MODELS.items()
        for size in _SIZES
    ]
    return itertools.cycle(made)


class Attacker:
    """The process that attacks: it makes its octets, then attacks from a `begin` to the next `end`, and so on."""

    def __init__(self, row: Row, folder: Path, *, pinned: bool) -> None:
        command = [sys.executable, "-m", "bench.trials.hostile", "--attack", str(ROWS.index(row)), str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "ready"
        if pinned:  # to the processor that it has from this process
            os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))

    def begin(self, target: Target) -> None:
        """Attack."""
        self._say(target)

    def end(self) -> tuple[int, Counter[str]]:
        """Await the end of the dose that is under way; return how many there were, and how they ended."""
        self._say("end")
        found = json.loads(self._answer())
        return found["doses"], Counter(found["outcomes"])

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _say(self, what: object) -> None:
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the attacker has ended"
        return line.rstrip("\n")


def assault(number: int, folder: Path) -> None:
    """Be the attacker of a row until standard input ends."""
    machine.raise_file_limit()
    run = ROWS[number].attack(folder)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        ended = threading.Event()
        threading.Thread(target=lambda ended: (sys.stdin.readline(), ended.set()), args=(ended,)).start()
        doses, outcomes = 0, Counter[str]()
        with contextlib.closing(run(Target(*json.loads(line)))) as attack:
            while not (doses and ended.is_set()):
                outcomes += next(attack)
                doses += 1
        print(json.dumps({"doses": doses, "outcomes": outcomes}), flush=True)


class Figures(NamedTuple):
    """What a row has come to.

    Attributes:
        alone_ms: the p99 without the attack.
        added_ms: what the attack has added to that.
        requests: of the client.
        failures: of its requests and of probes, by what was wrong.
        doses: of the attack.
        outcomes: of its requests.
        router_ms: processor time of a dose in the router, beyond what it takes for the client.
        parser_ms: the same in its children.
        envoy_ms: the same in Envoy, for the record: what it takes is not ours to bound.
        memory_mib: the most that was resident.
        told: the router has said what it must.
    """

    alone_ms: float
    added_ms: float
    requests: int
    failures: Counter[str]
    doses: int
    outcomes: Counter[str]
    router_ms: float
    parser_ms: float
    envoy_ms: float
    memory_mib: float
    told: bool

    def faults(self, row: Row, most_added_ms: float = MOST_ADDED_MS, slack: float = 1.0) -> list[str]:
        """Return why the row does not hold.

        Args:
            row: which.
            most_added_ms: to the p99.
            slack: that many times the row's processor time is allowed.
        """
        wrong = self.outcomes.keys() - (self.outcomes.keys() if row.answers is None else row.answers)
        missed = not self.outcomes and bool(row.answers)
        checks = {
            f"{self.failures.total()} failures: {_most(self.failures)}": self.failures.total() > 0,
            f"p99 + {self.added_ms:.1f} ms, at most {most_added_ms:g}": row.issue != CONTROL
            and self.added_ms > most_added_ms,
            f"{self.router_ms:.0f} ms in the router, at most {row.router_ms:g}": self.router_ms > slack * row.router_ms,
            f"{self.parser_ms:.0f} ms in the parser, at most {row.parser_ms:g}": self.parser_ms > slack * row.parser_ms,
            f"{self.memory_mib:.0f} MiB, at most {row.memory_mib}": self.memory_mib > row.memory_mib,
            f"the attack's requests ended as {dict(self.outcomes)}, not {sorted(row.answers or ())}": bool(wrong)
            or missed,
            "there was no attack": not self.doses,
            f"the router has not told of {row.told}": not self.told,
        }
        return [text for text, bad in checks.items() if bad]


def _most(failures: Counter[str]) -> str:
    return "; ".join(f"{count} x {what}" for what, count in failures.most_common(3))


class Stage(NamedTuple):
    """What a row is measured on."""

    target: Target
    router: Bbr
    gateway: int
    load: Steady
    attacker: Attacker
    patience: float  # seconds that a probe may take


@contextlib.asynccontextmanager
async def stage(row: Row, *, pinned: bool) -> AsyncIterator[Stage]:
    """Run a router, pools, an Envoy and an attacker."""
    router_on = partial(machine.router, "uv") if pinned else serving
    async with soak_requests.pools() as pools:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / MODELS).mkdir()
            soak_requests.write_table(folder / MODELS)
            attacker = Attacker(row, folder, pinned=pinned)  # first: it may be the API server that the router needs
            stack.callback(attacker.stop)
            authority = Authority()
            (folder / AUTHORITY).write_bytes(authority.root_pem)
            admin = free_port()
            flags = [f"--models={folder / MODELS}", f"--metrics-port={admin}", *row.flags]
            flags.append(f"--max-buffered-bytes={row.held_mib}MiB")
            if row.kubernetes:
                flags += ["--kubernetes", f"--kubeconfig={folder}/kubeconfig"]
            if row.tls:
                flags += machine.tls_flags(_certificate(authority, folder))
            router = stack.enter_context(router_on(*flags))
            if row.kubernetes:  # until it knows the objects it is not ready, and says so to probes
                await asyncio.to_thread(router.wait_for, "the model table is complete")
            config = envoy.configuration(
                [_router_filter(row)],
                router.port,
                pools,
                access_log=[],
                http_protocol_options={"enable_trailers": True},
            )
            if row.tls:
                _trust(config, authority)
            gateway = stack.enter_context(envoy.gateway(config))
            target = Target(gateway.port, router.port, router.health_port, admin, str(folder))
            load = Steady(gateway.port, honest())
            stack.callback(load.close)
            patience = PROBE_TIMEOUT_SECONDS * (1 if pinned else UNPINNED_TIMES)
            yield Stage(target, router, gateway.pid, load, attacker, patience)


def _router_filter(row: Row) -> dict[str, Any]:
    found = envoy.router_filter(row.mode)
    found["typed_config"]["processing_mode"]["request_trailer_mode"] = "SEND"
    return found


def _certificate(authority: Authority, folder: Path) -> tuple[Path, Path]:
    issued = authority.issue("localhost")
    chain, key = folder / "tls.crt", folder / "tls.key"
    chain.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem)
    return chain, key


def _trust(config: dict[str, Any], authority: Authority) -> None:
    """Let Envoy speak TLS with the router."""
    cluster = next(each for each in config["static_resources"]["clusters"] if each["name"] == "bbr")
    trusted = {"trusted_ca": {"inline_string": authority.root_pem.decode()}}
    kind = f"{envoy.TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"
    context = {"alpn_protocols": ["h2"], "validation_context": trusted}
    cluster["transport_socket"] = {
        "name": "tls",
        "typed_config": {"@type": kind, "sni": "localhost", "common_tls_context": context},
    }


async def _health(port: int) -> bool:
    client = await GrpcFrames.connect(port)
    try:
        stream = client.call(_CHECK)
        client.send(stream, framed(b""), end_stream=True)
        client.flush()
        return (await client.ended(stream)).messages == [_SERVING]
    finally:
        client.abort()


async def _admin(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: router\r\nconnection: close\r\n\r\n")
        found = ReplyReader().feed(await reader.read())
        return [each.status for each in found] == [200]
    finally:
        writer.transport.abort()


async def _probe(target: Target, patience: float, failures: Counter[str]) -> None:
    """Ask both ports for the router's health every PROBE_SECONDS, until cancelled."""
    while True:
        for name, ask, port in (("health", _health, target.health), ("admin", _admin, target.admin)):
            try:
                async with asyncio.timeout(patience):
                    good = await ask(port)
            except (OSError, AssertionError) as error:  # TimeoutError is one
                failures[f"{name} probe: {type(error).__name__} {error}"] += 1
            else:
                if not good:
                    failures[f"{name} probe: not serving"] += 1
        await asyncio.sleep(PROBE_SECONDS)


async def _turn(on: Stage, seconds: float, failures: Counter[str]) -> Report:
    """Return what has become of the client's requests."""
    probing = asyncio.create_task(_probe(on.target, on.patience, failures))
    report = await on.load.run(RATE, seconds)
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    for (kind, how), count in report.failed.items():
        failures[f"{how}, the first {report.examples[kind, how][0]}"] += count
    return report


def _used(on: Stage) -> tuple[float, float, float]:
    """Return the processor time, in milliseconds, that the router, its children and Envoy have used."""
    pid = on.router.pid
    return machine.cpu_seconds(pid) * 1000, children_seconds(pid) * 1000, machine.cpu_seconds(on.gateway) * 1000


def _tells(router: Bbr, text: str) -> bool:
    """Tell whether a router says something, by now or soon."""
    try:
        return not text or router.wait_for(text)
    except AssertionError:
        return False


def p99_ms(took: list[float]) -> float:
    """Return the 99th percentile of seconds, in milliseconds."""
    return statistics.quantiles(took, n=100)[98] * 1000


async def measured(row: Row, rounds: int, seconds: float, *, pinned: bool = True) -> Figures:
    """Return what an attack does; processes that are not pinned run where and when the machine lets them."""
    async with stage(row, pinned=pinned) as on:
        failures = Counter[str]()
        await on.load.run(RATE, REST_SECONDS)  # connections, and whatever is slow the first time
        alone, attacked = list[float](), list[float]()
        doses, outcomes = 0, Counter[str]()
        used = [0.0, 0.0, 0.0]
        for _ in range(rounds):
            marks = [_used(on)]
            alone += (await _turn(on, seconds, failures)).took.get("small", [])
            marks.append(_used(on))
            on.attacker.begin(on.target)
            attacked += (await _turn(on, seconds, failures)).took.get("small", [])
            more, ended = await asyncio.to_thread(on.attacker.end)
            await asyncio.sleep(REST_SECONDS)  # until it has dealt with all that has come
            marks.append(_used(on))
            doses, outcomes = doses + more, outcomes + ended
            for place, (first, second, third) in enumerate(zip(*marks, strict=True)):
                used[place] += (third - second) - (second - first)
        return Figures(
            p99_ms(alone),
            p99_ms(attacked) - p99_ms(alone),
            len(alone) + len(attacked),
            failures,
            doses,
            outcomes,
            *(max(0.0, each) / max(1, doses) for each in used),
            memory_mib=machine.memory_kib(on.router.pid, "VmHWM") / 1024,
            told=await asyncio.to_thread(_tells, on.router, row.told),
        )


_COLUMNS: Final = (
    *(("", -4), ("attack", -25), ("by", -8), ("p99 ms", 7), ("added", 7), ("failed", 6), ("a dose", 15), ("doses", 6)),
    *(("router ms", 9), ("<=", 6), ("parser ms", 9), ("<=", 6), ("Envoy ms", 8), ("MiB", 5), ("<=", 5), ("", -7)),
)


def line(*values: object) -> str:
    """Return a line of the table; its heading for no values."""
    texts = [f"{each:.1f}" if isinstance(each, float) else str(each) for each in values]
    columns = zip(texts or [name for name, _ in _COLUMNS], _COLUMNS, strict=True)
    return " ".join(text.rjust(width) if width > 0 else text.ljust(-width) for text, (_, width) in columns).rstrip()


def figures(row: Row, found: Figures, faults: list[str]) -> str:
    """Return a row of the table."""
    return line(
        *(row.issue, row.name, row.who, found.alone_ms, found.added_ms, found.failures.total(), row.dose, found.doses),
        *(found.router_ms, round(row.router_ms), found.parser_ms, round(row.parser_ms), found.envoy_ms),
        *(round(found.memory_mib), row.memory_mib, "OVER" if faults else "holds"),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure rows; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (2)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="BEGIN", help="those whose kind or name begins so")
    parser.add_argument(
        "--unpinned", action="store_true", help="leave all processes to the scheduler: on a busy machine"
    )
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)  # be the attacker: a row's number, a folder
    given = parser.parse_args(arguments)
    if given.attack:
        assault(int(given.attack[0]), Path(given.attack[1]))
        return 0
    machine.raise_file_limit()
    rows = chosen(given.rows)
    if given.unpinned:
        return _measure(rows, given.rounds, given.seconds, pinned=False)
    machine.require()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    try:
        return _measure(rows, given.rounds, given.seconds, pinned=True)
    finally:
        os.sched_setaffinity(0, before)


def _measure(rows: list[Row], rounds: int, seconds: float, *, pinned: bool) -> int:
    over = 0
    began = time.monotonic()
    print(line(), flush=True)
    for row in rows:
        found = uvloop.run(measured(row, rounds, seconds, pinned=pinned))
        faults = found.faults(row)
        print(figures(row, found, faults), flush=True)
        over += bool(faults)
        for fault in faults:
            print(f"     {fault}", flush=True)
    print(f"{len(rows) - over} of {len(rows)} rows hold, in {time.monotonic() - began:.0f} s")
    return over > 0


if __name__ == "__main__":
    raise SystemExit(main())
