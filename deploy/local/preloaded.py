"""One process that has imported what the stand-ins need, and forks a child for each: a stack starts in half the time.

Six stand-ins take a third of a second of a processor each to import their libraries. Here that is done once. What comes
out are processes like any others: each has an id, a session, a log and an exit status of its own.

The stack talks to the process by messages over a socket, in JSON:

  {"start": NUMBER, "module": NAME, "arguments": [...]}   with two descriptors, for standard output and error
  {"signal": NUMBER, "which": SIGNAL}
  {"started": NUMBER, "pid": PID}                         the answer to "start"
  {"ended": NUMBER, "code": CODE}                         as subprocess has it: negative for a signal

If the socket closes, the stack is gone: the process kills its children and exits.
"""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

from deploy.local.guard import PR_SET_PDEATHSIG
from deploy.local.part import ROOT, StackError

# What may be started; both are imported before the first one is.
ENDPOINT_PICKER: Final = "deploy.local.endpoint_picker"
MODEL_SERVER: Final = "deploy.local.model_server"

_MESSAGE_BYTES: Final = 64 << 10
_STREAMS: Final = 2


class Preloaded:
    """The process, as the stack sees it. It starts with the first child; all methods belong to one event loop."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._children: dict[int, Child] = {}

    async def run(self, command: Sequence[str], output: IO[bytes], error: IO[bytes]) -> "Child":
        """Start a child in the repository's root and a session of its own.

        Args:
            command: a Python, "-m", one of the modules, and arguments.
            output: its standard output.
            error: its standard error.

        Raises:
            StackError: the process has ended, and said why on its standard error.
        """
        ours = self._socket or await self._begin()
        child = Child(len(self._children), self._signal)
        _, _, module, *arguments = command
        message = {"start": child.number, "module": module, "arguments": arguments}
        try:
            socket.send_fds(ours, [json.dumps(message).encode()], [output.fileno(), error.fileno()])
            self._children[child.number] = child
            await child.started
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise StackError("the process that starts the stand-ins has ended") from None
        return child

    async def stop(self) -> None:
        """End the process, and with it all children that are left; return when it is gone."""
        self._lose()
        if self._process is not None:
            await self._process.wait()

    async def _begin(self) -> socket.socket:
        self._socket, theirs = ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.local.preloaded", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                start_new_session=True,
            )
        asyncio.get_running_loop().add_reader(ours, self._read, ours)
        return ours

    def _read(self, ours: socket.socket) -> None:
        received = ours.recv(_MESSAGE_BYTES)
        if not received:
            self._lose()
            return
        message = json.loads(received)
        if "started" in message:
            self._children[message["started"]].started.set_result(message["pid"])
        else:
            self._children[message["ended"]].ended.set_result(message["code"])

    def _signal(self, number: int, which: int) -> None:
        if self._socket is not None and not self._children[number].ended.done():
            self._socket.send(json.dumps({"signal": number, "which": which}).encode())

    def _lose(self) -> None:
        """Close the socket, which ends the process if it has not ended; then its children are killed."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for child in self._children.values():
            if not child.started.done():
                child.started.set_exception(EOFError())
            elif not child.ended.done():
                child.ended.set_result(-signal.SIGKILL)


class Child:
    """A child, with what deploy.local.part uses of asyncio's processes."""

    def __init__(self, number: int, send: Callable[[int, int], None]) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.started: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._send = send

    @property
    def pid(self) -> int:
        """The process id."""
        return self.started.result()

    async def wait(self) -> int:
        """Return the exit code once it has ended."""
        return await asyncio.shield(self.ended)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(self.number, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(self.number, signal.SIGKILL)


class Server:
    """Forks children for who is at the other end of the socket, until it is closed."""

    def __init__(self, theirs: socket.socket) -> None:
        self._socket = theirs
        self._numbers: dict[int, int] = {}
        self._woken, waking = os.pipe()
        for end in (self._woken, waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> Callable[[], Any] | None:
        """Return None when the socket is closed, or, in a child, what it is to do."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._socket:
                        received, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, _STREAMS)
                        if not received:
                            self._kill_all()
                            return None
                        if work := self._take(json.loads(received), descriptors):
                            return work
                    else:
                        os.read(self._woken, _MESSAGE_BYTES)
                        self._reap()

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> Callable[[], Any] | None:
        if "signal" in message:
            for pid, number in self._numbers.items():
                if number == message["signal"]:
                    os.kill(pid, message["which"])
            return None
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            return self._become(parent, message["module"], message["arguments"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._numbers[pid] = message["start"]
        self._tell({"started": message["start"], "pid": pid})
        return None

    def _become(self, parent: int, module: str, arguments: list[str], descriptors: list[int]) -> Callable[[], Any]:
        """Make this process, just forked, what a new one would be, and return what it is to run."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._socket.close()
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before prctl was called
                sys.exit(1)
        for target, descriptor in enumerate(descriptors, 1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        return lambda: importlib.import_module(module).main(arguments)

    def _reap(self) -> None:
        for pid, number in list(self._numbers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._numbers[pid]
                self._tell({"ended": number, "code": os.waitstatus_to_exitcode(status)})

    def _kill_all(self) -> None:
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _tell(self, message: dict[str, int]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is closed: the next read tells
            self._socket.send(json.dumps(message).encode())


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    for module in (ENDPOINT_PICKER, MODEL_SERVER):
        importlib.import_module(module)
    gc.freeze()  # no child has to look through all that is imported, or gets a copy of it by that
    with socket.socket(fileno=int(sys.argv[1])) as theirs:
        work = Server(theirs).run()
    if work is not None:
        _exit_after(work)


def _exit_after(work: Callable[[], Any]) -> None:
    """Run what a child is to do and end it, without the third of a second that taking down all modules takes."""
    code = 0
    try:
        work()
    except SystemExit as error:
        if not isinstance(error.code, int):
            raise
        code = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
