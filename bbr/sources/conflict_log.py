"""Logs what is odd in the model table, each once: conflicts, lists for models that there are not, literal names."""

import itertools
import logging
from collections.abc import Iterator
from typing import Final

from bbr.models import literal
from bbr.models.entries import Conflict, Declaration
from bbr.models.registry import MAX_IDLE, Registry
from bbr.models.steps import Steps
from bbr.sources.objects import Key

log = logging.getLogger("bbr.sources.table")

# Of conflicts that come up at once, so many are logged one by one; and so many are looked at in one step.
LOGGED_AT_ONCE: Final = 20
_CONFLICTS_A_STEP: Final = 200


class ConflictLog:
    """What is known of the contradictions of one table, from snapshot to snapshot.

    Attributes:
        conflicts: the claims that lost in the last snapshot.
        total: how many conflicts came up, each counted again only after it had gone.
    """

    def __init__(self) -> None:
        self.conflicts: tuple[Conflict, ...] = ()
        self.total = 0
        self._known: set[Conflict] = set()
        self._idle: list[str] = []

    def take(self, conflicts: list[Conflict]) -> Steps[None]:
        """Take the conflicts of a new snapshot, a step at a time; log and count those that are new."""
        known: set[Conflict] = set()
        fresh = 0
        for number, conflict in enumerate(conflicts, 1):
            known.add(conflict)
            if conflict not in self._known:
                fresh += 1
                if fresh <= LOGGED_AT_ONCE:
                    log.warning("%s", conflict)
            if number % _CONFLICTS_A_STEP == 0:
                yield
        if fresh > LOGGED_AT_ONCE:
            log.warning("%d more conflicts; `bbr models` lists them", fresh - LOGGED_AT_ONCE)
        self._known = known
        self.conflicts = tuple(conflicts)
        self.total += fresh

    def take_idle(self, registry: Registry) -> Steps[None]:
        """Look for names in `allow` that the table does not hold, a step at a time; log them if they have changed.

        A typing error there leaves a model open.
        """
        idle = yield from registry.finding_idle_grants()
        if idle and idle != self._idle:
            least = "at least " if len(idle) == MAX_IDLE else ""
            more = f" and {least}{len(idle) - LOGGED_AT_ONCE} more" if len(idle) > LOGGED_AT_ONCE else ""
            log.warning("allow: the model table does not hold %s%s", ", ".join(idle[:LOGGED_AT_ONCE]), more)
        self._idle = idle


class LiteralLog:
    """What looks like a pattern in objects and is taken literally. Of most objects nothing is kept."""

    def __init__(self) -> None:
        self._found: dict[Key, tuple[str, ...]] = {}

    def look(self, key: Key, declarations: tuple[Declaration, ...]) -> Steps[None]:
        """Look through what an object declares, a step at a time; log what is new."""
        found: list[str] = []
        for declaration in declarations:
            found += yield from literal.warnings(declaration)
            yield
            if len(found) >= literal.MAX_WARNINGS:
                break
        known = self._found.pop(key, ())
        for sentence in found:
            if sentence not in known:
                log.warning("%s", sentence)
        if found:
            self._found[key] = tuple(found)

    def forget(self, key: Key) -> None:
        """Forget an object that has gone."""
        self._found.pop(key, None)

    def sentences(self) -> Iterator[str]:
        """Give a sentence for each such name, by object, of what is known now."""
        return itertools.chain.from_iterable([*self._found.values()])
