"""Follows one InferencePool: a watch says which pods it has, and each of their model servers is asked in turn.

A pool's servers share a few connections. So slow ones delay their own pool, and no other.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from bbr.models.steps import Steps
from bbr.sources import served
from bbr.sources.model_servers import Asking, ServerError
from bbr.sources.pods import KeptPods, Pod
from bbr.sources.pools import Pool
from bbr.sources.reflector import Reflector
from bbr.sources.servers import Address, Servers
from bbr.sources.settling import Names
from bbr.system.supervisor import Supervised, Supervisor, stop_all
from bbr.system.worker_process import WorkerError, WorkerProcess

# Servers of one pool that are asked at once.
_AT_ONCE: Final = 4

# Changes that come together are taken together.
COLLECT_SECONDS: Final = 0.05


class PoolFollower:
    """Follows one pool: its pods, and what their servers say.

    Args:
        pool: the pool.
        base_models: those that it serves.
        before: what its servers claimed when it was last followed, with other labels, say. It counts until those that
            there are now have been asked.
        follow: makes a reflector.
        asking: asks model servers.
        worker: reads long answers.
        new_servers: makes what keeps their answers, of the base models.
        changed: called when something may be different.
        count: called with the result of each question.
        clock: seconds that only go forward.

    Attributes:
        servers: what they have said.
        asked: whether all of them that there were have been asked once.
        looked_at: when they were last looked at, and those asked whose turn it was.
    """

    def __init__(
        self,
        pool: Pool,
        base_models: frozenset[str],
        before: Names,
        *,
        follow: Callable[..., Reflector[Any, Any]],
        asking: Asking,
        worker: WorkerProcess,
        new_servers: Callable[[frozenset[str]], Servers],
        changed: Callable[[], None],
        count: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.servers = new_servers(base_models)
        self.asked = False
        self.looked_at = clock()
        self._pool = pool
        self._before = before
        self._asking = asking
        self._worker = worker
        self._changed = changed
        self._count = count
        self._clock = clock
        self._woken = asyncio.Event()
        self._notified: tuple[int, bool, str] | None = None  # what was known at the last call of `changed`
        self._pods = KeptPods(self._woken.set)
        path = f"/api/v1/namespaces/{pool.namespace}/pods"
        self._reflector = follow(f"pods of {pool.reference}", path, Pod, self._pods, selector=pool.selector)
        self._tasks: list[Supervised] = []

    def start(self, supervisor: Supervisor) -> None:
        """Follow it from now on."""
        self._tasks = [
            supervisor.start("pods of InferencePools", self._reflector.run),
            supervisor.start("servers of InferencePools", self.run),
        ]

    async def stop(self) -> None:
        """Follow it no longer."""
        await stop_all(self._tasks)
        self._tasks.clear()

    def rebase(self, base_models: frozenset[str]) -> None:
        """Take other base models for those of the pool."""
        if base_models != self.servers.base_models:
            self.servers.rebase(base_models, self._clock())
            self._woken.set()

    def claimed(self) -> Steps[Names]:
        """Return what its servers claim, a step at a time."""
        found: Names = yield from self.servers.claimed(self._clock())
        if self.asked or not self._before:
            return found
        return {
            base: found.get(base, frozenset()) | self._before.get(base, frozenset())
            for base in self.servers.base_models
        }

    def troubles(self) -> Iterable[str]:
        """Give sentences about what is wrong."""
        if self._reflector.failing:
            yield f"its pods can't be followed ({self._reflector.failing})"
        for address, why in self.servers.failing.items():
            yield f"{address}: {why}; what it said last counts for a while"
        yield from self.servers.refused
        if self.servers.left_out:
            yield f"its servers list {self.servers.left_out} adapters more than a pool may have"

    async def run(self) -> None:
        """Ask its servers in their turn, until cancelled."""
        while True:
            self._woken.clear()
            if self._pods.objects is not None:
                self.servers.present(self._pods.addresses(self._pool.ports), self._clock())
                await self._ask(self.servers.due(self._clock()))
                self.asked = self.asked or self.servers.asked
            self.looked_at = self._clock()
            self._notify()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.servers.pause(self._clock())):
                    await self._woken.wait()
            await asyncio.sleep(COLLECT_SECONDS)

    async def _ask(self, addresses: Iterable[Address]) -> None:
        """Ask some servers, a few at a time."""
        waiting = deque(addresses)

        async def work() -> None:
            while waiting:
                await self._ask_one(waiting.popleft())
                self._notify()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(waiting))):
                group.create_task(work())

    def _notify(self) -> None:
        """Call `changed` if something is different."""
        known = (self.servers.changes, self.asked, self._reflector.failing)
        if known != self._notified:
            self._notified = known
            self._changed()

    async def _ask_one(self, address: Address) -> None:
        try:
            found = await served.read(await self._asking.models(*address), self._worker)
        except ServerError as error:
            self.servers.failed(address, str(error), self._clock())
            self._count(error.result)
        except served.UnusableError as error:
            self.servers.failed(address, str(error), self._clock())
            self._count("unusable")
        except WorkerError as error:
            self.servers.failed(address, f"its answer can't be read just now: {error}", self._clock())
            self._count("internal")
        else:
            why = self.servers.answered(address, found, self._clock())
            self._count("unusable" if why else "ok")
