"""A value of an answer of Envoy's admin interface, with the place where it stands: what every evidence is made of.

Pure. Answers come from another process: nothing in here trusts their shape, and a value of the wrong type is as absent.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")

# Longer values would bury the path.
_MAX_SHOWN: Final = 300


class Evidence(NamedTuple):
    """Where something was found, and what.

    Attributes:
        document: `config_dump`, `clusters`, `stats`, or `table`, which is the router's.
        path: the place in it, as jq takes it; a statistic's or a model's name.
        value: what stands there; None if nothing does.
        note: what an absent value means, or "".
    """

    document: str
    path: str
    value: str | int | float | bool | None
    note: str = ""

    def __str__(self) -> str:
        value = "absent" if self.value is None else f"{self.value}".lower() if self.value is True else f"{self.value}"
        note = f" ({self.note})" if self.note else ""
        return f"{self.document} {self.path} = {value}{note}"


class Node:
    """A JSON value and its path. Looking for what is not there gives a Node without a value, never an error."""

    __slots__ = ("document", "path", "value")

    def __init__(self, document: str, value: Any, path: str = "") -> None:
        self.document = document
        self.value = value
        self.path = path

    def __bool__(self) -> bool:
        return self.value is not None

    def get(self, *keys: str) -> "Node":
        """Return what stands under `keys`, one within the other."""
        value, path = self.value, self.path
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
            path += f".{key}" if _PLAIN_KEY.fullmatch(key) else f'["{key}"]'
        return Node(self.document, value, path)

    def each(self, *keys: str) -> "Iterator[Node]":
        """Yield the elements of the list under `keys`."""
        found = self.get(*keys)
        if isinstance(found.value, list):
            for index, value in enumerate(found.value):
                yield Node(self.document, value, f"{found.path}[{index}]")

    def children(self) -> "list[Node]":
        """Return the values of a mapping or the elements of a list, the last one first."""
        if isinstance(self.value, dict):
            return [self.get(key) for key in reversed(self.value)]
        return list(self.each())[::-1]

    def walk(self) -> "Iterator[Node]":
        """Yield this value and all within it."""
        waiting = [self]
        while waiting:
            yield (found := waiting.pop())
            waiting += found.children()

    @property
    def text(self) -> str:
        """A string, or "" if it is none."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def is_true(self) -> bool:
        """Whether it is the boolean true."""
        return self.value is True

    @property
    def number(self) -> int | None:
        """An integer; protobuf writes those of 64 bits as strings."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        return int(self.text) if re.fullmatch(r"[0-9]{1,20}", self.text) else None

    @property
    def seconds(self) -> float | None:
        """A duration as protobuf writes it, as in 0.250s."""
        found = _DURATION.fullmatch(self.text)
        return float(found[1]) if found else None

    @property
    def type(self) -> str:
        """The last part of an Any's type: `ExternalProcessor`."""
        return self.get("@type").text.rpartition(".")[2]

    def evidence(self, note: str = "") -> Evidence:
        """Return the value and its place; of a message only that it is there, since it could hold credentials."""
        value = self.value
        if isinstance(value, (dict, list)):
            value = "{...}" if isinstance(value, dict) else "[...]"
        elif isinstance(value, str) and len(value) > _MAX_SHOWN:
            value = value[:_MAX_SHOWN] + "..."
        return Evidence(self.document, self.path, value, note)
