"""Follows one collection of a Kubernetes API server: lists it, then watches it, for as long as the process lives.

A list replaces all that was known, which alone covers what was missed: no server reports later that an object was
deleted while nobody watched. From the list's version on a watch reports each change. The server ends a watch after some
minutes; the next one goes on from the last version seen. Whatever else ends it (410 as an event or as a status, since
the server has forgotten the version; an error; a broken connection or line; silence) is followed by a pause and a new
list. Until that is complete, what is known stays: a server that is away takes no object from anyone.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from bbr.models.steps import Steps
from bbr.sources.answers import BOOKMARK, Answers, Event, Object, T
from bbr.sources.kube_api import Api, KubernetesError, TooLongError
from bbr.sources.objects import SourceError
from bbr.system.garbage import Growth
from bbr.system.watch import in_thread
from bbr.system.worker_process import WorkerError, WorkerProcess

log = logging.getLogger(__name__)

K = TypeVar("K")

# So few that decoding a page of ordinary objects takes about a millisecond. Of larger objects fewer are asked for.
PAGE_OBJECTS: Final = 100

# Of a collection. One that has more is not followed, and what is known stays in use. Large clusters have 150,000 pods.
MAX_OBJECTS: Final = 200_000

# Short events taken in one go, 0.3 ms.
_STEP_EVENTS: Final = 10

# What an event does to the number of objects.
_STEPS: Final = {"ADDED": 1, "DELETED": -1}

GONE: Final = 410
ABSENT: Final = 404

T_contra = TypeVar("T_contra", bound=Object, contravariant=True)


class Sink(Protocol[T_contra, K]):
    """Where a reflector's findings go. Objects are known by their keys, `namespace/name`."""

    def read(self, found: T_contra) -> K:
        """Return what is to be kept of an object. Called as the pages of a list come, so that none is a long turn."""

    def replace(self, kept: dict[str, K]) -> Steps[None]:
        """Take all objects that there are, a step at a time; other sinks may publish in between."""

    def put(self, key: str, kept: K) -> None:
        """Take an object that is new or has changed."""

    def remove(self, key: str) -> None:
        """Let an object go, whether it is known or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient a reflector is.

    Attributes:
        request_seconds: how long a page of a list may take, and a watch to begin.
        watch_seconds: after how long the server is asked to end a watch, or up to twice as long, so that not all come
            back together.
        watch_grace_seconds: how much later than asked for it may do so.
        short_watch_seconds: a watch that ended sooner and reported nothing is a failure.
        first_delay_seconds: the pause after a failure; each further one takes twice as long. All are shortened by up to
            a half, at random.
        longest_delay_seconds: the longest pause; a server that asks for more gets this.
        calm_seconds: after so long without failures the pauses begin anew.
    """

    request_seconds: float = 30.0
    watch_seconds: float = 240.0
    watch_grace_seconds: float = 30.0
    short_watch_seconds: float = 1.0
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 30.0
    calm_seconds: float = 60.0


class Reflector(Generic[T, K]):
    """Follows one collection. An object that is being deleted counts as gone, as for the Go routers.

    Args:
        what: what it is called in the log.
        path: its path on the server.
        selector: a label selector, or "".
        kind: the objects' type, as msgspec decodes it.
        sink: takes all that is found.
        connect: makes a connection; called in a thread, again after each failure, so that credentials are read anew.
        worker: reads what is long of the server's answers.
        pace: see Pace.
        optional: whether the server may not know the collection at all (404: a CRD that is not installed). It is
            empty then, and looked for again after the longest pause.
        begin: called when a list begins: what the sink is given to read from then on is all that there is.
        jitter: a number from 0 to 1, at random.
        clock: seconds that only go forward.

    Attributes:
        path: of the collection, on the server.
        listed: whether there was a complete list.
        version: the version of the collection that the sink knows.
        failing: why the collection can't be followed just now; "" if it is.
        failures_total: how often following it failed.
        lists_total: how many lists were complete.
    """

    def __init__(
        self,
        what: str,
        path: str,
        selector: str,
        kind: type[T],
        sink: Sink[T, K],
        connect: Callable[[], Api],
        worker: WorkerProcess,
        *,
        pace: Pace | None = None,
        optional: bool = False,
        begin: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.path = path
        self._parameters = {"labelSelector": selector} if selector else {}
        self._answers = Answers(kind, worker)
        self._sink = sink
        self._connect = connect
        self._optional = optional
        self._begin = begin
        self._pace = pace or Pace()
        self._jitter = jitter
        self._clock = clock
        self._delay = 0.0
        self._failed_at = -float("inf")
        self.listed = False
        self._count = 0
        self.version = ""
        self.failing = ""
        self.failures_total = self.lists_total = 0
        self._proved_at = clock()  # when the server last gave proof that nothing was missed up to then

    @property
    def age_seconds(self) -> float:
        """How long ago the server last proved that all changes up to then are known.

        A proof is a complete list (from when it was asked for), a watch's event or bookmark, and its regular
        end. API servers send a bookmark about every minute, so that a watch that says nothing grows no older than that,
        unless its connection is dead.
        """
        return self._clock() - self._proved_at

    async def run(self) -> None:
        """Follow the collection, until cancelled."""
        while True:
            try:
                async with await in_thread(self._connect) as api:
                    await self._list(api)
                    while True:
                        await self._watch(api)
            except Exception as error:
                if self._optional and isinstance(error, KubernetesError) and error.status == ABSENT:
                    await self._be_empty()
                    continue
                self._fail(error)
                await asyncio.sleep(self._pause(error))

    async def _be_empty(self) -> None:
        for _ in self._sink.replace({}):
            await asyncio.sleep(0)
        self.version, self.listed, self._proved_at = "", True, self._clock()
        self._recover()
        await asyncio.sleep(self._pace.longest_delay_seconds * (1 - self._jitter() / 2))

    async def _list(self, api: Api) -> None:
        """Read the whole collection, page by page, and only then hand it on."""
        with Growth() as growth:
            await self._take_all(api)
            growth.end(self._count)

    async def _take_all(self, api: Api) -> None:
        kept: dict[str, K] = {}
        self._begin()
        parameters = dict(self._parameters)
        limit, began = PAGE_OBJECTS, self._clock()
        while True:
            try:
                async with asyncio.timeout(self._pace.request_seconds):
                    pieces = await api.get(self.path, parameters | {"limit": str(limit)})
            except TooLongError:
                if limit == 1:
                    raise
                limit = max(1, limit // 10)
                continue
            page = await self._answers.page(pieces)
            for found in page.objects:
                if not found.metadata.deletion_timestamp:
                    kept[found.metadata.key] = self._sink.read(found)
            self._check_count(len(kept))
            if not page.metadata.continue_:
                break
            parameters["continue"] = page.metadata.continue_
        for _ in self._sink.replace(kept):
            await asyncio.sleep(0)
        self.version = page.metadata.resource_version
        self._count = len(kept)
        self.listed = True
        self.lists_total += 1
        self._proved_at = began

    async def _watch(self, api: Api) -> None:
        """Hand on each change after `version`; return when the server ends the watch."""
        pace = self._pace
        seconds = pace.watch_seconds * (1 + self._jitter())
        parameters = {
            **self._parameters,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        loop = asyncio.get_running_loop()
        began, before = self._clock(), self.version
        async with asyncio.timeout(pace.request_seconds) as deadline, api.lines(self.path, parameters) as lines:
            deadline.reschedule(loop.time() + seconds + pace.watch_grace_seconds)
            lasting = loop.call_later(pace.short_watch_seconds, self._recover)
            try:
                number = 0
                async for line in lines:
                    self._take(await self._answers.event(line))
                    self._recover()
                    number += 1
                    if number % _STEP_EVENTS == 0:  # many may have come together
                        await asyncio.sleep(0)
            finally:
                lasting.cancel()
        if self.version == before and self._clock() - began < pace.short_watch_seconds:
            raise KubernetesError("the server ended a watch as soon as it had begun")
        self._proved_at = self._clock()

    def _check_count(self, count: int) -> None:
        if count > MAX_OBJECTS:
            raise KubernetesError(f"there are more than {MAX_OBJECTS:,} objects, the most that are followed")

    def _take(self, event: Event[T]) -> None:
        # How many there are, or more: one that goes before it is deleted is counted until the next list.
        self._count += _STEPS.get(event.type, 0)
        self._check_count(self._count)
        if event.found is not None:
            self._sink.put(event.metadata.key, self._sink.read(event.found))
        elif event.type != BOOKMARK:
            self._sink.remove(event.metadata.key)
        self.version = event.metadata.resource_version
        self._proved_at = self._clock()

    def _pause(self, error: Exception) -> float:
        """Return how long to wait after a failure."""
        pace, now = self._pace, self._clock()
        if now - self._failed_at > pace.calm_seconds:
            self._delay = 0.0
        self._failed_at = now
        self._delay = min(2 * self._delay or pace.first_delay_seconds, pace.longest_delay_seconds)
        wanted = error.retry_after if isinstance(error, KubernetesError) else 0.0
        return max(self._delay * (1 - self._jitter() / 2), min(wanted, pace.longest_delay_seconds))

    def _fail(self, error: Exception) -> None:
        """Note a failure, and log it unless it is the one that is known."""
        self.failures_total += 1
        if isinstance(error, KubernetesError) and error.status == GONE:
            log.info("%s: the API server has forgotten version %s: listing again", self.what, self.version)
            return
        ours = None
        if isinstance(error, TimeoutError):
            why = "the API server did not answer in time"
        elif isinstance(error, KubernetesError | SourceError | WorkerError):
            why = str(error)
        else:
            why, ours = f"an internal error: {type(error).__name__}", error
        if why != self.failing:
            log.warning("%s: %s; what is known stays in use; trying again", self.what, why, exc_info=ours)
        self.failing = why

    def _recover(self) -> None:
        if self.failing:
            log.info("%s: followed again", self.what)
        self.failing = ""
