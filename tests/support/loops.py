"""Coroutines as tests, on the event loop that bbr runs on."""

import asyncio
import atexit
import contextlib
import functools
from collections.abc import Awaitable, Callable

import uvloop

# For a whole test, and for each thing that must happen by itself. A test that works needs a fraction of a second.
DEADLINE_SECONDS = 90.0

# One loop for all of them: grpc.aio has one completion queue per process, and what it still holds for a loop that was
# closed becomes an error in the log of the next.
_RUNNER = asyncio.Runner(loop_factory=uvloop.new_event_loop)


@atexit.register
def _close() -> None:
    # From Python 3.12 on, a process that ends starts no thread, with which the loop would await its own threads.
    with contextlib.suppress(RuntimeError):
        _RUNNER.close()


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a coroutine function a test that pytest can call, bound by the deadline."""

    @functools.wraps(test)
    def run(*args: object, **fixtures: object) -> None:
        async def bound() -> None:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await test(*args, **fixtures)

        _RUNNER.run(bound())

    return run


async def all_ended(before: set["asyncio.Task[object]"]) -> None:
    """Await the end of every task that runs now and is not one of `before`; fails if one does not end."""
    tasks = {task for task in asyncio.all_tasks() - before if not _is_grpcs_own(task)} - {asyncio.current_task()}
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=DEADLINE_SECONDS / 2)
        assert not running, f"still running: {running}"


def _is_grpcs_own(task: "asyncio.Task[object]") -> bool:
    # A grpc.aio server awaits its next call in one task, and makes another for each.
    return getattr(task.get_coro(), "__qualname__", "") == "AioServer._request_call"
