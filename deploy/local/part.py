"""One process of the local stack: start it, wait until it is ready, tell how it died, stop it."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

ROOT: Final = Path(__file__).resolve().parents[2]
GUARD: Final = Path(__file__).with_name("guard.py")

STOP_SECONDS: Final = 5.0
PROBE_SECONDS: Final = 0.05
TAIL_LINES: Final = 15

# HealthCheckResponse{status: SERVING}: field 1, varint 1.
_SERVING: Final = b"\x08\x01"

Probe = Callable[[], Awaitable[bool]]


class Running(Protocol):
    """A process, as asyncio.subprocess has it."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


# Starts a command, with these files for its standard output and standard error.
Run = Callable[[Sequence[str], IO[bytes], IO[bytes]], Awaitable[Running]]


class StackError(Exception):
    """The stack can't run; the message says which part, why, and what to do."""


class PortInUseError(StackError):
    """Something else listens where the stack wants to."""


class Part:
    """A subprocess in a session of its own: Ctrl-C at the terminal reaches the stack, and the stack stops its parts.

    Args:
        name: how messages call it.
        command: absolute program path and arguments; it runs in the repository's root.
        probe: tells whether the part is ready; never raises.
        log: file for its standard error, and for its standard output too if there is no `output`.
        output: file for its standard output.
        run: starts the command; None: as a child of this process, which ends with it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        probe: Probe,
        log: Path,
        output: Path | None = None,
        run: Run | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._run = run or _run
        self._probe = probe
        self._output = output
        self._process: Running | None = None
        self._exited: asyncio.Task[int] | None = None
        self.is_ready = False

    @property
    def exited(self) -> asyncio.Task[int]:
        """A task that ends when the process does; only after `start`."""
        if self._exited is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._exited

    @property
    def pid(self) -> int:
        """The process id; only after `start`."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    async def start(self) -> None:
        """Start the process; its readiness is another matter."""
        with self.log.open("ab") as log, (self._output or self.log).open("ab") as output:
            self._process = await self._run(self._command, output, log)
        self._exited = asyncio.create_task(self._process.wait(), name=f"{self.name} exited")

    async def ready(self, timeout_seconds: float) -> None:
        """Wait until the probe succeeds.

        Raises:
            StackError: the process died first, or the time is over.
        """
        probing = asyncio.create_task(self._probe_until_ready())
        try:
            await asyncio.wait({probing, self.exited}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self.exited.done():
                raise self.death()
            if not probing.done():
                raise StackError(f"{self.name} was not ready after {timeout_seconds:g} s.{self.tail()}")
            await probing
            self.is_ready = True
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    def death(self) -> StackError:
        """Describe how the process ended; only after `exited` is done."""
        return StackError(f"{self.ending()}.{self.tail()}")

    def ending(self) -> str:
        """Return how the process ended, as a sentence without its full stop; only after `exited` is done."""
        code = self.exited.result()
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"{self.name} ended early with {how}"

    def tail(self) -> str:
        """Return the last lines of the log, indented, below a line that names the file."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        if not lines:
            return f" It wrote nothing to {self.log}."
        return "\n".join([f" The end of {self.log}:", *(f"  | {line}" for line in lines)])

    async def stop(self) -> None:
        """End the process with SIGTERM, after STOP_SECONDS with SIGKILL; return when it is gone."""
        if self._process is None:
            return
        if not self.exited.done():
            self._process.terminate()
            await asyncio.wait({self.exited}, timeout=STOP_SECONDS)
        if not self.exited.done():
            self._process.kill()
        await self.exited

    async def _probe_until_ready(self) -> None:
        while not await self._probe():  # noqa: ASYNC110 - another process sets no asyncio.Event
            await asyncio.sleep(PROBE_SECONDS)


async def _run(command: Sequence[str], output: IO[bytes], error: IO[bytes]) -> Running:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(GUARD), str(os.getpid())),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=error,
        cwd=ROOT,
        start_new_session=True,
    )


def http_probe(port: int, path: str) -> Probe:
    """Return a probe: does `path` on the loopback port answer 200?"""
    import aiohttp  # here: a health check by the other protocol does not wait for it

    async def probe() -> bool:
        timeout = aiohttp.ClientTimeout(total=1)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{port}{path}") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return probe


def grpc_probe(port: int) -> Probe:
    """Return a probe: does grpc.health.v1 on the loopback port say SERVING?"""
    import grpc

    async def probe() -> bool:
        # With the pool that channels share, a refused connection would make the next probe wait for a second. And a
        # proxy of the environment (http_proxy) cannot reach this machine's loopback.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            try:
                answer: bytes = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return answer == _SERVING

    return probe
