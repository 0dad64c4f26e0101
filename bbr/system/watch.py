"""Decides when to read files again: it polls their metadata, which works for every change and every file system."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

POLL_SECONDS: Final = 1.0


class Poll:
    """Gives the times to look at files: every so often, and at once when asked to.

    Args:
        seconds: from one look to the next.
    """

    def __init__(self, seconds: float = POLL_SECONDS) -> None:
        self._seconds = seconds
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have the next look taken at once, and everything read anew whether it seems to have changed or not."""
        self._asked.set()

    async def wait(self) -> bool:
        """Return when it is time for the next look; True if it was asked for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._asked.wait()
        asked = self._asked.is_set()
        self._asked.clear()
        return asked


async def in_thread(call: Callable[[], T]) -> T:
    """Call what reads files in a thread: a file system can take its time, perhaps for ever.

    Not asyncio's own threads: the end of the process waits for those, and would not come while a mount hangs.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(by: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else by(value))

    def run() -> None:
        try:
            found = call()
        except BaseException as error:
            settle(done.set_exception, error)
        else:
            settle(done.set_result, found)

    threading.Thread(target=run, name="reading files", daemon=True).start()
    return await done


def metadata(path: str | Path) -> tuple[int, ...]:
    """Return what is sure to differ once a file has changed, without reading it.

    Links are followed: that sees a mounted ConfigMap's or Secret's swap of `..data`, a rename over the file, and a
    write in place.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or errno.EIO,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def size(metadata: tuple[int, ...]) -> int:
    """Return how many bytes a file had, by its `metadata`; 0 if it could not be looked at."""
    return metadata[2] if len(metadata) > 1 else 0
