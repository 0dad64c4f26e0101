"""Run a program that ends with its parent: `python guard.py PARENT_PID COMMAND...` turns into COMMAND.

A stack that is killed with SIGKILL can stop nothing any more. On Linux the kernel then ends its parts; elsewhere they
stay. Own file, and nothing imported but the standard library: it starts in a few milliseconds.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def main() -> None:
    """Replace this process by the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before prctl was called
            sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell, and the command is the stack's own
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
