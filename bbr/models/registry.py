"""The model table: an immutable snapshot that maps requested models to what they stand for.

Pure: no I/O, no logging, no clock. Sources say what their objects declare; `merging` makes a Registry of all of it, a
slice at a time; whoever publishes it does so by one assignment, and readers never lock.

Each scope has a table of its own, which looks into that of everyone: names that everyone has are not copied.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bbr.models.entries import Entry
from bbr.models.hosts import NO_HOSTS, Hosts
from bbr.models.patterns import Pattern
from bbr.models.steps import STEP_COMPARED, STEP_NAMES, Steps, finish

# Names of lists that are for nothing, of which an operator is told.
MAX_IDLE: Final = 1_000

# A table is this many small dicts: one large one takes several milliseconds when it grows, and to be freed.
SHARDS: Final = 64
SHARD_MASK: Final = SHARDS - 1


Shards = tuple[Mapping[str, Entry], ...]
_NO_NAMES: Final[Shards] = tuple({} for _ in range(SHARDS))


@dataclass(frozen=True, slots=True)
class Registry:
    """A snapshot: requested model name -> what it stands for.

    Attributes:
        identity: without any table every model is its own base model.
        base_models: the base models' names, in their order of precedence.
        complete: whether every source has been read. If not, what is not in the table may be about to come.
        patterns: the longest first. What each stands for stands under its text among the names.
        grants: name -> the lists of those who may use it; names that are not in it have none. See bbr.models.access.
        scope: the name of the scope whose table it is; "" for everyone's.
        hosts: of the scopes.
        scopes: of everyone's table: that of each scope, by name.
        shared: of a scope's table: that of everyone.
        hidden: how many names of everyone's table a scope's own ones hide.
        counted: of a scope's table: how many names it has of its own.
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
        """Return what a requested name stands for, by itself or by a pattern; None if the table does not hold it."""
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
        """Return what a name stands for by what is declared for this table alone."""
        entry = self.own(name)
        if entry is None:
            for pattern in self.patterns:
                own = self.own(pattern.text)
                if own is None:  # everyone's come behind its own
                    break
                if pattern.fits(name):
                    return own
        return entry

    def holds(self, name: str) -> bool:
        """Tell whether the table holds a name itself, and not by a pattern."""
        return self.own(name) is not None or (self.shared is not None and self.shared.holds(name))

    def within(self, scope: str) -> "Registry":
        """Return the table of a scope; of one that nothing declares, everyone's."""
        return self.scopes.get(scope, self)

    @property
    def snapshot(self) -> object:
        """What everyone's table and those of its scopes have in common, and no other snapshot has."""
        return (self.shared or self).shards

    def layers(self) -> Iterator["Registry"]:
        """Give everyone's table, and then that of each scope, by name."""
        yield self
        for name in sorted(self.scopes):
            yield self.scopes[name]

    def anywhere(self, name: str) -> Entry | None:
        """Return what a name stands for, for everyone or else in the first scope that has it; None if in none."""
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
            # All grants of a scope have everyone's among them: with many scopes and many lists that takes seconds.
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
        """The grants that are declared for it alone."""
        if isinstance(self.grants, ChainMap):
            return self.grants.maps[0]
        return {} if self.shared is not None and self.grants is self.shared.grants else self.grants

    @property
    def size(self) -> int:
        """How many names the table holds, patterns among them, and those of everyone."""
        own = self.own_size
        return own if self.shared is None else own + self.shared.size - self.hidden

    @property
    def own_size(self) -> int:
        """How many names are declared for it alone."""
        return sum(map(len, self.shards)) if self.counted is None else self.counted

    def parts(self) -> list[object]:
        """Return what holds the names, for whoever lets go of a large table part by part."""
        parts: list[object] = []
        for layer in self.layers():
            # Most scopes are small: to let go of each of their dicts in a step of its own takes longer than to free it.
            parts += (layer.shards,) if layer.scope and layer.own_size <= STEP_NAMES else layer.shards
        return parts

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Give every name and pattern, and what it stands for, in no order to rely on."""
        yield from self.own_items()
        if self.shared is not None:
            for name, entry in self.shared.own_items():
                if self.own(name) is None:
                    yield name, entry

    def own_items(self) -> Iterator[tuple[str, Entry]]:
        """Give what is declared for it alone, as `items` does."""
        for shard in self.shards:
            yield from shard.items()

    def own(self, name: str) -> Entry | None:
        return self.shards[hash(name) & SHARD_MASK].get(name)
