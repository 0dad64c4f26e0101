"""The `bbr` command in this process, and in one of its own."""

import os
import subprocess
import sys

from bbr import cli
from bbr.config.settings import Settings

PYTHON_M = [sys.executable, "-W", "error", "-m", "bbr"]
SCRIPT = [os.path.join(os.path.dirname(sys.executable), "bbr")]


def run(command, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BBR_")} | variables
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def write(path, text):
    """Write a file; return its path."""
    path.write_text(text, encoding="utf-8")
    return path


def of(path, **settings):
    """Return settings with a model file."""
    return Settings(models=path, **settings)


def failure(capsys, *arguments):
    """Return the exit status and the one sentence on stderr of a command line that fails."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:  # argparse's own complaints
        code = exit_.code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith(".\n")
    assert not err.endswith("..\n")
    return code, err
