"""The members of a document's root, beside its `model`, whose values go into headers: as they come.

Pure. Offsets are those of the document.
"""

from typing import Final, Protocol

import orjson

from bbr.reading.scan.grammar import Keys
from bbr.refusal import Refusal

# Whose a key is that matters.
OTHER: Final = 0
MODEL: Final = 1
FIELD: Final = 2


class Values(Protocol):
    """Takes each value; see bbr.reading.fields."""

    @property
    def keys(self) -> Keys:
        """The keys that are looked for, and `model` if that is too."""

    @property
    def other_keys(self) -> Keys | None:
        """The keys that are looked for when its own no longer are; None for none."""

    @property
    def refusal(self) -> Refusal | None:
        """The first that a value calls for."""

    def root_of(self, name: str) -> str | None:
        """Return the member that a key is for some parsers at least, or None."""

    def add_key(self, root: str, offset: int, *, exact: bool) -> bool:
        """Take note of a key, which is in its exact letters or not, and tell whether its value counts."""

    def open(self, root: str, first: int, offset: int) -> int:
        """Return how many bytes of a value to keep, which begins with a byte; 0 for none: it is refused."""

    def refuse_length(self, root: str, offset: int) -> None:
        """Refuse a value of which more came than is kept."""

    def take(self, root: str, raw: bytes, offset: int, end: int) -> None:
        """Take a value, as it is written from one offset to another."""


class FieldMembers:
    """What is known of them while a document is scanned.

    Args:
        values: takes each value.

    Attributes:
        keys: that are looked for; those of `values`.
        other_keys: that are looked for when those no longer are.
    """

    __slots__ = ("_kept", "_most", "_offset", "_root", "_values", "keys", "other_keys")

    def __init__(self, values: Values) -> None:
        self.keys = values.keys
        self.other_keys = values.other_keys
        self._values = values
        self._root = ""  # whose value comes
        self._offset = 0
        self._kept = bytearray()
        self._most = 0

    @property
    def refused(self) -> bool:
        """Whether one of them calls for a refusal."""
        return self._values.refusal is not None

    def add_key(self, key: bytes, offset: int) -> int:
        """Take note of a key, in quotes or up to a NUL in it, and return whose value follows it: see FIELD."""
        name = orjson.loads(key if key.endswith(b'"') else key + b'"')
        root = self._values.root_of(name)
        if root is None:
            return MODEL
        self._root = root
        return FIELD if self._values.add_key(root, offset, exact=name == root) else OTHER

    def open(self, first: int, offset: int) -> bool:
        """Begin its value, and tell whether it is to be kept, by its first byte."""
        self._offset = offset
        self._kept = bytearray()
        self._most = self._values.open(self._root, first, offset)
        return self._most > 0

    def keep(self, octets: bytes) -> bool:
        """Keep a part of its value; False if that is too long now."""
        self._kept += octets
        if len(self._kept) <= self._most:
            return True
        self._values.refuse_length(self._root, self._offset)
        self._kept.clear()
        self._most = 0
        return False

    def close(self, end: int) -> None:
        """End its value, which ends at an offset."""
        if self._most:
            self._values.take(self._root, bytes(self._kept), self._offset, end)
