"""Adapters that model servers have loaded, learnt by asking them.

InferencePools and HTTPRoutes say which pool serves which base model (`pools`). Each pool is followed by itself
(`pool_follower`). What the servers of all pools claim is settled (`settling`) and published, one object of the table
for each pool. What objects declare comes before all of it (`bbr.models.registry`).
"""

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from bbr.models.entries import BaseModel, Declaration, Origin
from bbr.models.steps import Steps
from bbr.reading.name import LONGEST_MODEL_BYTES
from bbr.sources import pools
from bbr.sources.kube_api import Api
from bbr.sources.model_servers import RESULTS, Asking
from bbr.sources.objects import SourceObject
from bbr.sources.pool_follower import COLLECT_SECONDS, PoolFollower
from bbr.sources.pools import Pool, Reference
from bbr.sources.reflector import Pace, Reflector
from bbr.sources.servers import Servers
from bbr.sources.settling import Contest, Names, settling
from bbr.sources.table import DISCOVERED, Table
from bbr.system.steps import in_turns
from bbr.system.supervisor import Body, Supervisor
from bbr.system.worker_process import WorkerProcess

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 10.0
FIRST_SECONDS: Final = 10.0

# Sentences that are shown together; and logged one by one, of those that come up at once.
_SHOWN: Final = 3
_LOGGED_AT_ONCE: Final = 10

# Of all that is wrong, so much is looked at.
_MOST_TROUBLES: Final = 1_000


class Discovery:
    """Follows the cluster's pools, and their servers.

    Args:
        table: published to as source `model servers`.
        connect: makes a connection to the API server.
        worker: reads what is long of answers.
        asking: asks model servers.
        namespace: where to look; None for all namespaces.
        max_model_bytes: a longer name is refused.
        interval: seconds from one question to a server to the next.
        first_seconds: for how long the first answers are awaited before anything is published.
        pace: of the reflectors.
        jitter: a number from 0 to 1, at random.
        clock: seconds that only go forward.

    Attributes:
        reflectors: those of pools and routes.
        contests: adapters that servers claim for several base models.
        polls: questions so far, by their result.
        adapters: how many names are published.
    """

    def __init__(
        self,
        table: Table,
        connect: Callable[[], Api],
        worker: WorkerProcess,
        asking: Asking,
        *,
        namespace: str | None = None,
        max_model_bytes: int = LONGEST_MODEL_BYTES,
        interval: float = INTERVAL_SECONDS,
        first_seconds: float = FIRST_SECONDS,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._changed = asyncio.Event()
        self._pools = [pools.KeptPools(self._changed.set), pools.KeptPools(self._changed.set)]
        self._routes = pools.KeptRoutes(self._changed.set)
        follow = partial(_reflector, connect, worker, pace, jitter)
        self.reflectors = _reflectors(follow, namespace, self._pools, self._routes)
        self._follower = partial(
            PoolFollower,
            follow=follow,
            asking=asking,
            worker=worker,
            new_servers=partial(Servers, interval=interval, max_model_bytes=max_model_bytes, jitter=jitter),
            changed=self._changed.set,
            count=self._count,
            clock=clock,
        )
        self._followers: dict[Pool, PoolFollower] = {}
        self._claimed: dict[Reference, Names] = {}
        self._holders: dict[str, str] = {}
        self._known: set[str] = set()
        self._first_seconds = first_seconds
        self._clock = clock
        self._began = clock()
        self._published = False
        self.contests: tuple[Contest, ...] = ()
        self.polls = dict.fromkeys(RESULTS, 0)
        self.adapters = 0

    def bodies(self, supervisor: Supervisor) -> dict[str, Body]:
        """Return what follows pools, routes and servers: coroutines that never end, by their names."""
        return {each.what: each.run for each in self.reflectors} | {DISCOVERED: partial(self.run, supervisor)}

    async def run(self, supervisor: Supervisor) -> None:
        """Follow all pools, until cancelled."""
        try:
            while True:
                self._changed.clear()
                await self._reconcile(supervisor)
                if self._published or self._first_is_over:
                    await in_turns(self._publishing())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._changed.wait()
                await asyncio.sleep(COLLECT_SECONDS)
        finally:
            for follower in self._followers.values():
                await follower.stop()
            self._followers.clear()

    async def _reconcile(self, supervisor: Supervisor) -> None:
        """Follow the pools that there are, and no others."""
        if self._routes.objects is None or any(each.objects is None for each in self._pools):
            return
        serving = pools.serving([each.objects or {} for each in self._pools], self._routes.objects)
        wanted = await in_turns(serving)
        for pool in self._followers.keys() - wanted.keys():
            await self._followers.pop(pool).stop()
        for pool, base_models in wanted.items():
            if pool in self._followers:
                self._followers[pool].rebase(base_models)
            else:
                before = self._claimed.get(pool.reference, {})
                self._followers[pool] = follower = self._follower(pool, base_models, before)
                follower.start(supervisor)

    @property
    def _first_is_over(self) -> bool:
        """Whether all servers have been asked once, or have had time enough to answer."""
        listed = all(each.listed for each in self.reflectors)
        asked = listed and all(each.asked for each in self._followers.values())
        return asked or self._clock() - self._began >= self._first_seconds

    def _pause(self) -> float | None:
        """Return after how many seconds something is to be done even if nothing changes."""
        if not self._published:
            return max(self._began + self._first_seconds - self._clock(), 0.0)
        ends = [each.servers.expires for each in self._followers.values()]
        soonest = min((end for end in ends if end is not None), default=None)
        return None if soonest is None else max(soonest - self._clock(), 1.0)

    def _publishing(self) -> Steps[None]:
        followers = dict(self._followers)
        claimed: dict[Pool, Names] = {}
        for pool, follower in followers.items():
            claimed[pool] = yield from follower.claimed()
        settled = yield from settling(claimed, self._holders)
        self._claimed = {pool.reference: names for pool, names in claimed.items()}
        self._holders, self.contests = settled.holders, settled.contests
        self.adapters = len(settled.holders)
        self._table.replace(DISCOVERED, [_object(pool, settled.granted[pool]) for pool in followers])
        self._published = True
        self._log_new_troubles()

    def _count(self, result: str) -> None:
        self.polls[result] += 1

    # What people see.

    @property
    def failing(self) -> str:
        """What is wrong just now, in a few sentences; "" if nothing is."""
        # Whoever asks may ask each second, and servers of many pools can claim what is another's.
        found = list(itertools.islice(self._troubles(), _MOST_TROUBLES))
        least = "at least " if len(found) == _MOST_TROUBLES else ""
        more = f"; and {least}{len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return "; ".join(found[:_SHOWN]) + more

    @property
    def age_seconds(self) -> float:
        """How long ago the pool was last looked at whose turn is longest ago."""
        now = self._clock()
        return max((now - each.looked_at for each in self._followers.values()), default=0.0)

    @property
    def followed(self) -> int:
        """How many pools are followed."""
        return len(self._followers)

    def servers(self) -> dict[str, int]:
        """Return how many servers there are, by their state."""
        several = [each.servers for each in self._followers.values()]
        failing = sum(len(each.failing) for each in several)
        return {"answering": sum(each.count for each in several) - failing, "failing": failing}

    def refused(self) -> dict[str, int]:
        """Return how many adapters are listed by servers and not taken, by the reason."""
        several = [each.servers for each in self._followers.values()]
        return {
            "contested": len(self.contests),
            "unusable": sum(len(each.refused) for each in several),
            "too-many": sum(each.left_out for each in several),
        }

    def _troubles(self) -> Iterable[str]:
        yield from map(str, self.contests)
        for pool, follower in self._followers.items():
            for sentence in follower.troubles():
                yield f"{pool.reference}: {sentence}"

    def _log_new_troubles(self) -> None:
        found = list(itertools.islice(self._troubles(), _MOST_TROUBLES))
        fresh = [sentence for sentence in found if sentence not in self._known]
        for sentence in fresh[:_LOGGED_AT_ONCE]:
            log.warning("adapters of model servers: %s", sentence)
        if len(fresh) > _LOGGED_AT_ONCE:
            log.warning("adapters of model servers: %d more like these", len(fresh) - _LOGGED_AT_ONCE)
        self._known = set(found)


def _reflector(
    connect: Callable[[], Api],
    worker: WorkerProcess,
    pace: Pace | None,
    jitter: Callable[[], float],
    what: str,
    path: str,
    kind: type[Any],
    sink: Any,
    *,
    selector: str = "",
) -> Reflector[Any, Any]:
    return Reflector(what, path, selector, kind, sink, connect, worker, pace=pace, optional=True, jitter=jitter)


def _reflectors(
    follow: Callable[..., Reflector[Any, Any]],
    namespace: str | None,
    several: Sequence[pools.KeptPools],
    routes: pools.KeptRoutes,
) -> list[Reflector[Any, Any]]:
    """Return what follows the pools of both groups and the routes that point at them."""
    within = f"namespaces/{namespace}/" if namespace else ""
    current = f"/apis/{pools.GROUP}/v1/{within}inferencepools"
    old = f"/apis/{pools.OLD_GROUP}/v1alpha2/{within}inferencepools"
    at_routes = f"/apis/gateway.networking.k8s.io/v1/{within}httproutes"
    return [
        follow("InferencePools", current, pools.InferencePool, several[0]),
        follow("InferencePools (v1alpha2)", old, pools.OldInferencePool, several[1]),
        follow("HTTPRoutes of InferencePools", at_routes, pools.ServingRoute, routes),
    ]


def _object(pool: Pool, names: dict[str, tuple[str, ...]]) -> SourceObject:
    """Return what the table gets of a pool."""
    models = tuple(BaseModel(base, adapters) for base, adapters in names.items() if adapters)
    origin, key = pool.origin, str(pool.reference)
    return SourceObject(key, (origin, models), partial(_parse, origin, models))


def _parse(origin: Origin, models: tuple[BaseModel, ...]) -> Steps[tuple[Declaration, ...]]:
    yield
    return (Declaration(origin, discovered=models),)
