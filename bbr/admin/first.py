"""The first few of many."""

from bisect import insort
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])


class First(Generic[T]):
    """The first few of many, in order, without ever sorting all of them.

    Attributes:
        kept: what was found so far.
        count: how many were added.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.kept: list[T] = []
        self.count = 0

    def add(self, item: T) -> None:
        """Add one of the many."""
        self.count += 1
        if len(self.kept) == self._limit:
            if item > self.kept[-1]:
                return
            self.kept.pop()
        insort(self.kept, item)
