"""Who has a lab, or builds its parts: a file that its process holds locked, with the process's number in it.

The system takes the lock back when the process ends, however it ends. So what is there without a lock is a leftover.
"""

import fcntl
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

_LOOK_SECONDS: Final = 0.1


class HeldError(Exception):
    """Another process has the lock.

    Attributes:
        pid: its number; 0 if it has not said it yet.
    """

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"process {pid} has {path}")
        self.pid = pid


class Lock:
    """A lock; taken by `with`.

    Args:
        path: of its file, which stays.
        wait: until another process has ended, instead of an error.

    Raises:
        HeldError: on entry, without `wait`: another process has it.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path = path
        self._wait = wait
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
        except BlockingIOError:
            with file:
                file.seek(0)
                raise HeldError(self._path, int(file.read() or 0)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.truncate(0)
        self._file.close()


def end_holder(path: Path, seconds: float) -> bool:
    """Ask the process that has a lock to end, and wait for it; return whether nobody has the lock now."""
    until = time.monotonic() + seconds
    asked = 0
    while True:
        try:
            with Lock(path):
                return True
        except HeldError as held:
            if held.pid and held.pid != asked:
                os.kill(held.pid, signal.SIGTERM)
                asked = held.pid
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)
