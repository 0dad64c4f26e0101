"""The model table: an immutable snapshot that tells what a requested model stands for.

Pure: no I/O, no logging, no clock. Sources say what their objects declare; `merging` makes a Registry of all of it, a
slice at a time; whoever publishes it does so by one assignment, and readers never lock.

Which of two claims on one name counts does not depend on the order in which they came:

1. A base model's own name always means itself.
2. An adapter belongs to the first base model that claims it: the oldest object's, then by namespace and name.
3. An alias never hides a base model or an adapter. Of two aliases the first counts, by the same order. One that stands
   for several models does so for those that the table holds.
4. An adapter or an alias may be a pattern (bbr.models.patterns), by the same order. Names come before patterns.
5. An adapter that model servers list changes nothing of what is declared: it is entered if its base model is declared,
   and neither its name nor a pattern that it fits. An alias may stand for it.
"""

import enum
import heapq
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from bbr.models.patterns import MAX_PATTERNS, Collected, Pattern, is_pattern

T = TypeVar("T")

# Work that is done a step at a time: each `next` takes less than a millisecond, the return value is the result.
Steps = Generator[None, None, T]

# Names merged in one step, 0.3 to 0.6 ms; and declarations sorted in one.
_STEP_NAMES: Final = 1000
_STEP_DECLARATIONS: Final = 500

# Names of model servers, each of which may be compared with every pattern.
_STEP_DISCOVERED: Final = 20

# A table is this many small dicts: one large one takes several milliseconds when it grows, and to be freed.
_SHARDS: Final = 64
_SHARD_MASK: Final = _SHARDS - 1


def finish(steps: Steps[T]) -> T:
    """Do all steps at once and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


class Origin(NamedTuple):
    """The object that declares something, for people, and for its precedence.

    Attributes:
        kind: what sort of object it is: `file`, `ConfigMap`.
        name: its name; a file's path.
        namespace: its namespace, or "".
        created: seconds since the epoch; older objects win. 0 for files, which so come before all others: what is
            written into the router's own configuration should not depend on a file's date.
        line: where in the object, counted from 1, or 0.
    """

    kind: str = ""
    name: str = ""
    namespace: str = ""
    created: float = 0.0
    line: int = 0

    @property
    def precedence(self) -> tuple[float, str, str, str, int]:
        """Compare less than that of every object whose claims lose against this one's."""
        return self.created, self.namespace, self.name, self.kind, self.line

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        line = f", line {self.line}" if self.line else ""
        return f"{self.kind} {name}{line}"


class BaseModel(NamedTuple):
    """One base model and the adapters that are served on it, as one object declares them."""

    name: str
    adapters: tuple[str, ...] = ()


class Alias(NamedTuple):
    """Another name for a base model or an adapter: a request for `name` is routed as one for `model`.

    Attributes:
        name: the alias.
        model: what it stands for; the first, if it stands for several.
        weights: of several, each with the weight of its share, in their order; empty for one alone.
    """

    name: str
    model: str
    weights: tuple[tuple[str, int], ...] = ()


class Grant(NamedTuple):
    """Who may use a model.

    Attributes:
        name: of a base model, an adapter or an alias.
        askers: those who may, by name; "*" is everyone whose name is known. Empty: nobody.
    """

    name: str
    askers: frozenset[str]


class Declaration(NamedTuple):
    """What one object, or one entry of it, declares. All names are trimmed and usable (`bbr.reading.name.check_model`).

    Attributes:
        origin: the object. Two declarations with equal origins are in the order in which they are given.
        models: base models in their order of precedence; one may stand several times.
        aliases: in their order of precedence.
        grants: in any order. Whoever asks for a model has to be in all lists that are declared for it, so that no
            object can open what another one closes.
        discovered: adapters that model servers list, of base models that others declare.
    """

    origin: Origin
    models: tuple[BaseModel, ...] = ()
    aliases: tuple[Alias, ...] = ()
    grants: tuple[Grant, ...] = ()
    discovered: tuple[BaseModel, ...] = ()


class Kind(enum.StrEnum):
    """What a name of the table is."""

    BASE_MODEL = "base model"
    ADAPTER = "adapter"
    ALIAS = "alias"


class Share(NamedTuple):
    """One of several models that an alias stands for.

    Attributes:
        model: a base model or an adapter.
        base_model: the base model that serves it.
        weight: its share of the requests is this, of all weights together; 0: it gets none.
    """

    model: str
    base_model: str
    weight: int


def described(shares: Iterable[Share]) -> str:
    """Return shares for people, with their weights in brackets."""
    return ", ".join(f"{share.model} ({share.weight})" for share in shares)


class Entry(NamedTuple):
    """What a name of the table stands for. Names that one object declares alike share their entry.

    Attributes:
        base_model: the base model that serves it; a base model's own name.
        kind: see Kind.
        origin: the object that declares it; of several that agree, the first.
        alias_of: the model that an alias stands for, or None: the name stands for itself.
        shares: the models that an alias of several stands for; `alias_of` and `base_model` are then those of the first.
            Empty for one alone.
        pattern: of a name that many fit: the pattern; "" of any other.
    """

    base_model: str
    kind: Kind
    origin: Origin
    alias_of: str | None = None
    shares: tuple[Share, ...] = ()
    pattern: str = ""

    @property
    def what(self) -> str:
        """What it is, for people."""
        kind = f"{self.kind} pattern" if self.pattern else str(self.kind)
        if self.kind is not Kind.ALIAS:
            return kind
        return f"{kind} of {described(self.shares) or self.alias_of}"


class Conflict(NamedTuple):
    """A claim that is ignored: `name` goes on meaning what `kept` says.

    Attributes:
        name: the name that was claimed twice.
        kept: what it means; None if it means nothing, since it is an alias of a model that the table does not hold.
        refused: what the ignored claim would have made of it.
        why: the reason, if it is a pattern that another one keeps out, or the number of them; and if model servers
            claim it.
    """

    name: str
    kept: Entry | None
    refused: Entry
    why: str = ""

    def __str__(self) -> str:
        kind = self.refused.kind
        target = self.refused.alias_of or self.refused.base_model
        what = f"{self.name} can't be an {kind} of {target} ({self.refused.origin})"
        if self.why:
            return f"{what}: {self.why}"
        if self.kept is None:
            return f"{what}: {target} is neither a base model nor an adapter"
        if self.kept.kind is Kind.BASE_MODEL:
            return f"{what}: it is a base model itself ({self.kept.origin})"
        return f"{what}: it is an {self.kept.kind} of {self.kept.alias_of or self.kept.base_model} ({self.kept.origin})"


_Shards = tuple[Mapping[str, Entry], ...]
_NO_NAMES: Final[_Shards] = tuple({} for _ in range(_SHARDS))


@dataclass(frozen=True, slots=True)
class Registry:
    """A snapshot: requested model name -> what it stands for.

    Attributes:
        identity: without any table every model is its own base model.
        base_models: the base models' names, in their order of precedence.
        complete: whether every source has been read. If not, what is not in the table may be about to come.
        patterns: the longest first. What each stands for stands under its text among the names.
        grants: name -> the lists of those who may use it; names that are not in it have none. See bbr.models.access.
    """

    identity: bool = True
    base_models: tuple[str, ...] = ()
    complete: bool = True
    patterns: tuple[Pattern, ...] = ()
    grants: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    _shards: _Shards = field(default=_NO_NAMES, repr=False)

    @classmethod
    def merge(cls, models: Iterable[BaseModel]) -> tuple["Registry", list[Conflict]]:
        """Build a table at once from base models of one object, in their order of precedence."""
        return finish(merging([Declaration(Origin(), tuple(models))]))

    def find(self, name: str) -> Entry | None:
        """Return what a requested name stands for, by itself or by a pattern; None if the table does not hold it."""
        entry = self._shards[hash(name) & _SHARD_MASK].get(name)
        if entry is None:
            for pattern in self.patterns:
                if pattern.fits(name):
                    return self._shards[hash(pattern.text) & _SHARD_MASK][pattern.text]
        return entry

    def holds(self, name: str) -> bool:
        """Tell whether the table holds a name itself, and not by a pattern."""
        return name in self._shards[hash(name) & _SHARD_MASK]

    def idle_grants(self) -> list[str]:
        """Return the names in `grants` that the table does not hold, in order."""
        return sorted(name for name in self.grants if self.find(name) is None)

    @property
    def size(self) -> int:
        """How many names the table holds, patterns among them."""
        return sum(map(len, self._shards))

    def parts(self) -> list[Mapping[str, Entry]]:
        """Return what holds the names, for whoever lets go of a large table part by part."""
        return [*self._shards]

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Give every name and pattern, and what it stands for, in no order to rely on."""
        for shard in self._shards:
            yield from shard.items()


def merging(declarations: Iterable[Declaration]) -> Steps[tuple[Registry, list[Conflict]]]:
    """Build a table from all that is declared, a step at a time.

    Args:
        declarations: in any order; what they hold is read at the first step, later changes to it do not matter.

    Returns:
        The table, and the claims that lost: those on adapters first, then aliases, both in order of precedence.
    """
    declared = list(declarations)
    with_models, with_aliases = yield from _ordered(declared)
    shards: tuple[dict[str, Entry], ...] = tuple({} for _ in range(_SHARDS))
    base_models: list[str] = []
    conflicts: list[Conflict] = []
    patterns = Collected()
    for number, (name, entry) in enumerate(_own_names(with_models), 1):
        if shards[hash(name) & _SHARD_MASK].setdefault(name, entry) is entry:
            base_models.append(name)
        if number % _STEP_NAMES == 0:
            yield
    for number, (name, entry) in enumerate(_adapters(with_models), 1):
        if is_pattern(name) and name != entry.base_model:
            conflicts += _add_pattern(shards, patterns, name, entry)
            yield
            continue
        kept = shards[hash(name) & _SHARD_MASK].setdefault(name, entry)
        if kept is not entry and kept.base_model != entry.base_model:
            conflicts.append(Conflict(name, kept, entry))
        if number % _STEP_NAMES == 0:
            yield
    conflicts += yield from _discovered(declared, with_aliases, shards, patterns)
    for number, (origin, alias) in enumerate(_aliases(with_aliases), 1):
        conflicts += _add_alias(shards, patterns, origin, alias)
        if number % _STEP_NAMES == 0 or is_pattern(alias.name):
            yield
    grants = yield from _granted(declared)
    return Registry(False, tuple(base_models), True, tuple(patterns), grants, shards), conflicts


def _granted(declarations: list[Declaration]) -> Steps[Mapping[str, frozenset[frozenset[str]]]]:
    """Return the lists of who may use what."""
    found: dict[str, frozenset[frozenset[str]]] = {}
    number = 0
    for declaration in declarations:
        for name, askers in declaration.grants:
            found[name] = found.get(name, frozenset()) | {askers}
            number += 1
            if number % _STEP_NAMES == 0:
                yield
    return found


def _ordered(declarations: list[Declaration]) -> Steps[tuple[list[Declaration], list[Declaration]]]:
    """Return those that have models and those that have aliases, by precedence; the sort is stable."""
    runs = []
    for start in range(0, len(declarations), _STEP_DECLARATIONS):
        runs.append(sorted(declarations[start : start + _STEP_DECLARATIONS], key=_precedence))
        yield
    with_models, with_aliases = [], []
    for number, declaration in enumerate(heapq.merge(*runs, key=_precedence), 1):
        if declaration.models:
            with_models.append(declaration)
        if declaration.aliases:
            with_aliases.append(declaration)
        if number % _STEP_DECLARATIONS == 0:
            yield
    return with_models, with_aliases


def _precedence(declaration: Declaration) -> tuple[float, str, str, str, int]:
    return declaration.origin.precedence


def _own_names(ordered: list[Declaration]) -> Iterator[tuple[str, Entry]]:
    for origin, models, *_ in ordered:
        for model in models:
            yield model.name, Entry(model.name, Kind.BASE_MODEL, origin)


def _adapters(ordered: list[Declaration]) -> Iterator[tuple[str, Entry]]:
    for origin, models, *_ in ordered:
        for name, adapters in models:
            entry = Entry(name, Kind.ADAPTER, origin)
            yield name, entry  # changes nothing; without it, base models without adapters would be one long step
            for adapter in adapters:
                yield adapter, entry


def _aliases(ordered: list[Declaration]) -> Iterator[tuple[Origin, Alias]]:
    for origin, _, aliases, *_ in ordered:
        for alias in aliases:
            yield origin, alias


def _discovered(
    declared: list[Declaration],
    with_aliases: list[Declaration],
    shards: tuple[dict[str, Entry], ...],
    patterns: Collected,
) -> Steps[list[Conflict]]:
    """Enter what model servers list, as far as nothing declared has a say in it; return what may not stand there."""
    listing = sorted((each for each in declared if each.discovered), key=_precedence)
    conflicts: list[Conflict] = []
    if not listing:
        return conflicts
    aliases = yield from _alias_names(with_aliases)
    taken = [*patterns, *(Pattern(name) for name in aliases if is_pattern(name))][: 2 * MAX_PATTERNS]
    number = 0
    for origin, _, _, _, models in listing:
        for base_model, adapters in models:
            entry = Entry(base_model, Kind.ADAPTER, origin)
            for name in adapters:
                shard = shards[hash(name) & _SHARD_MASK]
                kept = shard.get(name)
                if kept is not None:
                    if kept.base_model != base_model or kept.kind is not Kind.ADAPTER:
                        conflicts.append(Conflict(name, kept, entry))
                else:
                    why = _declared(entry, name, shards, aliases, taken)
                    if why == "":
                        shard[name] = entry
                    elif why:
                        conflicts.append(Conflict(name, None, entry, why))
                number += 1
                if number % _STEP_DISCOVERED == 0:
                    yield
    return conflicts


def _alias_names(with_aliases: list[Declaration]) -> Steps[dict[str, Origin]]:
    found: dict[str, Origin] = {}
    for number, (origin, alias) in enumerate(_aliases(with_aliases), 1):
        found.setdefault(alias.name, origin)
        if number % _STEP_NAMES == 0:
            yield
    return found


def _declared(
    entry: Entry,
    name: str,
    shards: tuple[dict[str, Entry], ...],
    aliases: Mapping[str, Origin],
    taken: Iterable[Pattern],
) -> str | None:
    """Return why a name that model servers list can't be entered; "" if it can, None if a pattern says the same."""
    base_model = entry.base_model
    base = shards[hash(base_model) & _SHARD_MASK].get(base_model)
    if base is None or base.kind is not Kind.BASE_MODEL:
        return f"no object declares the base model {base_model}"
    if name in aliases:
        return f"an alias of this name is declared ({aliases[name]})"
    for pattern in taken:
        if pattern.fits(name):
            kept = shards[hash(pattern.text) & _SHARD_MASK].get(pattern.text)
            if kept and (kept.base_model, kept.kind) == (base_model, Kind.ADAPTER):
                return None
            return f"it fits the pattern {pattern.text}, which is declared"
    return ""


def _add_pattern(
    shards: tuple[dict[str, Entry], ...], patterns: Collected, text: str, entry: Entry
) -> Iterator[Conflict]:
    """Enter a pattern into the table, if it may stand there; give what may not."""
    shard = shards[hash(text) & _SHARD_MASK]
    entry = entry._replace(pattern=text)
    kept = shard.get(text)
    if kept is not None:
        if kept._replace(origin=entry.origin) != entry:
            yield Conflict(text, kept, entry)
        return
    pattern = Pattern(text)
    if rival := patterns.rival(pattern):
        other = shards[hash(rival.text) & _SHARD_MASK][rival.text]
        why = f"the pattern {rival.text} ({other.origin}) is as long, and some names fit both"
        yield Conflict(text, other, entry, why)
    elif patterns.full:
        yield Conflict(text, None, entry, f"the table has {MAX_PATTERNS} patterns already")
    else:
        patterns.add(pattern)
        shard[text] = entry


def _add_alias(
    shards: tuple[dict[str, Entry], ...], patterns: Collected, origin: Origin, alias: Alias
) -> list[Conflict]:
    """Enter an alias into the table, as far as it may stand there; return what may not."""
    name, target, weights = alias
    conflicts: list[Conflict] = []
    shares: list[Share] = []
    for model, weight in weights or ((target, 1),):
        meant = shards[hash(model) & _SHARD_MASK].get(model)
        # An alias of an alias would depend on who came first, and a pattern is no model.
        if meant is None or meant.kind is Kind.ALIAS or meant.pattern:
            conflicts.append(Conflict(name, None, Entry(model, Kind.ALIAS, origin, model)))
        else:
            shares.append(Share(model, meant.base_model, weight))
    # The rest of a canary goes on without the model that is gone. Without any share nobody knows where to.
    if not any(share.weight for share in shares):
        return conflicts
    first = shares[0]
    entry = Entry(first.base_model, Kind.ALIAS, origin, first.model, tuple(shares) if weights else ())
    if is_pattern(name):
        return [*conflicts, *_add_pattern(shards, patterns, name, entry)]
    kept = shards[hash(name) & _SHARD_MASK].setdefault(name, entry)
    agrees = kept.shares == entry.shares and first.model in (kept.alias_of, name)
    if kept is not entry and not agrees:
        conflicts.append(Conflict(name, kept, entry))
    return conflicts
