"""Names with a `*`, such as `claude-sonnet-*`, that match many names. Pure.

A pattern has one `*`. It stands for any characters, slashes included, or for none. An exact name of the table comes
before every pattern. Of several patterns that match, the one with the most characters beside its star wins. A table
cannot hold two patterns of equal length that can match the same name. So the result never depends on the order of
declarations.
"""

from collections.abc import Iterator
from typing import Final

STAR: Final = "*"

# Of one table. A name that it does not hold as it stands is compared with each: 30 us at most.
MAX_PATTERNS: Final = 256


class Pattern:
    """A pattern.

    Attributes:
        text: as it is declared.
        length: how many characters it has beside its star.
    """

    __slots__ = ("_begin", "_end", "length", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._begin, _, self._end = text.partition(STAR)
        self.length = len(self._begin) + len(self._end)

    def fits(self, name: str) -> bool:
        """Tell whether a name fits it; in time in proportion to its own length."""
        return name.startswith(self._begin) and name.endswith(self._end) and len(name) >= self.length

    def shares_names_with(self, other: "Pattern") -> bool:
        """Tell whether some name fits both."""
        # The stars leave room for whatever one of them asks for and the other does not.
        begins = self._begin.startswith(other._begin) or other._begin.startswith(self._begin)
        return begins and (self._end.endswith(other._end) or other._end.endswith(self._end))


def is_pattern(name: str) -> bool:
    """Tell whether a declared adapter or alias is a pattern."""
    return STAR in name


def fault(name: str) -> str | None:
    """Return why a declared adapter or alias can't be a pattern; None if it can, or is none."""
    return f"has more than one {STAR}, which stands for any characters" if name.count(STAR) > 1 else None


class Collected:
    """The patterns of a table that is being made."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[Pattern]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether there is room for no more."""
        return self._count >= MAX_PATTERNS

    def rival(self, pattern: Pattern) -> Pattern | None:
        """Return one that is as long as another pattern, and that shares names with it."""
        return next(filter(pattern.shares_names_with, self._by_length.get(pattern.length, ())), None)

    def add(self, pattern: Pattern) -> None:
        """Add one that has no rival."""
        self._by_length.setdefault(pattern.length, []).append(pattern)
        self._count += 1

    def __iter__(self) -> Iterator[Pattern]:
        """Give the patterns, the longest first; of equally long ones no name fits two."""
        for length in sorted(self._by_length, reverse=True):
            yield from self._by_length[length]
