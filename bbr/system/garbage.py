"""Python's search for garbage in cycles, kept away from what is large and stays.

A full collection looks at each object of the process at once, and Python does one after every growth by a quarter.
With a model table of 100,000 names it takes up to 0.25 s, in which no request is served. It finds next to nothing:
most objects are in no cycle and are freed at once when nobody refers to them.
"""

import gc
from types import TracebackType
from typing import Final, Self

# So many young collections without a full one; gc.set_threshold takes no more.
_NEVER: Final = (1 << 31) - 1


class _Process:
    """What all Growths have in common: the collector is one for the process."""

    def __init__(self) -> None:
        self.growths = 0
        self.thresholds = (0, 0, 0)


_process: Final = _Process()


class Growth:
    """Holds full collections off while something large is built; young objects are still looked through.

    What is to stay is set aside at the end: it is looked at no more, and is freed as ever once nobody refers to it. Set
    aside is all that there is at that time, so that a cycle of those objects is never freed.
    """

    def __init__(self) -> None:
        self._begun = False

    def begin(self) -> None:
        """Hold full collections off, if that is not done already."""
        if self._begun:
            return
        self._begun = True
        _process.growths += 1
        if _process.growths == 1:
            _process.thresholds = gc.get_threshold()
            gc.set_threshold(*_process.thresholds[:2], _NEVER)

    def end(self, *, set_aside: bool = False) -> None:
        """Let there be full collections again, once all Growths have ended.

        Args:
            set_aside: there is much that stays.
        """
        if not self._begun:
            return
        self._begun = False
        if set_aside:
            gc.freeze()
        _process.growths -= 1
        if _process.growths == 0:
            gc.set_threshold(*_process.thresholds)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()
