"""Runs tasks that the process needs for as long as it lives, and starts a task again if it fails.

If memory or threads run out for a moment, a coroutine can fail anywhere. The tasks that follow files, certificates or a
cluster must survive that. Otherwise the router would go on with old data.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

log = logging.getLogger(__name__)

# The pause after a failure doubles from the first to the longest, and is shortened by up to a half at random. A task
# that has run for CALM_SECONDS has recovered: its next failure is a first one.
FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 30.0
CALM_SECONDS: Final = 60.0

Body = Callable[[], Coroutine[Any, Any, None]]


class EndedError(Exception):
    """A task returned that is meant to run for ever."""


@dataclass(slots=True)
class Failures:
    """How a task has fared, or all tasks of one name.

    Attributes:
        restarts: how often it failed and was started again.
        failing: the class of its last error; "" before the first one, and once it has recovered.
    """

    restarts: int = 0
    failing: str = ""


class Supervisor:
    """Runs tasks that never end by themselves.

    Everything belongs to the event loop's thread.

    Attributes:
        failures: of each task that was ever started, by its name.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        """Make a supervisor without tasks.

        Args:
            clock: seconds that only go forward.
            jitter: a number from 0 to 1, at random.
        """
        self.failures: dict[str, Failures] = {}
        self.clock = clock
        self.jitter = jitter

    def start(self, name: str, body: Body, *, private: bool = False) -> "Supervised":
        """Run `body` from now on, and start it again whenever it fails or returns.

        Args:
            name: for metrics and the log. Several tasks may have the same.
            body: called for each start. The last run may have been interrupted at any `await`.
            private: whether errors may quote what clients sent, so that their words are not logged.
        """
        return Supervised(self, name, body, self.failures.setdefault(name, Failures()), private=private)


class Supervised:
    """A task that is started again when it fails, until `stop`."""

    def __init__(self, supervisor: Supervisor, name: str, body: Body, failures: Failures, *, private: bool) -> None:
        self._supervisor = supervisor
        self._name = name
        self._body = body
        self._failures = failures
        self._private = private
        self._stopped = False
        self._delay = 0.0
        self._run()

    async def stop(self) -> None:
        """End the task, and return once it has ended."""
        self.cancel()
        await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Let the task end soon."""
        self._stopped = True
        self._task.cancel()

    def _run(self) -> None:
        if not self._stopped:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=self._name)
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Start anew what has ended although it was not stopped: to log a failure has failed as well."""
        if not self._stopped:
            asyncio.get_running_loop().call_later(LONGEST_DELAY_SECONDS, self._run)
            error = None if task.cancelled() else task.exception()
            self._failures.restarts += 1
            self._failures.failing = type(error).__name__
            self._log(error, LONGEST_DELAY_SECONDS)

    async def _keep(self) -> None:
        while True:
            began = self._supervisor.clock()
            calm = asyncio.get_running_loop().call_later(CALM_SECONDS, self._recover)
            try:
                await self._body()
                raise EndedError
            except asyncio.CancelledError as error:
                if self._stopped:
                    raise
                failure: BaseException = error  # of something that the body awaited
            except Exception as error:
                failure = error
            finally:
                calm.cancel()
            if self._supervisor.clock() - began >= CALM_SECONDS:
                self._delay = 0.0
            self._delay = min(2 * self._delay or FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
            pause = self._delay * (1 - self._supervisor.jitter() / 2)
            self._failures.restarts += 1
            self._failures.failing = type(failure).__name__
            self._log(failure, pause)
            del failure  # with its frames, while this one sleeps
            await asyncio.sleep(pause)

    def _recover(self) -> None:
        if self._failures.failing:
            self._failures.failing = ""
            log.info("%s: runs again", self._name)

    def _log(self, error: BaseException | None, pause: float) -> None:
        words = "%s: failed, and is started again in %.1f s"
        log.error(words, self._name, pause, exc_info=error, extra={"private": self._private})


async def stop_all(tasks: Iterable[Supervised]) -> None:
    """End tasks together, and return once all have ended."""
    several = list(tasks)
    for task in several:
        task.cancel()
    for task in several:
        await task.stop()
