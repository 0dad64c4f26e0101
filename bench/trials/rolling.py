"""Two routers behind one Envoy, load at a steady rate, and everything that happens to a replica. `make rolling`

The gateway is the local stack's (deploy/local/envoy.yaml), with two endpoints for the router's cluster instead of one
and TLS to them; behind it are direct responses, or the stack's endpoint pickers and model servers. Two phases each:

  rolling  the replicas are restarted by SIGTERM, one after the other; between that, certificates are rotated and the
           model table is rewritten; connections live for --age seconds. No request may fail.
  kill     the replicas are killed by SIGKILL, one after the other. No request of up to SMALL_BYTES may fail; of larger
           ones Envoy keeps no copy to send again, and those that have failed are counted.

Every answer is held against what it must be: status, pool, model, and behind the stack the digest of the body.
"""

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import itertools
import json
import random
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml

from bench.harness import envoy
from bench.harness.certificates import Authority, client_context
from bench.harness.http1 import Reply, post
from bench.harness.processes import READY, Bbr
from bench.harness.steady_load import Report, Request, Steady
from deploy.local.gateway import render
from deploy.local.stack import Stack, StackOptions
from deploy.local.topology import DEFAULT_PORTS, free_ports, load_adapters, pool_of

SEED: Final = 7
# Bodies by their share of the requests. Up to SMALL_BYTES Envoy can send a request's messages once more.
SMALL_BYTES: Final = 60_000
SIZES: Final = {1_000: 80, 10_000: 15, SMALL_BYTES: 4, 200_000: 1}
RATES: Final = {"direct": 1_000.0, "stack": 300.0}
AGE_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 25.0
CHANGE_SECONDS: Final = 1.0
HEALTHY_SECONDS: Final = 30.0

Announce = Callable[[str], None]


@dataclass
class Files:
    """What the replicas read: a certificate of an authority's, and the model table; all of it can be replaced."""

    folder: Path
    authority: Authority = field(default_factory=Authority)
    fillers: int = 0

    def __post_init__(self) -> None:
        self.cert, self.key, self.models = (self.folder / name for name in ("cert.pem", "key.pem", "models.yaml"))
        self.rotate()
        self.swap()

    def rotate(self) -> None:
        """Replace certificate and key by new ones of the same authority; the key first, so that no one reads half."""
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        issued = self.authority.issue("localhost", not_after=end)
        _replace(self.key, issued.key_pem)
        _replace(self.cert, issued.chain_pem)

    def certificate(self) -> bytes:
        """Return the certificate, DER."""
        first, end, _ = self.cert.read_text().partition(ssl.PEM_FOOTER)
        return ssl.PEM_cert_to_DER_cert(first + end)

    def swap(self) -> None:
        """Replace the table by one that has the same models and another hundred that nobody asks for."""
        models: list[dict[str, Any]] = [
            {"name": base, "adapters": list(adapters)} for base, adapters in load_adapters().items()
        ]
        models += [{"name": f"filler-{number}"} for number in range(self.fillers, self.fillers + 100)]
        self.fillers += 100
        _replace(self.models, yaml.safe_dump({"models": models}).encode())


def _replace(path: Path, octets: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(octets)
    draft.replace(path)


class Replica:
    """One router on ports of its own, which it keeps when it is started again."""

    def __init__(self, name: str, files: Files, age: float, *, tls: bool) -> None:
        first, second = free_ports(("ext_proc", "health")).values()
        self.name = name
        self.ports = first, second
        self._arguments = [f"--models={files.models}", f"--max-connection-age={age:g}"]
        self._arguments += ["--drain-delay-seconds=3", f"--drain-seconds={DRAIN_SECONDS:g}"]
        if tls:
            self._arguments += ["--secure-serving=true", f"--tls-cert={files.cert}", f"--tls-key={files.key}"]
        self._process: Bbr | None = None

    @property
    def process(self) -> Bbr:
        """The running process."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start the process and await its readiness."""
        self._process = Bbr(*self._arguments, ports=self.ports)
        assert self._process.wait_for(READY), self._process.stderr

    def terminate(self) -> None:
        """End the process as Kubernetes does; it must say that it has gone in peace."""
        status = self.process.stop()
        told = self.process.stderr
        self.process.close()
        assert status == 0, f"{self.name} ended with {status}:\n{told}"
        assert "still had requests" not in told, told

    def close(self) -> None:
        """End the process by SIGKILL, if it runs."""
        if self._process is not None:
            self._process.close()


def configuration(ports: dict[str, int], replicas: Sequence[Replica], files: Files, *, tls: bool, direct: bool) -> Any:
    """Return the local stack's bootstrap with the replicas as its router cluster's endpoints.

    With `direct` the pools' routes answer themselves, and tell what the router has set.
    """
    config = yaml.safe_load(render(ports))
    listener = config["static_resources"]["listeners"][0]
    for address in (config["admin"]["address"], listener["address"]):
        address["socket_address"]["port_value"] = 0
    bbr = next(cluster for cluster in config["static_resources"]["clusters"] if cluster["name"] == "bbr")
    endpoint = bbr["load_assignment"]["endpoints"][0]
    endpoint["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": replica.ports[0]}}}}
        for replica in replicas
    ]
    if tls:
        trusted = {"trusted_ca": {"inline_string": files.authority.root_pem.decode()}}
        context = {"alpn_protocols": ["h2"], "validation_context": trusted}
        kind = f"{envoy.TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"
        bbr["transport_socket"] = {
            "name": "tls",
            "typed_config": {"@type": kind, "sni": "localhost", "common_tls_context": context},
        }
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [_log_of_failures()]
    if direct:
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            if "route" in route:
                _answer_directly(route)
    return config


def _log_of_failures() -> dict[str, Any]:
    failed = {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "rolling.logged"}}}
    log = envoy._access_log({"host": "%UPSTREAM_HOST%", "time": "%START_TIME%", "ms": "%DURATION%"})
    return {**log, "filter": {"status_code_filter": failed}}


def _answer_directly(route: dict[str, Any]) -> None:
    del route["route"]
    route["direct_response"] = {"status": 200, "body": {"inline_string": "{}"}}
    told = {
        "x-pool": route["name"],
        "x-seen-model-name": "%REQ(X-GATEWAY-MODEL-NAME)%",
        "x-seen-base-model-name": "%REQ(X-GATEWAY-BASE-MODEL-NAME)%",
    }
    route["response_headers_to_add"] = [{"header": {"key": key, "value": value}} for key, value in told.items()]
    kind = f"{envoy.TYPES}.filters.http.ext_proc.v3.ExtProcPerRoute"
    route["typed_per_filter_config"]["epp"] = {"@type": kind, "disabled": True}


def requests(*, direct: bool) -> Iterator[Request]:
    """Give chats for all models, of SIZES, without an end; seeded."""
    models = {name: base for base, adapters in load_adapters().items() for name in (base, *adapters)}
    made = {(model, size): _chat(model, base, size, direct) for model, base in models.items() for size in SIZES}
    rng = random.Random(SEED)
    sizes = rng.choices(list(SIZES), list(SIZES.values()), k=10_000)
    names = rng.choices(list(models), k=10_000)
    return itertools.cycle(made[each] for each in zip(names, sizes, strict=True))


def _chat(model: str, base: str, size: int, direct: bool) -> Request:
    document = {"model": model, "messages": [{"role": "user", "content": ""}]}
    document["messages"] = [{"role": "user", "content": "x" * (size - len(json.dumps(document)))}]
    body = json.dumps(document).encode()
    wanted = {
        "x-pool": pool_of(base).name,
        "x-seen-model-name": model,
        "x-seen-base-model-name": base,
    }
    if not direct:
        wanted["x-body-sha256"] = hashlib.sha256(body).hexdigest()

    def fault(answer: Reply) -> str:
        if answer.status != 200:
            return f"not 200: {answer.body[:200].decode('utf-8', 'replace')}"
        wrong = {key: answer.headers.get(key) for key, value in wanted.items() if answer.headers.get(key) != value}
        return f"{wrong}, not {wanted}" if wrong else ""

    return Request(f"{size:,} B", post("/v1/chat/completions", body), fault)


@dataclass
class Scene:
    """A gateway, its two replicas, and what they read."""

    gateway: envoy.Gateway
    replicas: list[Replica]
    files: Files
    direct: bool
    tls: bool
    patience: float  # seconds within which a rotated certificate must be served

    def healthy(self) -> None:
        """Await that the gateway takes both replicas for healthy."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        name = "cluster.bbr.membership_healthy"
        while self.gateway.stats(name)[name] < len(self.replicas):
            assert time.monotonic() < deadline, f"the replicas are not healthy after {HEALTHY_SECONDS:g} s"
            time.sleep(0.05)  # runs in a thread of its own

    def rotated(self) -> bool:
        """Rotate the certificates; tell whether all replicas serve the new one to new connections."""
        self.files.rotate()
        self.hang_up()
        wanted = self.files.certificate()
        deadline = time.monotonic() + self.patience
        while not all(self._serves(replica) == wanted for replica in self.replicas):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)  # runs in a thread of its own
        return True

    def _serves(self, replica: Replica) -> bytes | None:
        context = client_context(self.files.authority.root_pem, "h2")
        with (
            socket.create_connection(("127.0.0.1", replica.ports[0]), HEALTHY_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True)

    def hang_up(self) -> None:
        """Tell all replicas that their files have changed."""
        for each in self.replicas:
            each.process.signal(signal.SIGHUP)


async def rolling(scene: Scene, announce: Announce, over: asyncio.Event) -> None:
    """Restart the replicas in turn, and change their files between that, until it is over."""
    for replica in itertools.cycle(scene.replicas):
        announce(f"SIGTERM to {replica.name}")
        await asyncio.to_thread(replica.terminate)
        announce(f"{replica.name} is gone")
        await asyncio.to_thread(replica.start)
        await asyncio.to_thread(scene.healthy)
        announce(f"{replica.name} is back")
        if scene.tls:
            new = await asyncio.to_thread(scene.rotated)
            announce(f"certificates rotated: new connections get the {'new' if new else 'OLD'} one")
        await asyncio.to_thread(scene.files.swap)
        scene.hang_up()
        announce("table swapped")
        if await _is_over(over):
            return


async def killing(scene: Scene, announce: Announce, over: asyncio.Event) -> None:
    """Kill the replicas in turn, until it is over."""
    for replica in itertools.cycle(scene.replicas):
        announce(f"SIGKILL to {replica.name}")
        await asyncio.to_thread(replica.close)
        await asyncio.sleep(CHANGE_SECONDS)
        await asyncio.to_thread(replica.start)
        await asyncio.to_thread(scene.healthy)
        announce(f"{replica.name} is back")
        if await _is_over(over):
            return


async def _is_over(over: asyncio.Event) -> bool:
    """Pause between two replicas, and tell whether to end."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), CHANGE_SECONDS)
    return over.is_set()


PHASES: Final[dict[str, Callable[[Scene, Announce, asyncio.Event], Coroutine[Any, Any, None]]]] = {
    "rolling": rolling,
    "kill": killing,
}


async def run(scene: Scene, phase: str, rate: float, seconds: float, announce: Announce) -> Report:
    """Put a load on a scene while a phase goes on; return what came of the load."""
    load = Steady(scene.gateway.port, requests(direct=scene.direct))
    over = asyncio.Event()
    begun = time.perf_counter()
    acting = asyncio.create_task(
        PHASES[phase](scene, lambda text: announce(f"  {time.perf_counter() - begun:7.3f} s  {text}"), over)
    )
    try:
        report = await load.run(rate, seconds)
    finally:
        over.set()
        load.close()
        await acting
    return report


@contextmanager
def scene(
    ports: dict[str, int], *, direct: bool, tls: bool, age: float = AGE_SECONDS, patience: float = CHANGE_SECONDS
) -> Iterator[Scene]:
    """Run a gateway and two replicas; behind the gateway are the stack's parts on `ports`, or direct responses."""
    with ExitStack() as stack:
        files = Files(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        replicas = [Replica(f"replica {name}", files, age, tls=tls) for name in "AB"]
        for replica in replicas:
            stack.callback(replica.close)
            replica.start()
        config = configuration(ports, replicas, files, tls=tls, direct=direct)
        gateway = stack.enter_context(envoy.gateway(config))
        made = Scene(gateway, replicas, files, direct, tls, patience)
        made.healthy()
        yield made


@asynccontextmanager
async def pools(*, direct: bool) -> AsyncIterator[dict[str, int]]:
    """Run the stack's endpoint pickers and model servers, unless answers are direct; give the ports."""
    if direct:
        yield dict(DEFAULT_PORTS)
        return
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(StackOptions(log_dir=Path(folder), ports=free_ports())) as stack:
            yield dict(stack.ports)


def lost(report: Report, phase: str) -> int:
    """Return how many have failed that must not."""
    large = f"{max(SIZES):,} B"
    return sum(count for (kind, _), count in report.failed.items() if phase != "kill" or kind != large)


def gateway_tells(scene: Scene) -> Iterator[str]:
    """Give what the gateway has counted for the routers' cluster, and the last requests that it did not answer well."""
    stats = scene.gateway.stats("cluster.bbr.")
    names = ["upstream_rq_retry", "upstream_rq_retry_overflow", "upstream_cx_total", "upstream_cx_connect_fail"]
    names += ["upstream_cx_close_notify", "upstream_rq_rx_reset", "upstream_cx_destroy_remote_with_active_rq"]
    yield "  gateway: " + ", ".join(f"{name} {stats.get(f'cluster.bbr.{name}', 0)}" for name in names)
    yield from (f"  gateway: {line}" for line in scene.gateway.access_log.read_text().splitlines()[-5:])


async def main() -> int:
    """Run all phases; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in each phase (60)")
    parser.add_argument("--behind", choices=RATES, action="append", help="what stands behind the gateway (both)")
    parser.add_argument("--phase", choices=PHASES, action="append", help="(both)")
    parser.add_argument("--rate", type=float, help="requests per second (1,000 direct, 300 with the stack)")
    parser.add_argument("--age", type=float, default=AGE_SECONDS, help="--max-connection-age of the routers (5)")
    parser.add_argument("--plaintext", action="store_true", help="no TLS between gateway and routers")
    given = parser.parse_args()
    failed = 0
    for behind in given.behind or RATES:
        direct = behind == "direct"
        async with pools(direct=direct) as ports:
            for phase in given.phase or PHASES:
                with scene(ports, direct=direct, tls=not given.plaintext, age=given.age) as made:
                    print(f"{phase}, {behind}", flush=True)
                    report = await run(made, phase, given.rate or RATES[behind], given.seconds, print)
                    print(*(f"  {line}" for line in report.lines()), *gateway_tells(made), sep="\n", flush=True)
                failed += lost(report, phase)
    print(f"{failed} requests were lost that must not be" if failed else "nothing was lost")
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(uvloop.run(main()))
