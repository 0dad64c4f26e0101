"""The model table: an immutable snapshot that maps each requested name to its model.

Pure: no I/O, no logging, no clock. Sources declare models, and `merging` makes a Registry of all declarations in small
steps. One assignment publishes the Registry, so readers need no lock.

Each scope has a table of its own. It looks up names that it does not have in everyone's table, so nothing is copied.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bbr.models.entries import Entry
from bbr.models.hosts import NO_HOSTS, Hosts
from bbr.models.patterns import Pattern
from bbr.models.steps import STEP_COMPARED, STEP_NAMES, Steps, finish

# How many names in `allow` that the table does not have are reported.
MAX_IDLE: Final = 1_000

# A table is this many small dicts. One large dict takes several milliseconds whenever it grows, and when it is freed.
SHARDS: Final = 64
SHARD_MASK: Final = SHARDS - 1


Shards = tuple[Mapping[str, Entry], ...]
_NO_NAMES: Final[Shards] = tuple({} for _ in range(SHARDS))


@dataclass(frozen=True, slots=True)
class Registry:
    """A snapshot: requested model name -> Entry.

    Attributes:
        identity: there is no table at all: every model is its own base model.
        base_models: the base models' names, in their order of precedence.
        complete: whether every source has been read. If not, a name that is missing may still come.
        patterns: the longest first. The entry of each is found by its text, as for a name.
        grants: name -> the lists of those who may use it. Everyone may use a name that is not here. See
            bbr.models.access.
        scope: the scope of this table; "" for everyone's table.
        hosts: the hosts of all scopes.
        scopes: in everyone's table only: name -> the table of the scope.
        shared: in a scope's table only: everyone's table.
        hidden: in a scope's table only: how many names of everyone's table its own names hide.
        counted: in a scope's table only: how many names it has itself.
    """

    identity: bool = True
    base_models: tuple[str, ...] = ()
    complete: bool = True
    patterns: tuple[Pattern, ...] = ()
    grants: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    scope: str = ""
    hosts: Hosts = NO_HOSTS
    scopes: Mapping[str, "Registry"] = field(default_factory=dict)
    shared: "Registry | None" = None
    hidden: int = 0
    counted: int | None = None
    shards: Shards = field(default=_NO_NAMES, repr=False)

    def find(self, name: str) -> Entry | None:
        """Return the entry of a requested name, by exact name or else by pattern; None if there is none."""
        entry = self.shards[hash(name) & SHARD_MASK].get(name)
        if entry is None:
            if self.shared is not None:
                entry = self.shared.own(name)
            if entry is None:
                for pattern in self.patterns:
                    if pattern.fits(name):
                        return self.own(pattern.text) or (self.shared.own(pattern.text) if self.shared else None)
        return entry

    def find_own(self, name: str) -> Entry | None:
        """Return the entry of a name by this table's own declarations, without those of everyone's table."""
        entry = self.own(name)
        if entry is None:
            for pattern in self.patterns:
                own = self.own(pattern.text)
                if own is None:  # its own patterns come first, then everyone's
                    break
                if pattern.fits(name):
                    return own
        return entry

    def holds(self, name: str) -> bool:
        """Tell whether the table has exactly this name. Patterns do not count."""
        return self.own(name) is not None or (self.shared is not None and self.shared.holds(name))

    def within(self, scope: str) -> "Registry":
        """Return the table of a scope; this table if nothing declares the scope."""
        return self.scopes.get(scope, self)

    @property
    def snapshot(self) -> object:
        """An object that identifies the snapshot: everyone's table and its scopes share it, other snapshots do not."""
        return (self.shared or self).shards

    def layers(self) -> Iterator["Registry"]:
        """Give everyone's table, and then that of each scope, by name."""
        yield self
        for name in sorted(self.scopes):
            yield self.scopes[name]

    def anywhere(self, name: str) -> Entry | None:
        """Return a name's entry in everyone's table, or else in the first scope that has it; None if none has."""
        return next((entry for layer in self.layers() if (entry := layer.find(name))), None)

    def idle_grants(self) -> list[str]:
        """Return the names in `grants` that the table does not hold; see `finding_idle_grants`."""
        return finish(self.finding_idle_grants())

    def finding_idle_grants(self) -> Steps[list[str]]:
        """Find the names in `grants` that the table does not hold, then those of each scope, a step at a time.

        Each table's names are sorted. After MAX_IDLE names the search ends.
        """
        idle: list[str] = []
        number = 0
        for layer in (self, *self.scopes.values()):
            found: list[str] = []
            # Only its own: a scope's grants include everyone's, and with many scopes that would take seconds.
            for name in layer._own_grants:
                number += 1
                if number % STEP_COMPARED == 0:
                    yield
                if (layer is self or name not in self.grants) and layer.find(name) is None:
                    found.append(f"{name} (scope {layer.scope})" if layer.scope else name)
                    if len(idle) + len(found) == MAX_IDLE:
                        return idle + sorted(found)
            idle += sorted(found)
        return idle

    @property
    def _own_grants(self) -> Mapping[str, frozenset[frozenset[str]]]:
        """The grants of this table's own declarations."""
        if isinstance(self.grants, ChainMap):
            return self.grants.maps[0]
        return {} if self.shared is not None and self.grants is self.shared.grants else self.grants

    @property
    def size(self) -> int:
        """How many names the table has, with patterns and with the names of everyone's table."""
        own = self.own_size
        return own if self.shared is None else own + self.shared.size - self.hidden

    @property
    def own_size(self) -> int:
        """How many names this table has itself, without those of everyone's table."""
        return sum(map(len, self.shards)) if self.counted is None else self.counted

    def parts(self) -> list[object]:
        """Return the objects that hold the names, for a caller that frees a large table in steps."""
        parts: list[object] = []
        for layer in self.layers():
            # A small scope is one part: a step for each of its dicts would take longer than freeing them.
            parts += (layer.shards,) if layer.scope and layer.own_size <= STEP_NAMES else layer.shards
        return parts

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Give every name and pattern with its entry, in any order."""
        yield from self.own_items()
        if self.shared is not None:
            for name, entry in self.shared.own_items():
                if self.own(name) is None:
                    yield name, entry

    def own_items(self) -> Iterator[tuple[str, Entry]]:
        """Give this table's own names and patterns, as `items` does."""
        for shard in self.shards:
            yield from shard.items()

    def own(self, name: str) -> Entry | None:
        return self.shards[hash(name) & SHARD_MASK].get(name)
