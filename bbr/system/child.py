"""How this program runs a module of its own in another process."""

import os
import sys


def python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a Python like this one that runs a module."""
    # It finds what this process finds, wherever that was started; -P, so that nothing in a working directory is loaded.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return [sys.executable, "-P", "-m", module, *arguments], environment
