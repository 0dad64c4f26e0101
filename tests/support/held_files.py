"""`bbr` on a file system that hangs: a file is read once whoever holds the FIFO beside it, NAME.hold, lets go of it.

`python -m tests.support.held_files serve ...` is the product with that.
"""

import sys
from pathlib import Path

from bbr import cli
from bbr.system import files

read = files.read


def read_when_let(path: str | Path, max_bytes: int) -> bytes:
    """Wait for a writer of the FIFO, if there is one, and for its end; then read the file."""
    hold = Path(f"{path}.hold")
    if hold.exists():
        hold.read_bytes()
    return read(path, max_bytes)


if __name__ == "__main__":
    files.read = read_when_let
    raise SystemExit(cli.main(sys.argv[1:]))
