"""The Go routers beside ours: the body-based router of GIE, and llm-d's inference payload processor (IPP).

    python -m bench.harness.go_router build [--ipp]
    python -m bench.harness.go_router -- COMMAND...

`build` gets cmd/bbr of kubernetes-sigs/gateway-api-inference-extension (with --ipp: cmd of llm-d's
llm-d-inference-payload-processor) from the Go module proxy, checks it against the checksum database as Go does, and
compiles it into .cache/go-router (it needs Go, 1.25 or later, and a few minutes).

COMMAND, a benchmark such as `python -m bench.published.direct`, is run with two processes of it as peers
(bench.harness.peer): one process serves one body mode, so one has --streaming and one has not.

How they run, so that whoever doubts the comparison can judge it:

- in plaintext, without pprof, tracing and authorization of scrapes, none of which our router does there either;
- on one processor, bound to it before the start, so that Go's runtime sees one and starts no more threads than that;
- with --v=0. Its chart gives --v=3, which writes several lines for each request and costs it more: --verbosity=3;
- with a table of one base model, as ConfigMap, from a scripted API server on loopback; ours has no table, so that the
  model is its own base in both, and both set the same two headers.

They count as running when each has answered an exchange with both headers, which takes its ConfigMaps.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from bbr.exchange.policy import BodyMode
from bench.harness import machine, messages, workload
from bench.harness.background import Background
from bench.harness.fake_kubernetes import BBR, CONFIG_MAPS, FakeKubernetes
from bench.harness.figures import COMMAND_VARIABLE
from bench.harness.peer import Peer
from bench.harness.ports import free_ports
from bench.harness.processes import ending

ROOT: Final = Path(__file__).resolve().parents[2]


class Program(NamedTuple):
    """A Go router.

    Attributes:
        name: of its program, with the version behind it, in the cache of the machine that deploy/lab fills.
        module: as the Go module proxy has it.
        version: of the module.
        package: of its command, in the module.
        streams_only: whether it has full duplex alone, and so no --streaming.
    """

    name: str
    module: str
    version: str
    package: str
    streams_only: bool = False

    @property
    def own(self) -> Path:
        """Where this module builds it."""
        return ROOT / ".cache" / "go-router" / self.version / self.name

    @property
    def binary(self) -> Path:
        """Where the built program is: here, or in the cache of the machine. Where it would be, if it is not built."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        shared = cache / "bbr-lab" / "bin" / f"{self.name}-{self.version}"
        return shared if shared.is_file() and not self.own.is_file() else self.own

    @property
    def built(self) -> bool:
        """Whether the program has been built."""
        return self.binary.is_file()


GIE: Final = Program("go-bbr", "sigs.k8s.io/gateway-api-inference-extension", "v1.5.0", "./cmd/bbr")
IPP: Final = Program("ipp", "github.com/llm-d/llm-d-inference-payload-processor", "v0.1.0", "./cmd", streams_only=True)
VERSION: Final = GIE.version
NAME: Final = f"Go {VERSION}"


TABLE: Final = {"baseModel": workload.MODEL}

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 10.0
# client-go opens its list as a watch by default, which the scripted server does not know.
ENVIRONMENT: Final = {"KUBE_FEATURE_WatchListClient": "false", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
_DISCOVERY: Final[dict[str, dict[str, Any]]] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "configmaps",
                "singularName": "configmap",
                "namespaced": True,
                "kind": "ConfigMap",
                "verbs": ["get", "list", "watch"],
            }
        ],
    },
}


class GoRouterError(Exception):
    """The Go router can't be had or does not start; the message says why."""


def built(version: str = VERSION) -> bool:
    """Return whether GIE's router has been built."""
    return GIE._replace(version=version).built


def build(program: Program = GIE) -> Path:
    """Get and compile a program.

    Raises:
        GoRouterError: there is no Go, or it failed; with what it said.
    """
    if shutil.which("go") is None:
        raise GoRouterError("the Go router is built by Go, which is not installed here")
    with tempfile.TemporaryDirectory() as scratch:
        told = _go(["mod", "download", "-json", f"{program.module}@{program.version}"], Path(scratch))
    folder = Path(json.loads(told)["Dir"])
    # By name, not `go install`: that asks the proxy for all versions first, which not every proxy tells.
    _go(["build", "-o", str(program.own), program.package], folder)
    return program.own


def _go(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        ["go", *words],
        cwd=folder,
        env=os.environ | {"GOWORK": "off", "GOFLAGS": "-mod=mod" if words[0] == "mod" else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GoRouterError(f"go {shlex.join(words)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def flags(
    ports: Sequence[int], *, streaming: bool, verbosity: int, program: Program = GIE, tls: bool = False
) -> list[str]:
    """Return the program's arguments: ports for ext_proc, health and metrics, and how it runs."""
    names = ("grpc-port", "grpc-health-port", "metrics-port")
    found = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    off = ("metrics-endpoint-auth", "enable-pprof", "tracing")
    found += [] if program.streams_only else [f"--streaming={str(streaming).lower()}"]
    return [*found, f"--secure-serving={str(tls).lower()}", *(f"--{name}=false" for name in off), f"--v={verbosity}"]


@contextmanager
def api_server(data: Mapping[str, str] = TABLE, label: str = BBR) -> Iterator[Path]:
    """Run an API server with the table as one ConfigMap, with a label; give a kube config for it."""
    with cluster(data, label) as (_, _, kube_config):
        yield kube_config


@contextmanager
def cluster(data: Mapping[str, str], label: str) -> Iterator[tuple[FakeKubernetes, Background, Path]]:
    """Run an API server as `api_server` does; give it, the loop that it runs in, and a kube config for it."""
    with tempfile.TemporaryDirectory() as scratch, Background() as background:
        server = FakeKubernetes()
        server.documents = dict(_DISCOVERY)
        background.run(server.start())
        server.put("bbr-benchmark", data=dict(data), labels=[label], kind="ConfigMap", apiVersion="v1")
        (table,) = server.objects()
        version = {"resourceVersion": str(server.version)}
        server.documents[CONFIG_MAPS] = {
            "kind": "ConfigMapList",
            "apiVersion": "v1",
            "metadata": version,
            "items": [table],
        }
        try:
            yield server, background, server.kubeconfig(Path(scratch))
        finally:
            background.run(server.stop())


@dataclass(frozen=True)
class Way:
    """How a process runs.

    Attributes:
        name: of the peer.
        program: which one.
        streaming: full duplex; buffered bodies without.
        verbosity: of its log.
        processors: that it may use; Go's runtime sees so many.
        tls: it serves TLS by a certificate that it makes.
    """

    name: str
    program: Program = GIE
    streaming: bool = True
    verbosity: int = 0
    processors: int = 1
    tls: bool = False


@contextmanager
def process(kube_config: Path, way: Way) -> Iterator[Peer]:
    """Run one process, bound to its processors, until it answers an exchange rightly.

    Raises:
        GoRouterError: it is not built, it ended, or it did not answer so in 30 s.
    """
    if not way.program.built:
        ipp = " --ipp" if way.program.streams_only else ""
        raise GoRouterError(
            f"{way.program.name} {way.program.version} is not built: python -m bench.harness.go_router build{ipp}"
        )
    cpus = (machine.SERVER_CPU, machine.LOAD_CPU)[: way.processors]
    prefix = ("taskset", "-c", ",".join(map(str, cpus)))
    ready = partial(answers, streaming=way.streaming, tls=way.tls)
    with started(
        way.program, kube_config, ready, streaming=way.streaming, verbosity=way.verbosity, prefix=prefix, tls=way.tls
    ) as (pid, ports):
        yield Peer(way.name, ports[0], pid, way.processors, way.tls)


@contextmanager
def started(
    program: Program,
    kube_config: Path,
    ready: Callable[[int], bool],
    *,
    streaming: bool = True,
    verbosity: int = 0,
    prefix: Sequence[str] = (),
    tls: bool = False,
) -> Iterator[tuple[int, list[int]]]:
    """Run a program until `ready` says so of its port; give its process and its ports: ext_proc, health, metrics.

    Raises:
        GoRouterError: it ended, or was not ready in 30 s.
    """
    ports = free_ports(3)
    command = [*prefix, str(program.binary)]
    command += flags(ports, streaming=streaming, verbosity=verbosity, program=program, tls=tls)
    environment = ENVIRONMENT | {"KUBECONFIG": str(kube_config)}
    nothing = subprocess.DEVNULL
    with (
        subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing) as running,
        ending(running, _END_SECONDS),
    ):
        deadline = time.monotonic() + _START_SECONDS
        while not ready(ports[0]):
            if running.poll() is not None:
                raise GoRouterError(f"the Go router has ended with status {running.returncode}")
            if time.monotonic() > deadline:
                raise GoRouterError(f"the Go router sets no model's headers after {_START_SECONDS:g} s")
            time.sleep(0.1)
        yield running.pid, ports


def answers(port: int, *, streaming: bool, tls: bool = False) -> bool:
    """Tell whether a router answers an exchange with the model in both headers."""
    if streaming:
        sent = workload.exchange(100)
    else:
        head = messages.request_headers(workload.HEADERS, mode=BodyMode.BUFFERED)
        sent = [head, messages.request_body(workload.body(100), end_of_stream=True)]
    try:
        asked = machine.ask_unverified if tls else machine.ask
        came = [messages.parse(each) for each in asked(port, sent)]
    except (AssertionError, grpc.RpcError):
        return False
    if not came:
        return False
    part = came[0].request_headers if streaming else came[-1].request_body
    return workload.routed(part.response.header_mutation)


@contextmanager
def running(version: str = VERSION, verbosity: int = 0) -> Iterator[list[Peer]]:
    """Run the Go router for full duplex and for buffered bodies, as two peers.

    Raises:
        GoRouterError: it is not built, or does not start.
    """
    program = GIE._replace(version=version)
    ways = [Way(f"Go {version}", program, streaming, verbosity) for streaming in (True, False)]
    with ExitStack() as stack:
        kube_config = stack.enter_context(api_server())
        yield [stack.enter_context(process(kube_config, way)) for way in ways]


def arguments(peers: Sequence[Peer]) -> list[str]:
    """Return the peers as a benchmark's arguments (bench.harness.peer)."""
    return [
        word
        for peer in peers
        for word in (
            f"--peer={'tls:' * peer.tls}127.0.0.1:{peer.port}",
            f"--peer-pid={peer.pid}",
            f"--peer-name={peer.name}",
            f"--peer-processors={peer.processors}",
        )
    ]


def main(words: list[str] | None = None) -> int:
    """Build the Go router, or run a command beside it and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.harness.go_router",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ipp", action="store_true", help="build llm-d's payload processor")
    parser.add_argument("--version", default=VERSION, help=f"of the Go router ({VERSION})")
    parser.add_argument("--verbosity", type=int, default=0, help="its --v (0; its chart gives 3)")
    parser.add_argument("command", nargs="+", metavar="build | -- COMMAND", help="what to do")
    given = parser.parse_args(words)
    try:
        if given.command == ["build"]:
            print(build(IPP if given.ipp else GIE._replace(version=given.version)))
            return 0
        with running(given.version, given.verbosity) as peers:
            options = [f"--version={given.version}"] if given.version != VERSION else []
            options += [f"--verbosity={given.verbosity}"] if given.verbosity else []
            shown = [word for word in given.command if not word.startswith("--json=")]
            said = shlex.join(["python", "-m", "bench.harness.go_router", *options, "--", *shown])
            environment = os.environ | {COMMAND_VARIABLE: said}
            command = [sys.executable if given.command[0] == "python" else given.command[0], *given.command[1:]]
            return subprocess.run([*command, *arguments(peers)], env=environment, check=False).returncode
    except GoRouterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
