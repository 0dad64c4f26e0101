"""One connection for very long: exchanges by h2load, and exchanges reset after their answer, as Envoy does.

`make exchanges` does a million of each.
Each run fails if an exchange is lost or if the router's resident memory grows after the first tenth by more than
MAX_GROWTH_BYTES. The router is a process of its own (`bbr serve --transport=uv`).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import uvloop

from bench.harness import machine
from bench.harness.grpc_client import PROCESS
from bench.harness.h2_frames import DATA, INTERNAL_ERROR, PING, PING_FRAME, data, headers, rst_stream
from bench.harness.processes import serving
from bench.harness.raw_client import CALL_BLOCK, REQUEST, RawClient

# What an allocator may keep of one busy moment: a million leaks of 16 octets would be more.
MAX_GROWTH_BYTES = 8 << 20
SAMPLE_SECONDS = 0.2
AT_ONCE = 100


def watched(pid: int, work: Callable[[], None]) -> bool:
    """Do the work, print what the process took for it, and return whether its memory was flat."""
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            samples.append(machine.memory_kib(pid) << 10)

    sampler = threading.Thread(target=sample)
    sampler.start()
    began, cpu = time.monotonic(), machine.cpu_seconds(pid)
    try:
        work()
    finally:
        done.set()
        sampler.join()
    samples.append(machine.memory_kib(pid) << 10)
    settled, most = samples[len(samples) // 10], max(samples)
    print(
        f"  {time.monotonic() - began:.0f} s, {machine.cpu_seconds(pid) - cpu:.0f} s of CPU; resident MiB: "
        f"{settled / 2**20:.1f} after a tenth, {most / 2**20:.1f} at most, {samples[-1] / 2**20:.1f} at the end",
        flush=True,
    )
    return most - settled <= MAX_GROWTH_BYTES


def h2load(port: int, count: int) -> None:
    """Send `count` exchanges on one connection, 100 at a time."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(REQUEST)
        body.flush()
        command = ["h2load", "-n", str(count), "-c", "1", "-m", str(AT_ONCE), "-d", body.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{PROCESS}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in output, output


async def answered_then_reset(port: int, count: int) -> None:
    """Send `count` exchanges on one connection, and reset each after its last answer."""
    client = await RawClient.connect(port)
    for first in range(1, 2 * count, 2 * AT_ONCE):
        ids = range(first, min(first + 2 * AT_ONCE, 2 * count), 2)
        client.write(*(headers(each, CALL_BLOCK) + data(each, REQUEST) for each in ids))
        open_ids = set(ids)
        while open_ids:
            found = await client.receive()
            assert found, "the server closed the connection"
            open_ids -= {each.stream_id for each in found if each.kind == DATA}
        client.frames.clear()
        client.write(*(rst_stream(each, INTERNAL_ERROR) for each in ids), PING_FRAME)
        await client.until(lambda: any(each.kind == PING for each in client.frames))
        client.frames.clear()
    await client.close()


def main() -> int:
    """Run both; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    count = parser.parse_args().exchanges
    if not shutil.which("h2load"):
        print("This needs h2load (Debian: nghttp2-client).", file=sys.stderr)
        return 1
    flat = True
    with serving("--transport=uv") as router:
        print(f"{count} exchanges on one connection, h2load -m {AT_ONCE}", flush=True)
        flat &= watched(router.pid, lambda: h2load(router.port, count))
        print(f"{count} exchanges on one connection, each reset after its answer", flush=True)
        flat &= watched(router.pid, lambda: uvloop.run(answered_then_reset(router.port, count)))
    print("memory is flat" if flat else f"memory grew by more than {MAX_GROWTH_BYTES >> 20} MiB")
    return not flat


if __name__ == "__main__":
    raise SystemExit(main())
