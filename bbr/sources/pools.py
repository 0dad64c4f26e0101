"""Which pods serve which base model: the cluster's InferencePools, and the HTTPRoutes that point at them.

A route that matches X-Gateway-Base-Model-Name and has an InferencePool behind it says that the pool serves that base
model. A route by X-Gateway-Model-Name says nothing here: it would have to name each adapter.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Self

import msgspec

from bbr.headers import BASE_MODEL_HEADER
from bbr.models.entries import Origin
from bbr.models.steps import Steps, sorting
from bbr.sources.answers import Metadata
from bbr.sources.http_routes import EXACT, Header, Match, Route, RouteSpec, Rule
from bbr.sources.kept import Kept

GROUP: Final = "inference.networking.k8s.io"
OLD_GROUP: Final = "inference.networking.x-k8s.io"

KIND: Final = "InferencePool"

# Pools that are followed, and what is looked at of a route: as many matches as Gateway API lets it have.
MAX_POOLS: Final = 64
MAX_SERVES: Final = 2048

# A pool's labels and ports; each port is asked on each pod.
_MAX_LABELS: Final = 64
_MAX_PORTS: Final = 8

# What routes say of pools, and pools, that are looked at in one step: half a millisecond's.
_STEP_SERVES: Final = 1000

_LABEL: Final = re.compile(r"(?:[a-z0-9.-]{1,253}+/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class Pool(NamedTuple):
    """What is kept of an InferencePool.

    Attributes:
        group: its API's.
        namespace: its namespace, and its pods'.
        name: its name.
        created: seconds since the epoch.
        selector: its pods' labels, as a label selector.
        ports: of its model servers.
    """

    group: str
    namespace: str
    name: str
    created: float
    selector: str
    ports: tuple[int, ...]

    @property
    def reference(self) -> "Reference":
        """How a route names it."""
        return Reference(self.group, self.namespace, self.name)

    @property
    def origin(self) -> Origin:
        """The origin of what its model servers list."""
        return Origin("the servers of InferencePool", self.name, self.namespace, self.created)


class Reference(NamedTuple):
    """How a route names a pool."""

    group: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + ("" if self.group == GROUP else f" ({self.group})")


class Serves(NamedTuple):
    """That a pool serves a base model."""

    pool: Reference
    base_model: str


class _Selector(msgspec.Struct, rename="camel"):
    match_labels: dict[str, str] = {}


class _Port(msgspec.Struct):
    number: int = 0


class _PoolSpec(msgspec.Struct, rename="camel"):
    selector: _Selector | None = None
    target_ports: list[_Port] = []


class InferencePool(msgspec.Struct):
    """What is read of an InferencePool of inference.networking.k8s.io/v1."""

    metadata: Metadata
    spec: _PoolSpec | None = None

    def reduced(self) -> Self:
        """Return itself: nothing else is read of it."""
        return self

    def pool(self) -> Pool | None:
        """Return what is kept of it; None if no pod can be its."""
        spec = self.spec
        if spec is None or spec.selector is None:
            return None
        return _pool(GROUP, self.metadata, spec.selector.match_labels, (port.number for port in spec.target_ports))


class _OldPoolSpec(msgspec.Struct, rename="camel"):
    selector: dict[str, str] = {}
    target_port_number: int = 0


class OldInferencePool(msgspec.Struct):
    """What is read of an InferencePool of inference.networking.x-k8s.io/v1alpha2."""

    metadata: Metadata
    spec: _OldPoolSpec | None = None

    def reduced(self) -> Self:
        """Return itself: nothing else is read of it."""
        return self

    def pool(self) -> Pool | None:
        """Return what is kept of it; None if no pod can be its."""
        spec = self.spec
        return _pool(OLD_GROUP, self.metadata, spec.selector, (spec.target_port_number,)) if spec else None


def _pool(group: str, metadata: Metadata, labels: Mapping[str, str], ports: Iterable[int]) -> Pool | None:
    # A selector without labels would select every pod there is; a comma in one would be another selector.
    usable = 0 < len(labels) <= _MAX_LABELS and all(
        _LABEL.fullmatch(label) and _VALUE.fullmatch(value) for label, value in labels.items()
    )
    several = tuple(itertools.islice((port for port in ports if 0 < port < 65536), _MAX_PORTS))
    if not usable or not several:
        return None
    created = metadata.creation_timestamp.timestamp() if metadata.creation_timestamp else 0.0
    selector = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
    return Pool(group, metadata.namespace, metadata.name, created, selector, several)


class ServingRoute(Route):
    """An HTTPRoute that may have InferencePools behind it."""

    def reduced(self) -> Self:
        """Return no more of it than `serves` looks at."""
        rules = map(_reduced, self.rules)
        return type(self)(self.metadata, RouteSpec([rule for rule in rules if rule.backend_refs]))


def _reduced(rule: Rule) -> Rule:
    headers = [header for header in rule.headers() if _names_base(header)]
    backends = [each for each in rule.backend_refs or () if each.kind == KIND]
    return Rule([Match(headers[:MAX_SERVES])], backends[:MAX_SERVES] if headers else [])


def _names_base(header: Header) -> bool:
    return header.type == EXACT and header.name.lower() == BASE_MODEL_HEADER.lower()


def serves(route: ServingRoute) -> frozenset[Serves]:
    """Return which pools serve which base models by a route, the first MAX_SERVES of them."""
    return frozenset(itertools.islice(_serves(route), MAX_SERVES))


def _serves(route: ServingRoute) -> Iterator[Serves]:
    for rule in map(_reduced, route.rules):
        for backend in rule.backend_refs or ():
            if backend.group not in (GROUP, OLD_GROUP) or backend.weight == 0:
                continue
            pool = Reference(backend.group, backend.namespace or route.metadata.namespace, backend.name)
            for header in rule.headers():
                yield Serves(pool, header.value)


class KeptPools(Kept[Pool | None]):
    """The pools of one group."""

    def read(self, found: InferencePool | OldInferencePool) -> Pool | None:
        """Return what is kept of a pool."""
        return found.pool()


class KeptRoutes(Kept[frozenset[Serves]]):
    """What the routes say of pools."""

    def read(self, found: ServingRoute) -> frozenset[Serves]:
        """Return what is kept of a route."""
        return serves(found)


def serving(
    pools: Iterable[Mapping[str, Pool | None]], routes: Mapping[str, Iterable[Serves]]
) -> Steps[dict[Pool, frozenset[str]]]:
    """Find the pools that serve a base model, the oldest first, at most MAX_POOLS; and which ones they serve.

    A step at a time: whoever may write HTTPRoutes can have 2,048 matches in each.
    """
    bases: dict[Reference, set[str]] = {}
    claims = (each for several in list(routes.values()) for each in several)
    for number, (pool, base_model) in enumerate(claims, 1):
        bases.setdefault(pool, set()).add(base_model)
        if number % _STEP_SERVES == 0:
            yield
    found: list[Pool] = []
    known = [each for several in pools for each in several.values()]
    for number, each in enumerate(known, 1):
        if each and each.reference in bases:
            found.append(each)
        if number % _STEP_SERVES == 0:
            yield
    ordered = yield from sorting(found, lambda pool: (pool.origin.precedence, pool.group))
    return {pool: frozenset(bases[pool.reference]) for pool in ordered[:MAX_POOLS]}
