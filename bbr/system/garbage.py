"""Python's search for garbage in cycles, kept away from what is large and stays.

A full collection looks at each object of the process at once, and Python does one after every growth by a quarter.
With a model table of 100,000 names it takes up to 0.25 s, in which no request is served. It finds next to nothing:
most objects are in no cycle and are freed at once when nobody refers to them.

What is set aside is looked at no more. That is all that there is at the time, and some of it will be garbage in cycles
later: an error that was on its way, a connection. So now and then it is counted, and once it has grown by much it is
looked through after all: a router whose table changes every second would else grow without end.
"""

import gc
from types import TracebackType
from typing import Final, Self

# So many young collections without a full one; gc.set_threshold takes no more.
_NEVER: Final = (1 << 31) - 1

# So many changes in a row may hold full collections off: changes that never cease would do so for good.
_MOST_ROUNDS: Final = 20

# From so many things on that stay they are set aside. To look through as many names takes 5 ms.
SET_ASIDE_FROM: Final = 2_000

# After so many times what is set aside is counted; the more it is, the more rarely: 400,000 objects take 28 ms.
_COUNTED_AFTER: Final = 100
_COUNTED_SHARE: Final = 1_000
# It is looked through if it has grown by a half since the last time, and by so many objects, 10 to 20 MB.
_MANY_OBJECTS: Final = 50_000


class _Process:
    """What all Growths have in common: the collector is one for the process."""

    def __init__(self) -> None:
        self.growths = 0
        self.thresholds = (0, 0, 0)
        self._uncounted = 0  # so often something was set aside since the last count
        self._expected: int | None = None  # objects that are set aside, and no garbage; None before the first count

    def set_aside(self) -> None:
        # Young garbage is freed before. There is little that is young, however large the table.
        gc.collect(1)
        gc.freeze()
        self._uncounted += 1
        if self._expected is None:
            self._expected = gc.get_freeze_count()
        elif self._uncounted > _COUNTED_AFTER + self._expected // _COUNTED_SHARE:
            self._uncounted = 0
            self._expected = self._look(self._expected)

    def _look(self, expected: int) -> int:
        count = gc.get_freeze_count()
        if count - expected <= max(_MANY_OBJECTS, expected >> 1):
            return min(expected, count)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return gc.get_freeze_count()


_process: Final = _Process()


class Growth:
    """Holds full collections off while something large is built; young objects are still looked through.

    What is to stay is set aside at the end: it is freed as ever once nobody refers to it. See the module.
    """

    def __init__(self) -> None:
        self._begun = False
        self._rounds = 0

    def begin(self, kept: int = 0) -> None:
        """Hold full collections off, if that is not done already; begun anew again and again, it ends now and then.

        Args:
            kept: how many things there are that stay. If they are many they are set aside now and then; if they are few
                there may be full collections until the next time.
        """
        if self._begun:
            self._rounds += 1
            if self._rounds < _MOST_ROUNDS:
                return
            self.end(kept)
            if kept < SET_ASIDE_FROM:
                return
        self._begun = True
        self._rounds = 0
        _process.growths += 1
        if _process.growths == 1:
            _process.thresholds = gc.get_threshold()
            gc.set_threshold(*_process.thresholds[:2], _NEVER)

    def end(self, kept: int = 0) -> None:
        """Let there be full collections again, once all Growths have ended.

        Args:
            kept: how many things stay; many are set aside.
        """
        if not self._begun:
            return
        self._begun = False
        if kept >= SET_ASIDE_FROM:
            _process.set_aside()
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
