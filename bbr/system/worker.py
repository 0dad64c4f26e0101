"""The other process of bbr.system.worker_process: takes pieces of work from its stdin, one after the other.

    request   two lengths of 8 bytes, then so many bytes each: the pickled job, and what it works on
    answer    frames: a length of 4 bytes, a kind of 1 byte, then so many bytes

All numbers are big-endian. An answer ends with a frame of another kind than ITEM.

    python -P -m bbr.system.worker CPU_SECONDS MEMORY_BYTES
"""

import contextlib
import gc
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

# Work on some bytes: gives frames of bytes. It must be importable, or a partial of what is.
Job = Callable[[bytes], Iterable[bytes]]

REQUEST_HEAD: Final = struct.Struct("!QQ")
FRAME_HEAD: Final = struct.Struct("!IB")

# Kinds of frames. The last three end an answer; FAILED holds the class of an error.
ITEM, END, FAILED, NO_MEMORY = range(4)

# It runs when the router and its neighbours do not.
_NICE: Final = 10


def main(arguments: list[str]) -> None:
    """Limit this process, and work until stdin ends."""
    cpu_seconds, memory_bytes = float(arguments[0]), int(arguments[1])
    limit(memory_bytes)
    work(
        sys.stdin.buffer, sys.stdout.buffer, lambda seconds: signal.setitimer(signal.ITIMER_PROF, seconds), cpu_seconds
    )


def limit(memory_bytes: int) -> None:
    """Let this process have so much memory, yield to others, and leave nothing behind when it is killed."""
    with contextlib.suppress(OSError, ValueError):  # less is allowed anyway
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICE)
    gc.disable()  # what is built lives until its piece of work is done


def work(requests: BinaryIO, answers: BinaryIO, set_timer: Callable[[float], object], cpu_seconds: float = 0.0) -> None:
    """Answer requests until they end.

    Args:
        requests: see the module.
        answers: the same.
        set_timer: kills the process after so many seconds of processor time; with 0 not at all.
        cpu_seconds: for one piece of work.
    """
    while head := requests.read(REQUEST_HEAD.size):
        sizes = REQUEST_HEAD.unpack(head)
        set_timer(cpu_seconds)
        _answer(requests, sizes, answers)
        set_timer(0.0)
        gc.collect()
        answers.flush()


def _answer(requests: BinaryIO, sizes: tuple[int, ...], answers: BinaryIO) -> None:
    try:
        job, data = pickle.loads(requests.read(sizes[0])), requests.read(sizes[1])  # noqa: S301 (the router's own)
        for frame in job(data):
            _write(answers, ITEM, frame)
        _write(answers, END)
    except MemoryError:
        _write(answers, NO_MEMORY)
    except Exception as error:
        _write(answers, FAILED, type(error).__name__.encode())


def _write(answers: BinaryIO, kind: int, frame: bytes = b"") -> None:
    answers.write(FRAME_HEAD.pack(len(frame), kind))
    answers.write(frame)


if __name__ == "__main__":
    main(sys.argv[1:])
