"""Waiting for what can only be asked for."""

import threading
import time
from collections.abc import Callable

# For what must happen by itself: a machine that is busy takes a second or two for what takes another one milliseconds.
DEADLINE_SECONDS = 90.0
POLL_SECONDS = 0.01


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the awaited state did not come"
        threading.Event().wait(POLL_SECONDS)
