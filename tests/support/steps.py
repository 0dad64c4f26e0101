"""What a call costs: lines of the project's own code that it goes through, and the processor's time."""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson

import bbr

# At most, of what is asked again until it holds.
ROUNDS = 20

_OURS = str(Path(bbr.__file__).parent)


def lines(call: Callable[[], object]) -> int:
    """Return how many lines of the project's code a call goes through: the same for every run of it."""
    count = 0
    ours: dict[CodeType, bool] = {}

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in ours:
            ours[code] = code.co_filename.startswith(_OURS)
        return line if ours[code] else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def take_as_long(calls: Callable[[], object], others: Callable[[], object], times: float, least: float = 0.0) -> bool:
    """Tell whether `calls` takes at most so many times the processor time of `others`, or of `least` seconds.

    What else a machine does only adds to either, so each is given more rounds before it is said not to. No garbage is
    collected meanwhile: that looks through what all tests before have left, more often for what makes more.
    """
    most = fewest = float("inf")
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            most, fewest = min(most, seconds(calls, 2)), min(fewest, seconds(others, 2))
            if most <= times * max(fewest, least):
                return True
    finally:
        if collects:
            gc.enable()
    return False


# What one parser takes a millisecond for, on the machine where the limits of bbr.reading were chosen.
_BRACKETS = b"[%b[]]" % (b"[]," * 20_000)


def is_within(milliseconds: float, longest: Callable[[], float]) -> bool:
    """Tell whether what `longest` returns, in seconds, is within so many milliseconds, of a machine that is not busy.

    It is asked several times, since what else a machine does only adds to it. What a millisecond is here and now is
    told by what a parser takes.
    """
    least = millisecond = float("inf")
    for _ in range(ROUNDS):
        least = min(least, longest())
        millisecond = min(millisecond, seconds(lambda: orjson.loads(_BRACKETS), 2))
        if least <= milliseconds * millisecond:
            return True
    return False


def slowness() -> float:
    """Return how many times as long this machine takes now as the one where limits were chosen; at least 1."""
    return max(1.0, 1_000 * seconds(lambda: orjson.loads(_BRACKETS)))


def seconds(call: Callable[[], object], rounds: int = 5) -> float:
    """Return the processor time of a call in this thread, the least of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.thread_time()
        call()
        best = min(best, time.thread_time() - begin)
    return best
