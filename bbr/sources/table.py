"""The model table in use: sources publish the objects that they see, and `Table.registry` follows.

How a source works with it:

    table = Table(["kubernetes"])                    # the composition root names the sources that there are
    table.replace("kubernetes", objects)             # all that a list returned: what is not among them is gone
    table.put("kubernetes", changed)                 # one watch event: ADDED or MODIFIED
    table.remove("kubernetes", "default/qwen")       # one watch event: DELETED, or the label is gone

An object is a SourceObject: a key, a version, and a function that parses it. The table parses each version once, keeps
what came of it and drops the text; an object that can't be parsed keeps its own last good content, or stays out if it
never had any, and can't hurt the others. A source that can't see its objects just now (an API server is away) calls
nothing at all: the table stays as it is.

Nothing blocks the event loop: these calls only note what is to be done. 50 ms after the first of them, which further
ones may fill, `run` parses and merges in steps of less than a millisecond, and swaps the new snapshot in by one
assignment. All methods belong to the event loop's thread.
"""

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bbr.models.entries import Conflict, Declaration
from bbr.models.merging import merging
from bbr.models.registry import Registry
from bbr.models.steps import Steps, finish
from bbr.sources.conflict_log import ConflictLog, LiteralLog
from bbr.sources.long_documents import LongDocuments
from bbr.sources.objects import Key, SourceError, SourceObject
from bbr.system.garbage import Growth
from bbr.system.steps import in_turns
from bbr.system.worker_process import WorkerProcess

log = logging.getLogger(__name__)

# The names of the sources that there are.
FILE: Final = "file"
KUBERNETES: Final = "kubernetes"
DISCOVERED: Final = "model servers"

COALESCE_SECONDS: Final = 0.05

# For how long the first snapshot waits for long documents. Whoever may write a hundred of them would keep a router from
# ever being ready.
FIRST_SECONDS: Final = 60.0

# When an object is parsed again that an internal error, or want of memory, kept from being parsed.
RETRY_SECONDS: Final = 30.0

# Objects gathered in one step.
_STEP_OBJECTS: Final = 1000

# Names that all objects together may declare. Each takes about 200 bytes, and half as much again while tables merge.
MAX_NAMES: Final = 1_000_000
# Of those of a namespace, so that whoever may write there leaves room to others.
MAX_NAMESPACE_NAMES: Final = MAX_NAMES // 2

# Declarations freed in one step.
_RETIRED_A_STEP: Final = 200


@dataclass(slots=True)
class _Kept:
    """What is known of an object: the version parsed last, and what the last good one declared, with so many names."""

    version: Hashable = None
    declarations: tuple[Declaration, ...] = ()
    names: int = 0


class _Names:
    """How many names are kept: of all objects together, and of those of each namespace of the cluster."""

    def __init__(self) -> None:
        self.total = 0
        self._of = Counter[str]()

    def lacking(self, key: Key, more: int) -> str:
        """Return the beginning of a sentence that says why an object may not have so many more; "" if it may."""
        source, name = key
        if self.total + more > MAX_NAMES:
            return f"all objects together may declare {MAX_NAMES:,}"
        if source == KUBERNETES and self._of[name.partition("/")[0]] + more > MAX_NAMESPACE_NAMES:
            return f"the objects of a namespace may declare {MAX_NAMESPACE_NAMES:,}"
        return ""

    def add(self, key: Key, more: int) -> None:
        """Count so many more of an object, or fewer."""
        source, name = key
        self.total += more
        if source == KUBERNETES:
            namespace = name.partition("/")[0]
            self._of[namespace] += more
            if not self._of[namespace]:
                del self._of[namespace]


class _Listed(dict[str, float]):
    """The sources that have published all their objects, and when they did so first."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience

    def awaits(self, source: str, missing: int, now: float) -> bool:
        """Return whether the first snapshot waits for a source of which so many long documents are not parsed yet."""
        if missing and now - self[source] >= self._patience:
            log.warning(
                "%s: the model table is used without %d long documents that are not parsed yet", source, missing
            )
            return False
        return missing > 0


class Table:
    """What all sources see together, as one Registry.

    Args:
        sources: the names of the sources that will publish. Without any, every model is its own base model.
        worker: parses long documents while `run` and `long_documents.run` do; None: they are parsed as all others.
        first_seconds: for how long a source's long documents are awaited, once it has published all its objects.
        clock: seconds that only go forward.

    Attributes:
        registry: the snapshot in use. Take it anew for each request.
        broken: (source, key) -> why, of each object whose present content can't be used.
        reloads_total: how often a new snapshot was swapped in.
        failures_total: how often an object turned out to be broken.
        changed_at: the clock's time of the last swap; of the table's making before the first.
        long_documents: those that wait for another process; None without one.
    """

    def __init__(
        self,
        sources: Iterable[str] = (),
        *,
        worker: WorkerProcess | None = None,
        first_seconds: float = FIRST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.long_documents = LongDocuments(worker, self._take_parsed, self._take_failed, clock) if worker else None
        self._kept: dict[str, dict[str, _Kept]] = {source: {} for source in sources}
        self._waiting: dict[Key, SourceObject] = {}
        self._parsed: dict[Key, SourceObject] = {}  # by another process; each is older than what waits under its key
        self._taken: dict[Key, SourceObject] = {}  # what waited, and is not in the batch yet
        self._batch: dict[Key, SourceObject] = {}
        self._failed: dict[Key, SourceObject] = {}  # parsing them failed for no fault of theirs, or there was no room
        self._names = _Names()  # of all that is kept
        self._literal = LiteralLog()
        self._listed = _Listed(first_seconds)  # sources that have called replace
        self._merged: set[str] = set()  # those whose first objects are in the registry
        self._changed_since: float | None = None  # when the first change came that no snapshot under way will hold
        self._applying_since: float | None = None  # the same for the snapshot that is under way
        self._changed = asyncio.Event()
        self._swapped = asyncio.Event()
        self._conflicts = ConflictLog()
        self.registry = Registry(identity=not self._kept, complete=not self._kept)
        self.broken: dict[Key, str] = {}
        self.reloads_total = self.failures_total = 0
        self.changed_at = clock()

    # What sources call.

    def replace(self, source: str, objects: Iterable[SourceObject]) -> None:
        """Publish all objects that a source sees: what it published before and is not among them is gone."""
        present = {each.key: each for each in objects}
        under_way = itertools.chain(*self._under_way())
        known = self._kept[source].keys() | {key for owner, key in under_way if owner == source}
        for key in known - present.keys():
            self.remove(source, key)
        for each in present.values():
            self.put(source, each)
        if source not in self._listed:
            self._listed[source] = self._clock()
            self._note()

    def put(self, source: str, each: SourceObject) -> None:
        """Publish one object that is new or has changed."""
        key = (source, each.key)
        kept = self._kept[source].get(each.key)
        under_way = any(key in several for several in self._under_way())
        if under_way or kept is None or kept.version != each.version:
            self._failed.pop(key, None)
            self._waiting[key] = each
            self._note()

    def remove(self, source: str, key: str) -> None:
        """Publish that an object is gone, and all that it declared."""
        for several in (self._waiting, self._taken, self._parsed, self._batch, self._failed):
            several.pop((source, key), None)
        if self.long_documents:
            self.long_documents.discard((source, key))
        kept = self._kept[source].pop(key, None)
        self._names.add((source, key), -kept.names if kept else 0)
        self.broken.pop((source, key), None)
        self._literal.forget((source, key))
        self._note()

    # What the composition root and its friends call.

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The claims that lost in the registry."""
        return self._conflicts.conflicts

    @property
    def conflicts_total(self) -> int:
        """How many conflicts came up, each counted again only after it had gone."""
        return self._conflicts.total

    @property
    def literal(self) -> Iterator[str]:
        """What looks like a pattern and is taken literally: a sentence each, by object."""
        return self._literal.sentences()

    @property
    def age_seconds(self) -> float:
        """How long ago the snapshot in use was swapped in."""
        return self._clock() - self.changed_at

    @property
    def lag_seconds(self) -> float:
        """For how long a change has been waiting to be put to use; 0 if all that was published is in the registry."""
        long = self.long_documents.since if self.long_documents else None
        several = (self._applying_since, self._changed_since, long)
        since = min((each for each in several if each is not None), default=None)
        return 0.0 if since is None else self._clock() - since

    @property
    def synced(self) -> bool:
        """Whether each source has published all its objects once, and the registry holds them."""
        return self._merged == self._kept.keys()

    async def wait_synced(self) -> None:
        """Return once `synced`."""
        while not self.synced:
            await self._swapped.wait()

    async def swapped(self) -> None:
        """Return when the next snapshot has been swapped in."""
        await self._swapped.wait()

    async def run(self) -> None:
        """Follow the sources, until cancelled."""
        growth = Growth()
        try:
            while True:
                try:
                    async with asyncio.timeout(RETRY_SECONDS if self._failed else None):
                        await self._changed.wait()
                except TimeoutError:
                    self._waiting = self._failed | self._waiting
                    self._failed = {}
                growth.begin(self._names.total)
                await asyncio.sleep(COALESCE_SECONDS)
                await in_turns(self._applying())
                # More may be on its way: a long document takes as much memory before it is here.
                if not self.lag_seconds:
                    growth.end(self._names.total)
        except BaseException:
            self._changed.set()  # for whoever starts this again
            raise
        finally:
            growth.end()

    def apply_now(self) -> None:
        """Bring the registry up to date at once, however long it takes; for use without `run`.

        Conflicts are logged, and nothing else: the caller looks at `broken`.
        """
        finish(self._applying(at_once=True))

    def _under_way(self) -> Iterator[Iterable[Key]]:
        """Give the keys of what is published and not in the registry; some may be there more than once."""
        yield from (self._waiting, self._taken, self._parsed, self._batch, self._failed)
        if self.long_documents:
            yield self.long_documents.keys

    # What `long_documents` calls.

    def _take_parsed(self, key: Key, each: SourceObject) -> None:
        self._parsed[key] = each
        self._note()

    def _take_failed(self, key: Key, each: SourceObject) -> None:
        self._failed[key] = each
        self._kept[key[0]].setdefault(key[1], _Kept())
        self._break(key, "the router can't parse it just now, and will try again; its log has the details")
        self._note()

    def _note(self) -> None:
        if self._changed_since is None:
            self._changed_since = self._clock()
        self._changed.set()

    def _applying(self, *, at_once: bool = False) -> Steps[None]:
        """Parse what waits, merge, and swap the new snapshot in; `at_once` uses no other process and logs no object.

        What is published meanwhile waits for the next time, so that sources that never rest can't put this one off.
        """
        self._changed.clear()
        self._applying_since = self._applying_since or self._changed_since
        self._changed_since = None
        published = set(self._listed)
        yield from self._begin_batch(None if at_once else self.long_documents)
        yield from self._parse_batch(at_once=at_once)
        listed = self._merged | {source for source in published if not self._awaits_first(source)}
        declarations = yield from _declarations([kept for each in self._kept.values() for kept in each.values()])
        registry, conflicts = yield from merging(declarations, complete=listed == self._kept.keys())
        yield from self._conflicts.take(conflicts)
        yield from self._conflicts.take_idle(registry)
        retired, self.registry = self.registry.parts(), registry
        self.reloads_total += 1
        self.changed_at = self._clock()
        self._applying_since, self._merged = None, listed
        if not at_once:
            _log_use(registry)
        self._swapped.set()
        self._swapped = asyncio.Event()
        while retired:  # to free 100,000 names at once takes 4 ms
            retired.pop()
            yield

    def _begin_batch(self, long_documents: LongDocuments | None) -> Steps[None]:
        """Take up what waits, a step at a time; long documents go to the other process."""
        self._batch.update(self._parsed)  # what is left of a batch that an error has ended comes first
        # Nearly always none are left from an error, and to copy 60,000 takes some milliseconds.
        self._taken = self._taken | self._waiting if self._taken else self._waiting
        self._parsed, self._waiting = {}, {}
        for number, key in enumerate([*self._taken], 1):
            each = self._taken.pop(key, None)
            if each is None:
                continue  # removed meanwhile
            if long_documents and each.long and not self._keeps(key, each):
                long_documents.put(key, each)
            else:
                if long_documents:
                    long_documents.discard(key)
                self._batch[key] = each
            if number % _STEP_OBJECTS == 0:
                yield

    def _parse_batch(self, *, at_once: bool) -> Steps[None]:
        for number, key in enumerate([*self._batch], 1):
            if number % _STEP_OBJECTS == 0:
                yield
            each = self._batch.get(key)
            if each is None:
                continue
            why = yield from self._parse(key, each)
            if self._batch.get(key) is each:
                del self._batch[key]
            if why and not at_once:
                log.warning("%s %s: %s; its last good content, if it had any, stays in use", *key, why)

    def _awaits_first(self, source: str) -> bool:
        """Return whether a source has a long object that is not in the registry, nor could ever be parsed."""
        long = {*self._parsed, *(self.long_documents.keys if self.long_documents else ())}
        missing = sum(1 for owner, key in long if owner == source and key not in self._kept[source])
        return source not in self._merged and self._listed.awaits(source, missing, self._clock())

    def _keeps(self, key: Key, each: SourceObject) -> bool:
        kept = self._kept[key[0]].get(key[1])
        return kept is not None and kept.version == each.version

    def _parse(self, key: Key, each: SourceObject) -> Steps[str]:
        """Keep what an object declares; return why it can't be used, if that is news, or ""."""
        if self._keeps(key, each):
            return ""
        why = ""
        declarations: tuple[Declaration, ...] = ()
        names = 0
        failed = False
        try:
            declarations = yield from each.parse()
            names = yield from _count_names(declarations)
        except SourceError as error:
            why = str(error)
        except Exception:  # ours, or of the moment; it must not keep the others from being served
            log.exception("%s %s: an internal error", *key)
            why = "the router failed to parse it, and will try again; its log has the details"
            failed = True
        yield
        if self._batch.get(key) is not each:
            return ""  # removed meanwhile
        kept = self._kept[key[0]].setdefault(key[1], _Kept())
        if lacking := self._names.lacking(key, names - kept.names):
            why = f"{lacking} names; with the {names:,} of this one there are more"
            failed = True  # it is tried again: others may go
        if failed:
            self._failed[key] = each
        else:
            kept.version = each.version
        if why:
            return self._break(key, why)
        self._names.add(key, names - kept.names)
        kept.names = names
        yield from self._literal.look(key, declarations)
        retired, kept.declarations = [*kept.declarations], declarations
        if self.broken.pop(key, ""):
            log.info("%s %s: can be used again", *key)
        while retired:  # to free 100,000 names at once takes 4 ms
            del retired[-_RETIRED_A_STEP:]
            yield
        return ""

    def _break(self, key: Key, why: str) -> str:
        """Note why an object can't be used; return that if it is news, or ""."""
        if self.broken.get(key) == why:
            return ""
        self.broken[key] = why
        self.failures_total += 1
        return why


def _declarations(several: list[_Kept]) -> Steps[list[Declaration]]:
    """Return all that objects declare, a step at a time."""
    found: list[Declaration] = []
    for number, kept in enumerate(several, 1):
        found += kept.declarations
        if number % _STEP_OBJECTS == 0:
            yield
    return found


def _log_use(registry: Registry) -> None:
    log.info(
        "the model table is in use: %d base models, %d names in all%s",
        sum(len(layer.base_models) for layer in registry.layers()),
        sum(layer.own_size for layer in registry.layers()),
        f", {len(registry.scopes)} scopes" if registry.scopes else "",
    )


def _count_names(declarations: tuple[Declaration, ...]) -> Steps[int]:
    """Return how many names an object declares: what it takes of the table's room."""
    count = 0
    for number, each in enumerate(declarations, 1):
        count += len(each.aliases) + len(each.grants) + len(each.hosts)
        for models in (each.models, each.discovered):
            for start in range(0, len(models), _STEP_OBJECTS):
                some = models[start : start + _STEP_OBJECTS]
                count += len(some) + sum(len(model.adapters) for model in some)
                yield
        if number % _STEP_OBJECTS == 0:
            yield
    return count
