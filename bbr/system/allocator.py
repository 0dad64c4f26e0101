"""What malloc keeps of freed memory: much while requests come, and nothing for long. For glibc only.

Left alone, glibc gives the end of its heap back as soon as a body of some 100 KB is freed, and asks for it again with
the next one: a fault for each page, up to a quarter of what such a request costs. And once a larger body was freed it
keeps up to twice that body's size, for good, so that a router's memory goes up by steps. Source: mallopt(3),
malloc_trim(3).
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bbr.system.supervisor import Supervisor

# The most that glibc takes for either; a heap's free end beyond it is given back at once.
KEPT_BYTES: Final = 32 << 20
# Giving 20 MB back took 2.6 ms, and nothing 0.2: seldom enough for no percentile to show it.
RETURN_SECONDS: Final = 10.0

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_SETTINGS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


@contextlib.contextmanager
def keeping(supervisor: Supervisor, seconds: float = RETURN_SECONDS) -> Iterator[None]:
    """Let freed memory be kept for the next request, and give it back every so many seconds; in a running loop.

    Nothing is done where malloc is not glibc's, or where the environment says how it is to behave.
    """
    give_back = keep(os.environ)
    if give_back is None:
        yield
        return

    async def turns() -> None:
        while True:
            await asyncio.sleep(seconds)
            give_back()

    task = supervisor.start("giving memory back", turns)
    try:
        yield
    finally:
        task.cancel()


def keep(environment: Mapping[str, str]) -> Callable[[], object] | None:
    """Let malloc keep KEPT_BYTES; return what gives back all that is free, None if malloc is left as it is."""
    if any(name in environment for name in _SETTINGS) or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return None
    program = ctypes.CDLL(None)
    try:
        set_option, trim = program.mallopt, program.malloc_trim
    except AttributeError:  # musl and macOS have no such functions
        return None
    set_option(_TRIM_THRESHOLD, KEPT_BYTES)
    set_option(_MMAP_THRESHOLD, KEPT_BYTES)
    return lambda: trim(0)
