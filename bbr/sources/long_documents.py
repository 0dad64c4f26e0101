"""Sends long documents to the other process, and puts the results into the table."""

import asyncio
import logging
import time
from collections.abc import Callable, KeysView

from bbr.sources.objects import Key, SourceObject, refusing
from bbr.system.worker_process import LimitError, WorkerError, WorkerProcess

# A source and a namespace, or a directory.
_Tenant = tuple[str, str]

log = logging.getLogger(__name__)


class LongDocuments:
    """Lets the other process parse one document after the other; of each object the newest that waits.

    Namespaces take turns, as do directories. Each document may take seconds, and others must not wait for all of those
    that one namespace has.

    Args:
        worker: the other process.
        parsed: called with an object that can now be parsed in a moment: its `parse` gives what was found.
        failed: called with an object that could not be parsed for no fault of its own.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        parsed: Callable[[Key, SourceObject], None],
        failed: Callable[[Key, SourceObject], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._parsed = parsed
        self._failed = failed
        self._clock = clock
        self._waiting: dict[_Tenant, dict[Key, SourceObject]] = {}  # whose turn comes first; none is empty
        self._since: dict[Key, float] = {}  # when what waits, or else what is at work, came
        self._at_work: Key | None = None
        self._there = asyncio.Event()

    def put(self, key: Key, each: SourceObject) -> None:
        """Let an object be parsed, in place of an older one that still waits."""
        self._waiting.setdefault(_tenant(key), {})[key] = each
        self._since[key] = self._clock()
        self._there.set()

    def discard(self, key: Key) -> None:
        """Forget an object, also if it is at work."""
        self._take(key)
        self._since.pop(key, None)
        if self._at_work == key:
            self._at_work = None

    @property
    def keys(self) -> KeysView[Key]:
        """The objects that wait or are at work."""
        return self._since.keys()

    @property
    def since(self) -> float | None:
        """When the change came that has waited the longest; None if none waits."""
        return min(self._since.values(), default=None)

    async def run(self) -> None:
        """Parse what comes, until cancelled."""
        while True:
            await self._there.wait()
            while self._waiting:
                tenant, several = next(iter(self._waiting.items()))
                key, each = next(iter(several.items()))
                self._take(key)
                if tenant in self._waiting:
                    self._waiting[tenant] = self._waiting.pop(tenant)  # behind the others
                await self._parse(key, each)
            self._there.clear()

    def _take(self, key: Key) -> None:
        """Let an object wait no longer, if it does."""
        several = self._waiting.get(_tenant(key), {})
        several.pop(key, None)
        if not several:
            self._waiting.pop(_tenant(key), None)

    async def _parse(self, key: Key, each: SourceObject) -> None:
        assert each.long is not None  # noqa: S101 (no others come here)
        self._at_work = key
        received = each.long.received()
        parse = received.parse
        try:
            await self._worker.run(each.long.job, each.long.pieces, received.take)
        except LimitError as error:
            parse = refusing(str(error))
        except (WorkerError, OSError, RuntimeError) as error:
            log.warning("%s %s: can't be parsed at the moment: %s", *key, error)
            if self._is_wanted(key):
                self._failed(key, each)
            return
        except BaseException:
            if self._at_work == key:
                self._waiting.setdefault(_tenant(key), {}).setdefault(key, each)
                self._there.set()
            raise
        if self._is_wanted(key):
            self._parsed(key, each._replace(parse=parse, long=None))

    def _is_wanted(self, key: Key) -> bool:
        """Return whether an object whose work has ended is still there; if so, it waits here no longer."""
        wanted, self._at_work = self._at_work == key, None
        if wanted and key not in self._waiting.get(_tenant(key), {}):
            del self._since[key]
        return wanted


def _tenant(key: Key) -> _Tenant:
    source, name = key
    return source, name.rpartition("/")[0]
