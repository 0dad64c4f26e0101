"""What glibc's malloc keeps of freed memory, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from bench.harness import machine

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's here")

HOLD = 24 << 20
# Two bodies' worth of blocks below the mmap threshold's first value, and something above them that stays.
PROGRAM = f"""
import os, sys
from bbr.system import allocator
from bbr.system.supervisor import Supervisor
give_back = allocator.keep(os.environ)
def fill():
    blocks = [bytearray(100_000) for _ in range({HOLD // 100_000})]
    return len(blocks)
def say(): print(flush=True); sys.stdin.readline()
fill(); say()
if give_back: give_back()
say()
"""


def resident_mib(environment):
    """Return what a program has after it freed 24 MiB, and what after it gave all back."""
    found = []
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if "MALLOC" not in name} | environment,
    ) as process:
        for _ in range(2):
            process.stdout.readline()
            found.append(machine.memory_kib(process.pid) / 1024)
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    return found


@glibc
def test_freed_memory_is_kept_until_it_is_given_back():
    kept, given_back = resident_mib({})
    assert kept - given_back > HOLD / (1 << 20) * 0.8


@glibc
def test_the_environment_has_the_say():
    first, second = resident_mib({"MALLOC_TRIM_THRESHOLD_": "131072"})
    assert abs(first - second) < 2


LARGE = """
import os
from bbr.system import allocator
allocator.keep(os.environ)
block = bytearray(b"x") * allocator.MMAP_BYTES
after = bytes(1000)
before = allocator.used_bytes()
block = None
print(before - allocator.used_bytes())
"""


@glibc
def test_a_large_block_is_given_back_when_it_is_freed():
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    freed = subprocess.run([sys.executable, "-c", LARGE], check=True, capture_output=True, env=environment).stdout
    assert int(freed) > 1 << 20
