"""The gateways of bench.published.gateway: Envoys that differ in one filter, the routers, and the model servers.

"none"              no filter; all go to the default pool. Envoy hands a body on as it comes.
"none, body read"   Envoy's buffer filter: the body is read before it goes on, as any way must that reads it. The floor.
"uv", "grpcio"      our router by either transport, one Envoy for each body mode.
"uv polling"        uv with --busy-poll=0.001, for one request at a time only.
"Lua"               Envoy's own filter with a script that buffers the body, finds the model and sets the header.
"json_to_metadata"  Envoy's own filter; the routes match its metadata, since it sets no header.
peers               other ext_proc servers, one Envoy for each body mode that they answer in.

All routers and the script set the model's header, and the same routes match it; a client's own copy is overwritten or
removed. Envoy's own ways run in its process, so they save a second one. What they can't do: send a base model's
adapters to its pool without a route or a line of script for each; tell a client that its model is missing or unknown;
read a body in gzip or multipart; refuse a body with two models (the script takes the first, the metadata filter the
last, whichever the model server takes), or one that is too long by a limit other than that of Envoy's buffer; start
a long request before its body has ended. The script reads no escapes, and with json_to_metadata the model server gets
no model's header, or whatever the client has sent as one.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bench.harness import envoy, machine, workload
from bench.harness.http1_load import Client, Run, WrongReplyError, request
from bench.harness.peer import Peer
from bench.published.gateway_cells import BUFFERED, FDS, Cell, body
from bench.published.gateway_pools import tale

POOLS: Final = ("default", workload.MODEL)
MODEL_HEADER: Final = "x-gateway-model-name"

NONE: Final = "none"
READ: Final = "none, body read"
POLLING: Final = "uv polling"
LUA: Final = "Lua"
METADATA: Final = "json_to_metadata"

# Connections of an open loop: more than are ever busy at a rate that is sustained.
OPEN_CONNECTIONS: Final = 64

T = TypeVar("T")

_CHECK_SECONDS: Final = 5.0
_NAMESPACE: Final = "bench"
_BUFFER_BYTES: Final = 16 << 20

_SCRIPT: Final = """
function model(text)
  local at, depth, name = 1, 0, nil
  while true do
    local found, _, sign = text:find('(["{}%[%]])', at)
    if not found then return nil end
    at = found + 1
    if sign == '"' then
      -- A plain search is memchr's; a quote that an odd number of backslashes stands before is the string's own.
      local stop = at - 1
      repeat
        stop = text:find('"', stop + 1, true)
        if not stop then return nil end
        local before = stop - 1
        while text:byte(before) == 92 do before = before - 1 end
      until (stop - 1 - before) % 2 == 0
      if depth == 1 then
        local value = text:sub(at, stop - 1)
        if name == 'model' then return value end
        name = text:find('^%s*:%s*"', stop + 1) and value or nil
      end
      at = stop + 1
    elseif sign == '{' or sign == '[' then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
end

function envoy_on_request(handle)
  handle:headers():remove('MODEL_HEADER')
  local body = handle:body()
  local found = body and model(body:getBytes(0, body:length()))
  if found then handle:headers():replace('MODEL_HEADER', found) end
  handle:clearRouteCache()
end
"""


@dataclass
class Turn:
    """What one round of one variant gave.

    Attributes:
        run: of the client.
        cpu: microseconds of processor time by request: of "router", "Envoy" and "client".
    """

    run: Run
    cpu: dict[str, float]


@dataclass
class Contender:
    """One gateway.

    Attributes:
        name: of the variant.
        gateway: Envoy.
        mode: of the cells in which it takes part; "" for both.
        router: the process's id of its ext_proc server; None without one.
        pool: that the requests must reach.
        must: it must answer; any other may be left out of a cell.
        client: the connections of the cell that is measured.
        turns: the rounds of that cell that count.
        missed: the cells that it was left out of, and why.
    """

    name: str
    gateway: envoy.Gateway
    mode: str = ""
    router: int | None = None
    pool: str = POOLS[1]
    must: bool = True
    client: Client | None = None
    turns: list[Turn] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def takes_part(self, cell: Cell) -> bool:
        """Tell whether the cell is of the variant's."""
        alone = cell.loop == "closed" and cell.concurrency == 1
        if self.name in (LUA, METADATA):  # they always hold the body, whatever ext_proc's mode
            return cell.loop == "closed" and cell.mode == FDS
        return self.mode in ("", cell.mode) and (self.name != POLLING or alone)

    def answers(self, cell: Cell) -> bool:
        """Send one request of the cell and tell whether it is answered rightly; see `attempt`."""
        octets, told = self.work(cell)

        def once() -> Run:
            with Client(self.gateway.port, 1, _CHECK_SECONDS) as client:
                return client.closed(octets, told, 0.0)

        return self.attempt(cell, once) is not None

    def attempt(self, cell: Cell, work: Callable[[], T]) -> T | None:
        """Return what comes of some work with a cell's requests; None if one is answered wrongly, which is said.

        Raises:
            WrongReplyError: one is, and the variant must answer.
        """
        try:
            return work()
        except WrongReplyError as error:
            if self.must:
                raise
            self.missed.append(f"{cell.name}: without {self.name}: {str(error)[:150]}")
            print(self.missed[-1], flush=True)
            return None

    def work(self, cell: Cell) -> tuple[bytes, bytes]:
        """Return a cell's request, and the right answer's body."""
        octets = body(cell)
        fields = {name: value for name, value in workload.HEADERS.items() if not name.startswith("x-envoy")}
        fields.pop("x-request-id")  # Envoy makes up one for each
        if cell.kind == "gzip":
            fields["content-encoding"] = "gzip"
        return request(fields, octets), tale(self.pool, octets)

    def measure(self, cell: Cell) -> Turn:
        """Return what one turn gives."""
        assert self.client is not None
        octets, told = self.work(cell)
        pids = {"Envoy": self.gateway.pid, "client": 0} | ({"router": self.router} if self.router else {})
        before = {name: machine.cpu_seconds(pid) for name, pid in pids.items()}
        if cell.rate:
            run = self.client.open(octets, told, cell.rate, cell.seconds)
        else:
            run = self.client.closed(octets, told, cell.seconds)
        count = run.answered
        return Turn(run, {name: (machine.cpu_seconds(pid) - before[name]) / count * 1e6 for name, pid in pids.items()})


@contextmanager
def upstreams() -> Iterator[dict[str, int]]:
    """Run the pools; give their ports by name."""
    command = [sys.executable, "-m", "bench.published.gateway_pools", *POOLS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        machine.pin(process.pid, machine.LOAD_CPU)
        yield dict(zip(POOLS, map(int, ports), strict=True))


def own_filter(name: str) -> dict[str, Any]:
    """Return the filter of Envoy's own that a variant is."""
    filters = f"{envoy.TYPES}.filters.http"
    if name == READ:
        config = {"@type": f"{filters}.buffer.v3.Buffer", "max_request_bytes": _BUFFER_BYTES}
    elif name == LUA:
        script = _SCRIPT.replace("MODEL_HEADER", MODEL_HEADER)
        config = {"@type": f"{filters}.lua.v3.Lua", "default_source_code": {"inline_string": script}}
    else:
        present = {"metadata_namespace": _NAMESPACE, "key": "model"}
        rules = [{"selectors": [{"key": "model"}], "on_present": present}]
        config = {"@type": f"{filters}.json_to_metadata.v3.JsonToMetadata", "request_rules": {"rules": rules}}
    return {"name": name, "typed_config": config}


def configuration(
    filters: Sequence[dict[str, Any]], router_port: int, pools: dict[str, int], *, tracer: bool = False
) -> dict[str, Any]:
    """Return Envoy's bootstrap: as deployed, but without an access log."""
    manager: dict[str, Any] = {"access_log": []}
    if tracer:
        config = {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": "default"}},
        }
        provider = {"name": "envoy.tracers.opentelemetry", "typed_config": config}
        manager["tracing"] = {"provider": provider, "random_sampling": {"value": 0}}
    match: dict[str, Any] = {"headers": [{"name": MODEL_HEADER, "string_match": {"exact": workload.MODEL}}]}
    if any(each["name"] == METADATA for each in filters):
        value = {"string_match": {"exact": workload.MODEL}}
        match = {"dynamic_metadata": [{"filter": _NAMESPACE, "path": [{"key": "model"}], "value": value}]}
    routes = [
        {"match": {"prefix": "/", **match}, "route": {"cluster": POOLS[1], "timeout": "60s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": POOLS[0], "timeout": "60s"}},
    ]
    manager["route_config"] = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
    made = envoy.configuration(list(filters), router_port, pools, **manager)
    for cluster in made["static_resources"]["clusters"]:
        # As docs/reference/envoy.md advises: Envoy's defaults are 1,024 connections and three retries at a time.
        cluster["circuit_breakers"]["thresholds"][0] |= {"max_connections": 1 << 16, "max_retries": 1 << 16}
    return made


@contextmanager
def contenders(peers: Sequence[Peer], *, tracer: bool, polling: bool) -> Iterator[list[Contender]]:
    """Run all that is needed; a peer in the modes in which it answers.

    Args:
        peers: other ext_proc servers, which run.
        tracer: Envoy traces, and samples nothing.
        polling: "uv polling" is one of the variants.
    """
    with ExitStack() as stack:
        pools = stack.enter_context(upstreams())

        def gateway(router_port: int, *filters: dict[str, Any]) -> envoy.Gateway:
            config = configuration(filters, router_port, pools, tracer=tracer)
            found = stack.enter_context(envoy.gateway(config))
            machine.pin(found.pid, machine.LOAD_CPU)
            return found

        nowhere = pools["default"]
        yield [
            Contender(NONE, gateway(nowhere), pool=POOLS[0]),
            Contender(READ, gateway(nowhere, own_filter(READ)), pool=POOLS[0]),
            *_routed(stack, gateway, polling=polling),
            *(Contender(name, gateway(nowhere, own_filter(name)), must=False) for name in (LUA, METADATA)),
            *_peers(gateway, peers),
        ]


def _routed(stack: ExitStack, gateway: Callable[..., envoy.Gateway], *, polling: bool) -> Iterator[Contender]:
    """Run our routers, and an Envoy for each in each mode."""
    variants = {"grpcio": ("grpcio",), "uv": ("uv",)} | ({POLLING: ("uv", "--busy-poll=0.001")} if polling else {})
    for name, arguments in variants.items():
        router = stack.enter_context(machine.router(*arguments))
        for mode in (FDS, BUFFERED):
            found = gateway(router.port, envoy.router_filter(mode))
            yield Contender(name, found, mode, router.pid, must=name != "grpcio")


def _peers(gateway: Callable[..., envoy.Gateway], peers: Sequence[Peer]) -> Iterator[Contender]:
    """Run an Envoy for each peer in each mode, and give those that answer rightly; of one name the first."""
    served = set()
    for peer in peers:
        for mode in (FDS, BUFFERED):
            if (peer.name, mode) in served:
                continue
            found = Contender(peer.name, gateway(peer.port, envoy.router_filter(mode)), mode, peer.pid, must=False)
            if found.answers(Cell(1_000, concurrency=1, mode=mode)):
                served.add((peer.name, mode))
                yield found
