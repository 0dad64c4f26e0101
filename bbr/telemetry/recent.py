"""Names that clients have asked for lately, in bounded memory.

Pure: time is an argument.
"""

from typing import Final, NamedTuple

_MAX_NAMES: Final = 200
_SECONDS: Final = 3600.0


class RecentName(NamedTuple):
    """How often a name was asked for since it was first noted, and when it was last, in seconds."""

    name: str
    times: int
    last: float


class RecentNames:
    """The names of the last hour, at most 200: of more, those asked for least recently are forgotten.

    A name that is asked for all the time can't be driven out by names that are asked for once.
    """

    def __init__(self, max_names: int = _MAX_NAMES, seconds: float = _SECONDS) -> None:
        self._max_names = max_names
        self._seconds = seconds
        self._names: dict[str, tuple[int, float]] = {}  # in the order of their last time

    def add(self, name: str, now: float) -> None:
        """Note that a name was asked for."""
        times, last = self._names.pop(name, (0, now))
        if now - last > self._seconds:
            times = 0
        self._names[name] = (times + 1, now)
        if len(self._names) > self._max_names:
            del self._names[next(iter(self._names))]

    def since(self, now: float) -> list[RecentName]:
        """Return the names of the last hour, those asked for most often first."""
        found = [RecentName(name, *known) for name, known in self._names.items() if now - known[1] <= self._seconds]
        return sorted(found, key=lambda each: (-each.times, each.name))
