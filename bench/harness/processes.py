"""`bbr serve` as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.harness.ports import free_ports

# How long anything may take that must happen by itself. A machine that is busy needs a second or two to start Python.
DEADLINE_SECONDS = 90.0

# What an environment may hold that changes what the router does.
_CLEARED = ("BBR_", "GRPC_", "KUBERNETES_", "NAMESPACE")

READY = " serves ext_proc on port "

# What the router says of a port that someone else has (bbr.system.binding); by grpcio it may not know.
_TAKEN = ("another process listens on this port", "the port is taken")

# What the interpreted build is called beside the compiled one, and the variables by which it runs, the checkout's own,
# where this process imports the compiled one.
INTERPRETED: Final = "uv, interpreted"
INTERPRET: Final = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


@contextlib.contextmanager
def ending(process: "subprocess.Popen[bytes]", seconds: float = DEADLINE_SECONDS) -> Iterator[None]:
    """End a process behind the block: by SIGTERM, and by SIGKILL if it has not ended so many seconds later."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()


class Bbr:
    """A running `bbr serve` on two loopback ports; its stderr is read as it comes.

    Args:
        arguments: further flags.
        ports: for ext_proc and health; free ones by default.
        module: what is run instead of bbr itself.
        image: start it as a Go router's image is: by these arguments alone, with these variables besides.
        environment: variables besides those of this process.
        admin: serve metrics and the status page too, on a free port.

    Attributes:
        port: for ext_proc.
        health_port: for health.
        admin_port: for metrics and the status page; 0 without.
    """

    def __init__(
        self,
        *arguments: str,
        ports: tuple[int, int] | None = None,
        module: str = "bbr",
        image: Mapping[str, str] | None = None,
        environment: Mapping[str, str] = {},
        admin: bool = False,
    ) -> None:
        self.port, self.health_port = ports or free_ports(2)
        self.admin_port = free_ports(1)[0] if admin else 0
        command = [sys.executable, "-W", "error", "-m", module]
        own = {"bind-address": "127.0.0.1", "grpc-port": self.port, "grpc-health-port": self.health_port}
        own |= {"metrics-port": self.admin_port, "log-format": "text"}
        own["drain-delay-seconds"] = 0  # grpcio would wait for nobody
        variables = {name: value for name, value in os.environ.items() if not name.startswith(_CLEARED)}
        variables |= environment
        if image is None:
            command += ["serve", *(f"--{name}={value}" for name, value in own.items()), "--secure-serving=false"]
        else:
            variables |= {f"BBR_{name.replace('-', '_').upper()}": str(value) for name, value in own.items()}
            variables |= image
        self._process = subprocess.Popen(
            [*command, *arguments],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._closed = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="stderr of bbr")
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    @property
    def stderr(self) -> str:
        """What the process has written so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, text: str) -> bool:
        """Await a line with `text` on stderr; False if the process ends without one."""
        with self._news:
            met = self._news.wait_for(
                lambda: self._closed or any(text in line for line in self._lines), DEADLINE_SECONDS
            )
            assert met, f"no line with {text!r} in time:\n{''.join(self._lines)}"
            return any(text in line for line in self._lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Await the process's end; return its exit status."""
        status = self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return status

    def stdout(self) -> str:
        """Return all that an ended process wrote to stdout."""
        return self._process.stdout.read()

    def stop(self) -> int:
        """Ask the process to end, as Kubernetes does, and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """End the process if it still runs, and release what belongs to it."""
        self._process.kill()
        self.wait()
        self._process.stdout.close()
        self._process.stderr.close()


@contextlib.contextmanager
def bbr(
    *arguments: str,
    ports: tuple[int, int] | None = None,
    module: str = "bbr",
    image: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = {},
    admin: bool = False,
) -> Iterator[Bbr]:
    """Run `bbr serve` whether it starts or not."""
    process = Bbr(*arguments, ports=ports, module=module, image=image, environment=environment, admin=admin)
    try:
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def serving(
    *arguments: str,
    module: str = "bbr",
    image: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = {},
    admin: bool = False,
) -> Iterator[Bbr]:
    """Run `bbr serve` and await its readiness; a port that someone else has taken meanwhile costs another try."""
    for _ in range(5):
        with bbr(*arguments, module=module, image=image, environment=environment, admin=admin) as process:
            if process.wait_for(READY):
                yield process
                return
            assert any(sentence in process.stderr for sentence in _TAKEN), process.stderr
    raise AssertionError("free ports are taken five times in a row")
