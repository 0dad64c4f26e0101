"""Work that may take long, or too long, done by another process: parsers of long or hostile documents.

A parser in C holds the interpreter until it is done, and a tree of a million nodes holds it up once more for each look
of the garbage collector. A thread changes nothing about that. So the work goes to a process of its own, which may take
so much processor time and so much memory, and ends beyond that. What it finds comes back in frames that are short
enough to be decoded in a moment.

The process begins with the first piece of work, takes one after the other, and ends when none has come for a while.
"""

import asyncio
import pickle
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from bbr.system import child, worker
from bbr.system.files import size_of
from bbr.system.watch import in_thread
from bbr.system.worker import FRAME_HEAD, REQUEST_HEAD, Job

# Of one piece of work: processor time, and time by the clock on a machine that has little of the former to give.
CPU_SECONDS: Final = 5.0
WALL_SECONDS: Final = 60.0

# The heap of the process, and whatever else it writes to in memory.
MEMORY_BYTES: Final = 512 << 20

# How long the process waits for more work.
IDLE_SECONDS: Final = 10.0

_REAP_SECONDS: Final = 0.01
_PIECE_BYTES: Final = 1 << 16


class WorkerError(Exception):
    """The work was not done; the message says why. It may be worth another try."""


class LimitError(WorkerError):
    """The work takes more processor time or memory than it may have; it will the next time."""


class WorkerProcess:
    """Another process that works while there is work. Everything belongs to the event loop's thread."""

    def __init__(
        self,
        *,
        cpu_seconds: float = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Make one without a process.

        Args:
            cpu_seconds: processor time of one piece of work.
            wall_seconds: time of one piece of work by the clock.
            memory_bytes: memory of the process.
            idle_seconds: how long the process waits for more work.
        """
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory_bytes = memory_bytes
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()
        self._process: _Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, job: Job, pieces: Sequence[bytes], take: Callable[[bytes], None]) -> None:
        """Let `job` work on some bytes; others are served between two frames of what it finds.

        Args:
            job: what to do.
            pieces: of the bytes; they are joined over there.
            take: called with each frame.

        Raises:
            WorkerError: the work was not done; frames that came before are of no use.
            OSError: no process can be started just now.
            RuntimeError: the same, for want of a thread.
        """
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            # Not kept until the work is done: an answer that nobody takes to its end must be nobody else's.
            process, self._process = self._process, None
            if process is not None and process.has_ended:
                process.kill()
                process = None
            try:
                async with asyncio.timeout(self._wall_seconds):
                    process = process or await _Process.start(self._cpu_seconds, self._memory_bytes)
                    await process.send(job, pieces)
                    await self._receive(process, take)
            except TimeoutError:
                raise WorkerError(f"it takes more than {self._wall_seconds:g} s") from None
            except (EOFError, ConnectionError):
                assert process is not None  # noqa: S101 (it has just ended)
                raise self._error(await process.status()) from None
            else:
                self._process, process = process, None
                self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self.close)
            finally:
                if process is not None:
                    process.kill()

    def close(self) -> None:
        """End the process if it waits for work; the next piece of work has a new one."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is not None:
            self._process.kill()
            self._process = None

    async def _receive(self, process: "_Process", take: Callable[[bytes], None]) -> None:
        while True:
            kind, frame = await process.receive()
            if kind == worker.END:
                return
            if kind == worker.NO_MEMORY:
                raise LimitError(f"it takes more than {size_of(self._memory_bytes)} of memory")
            if kind == worker.FAILED:
                raise WorkerError(f"it fails ({frame.decode()})")
            take(frame)
            await asyncio.sleep(0)

    def _error(self, status: int) -> WorkerError:
        if status == -signal.SIGPROF:
            return LimitError(f"it takes more than {self._cpu_seconds:g} s of processor time")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return WorkerError(f"the process that reads it ended by {how}")


class _Process:
    """A process, and the socket that is its stdin and stdout."""

    def __init__(self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, cpu_seconds: float, memory_bytes: int) -> "_Process":
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # In a thread, and not by uvloop: that forks, which takes 0.2 s of a process that has 1 GB of memory.
                process = await in_thread(lambda: _popen(theirs, cpu_seconds, memory_bytes))
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
        return cls(process, reader, writer)

    @property
    def has_ended(self) -> bool:
        """Whether it is no more, as after the system has killed it to have its memory."""
        return self._process.poll() is not None

    async def send(self, job: Job, pieces: Sequence[bytes]) -> None:
        pickled = pickle.dumps(job)
        self._writer.write(REQUEST_HEAD.pack(len(pickled), sum(map(len, pieces))))
        self._writer.write(pickled)
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _PIECE_BYTES):
                self._writer.write(view[start : start + _PIECE_BYTES])
                await self._writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame: its kind, and what it holds.

        Raises:
            EOFError: the process has ended.
        """
        length, kind = FRAME_HEAD.unpack(await self._reader.readexactly(FRAME_HEAD.size))
        return kind, await self._reader.readexactly(length)

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._writer.transport.abort()
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        if self._process.poll() is None:
            asyncio.get_running_loop().call_later(_REAP_SECONDS, self._reap)

    async def status(self) -> int:
        """Return the exit status once the process has ended; it is the negative number of a signal."""
        while (status := self._process.poll()) is None:  # noqa: ASYNC110 (it has closed its socket: a moment)
            await asyncio.sleep(_REAP_SECONDS)
        return status


def _popen(theirs: socket.socket, cpu_seconds: float, memory_bytes: int) -> "subprocess.Popen[bytes]":
    command, environment = child.python(worker.__name__, str(cpu_seconds), str(memory_bytes))
    return subprocess.Popen(  # noqa: S603 (ours)
        command,
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
