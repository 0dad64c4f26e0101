"""The local stack as an object: Envoy, the router, two pools of stand-in model servers with an endpoint picker each.

async with Stack(StackOptions(log_dir=directory, ports=free_ports())) as stack:
    ...  # requests to stack.url
"""

import asyncio
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from deploy.local.gateway import BodyMode, find_envoy, render
from deploy.local.part import Part, PortInUseError, Probe, StackError, grpc_probe, http_probe
from deploy.local.preloaded import ENDPOINT_PICKER, MODEL_SERVER, Preloaded
from deploy.local.topology import DEFAULT_PORTS, MODELS, POOLS, Pool, in_use, load_adapters

READY_SECONDS: Final = 120.0
_PORTS_NAMED: Final = 2

Result = TypeVar("Result")

__all__ = ["PortInUseError", "Stack", "StackError", "StackOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """How to run a stack.

    Attributes:
        log_dir: an existing directory for envoy.yaml as rendered and for everyone's logs.
        ports: a port for every key of DEFAULT_PORTS.
        body_mode: the request_body_mode of the router's filter.
        router_command: what the router's flags are appended to.
        router_args: further flags for the router.
        models: the router's table; the model servers serve its adapters.
        delay_seconds: time until a model server's answer begins.
        event_seconds: time between the events of a streamed answer.
        envoy_threads: Envoy's worker threads.
        ready_seconds: the longest time until all is ready.
    """

    log_dir: Path
    ports: Mapping[str, int] = field(default_factory=lambda: DEFAULT_PORTS)
    body_mode: BodyMode = "FULL_DUPLEX_STREAMED"
    router_command: Sequence[str] = (sys.executable, "-m", "bbr", "serve")
    router_args: Sequence[str] = ()
    models: Path = MODELS
    delay_seconds: float = 0.0
    event_seconds: float = 0.0
    envoy_threads: int = 2
    ready_seconds: float = READY_SECONDS


class Stack:
    """An async context manager: all parts are ready inside of it, and gone after it, whatever happens."""

    def __init__(self, options: StackOptions) -> None:
        self._options = options
        self.parts: dict[str, Part] = {}
        self._preloaded = Preloaded()

    @property
    def ports(self) -> Mapping[str, int]:
        """The port of each part."""
        return self._options.ports

    @property
    def ready_seconds(self) -> float:
        """The longest time until a part is ready."""
        return self._options.ready_seconds

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def admin_url(self) -> str:
        """The address of Envoy's admin interface."""
        return f"http://127.0.0.1:{self.ports['gateway-admin']}"

    @property
    def status_url(self) -> str:
        """The address of the router's status page."""
        return f"http://127.0.0.1:{self.ports['router-admin']}/"

    @property
    def log_dir(self) -> Path:
        """Where the logs are: one file per part, and access.log with a JSON object per request."""
        return self._options.log_dir

    @property
    def access_log(self) -> Path:
        """The gateway's access log: a JSON object per line."""
        return self._options.log_dir / "access.log"

    @property
    def awaited(self) -> list[str]:
        """The names of the parts that are not ready yet."""
        return [part.name for part in self.parts.values() if not part.is_ready]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every part and wait until all are ready.

        Raises:
            PortInUseError: a port is taken; nothing was started.
            StackError: Envoy is missing, or a part died or was not ready in time. Call `stop` then.
        """
        self._check_ports()
        self.parts = {part.name: part for part in self._build_parts()}
        for part in self.parts.values():
            await part.start()
        waiting = [asyncio.create_task(part.ready(self._options.ready_seconds)) for part in self.parts.values()]
        try:
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def wait_for_death(self) -> None:
        """Wait until a part dies, which none should.

        Raises:
            StackError: always, to tell which one and how.
        """
        await asyncio.wait({part.exited for part in self.parts.values()}, return_when=asyncio.FIRST_COMPLETED)
        raise next(part.death() for part in self.parts.values() if part.exited.done())

    async def unless_dead(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of `work`, or give it up as soon as a part dies.

        Raises:
            StackError: a part died.
        """
        death = asyncio.create_task(self.wait_for_death())
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({death, working}, return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                await death
            return await working
        finally:
            death.cancel()
            working.cancel()
            await asyncio.gather(death, working, return_exceptions=True)

    async def stop(self) -> None:
        """Stop every part; the gateway first, so that nobody is asked who is gone already."""
        gateway = self.parts.get("gateway")
        if gateway:
            await gateway.stop()
        await asyncio.gather(*(part.stop() for part in self.parts.values()))
        await self._preloaded.stop()

    def _check_ports(self) -> None:
        taken = [f"{port} (for {name})" for name, port in self._options.ports.items() if in_use(port)]
        if taken:
            # Many are another demo's: the first ones say enough.
            more = f" and {len(taken) - _PORTS_NAMED} more ports" if len(taken) > _PORTS_NAMED else ""
            raise PortInUseError(f"something already listens on port {', '.join(taken[:_PORTS_NAMED])}{more}.")

    def _build_parts(self) -> list[Part]:
        envoy = find_envoy(sys.executable)
        adapters = load_adapters(self._options.models)
        parts = [self._router(), self._gateway(envoy)]
        for pool in POOLS:
            parts.append(self._picker(pool))
            parts += [self._pod(pool, pod, adapters.get(pool.base_model, ())) for pod in pool.pods]
        return parts

    def _router(self) -> Part:
        ports = self._options.ports
        flags = {
            "--transport": "uv",
            "--bind-address": "127.0.0.1",
            "--grpc-port": str(ports["router"]),
            "--grpc-health-port": str(ports["router-health"]),
            "--metrics-port": str(ports["router-admin"]),
            "--secure-serving": "false",
            "--models": str(self._options.models),
            "--serve-models-list": "true",
        }
        command = [*self._options.router_command, *(f"{flag}={value}" for flag, value in flags.items())]
        command += self._options.router_args
        return Part("router", command, grpc_probe(ports["router-health"]), self._log("router"))

    def _gateway(self, envoy: Path) -> Part:
        config = self._options.log_dir / "envoy.yaml"
        config.write_text(render(self._options.ports, self._options.body_mode))
        command = [
            str(envoy),
            *("--config-path", str(config)),
            *("--concurrency", str(self._options.envoy_threads)),
            *("--file-flush-interval-msec", "100"),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ]
        probe = http_probe(self.ports["gateway-admin"], "/ready")
        return Part("gateway", command, probe, self._log("gateway"), output=self.access_log)

    def _picker(self, pool: Pool) -> Part:
        ports = self._options.ports
        endpoints = [f"127.0.0.1:{ports[pod]}" for pod in pool.pods]
        arguments = ["--port", str(ports[pool.picker]), "--endpoint", *endpoints]
        return self._stand_in(pool.picker, ENDPOINT_PICKER, arguments, grpc_probe(ports[pool.picker]))

    def _pod(self, pool: Pool, pod: str, adapters: Sequence[str]) -> Part:
        port = self._options.ports[pod]
        arguments = ["--port", str(port)]
        arguments += ["--pod", pod, "--pool", pool.name, "--model", pool.base_model, "--adapter", *adapters]
        arguments += ["--delay-seconds", str(self._options.delay_seconds)]
        arguments += ["--event-seconds", str(self._options.event_seconds)]
        return self._stand_in(pod, MODEL_SERVER, arguments, http_probe(port, "/health"))

    def _stand_in(self, name: str, module: str, arguments: Sequence[str], probe: Probe) -> Part:
        command = [sys.executable, "-m", module, *arguments]
        # macOS has no sockets for sequenced packets (SOCK_SEQPACKET), which the process that forks reads from.
        run = self._preloaded.run if sys.platform == "linux" else None
        return Part(name, command, probe, self._log(name), run=run)

    def _log(self, name: str) -> Path:
        return self._options.log_dir / f"{name}.log"
