"""Decides which base model gets an adapter that servers of several pools list. Pure.

No server is more credible than another, so nobody gains by listing an adapter. It stays with the base model that had it
before. If none had it, nobody gets it until only one lists it, or an object declares it. Pools that serve the same base
model do not compete.
"""

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple, TypeVar

from bbr.models.steps import Steps

P = TypeVar("P", bound=Hashable)

# Adapters, by base model.
Names = Mapping[str, frozenset[str]]

_STEP_NAMES: Final = 500


class Contest(NamedTuple):
    """An adapter that servers claim for several base models.

    Attributes:
        name: the adapter.
        kept: the base model that had it before; None if it is nobody's.
        claimed: all base models that it is claimed for, in order.
    """

    name: str
    kept: str | None
    claimed: tuple[str, ...]

    def __str__(self) -> str:
        bases = ", ".join(self.claimed)
        end = f"it stays with {self.kept}" if self.kept else "nobody gets it until an object declares it"
        return f"the adapter {self.name} is claimed for several base models ({bases}): {end}"


class Settled(NamedTuple):
    """What came of all claims.

    Attributes:
        holders: adapter -> its base model.
        granted: by pool: its claims without those that it does not get.
        contests: adapters that several base models want, by name.
    """

    holders: dict[str, str]
    granted: dict[object, dict[str, tuple[str, ...]]]
    contests: tuple[Contest, ...]


def settling(claimed: Mapping[P, Names], before: Mapping[str, str]) -> Steps[Settled]:
    """Decide who gets what, a step at a time.

    Args:
        claimed: by pool, the adapters that its servers claim, by base model.
        before: adapter -> its base model, of the last decision.
    """
    holders: dict[str, str] = {}
    rivals: dict[str, set[str]] = {}
    number = 0
    for names_of in claimed.values():
        for base, names in names_of.items():
            for name in names:
                if holders.setdefault(name, base) != base:
                    rivals.setdefault(name, {holders[name]}).add(base)
                number += 1
                if number % _STEP_NAMES == 0:
                    yield
    contests = []
    for name in sorted(rivals):
        kept = before.get(name)
        if kept in rivals[name] and kept is not None:
            holders[name] = kept
        else:
            del holders[name]
            kept = None
        contests.append(Contest(name, kept, tuple(sorted(rivals[name]))))
    granted: dict[object, dict[str, tuple[str, ...]]] = {}
    for pool, names_of in claimed.items():
        granted[pool] = {}
        for base, names in sorted(names_of.items()):
            yield
            granted[pool][base] = tuple(sorted(name for name in names if holders.get(name) == base))
    return Settled(holders, granted, tuple(contests))
