"""What malloc keeps of freed memory: much while requests come, and nothing for long. For glibc only.

Left alone, glibc gives the end of its heap back as soon as a body of some 100 KB is freed, and asks for it again with
the next one: a fault for each page, up to a quarter of what such a request costs. And once a larger body was freed it
keeps up to twice that body's size, for good, so that a router's memory goes up by steps. Source: mallopt(3),
malloc_trim(3).
"""

import asyncio
import contextlib
import ctypes
import math
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bbr.system.supervisor import Supervisor

# A heap's free end beyond this is given back at once. A block of so many bytes is no part of the heap. (The most that
# glibc takes for both.)
KEPT_BYTES: Final = 32 << 20
# Giving 20 MB back took 2.6 ms, and nothing 0.2: seldom enough for no percentile to show it.
RETURN_SECONDS: Final = 10.0

# What is freed between two blocks that stay is not given back by itself. A decoder of zstd takes a block for its
# window, of which a few bytes fill a little: in the heap each decoder fills a little somewhere else. So while the
# process takes this much beyond a quarter of what it may hold for its peers, blocks of the second size are no part of
# the heap, and go back when they are freed. That costs a fault for each page.
STRAINED_BYTES: Final = 40 << 20
SMALL_BYTES: Final = 128 << 10
# And if it takes this much beyond all that it may hold, and more than after the last time, memory is given back at
# once.
TIGHT_BYTES: Final = 40 << 20
GROWN_BYTES: Final = 8 << 20
# How often that is looked at. It takes 15 us.
LOOK_SECONDS: Final = 0.05

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_SETTINGS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


@contextlib.contextmanager
def keeping(
    supervisor: Supervisor, max_held_bytes: float = math.inf, seconds: float = RETURN_SECONDS
) -> Iterator[None]:
    """Let freed memory be kept for the next request, and give it back every so many seconds; in a running loop.

    Nothing is done where malloc is not glibc's, or where the environment says how it is to behave.

    Args:
        supervisor: runs it.
        max_held_bytes: for peers. With a quarter of it in use memory is given back sooner; see above.
        seconds: see above.
    """
    malloc = keep(os.environ)
    if malloc is None:
        yield
        return

    looks = max(1, round(seconds / LOOK_SECONDS))
    strained = max_held_bytes / 4 + STRAINED_BYTES
    tight = max_held_bytes + TIGHT_BYTES

    async def turns() -> None:
        while True:
            left = used_bytes()
            for _ in range(looks):
                await asyncio.sleep(seconds / looks)
                used = used_bytes()
                malloc.strain(used > strained)
                if used > max(tight, left + GROWN_BYTES):
                    break
            malloc.give_back()

    task = supervisor.start("giving memory back", turns)
    try:
        yield
    finally:
        task.cancel()


class Malloc:
    """glibc's malloc, which keeps KEPT_BYTES at the end of its heap.

    Args:
        set_option: mallopt.
        trim: malloc_trim.
    """

    def __init__(self, set_option: Callable[[int, int], object], trim: Callable[[int], object]) -> None:
        self._set_option = set_option
        self._trim = trim
        self._strained = False
        set_option(_TRIM_THRESHOLD, KEPT_BYTES)
        set_option(_MMAP_THRESHOLD, KEPT_BYTES)

    def strain(self, strained: bool) -> None:
        """Take blocks of SMALL_BYTES and more from the system, or from the heap."""
        if strained != self._strained:
            self._strained = strained
            self._set_option(_MMAP_THRESHOLD, SMALL_BYTES if strained else KEPT_BYTES)

    def give_back(self) -> None:
        """Give back all that is free."""
        self._trim(0)


def keep(environment: Mapping[str, str]) -> Malloc | None:
    """Let malloc keep what is freed; return it, None if it is left as it is."""
    if any(name in environment for name in _SETTINGS) or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return None
    program = ctypes.CDLL(None)
    try:
        return Malloc(program.mallopt, program.malloc_trim)
    except AttributeError:  # musl and macOS have no such functions
        return None


def used_bytes() -> int:
    """Return the memory that the process has in use, its resident set; 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
