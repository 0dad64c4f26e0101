"""Can a client's own routing header ever reach a pool? Seeded attacks through a real Envoy, seen from the pools.

    python -m bench.trials.spoofing --requests 20000 --seed 7

Envoy's routes match on every header that the router or an endpoint picker sets, and a trap stands behind each value
that names no pool. Recording pools then tell what reached them: whether a body truly named that pool, and whether every
routing header there is the router's. Exit status: 0 if nothing got through, 1 if anything did.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bench.harness import envoy
from bench.harness.background import Background
from bench.harness.in_process_router import PHI, QWEN, Router
from bench.harness.recording import Received, Upstreams
from bench.trials.spoofing_attacks import (
    CASE,
    DEFAULT,
    MAX_BODY_BYTES,
    NOBODY,
    ROUTING,
    Attack,
    Attacks,
    Session,
    truth,
)

MODELS: Final = {QWEN: QWEN, "sql-lora": QWEN, PHI: PHI}
TRAP: Final = "trap"

# How an Envoy asks the router: body mode, and further fields of its filter.
GATEWAYS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "full-duplex": ("FULL_DUPLEX_STREAMED", {}),
    "buffered": ("BUFFERED", {}),
    "buffered-override": ("BUFFERED", {"allow_mode_override": True}),
    "buffered-partial": ("BUFFERED_PARTIAL", {"allow_mode_override": True}),
    "streamed": ("STREAMED", {}),
}

SESSION_SECONDS: Final = 30.0
# For what may never be answered.
ENDLESS_SECONDS: Final = 0.3
SETTLE_SECONDS: Final = 30.0
SHOWN_FAULTS: Final = 10


@dataclass(slots=True)
class Result:
    """What came of one run.

    Attributes:
        kinds: requests sent, by kind.
        arrived: requests that reached each pool.
        certain: requests of which it was certain what must become of them.
        trailers: routing fields that reached a pool in the trailers of a request. No route looks at trailers.
        faults: everything that was wrong, in words.
    """

    gateway: str
    seed: int
    requests: int = 0
    sessions: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)
    certain: int = 0
    trailers: int = 0
    faults: list[str] = field(default_factory=list)
    elapsed_seconds: float = 0.0

    def __str__(self) -> str:
        reached = ", ".join(f"{count} {pool.rpartition('/')[2]}" for pool, count in sorted(self.arrived.items()))
        head = (
            f"{self.gateway}: {self.requests} requests on {self.sessions} connections in {self.elapsed_seconds:.1f} s"
        )
        lines = [
            f"{head}, {len(self.faults)} faults",
            f"  reached {reached}; with them {self.trailers} routing fields in trailers",
            f"  it was certain what must become of {self.certain}",
            *(f"  FAULT {fault}" for fault in self.faults[:SHOWN_FAULTS]),
        ]
        if self.faults:
            lines.append(
                "  The number before the dash is a session: repeat it alone with --gateway, --seed and --only."
            )
        return "\n".join(lines)


def run(
    gateway: str,
    *,
    requests: int,
    seed: int,
    only: int | None = None,
    in_flight: int = 16,
    replies: Replies | None = None,
) -> Result:
    """Send `requests` attacks through an Envoy of its own, and judge what arrived.

    Args:
        gateway: one of GATEWAYS.
        only: the number of the one session to send.
        replies: what the router answers with, for runs that must find something.
    """
    mode, fields = GATEWAYS[gateway]
    result = Result(gateway, seed)
    with contextlib.ExitStack() as stack:
        background = stack.enter_context(Background())
        recorder = Upstreams(background, tunnels=False)
        recorder.start(QWEN, PHI, TRAP, DEFAULT)
        stack.callback(recorder.stop)
        router = Router(background, policy=Policy(replies or Replies(), max_body_bytes=MAX_BODY_BYTES))
        stack.callback(router.stop)
        config = _configuration(envoy.router_filter(mode, **fields), router.port, recorder.ports)
        running = stack.enter_context(envoy.gateway(config))
        source = Attacks(f"{seed}/{gateway}", MODELS, f"127.0.0.1:{recorder.ports[TRAP]}")
        attacks: dict[str, Attack] = {}
        sessions = _take(source, attacks, requests, result) if only is None else _one(source, attacks, only, result)
        begun = time.monotonic()
        background.run(_attack(running.port, sessions, in_flight, result), timeout=3600)
        _settle(running, recorder)
        result.elapsed_seconds = time.monotonic() - begun
        result.requests = len(attacks)
        result.kinds.update(attack.kind for attack in attacks.values())
        result.arrived.update(arrived.pool for arrived in recorder.received)
        judge = _Judge(result, attacks, running.access_log.read_text(), mode)
        judge.arrivals(recorder.received)
        judge.certainties(recorder.received)
    return result


def _configuration(router: dict[str, Any], port: int, pools: Mapping[str, int]) -> dict[str, Any]:
    config = envoy.configuration(
        [router],
        port,
        dict(pools),
        http_protocol_options={"enable_trailers": True},
        upgrade_configs=[{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
        delayed_close_timeout="0.1s",
        logged={"case": f"%REQ({CASE})%"},
    )
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {**match, "headers": headers}, "route": {"cluster": pool, "timeout": "60s"}}
        for headers, pool in _matches()
        for match in ({"connect_matcher": {}}, {"prefix": "/"})
    ]
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] in pools:
            options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            cluster["typed_extension_protocol_options"] = {
                options: {
                    "@type": f"type.googleapis.com/{options}",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
                }
            }
    return config


def _matches() -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Yield header matches and pools, in the order of the routes."""
    base, model, _ = ROUTING
    for name, pool in MODELS.items():
        if name == pool:
            yield [{"name": base, "string_match": {"exact": pool}}], pool
        yield [{"name": model, "string_match": {"exact": name}}], pool
    for header in ROUTING:
        yield [{"name": header, "present_match": True}], TRAP
    yield [], DEFAULT


def _take(source: Attacks, attacks: dict[str, Attack], requests: int, result: Result) -> Iterator[Session]:
    while len(attacks) < requests:
        yield from _one(source, attacks, result.sessions, result)


def _one(source: Attacks, attacks: dict[str, Attack], number: int, result: Result) -> Iterator[Session]:
    result.sessions += 1
    session = source.session(number)
    attacks.update((attack.case, attack) for attack in session.attacks)
    yield session


async def _attack(port: int, sessions: Iterator[Session], in_flight: int, result: Result) -> None:
    async def work() -> None:
        for session in sessions:
            client = _http2 if session.frames else _http1
            try:
                async with asyncio.timeout(ENDLESS_SECONDS if session.endless else SESSION_SECONDS):
                    await client(port, session)
            except TimeoutError:
                if not session.endless:
                    result.faults.append(f"{session.attacks[0].case}: no end within {SESSION_SECONDS:g} s")
            except ConnectionError:
                pass  # the gateway's answer to what breaks HTTP's rules

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def _http1(port: int, session: Session) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def read() -> None:
        while await reader.read(1 << 16):
            pass

    async with _while(read(), writer) as reading:
        for octets in session.writes:
            writer.write(octets)
            await writer.drain()
            await asyncio.sleep(0)
        if session.resets:
            writer.transport.abort()
        elif not session.leaves:
            await reading


async def _http2(port: int, session: Session) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = _Http2(reader, writer)
    async with _while(client.receive(), writer):
        for frame in session.frames:
            with contextlib.suppress(h2.exceptions.H2Error):  # the gateway has ended the stream, or all
                if frame.headers is not None:
                    client.connection.send_headers(frame.stream, frame.headers, end_stream=frame.end)
                elif frame.data is not None:
                    await client.send(frame.stream, frame.data, end_stream=frame.end)
                elif frame.reset:
                    client.connection.reset_stream(frame.stream, h2.errors.ErrorCodes.CANCEL)
            await client.flush()
        await client.until(lambda: session.awaited <= client.over)


@contextlib.asynccontextmanager
async def _while(work: Coroutine[Any, Any, None], writer: asyncio.StreamWriter) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the body; then end it and close the connection, with whatever the gateway has done to it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        writer.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Http2:
    """A client that checks nothing of what it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Event()
        self._closed = False
        self.over: set[int] = set()
        config = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()

    async def send(self, stream: int, octets: bytes, *, end_stream: bool) -> None:
        """Send DATA as the windows allow; gives up once the stream or the connection is over."""
        while True:
            if octets:
                await self.until(lambda: stream in self.over or self._room(stream) > 0)
            if self._closed or stream in self.over:
                return
            room = self._room(stream)
            self.connection.send_data(stream, octets[:room], end_stream=end_stream and len(octets) <= room)
            octets = octets[room:]
            await self.flush()
            if not octets:
                return

    def _room(self, stream: int) -> int:
        return min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)

    async def flush(self) -> None:
        """Write what the connection has to send."""
        self._writer.write(self.connection.data_to_send())
        await self._writer.drain()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, or for the end of the connection."""
        while not self._closed and not condition():
            self._news.clear()
            await self._news.wait()

    async def receive(self) -> None:
        """Read until the gateway closes the connection."""
        try:
            while octets := await self._reader.read(1 << 16):
                for event in self.connection.receive_data(octets):
                    if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                        self.over.add(event.stream_id)
                    elif isinstance(event, h2.events.DataReceived):
                        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._news.set()
                await self.flush()
        except (ConnectionError, h2.exceptions.H2Error):
            pass
        finally:
            self._closed = True
            self._news.set()


def _settle(gateway: envoy.Gateway, recorder: Upstreams) -> None:
    """Wait until nothing is on its way to a pool any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while recorder.busy or any(
        value
        for name, value in {**gateway.stats("cluster."), **gateway.stats("http.gateway.")}.items()
        if name.endswith(("upstream_rq_active", "upstream_rq_pending_active", "downstream_rq_active"))
    ):
        if time.monotonic() > deadline:
            raise TimeoutError(f"requests are still on their way after {SETTLE_SECONDS:g} s")
        threading.Event().wait(0.02)


class _Judge:
    """Holds what arrived against what was sent."""

    def __init__(self, result: Result, attacks: Mapping[str, Attack], access_log: str, mode: str) -> None:
        self._result = result
        self._attacks = attacks
        self._mode = mode
        lines = (json.loads(line) for line in access_log.splitlines())
        self._log = {line["case"]: f"{line['code']} {line['details']}" for line in lines}

    def arrivals(self, arrived: Sequence[Received]) -> None:
        """Find what no pool may ever see."""
        for got in arrived:
            case = ", ".join(got.header(CASE))
            attack = self._attacks.get(case)
            if attack is None:
                self._fault(Attack(case, "unknown"), f"nobody sent what reached {got.pool}: {got.method} {got.target}")
                continue
            for fault in _faults(attack, got):
                self._fault(attack, fault)
            self._result.trailers += sum(name.lower() in ROUTING for name, _ in got.trailers)

    def certainties(self, arrived: Sequence[Received]) -> None:
        """Find requests that did not come to what was certain; so a router that refuses all does not pass."""
        whole: dict[str, list[str]] = {}
        for got in arrived:
            if got.complete:
                seen = f"{got.pool}, {got.size} bytes, {got.digest[:8]}"
                whole.setdefault(", ".join(got.header(CASE)), []).append(seen)
        for attack in self._attacks.values():
            digest = hashlib.sha256(attack.body).hexdigest()[:8]
            wanted = [] if attack.expected == NOBODY else [f"{attack.expected}, {len(attack.body)} bytes, {digest}"]
            if self._is_certain(attack):
                self._result.certain += 1
                received = whole.get(attack.case, [])
                if received != wanted:
                    self._fault(attack, f"received by {received or NOBODY}, not by {wanted or NOBODY}")

    def _is_certain(self, attack: Attack) -> bool:
        if self._mode == "STREAMED":
            # It shows the router a body when the headers are gone, and not the end of one that trailers end.
            return attack.expected in (NOBODY, DEFAULT) if attack.unfinished else attack.expected == DEFAULT
        if self._mode == "BUFFERED_PARTIAL" and "trailers" in attack.kind:
            return False  # whether a body that trailers end is whole can't be told from one that was cut off
        return bool(attack.expected)

    def _fault(self, attack: Attack, what: str) -> None:
        logged = self._log.get(attack.case, "nothing")
        self._result.faults.append(f"{attack.case} ({attack.kind}): {what}; the gateway's log says {logged}")


def _faults(attack: Attack, got: Received) -> Iterator[str]:
    """Yield what is wrong about an arrival, whatever the request was."""
    named = truth(attack.body, MODELS, form=attack.form)
    if got.pool != DEFAULT and (named is None or got.pool != named[1]):
        yield f"reached {got.pool}, which its body does not name"
    base, model, destination = ROUTING
    routed = got.pool != DEFAULT and named is not None
    wanted = {base: [named[1]], model: [named[0]]} if routed else {base: [], model: []}
    for name, values in {**wanted, destination: []}.items():
        if got.header(name) != values:
            yield f"{got.pool} received {name} {[value[:80] for value in got.header(name)]}, not {values}"


def main(arguments: list[str] | None = None) -> int:
    """Run the attacks from the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.trials.spoofing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the attacks (default: a new one, which is printed)")
    parser.add_argument("--gateway", choices=[*GATEWAYS], action="append", help="only this one; may be repeated")
    parser.add_argument("--only", type=int, metavar="SESSION", help="send this one session")
    parser.add_argument("--kinds", action="store_true", help="also tell how many of each kind were sent")
    given = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    gateways = given.gateway or list(GATEWAYS)
    print(f"seed {seed}", flush=True)
    results = []
    for gateway in gateways:
        results.append(run(gateway, requests=-(-given.requests // len(gateways)), seed=seed, only=given.only))
        print(results[-1], flush=True)
    if given.kinds:
        kinds = sum((result.kinds for result in results), Counter[str]())
        print(*(f"  {count:>7} {kind}" for kind, count in kinds.most_common()), sep="\n")
    faults = sum(len(result.faults) for result in results)
    trailers = sum(result.trailers for result in results)
    requests = sum(result.requests for result in results)
    print(f"{requests} requests, {faults} faults, {trailers} routing fields in trailers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
