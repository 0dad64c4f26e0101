"""Run the containers of docker-compose.yaml as processes, and the demo's tour through them, from outside and inside.

  unshare --map-root-user --net python -m tests.local.composed LOG_DIR

in a network of its own, since the ports are fixed. Exit status 0 if every request went right.
"""

import asyncio
import fcntl
import socket
import struct
import sys
from pathlib import Path

from deploy.local import tour
from deploy.local.gateway import find_envoy
from deploy.local.part import Part, Probe, grpc_probe, http_probe
from deploy.local.stack import Stack, StackOptions
from tests.support import compose

SIOCSIFFLAGS = 0x8914  # netdevice(7)
IFF_UP = 1

# What Docker publishes of the gateway's container.
PUBLISHED_PORT = 8080
ADMIN_PORT = 8081
STATUS_PORT = 8092


def loopback_up() -> None:
    """Bring up the one interface that a new network has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


class Composed(Stack):
    """The local stack, its parts started as docker-compose.yaml says."""

    def _build_parts(self) -> list[Part]:
        programs = compose.local_programs(find_envoy(sys.executable))
        return [
            Part(name, compose.command(each, programs), self._probe(name, each), self._log(name), self._output(name))
            for name, each in compose.services(profiles=()).items()
        ]

    def _output(self, name: str) -> Path | None:
        return self.access_log if name == "gateway" else None

    def _probe(self, name: str, service: compose.Service) -> Probe:
        """Return the stack's probe for what the service's health check asks."""
        if name == "gateway":
            return http_probe(ADMIN_PORT, "/ready")
        kind, port = service["healthcheck"]["test"][-2:]
        if name == "router":
            return grpc_probe(int(port.rpartition(":")[2]))
        return grpc_probe(int(port)) if kind == "grpc" else http_probe(int(port), "/health")


class FromOutside(Composed):
    """The same, reached by what Docker publishes."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{PUBLISHED_PORT}"


async def run(log_dir: Path) -> bool:
    """Run the stack and both tours; return whether all went right."""
    options = StackOptions(log_dir=log_dir)
    wrong = 0
    async with FromOutside(options) as stack:
        for one in (stack, Stack(options)):
            visits = await stack.unless_dead(tour.run(one))
            print(tour.table(visits))
            wrong += sum(bool(visit.faults) for visit in visits)
        for name, service in compose.services(profiles=()).items():
            healthy = await _healthy(service)
            print(f"  {name}: {'healthy' if healthy else 'UNHEALTHY'}")
            wrong += not healthy
        status_page = await http_probe(STATUS_PORT, "/status.json")()
    return not wrong and status_page


async def _healthy(service: compose.Service) -> bool:
    """Run a service's own health check, if it has one."""
    if "healthcheck" not in service:
        return True
    kind, program, *arguments = service["healthcheck"]["test"]
    assert kind == "CMD", kind
    command = [*compose.local_programs(find_envoy(sys.executable))[program], *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


if __name__ == "__main__":
    loopback_up()
    sys.exit(0 if asyncio.run(run(Path(sys.argv[1]))) else 1)
