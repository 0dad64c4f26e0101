"""What bbr.tls.pem does, done by another process, so that the router does not keep the 11 MB that this takes.

python -P -m bbr.tls.apart     a pickled function's name and arguments on stdin, a pickled answer on stdout
"""

import pickle
import subprocess
import sys
from typing import Any

from bbr.system import child
from bbr.tls.credentials import CredentialsError


def call(function: str, *arguments: Any) -> Any:
    """Call a function of bbr.tls.pem in another process, or here if that fails. It may take a second: not in the loop.

    Args:
        function: its name.
        arguments: for it.

    Raises:
        CredentialsError: as the function does.
    """
    command, environment = child.python(__name__)
    try:
        done = subprocess.run(  # noqa: S603 (ours)
            command,
            input=pickle.dumps((function, arguments)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            check=True,
        )
        answer = pickle.loads(done.stdout)  # noqa: S301 (our own)
    except Exception:  # no process can be started, it was killed, or something else wrote to its stdout
        answer = _answer(function, arguments)
    if isinstance(answer, CredentialsError):
        raise answer
    return answer


def _answer(function: str, arguments: tuple[Any, ...]) -> object:
    from bbr.tls import pem

    try:
        return getattr(pem, function)(*arguments)
    except CredentialsError as error:
        return error


def main() -> None:
    """Answer what stdin asks."""
    function, arguments = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 (the router's own)
    sys.stdout.buffer.write(pickle.dumps(_answer(function, arguments)))


if __name__ == "__main__":
    main()
