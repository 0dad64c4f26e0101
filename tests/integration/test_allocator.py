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
malloc = allocator.keep(os.environ)
def fill():
    blocks = [bytearray(100_000) for _ in range({HOLD // 100_000})]
    return len(blocks)
def say(): print(flush=True); sys.stdin.readline()
fill(); say()
if malloc: malloc.give_back()
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


BLOCKS = """
import os, sys
from bbr.system import allocator
allocator.keep(os.environ).strain(sys.argv[1] == "short")
blocks = [bytearray(b"x") * allocator.SMALL_BYTES for _ in range(80)]
before = allocator.used_bytes()
del blocks[:-1]  # one stays above the others
print(before - allocator.used_bytes())
"""


@glibc
@pytest.mark.parametrize(("memory", "freed"), [("plenty", range(1 << 20)), ("short", range(8 << 20, 11 << 20))])
def test_a_block_between_others_is_given_back_only_while_memory_is_short(memory, freed):
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    found = subprocess.run([sys.executable, "-c", BLOCKS, memory], check=True, capture_output=True, env=environment)
    assert int(found.stdout) in freed
