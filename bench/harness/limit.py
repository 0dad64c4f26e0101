"""The limit: a lean ext_proc server in Rust (bench/limit), to see how much there is left to save.

    python -m bench.harness.limit     build it into .cache/limit (cargo, 80 s of processor time)

It finds the model in a body of JSON and sets the two headers, on one thread, and does nothing else that a router needs:
no bounds, no other kinds of bodies, no table, no checks of names and duplicates, no logs, metrics or TLS.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.harness import go_router, machine
from bench.harness.peer import Peer
from bench.harness.ports import free_ports

ROOT: Final = Path(__file__).resolve().parents[2]
NAME: Final = "the limit"
BINARY: Final = ROOT / ".cache" / "limit" / "release" / "limit"

_START_SECONDS: Final = 10.0


class LimitError(Exception):
    """The server can't be built or does not start; the message says why."""


def build() -> Path:
    """Compile the server; return its program.

    Raises:
        LimitError: there is no cargo, or it failed; with what it said.
    """
    if shutil.which("cargo") is None:
        raise LimitError("the limit is built by cargo, which is not installed here")
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(ROOT / "bench/limit/Cargo.toml")]
    command += ["--target-dir", str(BINARY.parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LimitError(f"cargo failed: {done.stderr.strip()[-2000:]}")
    return BINARY


@contextmanager
def running() -> Iterator[Peer]:
    """Run the server on the servers' processor until it answers an exchange rightly.

    Raises:
        LimitError: it is not built, it ended, or it does not answer in 10 s.
    """
    if not BINARY.is_file():
        raise LimitError("the limit is not built: python -m bench.harness.limit")
    (port,) = free_ports(1)
    command = ["taskset", "-c", str(machine.SERVER_CPU), str(BINARY), str(port)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not go_router.answers(port, streaming=True):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LimitError(f"the limit does not answer rightly (exit status {process.poll()})")
            yield Peer(NAME, port, process.pid)
        finally:
            process.kill()


def main() -> int:
    """Build the server; return 1 if that fails, which is said."""
    try:
        print(build())
    except LimitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
