"""What bbr.tls.pem does, done by another process, so that the router does not keep the 11 MB that this takes.

python -P -m bbr.tls.apart     a pickled function's name and arguments on stdin, a pickled answer on stdout
"""

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bbr.system import child
from bbr.tls.credentials import CredentialsError

# It takes a second on a busy machine. What takes longer was stopped, or hangs. A router that starts waits for it, and
# one that runs reads no later certificate before it is over.
ANSWER_SECONDS: Final = 30.0
_KILLED_SECONDS: Final = 1.0


class Started:
    """A process that loads what its call needs while the router loads everything else; later calls start one each."""

    def __init__(self) -> None:
        self._process = _start()

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Do what `call` does."""
        process, self._process = self._process or _start(), None
        return _call(process, function, arguments)


def call(function: str, *arguments: Any) -> Any:
    """Call a function of bbr.tls.pem in another process, or here if that fails. It may take a second: not in the loop.

    Args:
        function: its name.
        arguments: for it.

    Raises:
        CredentialsError: as the function does, or it did not read its files within ANSWER_SECONDS.
    """
    return _call(_start(), function, arguments)


def _start() -> subprocess.Popen[bytes] | None:
    command, environment = child.python(__name__)
    try:
        return subprocess.Popen(  # noqa: S603 (ours)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError:
        return None


def _call(process: subprocess.Popen[bytes] | None, function: str, arguments: tuple[Any, ...]) -> Any:
    try:
        if process is None:
            raise ChildProcessError
        said, _ = process.communicate(pickle.dumps((function, arguments)), ANSWER_SECONDS)
        answer = pickle.loads(said)  # noqa: S301 (our own)
    except Exception as error:  # no process starts, it was killed or hangs, or something else wrote to its stdout
        if process is not None:
            _end(process)
        paths = [str(each) for each in arguments if isinstance(each, Path)]
        if paths and isinstance(error, subprocess.TimeoutExpired):  # here, such a read could not be ended
            raise CredentialsError(f"{', '.join(paths)}: not read within {ANSWER_SECONDS:g} s") from None
        answer = _answer(function, arguments)
    if isinstance(answer, CredentialsError):
        raise answer
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not written yet
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk or a mount, and can't be killed
        process.wait(_KILLED_SECONDS)


def _answer(function: str, arguments: tuple[Any, ...]) -> object:
    from bbr.tls import pem

    try:
        return getattr(pem, function)(*arguments)
    except CredentialsError as error:
        return error


def main() -> None:
    """Answer what stdin asks. Nothing comes if the router has ended."""
    from bbr.tls import pem  # noqa: F401 (what takes time, before there is a question)

    function, arguments = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 (the router's own)
    sys.stdout.buffer.write(pickle.dumps(_answer(function, arguments)))


if __name__ == "__main__":
    main()
