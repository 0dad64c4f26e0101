"""Modules that take long to import, imported by the tests that use them.

Every worker of pytest-xdist imports every test module, whichever tests it runs.
"""

import importlib
from typing import Any


class Late:
    """Stands for a module, which is imported when one of its public attributes is looked up first.

    Not importlib.util.LazyLoader: pytest asks each name of a test module for its class and for what it wraps.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def late(name: str) -> Any:
    """Return what stands for a module."""
    return Late(name)
