"""The local stack for tests: one per test, on free ports, gone when the test ends."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.harness.background import Background
from deploy.local.stack import Stack, StackOptions
from deploy.local.topology import free_ports

T = TypeVar("T")

DEADLINE_SECONDS = 90.0
POLL_SECONDS = 0.01


def in_stack(test: Callable[[Stack], Coroutine[Any, Any, T]], log_dir: Path, **options: Any) -> T:
    """Run `test` with a stack of its own and return its result; a part that dies ends the test."""

    async def run() -> T:
        async with Stack(StackOptions(log_dir=log_dir, ports=free_ports(), **options)) as stack:
            return await stack.unless_dead(test(stack))

    return asyncio.run(run())


@contextmanager
def running(log_dir: Path, **options: Any) -> Iterator[Stack]:
    """Run a stack from outside of any event loop, for tests with blocking clients."""
    with Background() as background:
        stack = Stack(StackOptions(log_dir=log_dir, ports=free_ports(), **options))
        background.run(stack.__aenter__(), 4 * DEADLINE_SECONDS)
        try:
            yield stack
        finally:
            background.run(stack.stop())


async def until(condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `condition` holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(POLL_SECONDS)


def clean_environment() -> dict[str, str]:
    """Return this environment without what changes how the stack starts."""
    return {name: value for name, value in os.environ.items() if name != "ENVOY" and not name.startswith("BBR_")}
