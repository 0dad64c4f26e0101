"""What the benchmarks have in common: pinned routers, their processor time, and h2load."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import grpc

from bbr.rpc.messages import MessageReader, frame
from bench.harness import workload
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import Bbr, serving

SERVER_CPU: Final = 0
LOAD_CPU: Final = 1
TRANSPORTS: Final = ("uv", "grpcio")

FILES: Final = 1 << 15

_QUIET_LOAD: Final = 1.5
_ANSWER_SECONDS: Final = 30.0


def require(*programs: str) -> None:
    """End the program unless the machine has two processors and these programs; warn if others use them.

    Raises:
        SystemExit: something is missing; says what.
    """
    missing = [program for program in programs if not shutil.which(program)]
    if not {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        missing.append("processors 0 and 1")
    if missing:
        print(f"This needs {' and '.join(missing)} (h2load: Debian's nghttp2-client).", file=sys.stderr)
        raise SystemExit(1)
    busy = os.getloadavg()[0]
    if busy > _QUIET_LOAD:
        # At a load of 6 grpcio took 427 us instead of 487 for 1 KB, and 843 instead of 1,061 for 100 KB.
        print(f"The machine is busy (load {busy:.1f}): figures differ from those of a quiet one.", file=sys.stderr)


def raise_file_limit(number: int = FILES) -> int:
    """Let this process and what it starts hold `number` open files, or as many as it may; return how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return max(soft, most)


def pin(pid: int, *cpus: int) -> None:
    """Bind a process, with the threads that it has, to processors."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


@contextmanager
def router(transport: str, *arguments: str, module: str = "bbr", environment: Mapping[str, str] = {}) -> Iterator[Bbr]:
    """Run a router of the transport on its processor, with variables besides."""
    with serving(f"--transport={transport}", *arguments, module=module, environment=environment) as process:
        pin(process.pid, SERVER_CPU)
        yield process


@contextmanager
def awake() -> Iterator[None]:
    """Keep both processors from going idle, by loops that run only when nothing else would (SCHED_IDLE)."""
    with ExitStack() as stack:
        for cpu in (SERVER_CPU, LOAD_CPU):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(loop.kill)
            os.sched_setscheduler(loop.pid, os.SCHED_IDLE, os.sched_param(0))
            pin(loop.pid, cpu)
        yield


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, all of its threads, ended ones too.

    Nanoseconds count, where /proc/PID/stat has hundredths of a second. Source: clock_getcpuclockid in glibc.
    """
    return time.clock_gettime((~pid << 3) | 2)


def system_share(pid: int, before: tuple[int, int] = (0, 0)) -> float:
    """Return which part of a process's processor time, since `before`, the kernel has used."""
    user, system = ticks(pid)
    user, system = user - before[0], system - before[1]
    return system / max(1, user + system)


def ticks(pid: int) -> tuple[int, int]:
    """Return a process's user and system time in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def system_calls(pid: int) -> tuple[int, int]:
    """Return how often a process has read and written, on files and sockets."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["syscr"]), int(counters["syscw"])


def memory_kib(pid: int, name: str = "VmRSS") -> int:
    """Return a process's resident set in KiB, or with VmHWM the peak of it (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(f"process {pid} has no {name}")


class Listening(Protocol):
    """A server on a port of the loopback interface."""

    @property
    def port(self) -> int:
        """Where it listens."""


def ask(port: int, sent: Sequence[bytes], certificate: Path | None = None) -> list[bytes]:
    """Return a server's answers to an exchange, over TLS with a `certificate`.

    Raises:
        grpc.RpcError: there are none, or not all of them in 30 s.
    """
    target = f"127.0.0.1:{port}"
    options = [("grpc.max_receive_message_length", -1)]
    if certificate is None:
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate.read_bytes()), options)
    with channel:
        call = channel.stream_stream(PROCESS)(iter(sent), timeout=_ANSWER_SECONDS)
        return [bytes(each) for each in call]


def ask_unverified(port: int, sent: Sequence[bytes]) -> list[bytes]:
    """Return the answers of a server whose certificate names nobody, which gRPC's own client would not talk to.

    Raises:
        AssertionError: the server does not answer, or the call does not end with OK; with what curl has told.
    """
    command = ["curl", "--silent", "--show-error", "--insecure", "--http2", "--data-binary", "@-"]
    # Headers and trailers go where errors go, so that the body stands alone.
    command += ["--dump-header", "/dev/stderr", "--max-time", str(_ANSWER_SECONDS)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    done = subprocess.run(
        [*command, f"https://127.0.0.1:{port}{PROCESS}"], input=frame(sent), capture_output=True, check=False
    )
    assert not done.returncode, done.stderr
    assert b"grpc-status: 0" in done.stderr, done.stderr
    return [bytes(each) for each in MessageReader(len(done.stdout)).feed(done.stdout)]


def answer(process: Listening, sent: Sequence[bytes], certificate: Path | None = None) -> bytes:
    """Return the octets of a router's answer to an exchange, which is checked (see `workload.check`)."""
    return workload.check(sent, ask(process.port, sent, certificate))


def tls_flags(files: tuple[Path, Path] | None) -> list[str]:
    """Return the flags for a router that serves TLS with a certificate and its key; none for plaintext."""
    return [] if files is None else ["--secure-serving=true", f"--tls-cert={files[0]}", f"--tls-key={files[1]}"]


@contextmanager
def certificate() -> Iterator[tuple[Path, Path]]:
    """Give files with a certificate of its own for 127.0.0.1 and its key, P-256."""
    with tempfile.TemporaryDirectory() as scratch:
        chain, key = Path(scratch, "cert.pem"), Path(scratch, "key.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "1", "-subj", "/CN=bbr", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, "-out", chain, "-keyout", key], capture_output=True, check=True)
        yield chain, key


class Loaded(NamedTuple):
    """What h2load tells of a run.

    Attributes:
        rate: exchanges per second.
        data_bytes: octets of DATA that came back.
    """

    rate: float
    data_bytes: int


def h2load(port: int, data: Path, requests: int, connections: int, streams: int, *, tls: bool = False) -> Loaded:
    """Return what one run of h2load on its processor has come to; all of its exchanges are answered."""
    command = ["taskset", "-c", str(LOAD_CPU), "h2load", "-t", "1", "-w", "24", "-W", "30"]
    command += ["-n", str(requests), "-c", str(connections), "-m", str(streams), "-d", str(data)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command.append(f"{'https' if tls else 'http'}://127.0.0.1:{port}{PROCESS}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return loaded(done.stdout, requests)


def loaded(output: str, requests: int) -> Loaded:
    """Read what h2load has printed of so many requests.

    Raises:
        AssertionError: not all of them have succeeded; with what was printed.
    """
    succeeded = re.search(r"(\d+) succeeded", output)
    rate = re.search(r"([\d.]+) req/s", output)
    data = re.search(r"\((\d+)\) data", output)
    assert succeeded is not None, output
    assert rate is not None, output
    assert data is not None, output
    assert int(succeeded[1]) == requests, output
    return Loaded(float(rate[1]), int(data[1]))
