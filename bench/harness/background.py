"""An asyncio loop in a thread, for servers that are talked to from outside."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 90.0


class Background:
    """Run coroutines in one loop of a thread of its own; leaving the context cancels what still runs and joins it.

    Args:
        new_loop: makes the loop.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="background loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.run(self._cancel_all())
        finally:  # a task that can't be cancelled must not keep the thread, and so the process
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(DEADLINE_SECONDS)
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = DEADLINE_SECONDS) -> T:
        """Run `coroutine` in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    async def _cancel_all(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
