"""What a call costs: lines of the project's own code that it goes through, and the processor's time."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import bbr

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


def seconds(call: Callable[[], object], rounds: int = 5) -> float:
    """Return the processor time of a call in this thread, the least of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.thread_time()
        call()
        best = min(best, time.thread_time() - begin)
    return best
