"""All that is declared -> the model table, and the claims that lost. Pure.

Which of two claims on one name counts does not depend on the order in which they came:

1. A base model's own name always means itself.
2. An adapter belongs to the first base model that claims it: the oldest object's, then by namespace and name.
3. An alias never hides a base model or an adapter. Of two aliases the first counts, by the same order. One that stands
   for several models does so for those that the table holds.
4. An adapter or an alias may be a pattern (bbr.models.patterns), by the same order. Names come before patterns.
5. An adapter that model servers list changes nothing of what is declared: it is entered if its base model is declared,
   and neither its name nor a pattern that it fits. An alias may stand for it.
6. What is declared for a scope exists for requests in that scope alone, and there its names hide what is declared for
   everyone. A host of two scopes belongs to the first, by the same order. So each scope has a table of its own, which
   looks into that of everyone: names that everyone has are not copied.
"""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from bbr.models.entries import Alias, BaseModel, Conflict, Declaration, Entry, Grant, Kind, Origin, Share
from bbr.models.hosts import MAX_HOSTS, Hosts
from bbr.models.patterns import MAX_PATTERNS, Collected, Pattern, is_pattern
from bbr.models.registry import SHARD_MASK, SHARDS, Registry, Shards
from bbr.models.steps import STEP_ALIASES, STEP_COMPARED, STEP_NAMES, Steps, sorting

# Of one table. Each has 64 small dicts, 5 KB.
MAX_SCOPES: Final = 1_000


def merging(declarations: Iterable[Declaration], *, complete: bool = True) -> Steps[tuple[Registry, list[Conflict]]]:
    """Build a table from all that is declared, a step at a time.

    Args:
        declarations: in any order; what they hold is read at the first step, later changes to it do not matter.
        complete: see Registry.

    Returns:
        The table, and the claims that lost: those on adapters first, then aliases, both in order of precedence; then
        those of each scope, and those on hosts.
    """
    groups = yield from _by_scope(list(declarations))
    shared, conflicts = yield from _merged(groups.by_scope.pop("", []), groups, complete)
    by_scope = groups.by_scope
    if not by_scope:
        return shared, conflicts
    scopes: dict[str, Registry] = {}
    for number, (scope, several) in enumerate(by_scope.items()):
        if number < MAX_SCOPES:
            scopes[scope], lost = yield from _merged(several, groups, complete, scope, shared)
            conflicts += [conflict._replace(scope=scope) for conflict in lost]
        else:
            why = f"the table has {MAX_SCOPES} scopes already"
            conflicts.append(Conflict(scope, None, Entry("the table", Kind.SCOPE, several[0].origin), why))
            if number % STEP_NAMES == 0:
                yield
    hosts, lost = yield from _hosts([each for each in groups.with_hosts if each.scope in scopes])
    return replace(shared, scopes=scopes, hosts=hosts), conflicts + lost


class _Groups(NamedTuple):
    """Declarations, by what they are about.

    Attributes:
        by_scope: those of each scope in their order, the scopes by precedence.
        with_hosts: those that have hosts.
        listing: those that model servers make, by precedence.
        scoped: the base models that scopes declare.
    """

    by_scope: dict[str, list[Declaration]]
    with_hosts: list[Declaration]
    listing: list[Declaration]
    scoped: set[str]


def _by_scope(declared: list[Declaration]) -> Steps[_Groups]:
    found: dict[str, list[Declaration]] = {"": []}
    first: dict[str, tuple[float, str, str, str, int]] = {"": (0.0, "", "", "", 0)}
    groups = _Groups({}, [], [], set())
    for number, declaration in enumerate(declared, 1):
        scope = declaration.scope
        found.setdefault(scope, []).append(declaration)
        if scope:
            first[scope] = min(first.get(scope, _precedence(declaration)), _precedence(declaration))
            for start in range(0, len(declaration.models), STEP_NAMES):
                groups.scoped.update(model.name for model in declaration.models[start : start + STEP_NAMES])
                yield
        if declaration.hosts:
            groups.with_hosts.append(declaration)
        if declaration.discovered:
            groups.listing.append(declaration)
        if number % STEP_NAMES == 0:
            yield
    groups.listing.sort(key=_precedence)  # one for each pool
    scopes = yield from sorting(list(found), lambda name: (name != "", first[name], name))
    for number, scope in enumerate(scopes, 1):
        groups.by_scope[scope] = found[scope]
        if number % STEP_NAMES == 0:
            yield
    return groups


def _hosts(declarations: list[Declaration]) -> Steps[tuple[Hosts, list[Conflict]]]:
    """Return the hosts of all scopes, and the claims on them that lost."""
    found: dict[str, Declaration] = {}
    lost: list[Conflict] = []
    number = 0
    ordered = yield from sorting(declarations, _precedence)
    for declaration in ordered:
        for host in declaration.hosts:
            number += 1
            if number % STEP_NAMES == 0:
                yield
            if host not in found and len(found) == MAX_HOSTS:
                why = f"the table has {MAX_HOSTS} hosts already"
            elif (kept := found.setdefault(host, declaration)).scope != declaration.scope:
                why = f"it is one of {kept.scope} ({kept.origin})"
            else:
                continue
            lost.append(Conflict(host, None, Entry(declaration.scope, Kind.HOST, declaration.origin), why))
    return Hosts({host: declaration.scope for host, declaration in found.items()}), lost


def _merged(
    declared: list[Declaration], groups: _Groups, complete: bool, scope: str = "", shared: Registry | None = None
) -> Steps[tuple[Registry, list[Conflict]]]:
    """Build the table of everyone, or of a scope, from what is declared for it."""
    with_models, with_aliases = yield from _ordered(declared)
    shards: tuple[dict[str, Entry], ...] = tuple({} for _ in range(SHARDS))
    base_models: list[str] = []
    conflicts: list[Conflict] = []
    patterns = Collected()
    for number, (name, entry) in enumerate(_own_names(with_models), 1):
        if shards[hash(name) & SHARD_MASK].setdefault(name, entry) is entry:
            base_models.append(name)
        if number % STEP_NAMES == 0:
            yield
    for number, (name, entry) in enumerate(_adapters(with_models), 1):
        if is_pattern(name) and name != entry.base_model:
            conflicts += _add_pattern(shards, patterns, name, entry)
            yield
            continue
        kept = shards[hash(name) & SHARD_MASK].setdefault(name, entry)
        if kept is not entry and kept.base_model != entry.base_model:
            conflicts.append(Conflict(name, kept, entry))
        if number % STEP_NAMES == 0:
            yield
    if groups.listing:
        listed = _listed(groups, shards, shared)
        conflicts += yield from _discovered(listed, with_aliases, shards, patterns)
    entered = 0
    for origin, alias in _aliases(with_aliases):
        conflicts += _add_alias(shards, patterns, origin, alias, shared)
        entered += 1 + len(alias.weights)
        if entered >= STEP_ALIASES or is_pattern(alias.name):
            entered = 0
            yield
    grants = yield from _granted(declared, shared)
    merged = Registry(False, tuple(base_models), complete, tuple(patterns), grants, scope, shared=shared, shards=shards)
    if shared is not None:
        merged = yield from _over(shared, merged)
    return merged, conflicts


def _over(shared: Registry, merged: Registry) -> Steps[Registry]:
    """Return the table of a scope with what it has from everyone's."""
    hidden = number = 0
    for number, (name, _) in enumerate(merged.own_items(), 1):
        hidden += shared.own(name) is not None
        if number % STEP_NAMES == 0:
            yield
    others = (pattern for pattern in shared.patterns if merged.own(pattern.text) is None)
    return replace(merged, hidden=hidden, counted=number, patterns=(*merged.patterns, *others))


def _listed(groups: _Groups, shards: Shards, shared: Registry | None) -> list[tuple[Origin, BaseModel]]:
    """Return what servers list of the base models of a table: it exists where these are declared."""
    listed = [(each.origin, model) for each in groups.listing for model in each.discovered]
    if shared is None:
        return [each for each in listed if each[1].name not in groups.scoped or _has_base_model(shards, each[1].name)]
    return [
        each
        for each in listed
        if _has_base_model(shards, each[1].name) and not _has_base_model(shared.shards, each[1].name)
    ]


def _has_base_model(shards: Shards, name: str) -> bool:
    entry = shards[hash(name) & SHARD_MASK].get(name)
    return entry is not None and entry.kind is Kind.BASE_MODEL


def _granted(
    declarations: list[Declaration], shared: Registry | None
) -> Steps[Mapping[str, frozenset[frozenset[str]]]]:
    """Return the lists of who may use what; in a scope, those for everyone too."""
    found: dict[str, frozenset[frozenset[str]]] = {}
    for_all: Mapping[str, frozenset[frozenset[str]]] = {} if shared is None else shared.grants
    for number, grant in enumerate(_grants(declarations), 1):
        if grant is not None:
            name, askers = grant
            found[name] = found.get(name, for_all.get(name, frozenset())) | {askers}
        if number % STEP_NAMES == 0:
            yield
    # Not copied: a table may have many lists, and many scopes.
    return ChainMap(found, for_all) if found and for_all else found or for_all  # type: ignore[arg-type]


def _grants(declarations: list[Declaration]) -> Iterator[Grant | None]:
    for declaration in declarations:
        yield None  # without it, declarations without lists would be one long step
        yield from declaration.grants


def _ordered(declarations: list[Declaration]) -> Steps[tuple[list[Declaration], list[Declaration]]]:
    """Return those that have models and those that have aliases, by precedence; the sort is stable."""
    ordered = yield from sorting(declarations, _precedence)
    with_models, with_aliases = [], []
    for number, declaration in enumerate(ordered, 1):
        if declaration.models:
            with_models.append(declaration)
        if declaration.aliases:
            with_aliases.append(declaration)
        if number % STEP_NAMES == 0:
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
    listed: list[tuple[Origin, BaseModel]],
    with_aliases: list[Declaration],
    shards: tuple[dict[str, Entry], ...],
    patterns: Collected,
) -> Steps[list[Conflict]]:
    """Enter what model servers list, as far as nothing declared has a say in it; return what may not stand there."""
    conflicts: list[Conflict] = []
    aliases = yield from _alias_names(with_aliases)
    taken = [*patterns, *(Pattern(name) for name in aliases if is_pattern(name))][: 2 * MAX_PATTERNS]
    number = 0
    for origin, (base_model, adapters) in listed:
        entry = Entry(base_model, Kind.ADAPTER, origin)
        for name in adapters:
            shard = shards[hash(name) & SHARD_MASK]
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
            if number % STEP_COMPARED == 0:
                yield
    return conflicts


def _alias_names(with_aliases: list[Declaration]) -> Steps[dict[str, Origin]]:
    found: dict[str, Origin] = {}
    for number, (origin, alias) in enumerate(_aliases(with_aliases), 1):
        found.setdefault(alias.name, origin)
        if number % STEP_NAMES == 0:
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
    base = shards[hash(base_model) & SHARD_MASK].get(base_model)
    if base is None or base.kind is not Kind.BASE_MODEL:
        return f"no object declares the base model {base_model}"
    if name in aliases:
        return f"an alias of this name is declared ({aliases[name]})"
    for pattern in taken:
        if pattern.fits(name):
            kept = shards[hash(pattern.text) & SHARD_MASK].get(pattern.text)
            if kept and (kept.base_model, kept.kind) == (base_model, Kind.ADAPTER):
                return None
            return f"it fits the pattern {pattern.text}, which is declared"
    return ""


def _add_pattern(
    shards: tuple[dict[str, Entry], ...], patterns: Collected, text: str, entry: Entry
) -> Iterator[Conflict]:
    """Enter a pattern into the table, if it may stand there; give what may not."""
    shard = shards[hash(text) & SHARD_MASK]
    entry = entry._replace(pattern=text)
    kept = shard.get(text)
    if kept is not None:
        if kept._replace(origin=entry.origin) != entry:
            yield Conflict(text, kept, entry)
        return
    pattern = Pattern(text)
    if rival := patterns.rival(pattern):
        other = shards[hash(rival.text) & SHARD_MASK][rival.text]
        why = f"the pattern {rival.text} ({other.origin}) is as long, and some names match both"
        yield Conflict(text, other, entry, why)
    elif patterns.full:
        yield Conflict(text, None, entry, f"the table has {MAX_PATTERNS} patterns already")
    else:
        patterns.add(pattern)
        shard[text] = entry


def _add_alias(
    shards: tuple[dict[str, Entry], ...], patterns: Collected, origin: Origin, alias: Alias, shared: Registry | None
) -> list[Conflict]:
    """Enter an alias into the table, as far as it may stand there; return what may not."""
    name, target, weights = alias
    conflicts: list[Conflict] = []
    shares: list[Share] = []
    for model, weight in weights or ((target, 1),):
        meant = shards[hash(model) & SHARD_MASK].get(model)
        # Also what an alias of the scope hides: a scope can so have a canary of a model, by the model's own name.
        if shared is not None and (meant is None or meant.kind is Kind.ALIAS):
            meant = shared.own(model)
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
    kept = shards[hash(name) & SHARD_MASK].setdefault(name, entry)
    agrees = kept.shares == entry.shares and first.model in (kept.alias_of, name)
    if kept is not entry and not agrees:
        conflicts.append(Conflict(name, kept, entry))
    return conflicts
