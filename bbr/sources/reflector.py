"""Follows one collection of a Kubernetes API server: lists it, then watches it, for as long as the process lives.

A list replaces all that was known, which alone covers what was missed: no server tells later of an object that was
deleted while nobody watched. From the list's version on a watch tells each change. The server ends a watch after some
minutes; the next one goes on from the last version seen. Whatever else ends it (410 as an event or as a status, since
the server has forgotten the version; an error; a broken connection or line; silence) is followed by a pause and a new
list. Until that is complete, what is known stays: a server that is away takes no object from anyone.
"""

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from bbr.sources.kube_api import Api, KubernetesError, Status
from bbr.sources.table import SourceError

log = logging.getLogger(__name__)

K = TypeVar("K")

# So few that decoding a page of ordinary objects takes about a millisecond.
PAGE_OBJECTS: Final = 100

GONE: Final = 410


class Metadata(msgspec.Struct, rename="camel"):
    """What is read of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None

    @property
    def key(self) -> str:
        """What people call the object."""
        return f"{self.namespace}/{self.name}"


class _Page(msgspec.Struct):
    metadata: "_PageMetadata"
    items: list[msgspec.Raw]


class _PageMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _AnyObject(msgspec.Struct):
    metadata: Metadata


class Object(Protocol):
    """A Kubernetes object."""

    metadata: Metadata


T = TypeVar("T", bound=Object)
T_contra = TypeVar("T_contra", bound=Object, contravariant=True)


class Sink(Protocol[T_contra, K]):
    """Where a reflector's findings go. Objects are known by their keys, `namespace/name`."""

    def read(self, found: T_contra) -> K:
        """Return what is to be kept of an object. Called as the pages of a list come, so that none is a long turn."""

    def replace(self, kept: dict[str, K]) -> None:
        """Take all objects that there are."""

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
        short_watch_seconds: a watch that ended sooner and told nothing is a failure.
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
        sink: told of all that is found.
        connect: makes a connection; called again after each failure, so that credentials are read anew.
        pace: see Pace.
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
        *,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.path = path
        self._parameters = {"labelSelector": selector} if selector else {}
        self._decoder = msgspec.json.Decoder(kind)
        self._sink = sink
        self._connect = connect
        self._pace = pace or Pace()
        self._jitter = jitter
        self._clock = clock
        self._delay = 0.0
        self._failed_at = -float("inf")
        self.listed = False
        self.version = ""
        self.failing = ""
        self.failures_total = self.lists_total = 0
        self._stale_since: float | None = clock()  # since when changes may have been missed; None while none can be

    @property
    def age_seconds(self) -> float:
        """How long ago the last list or watch ended that told of every change; 0 while one does."""
        return 0.0 if self._stale_since is None else self._clock() - self._stale_since

    async def run(self) -> None:
        """Follow the collection, until cancelled."""
        while True:
            if self._stale_since is None:  # whatever ended the last try, perhaps without having been noted
                self._stale_since = self._clock()
            try:
                async with self._connect() as api:
                    await self._list(api)
                    while True:
                        await self._watch(api)
            except Exception as error:
                self._fail(error)
                await asyncio.sleep(self._pause(error))

    async def _list(self, api: Api) -> None:
        """Read the whole collection, page by page, and only then hand it on."""
        kept: dict[str, K] = {}
        parameters = {**self._parameters, "limit": str(PAGE_OBJECTS)}
        while True:
            async with asyncio.timeout(self._pace.request_seconds):
                page = msgspec.json.decode(await api.get(self.path, parameters), type=_Page)
            for found in map(self._decoder.decode, page.items):
                if not found.metadata.deletion_timestamp:
                    kept[found.metadata.key] = self._sink.read(found)
            if not page.metadata.continue_:
                break
            parameters["continue"] = page.metadata.continue_
        self._sink.replace(kept)
        self.version = page.metadata.resource_version
        self.listed = True
        self.lists_total += 1
        self._stale_since = None

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
                async for line in lines:
                    self._take(line)
                    self._recover()
            finally:
                lasting.cancel()
        if self.version == before and self._clock() - began < pace.short_watch_seconds:
            raise KubernetesError("the server ended a watch as soon as it had begun")

    def _take(self, line: bytes) -> None:
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "ERROR":
            raise msgspec.json.decode(event.object, type=Status).error()
        metadata = msgspec.json.decode(event.object, type=_AnyObject).metadata
        if event.type == "DELETED" or (event.type in ("ADDED", "MODIFIED") and metadata.deletion_timestamp):
            self._sink.remove(metadata.key)
        elif event.type in ("ADDED", "MODIFIED"):
            self._sink.put(metadata.key, self._sink.read(self._decoder.decode(event.object)))
        elif event.type != "BOOKMARK":
            raise KubernetesError(f"an event of unknown type: {event.type[:40]}")
        self.version = metadata.resource_version

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
        if self._stale_since is None:
            self._stale_since = self._clock()
        if isinstance(error, KubernetesError) and error.status == GONE:
            log.info("%s: the API server has forgotten version %s: listing anew", self.what, self.version)
            return
        ours = None
        if isinstance(error, TimeoutError):
            why = "no answer from the API server in time"
        elif isinstance(error, KubernetesError | SourceError):
            why = str(error)
        elif isinstance(error, msgspec.MsgspecError):
            why = f"what the API server sent can't be read: {error}"
        else:
            why, ours = f"an error of the router's own: {type(error).__name__}", error
        if why != self.failing:
            log.warning("%s: %s; what is known stays in use; trying again", self.what, why, exc_info=ours)
        self.failing = why

    def _recover(self) -> None:
        if self.failing:
            log.info("%s: followed again", self.what)
        self.failing = ""
