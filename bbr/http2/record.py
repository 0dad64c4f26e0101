"""The base of small classes that hold values: equal ones say the same.

Plain classes with an `__init__`, not NamedTuples or dataclasses: some are made for each frame, and a compiler can make
these fast. Whoever compares them (tests do, the product never) pays for it.
"""

from typing import ClassVar


class Record:
    """A subclass names its attributes, in order, in `__match_args__`."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(other, name) == getattr(self, name) for name in self.__match_args__
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(getattr(self, name)) for name in self.__match_args__)})"
