"""Work for another process (bbr.system.worker_process): of every kind that there may be."""

import gc
import json
import os
import resource
import signal
import time
from collections.abc import Iterator


def pairs(octets: bytes) -> Iterator[bytes]:
    """Give two bytes at a time."""
    for start in range(0, len(octets), 2):
        yield octets[start : start + 2]


def times(number: int, octets: bytes) -> Iterator[bytes]:
    """Give the bytes so many times."""
    yield octets * number


def fail(_octets: bytes) -> Iterator[bytes]:
    """Fail, after something was found."""
    yield b"so far"
    raise ZeroDivisionError


def no_memory(_octets: bytes) -> Iterator[bytes]:
    """Fail for want of memory."""
    raise MemoryError
    yield b""


def eat(_octets: bytes) -> Iterator[bytes]:
    """Take more memory, for ever."""
    kept = []
    while True:
        kept.append(bytearray(1 << 20))
    yield b""


def spin(_octets: bytes) -> Iterator[bytes]:
    """Take processor time, for ever, after a frame that is longer than any buffer of a standard output."""
    yield bytes(1 << 20)
    while True:
        pass


def sleep(_octets: bytes) -> Iterator[bytes]:
    """Do nothing, for ever."""
    while True:
        time.sleep(1)
    yield b""


def die(status: int, _octets: bytes) -> Iterator[bytes]:
    """End the process: by a status, or by a signal if it is negative."""
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)
    yield b""


def process(_octets: bytes) -> Iterator[bytes]:
    """Give the process's number."""
    yield str(os.getpid()).encode()


def limits(_octets: bytes) -> Iterator[bytes]:
    """Give the process's limits."""
    found = {
        "data": resource.getrlimit(resource.RLIMIT_DATA),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "nice": os.nice(0),
        "timer": signal.getitimer(signal.ITIMER_PROF)[0],
        "collects": gc.isenabled(),
    }
    yield json.dumps(found).encode()
