"""How many replicas, cores and bytes a load needs: arithmetic on measured costs, and which limit is met first.

Nothing here measures or reads: docs/scaling.md is rendered from this and the recorded figures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

# Defaults of the router (`bbr.config.settings`, `bbr.http2.settings`) and of Envoy (requests of a cluster at a time).
STREAMS_PER_CONNECTION: Final = 1_000
CONNECTIONS: Final = 10_000
BUFFERED_BYTES: Final = 512 << 20
BREAKER: Final = 1_024

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Mix:
    """Requests of several body sizes: bytes -> share of the requests; shares add up to 1."""

    name: str
    shares: Mapping[int, float]


@dataclass(frozen=True)
class Costs:
    """What was measured, and what is left to an assumption.

    Attributes:
        router: body bytes -> microseconds of the router's processor time for a request.
        envoy: the same of Envoy's, with the router behind it.
        base_mib: resident set of a replica at rest.
        idle_kib: what an idle connection adds.
        factor: bytes of memory for each byte of a body that is in flight.
    """

    router: Mapping[int, float]
    envoy: Mapping[int, float]
    base_mib: float
    idle_kib: float
    factor: float


@dataclass(frozen=True)
class Site:
    """How the load comes, and how full processors may be.

    Attributes:
        utilisation: share of a processor that is used on average.
        workers: of each gateway, which are threads of Envoy's.
        upload: bytes per second of a client.
        latency: seconds in the router of a body that comes at once.
    """

    utilisation: float = 0.7
    workers: int = 8
    upload: float = 12.5e6
    latency: float = 0.002

    def in_flight(self, size: float) -> float:
        """Return how long a request's body is on its way through the router, in seconds."""
        return self.latency + size / self.upload


@dataclass(frozen=True)
class Plan:
    """What a load needs.

    Attributes:
        replicas: of the router, of one processor each.
        cores: processors' worth of routers, at the utilisation.
        memory_mib: of all replicas.
        gateways: of `Site.workers` threads each.
        connections: of each gateway, to all replicas.
        streams: open at a time in each gateway.
        sized_by: why there are so many replicas.
        shares: of the other limits, name -> how much of it is used; more than 1 means that it must be raised.
    """

    replicas: int
    cores: float
    memory_mib: float
    gateways: int
    connections: int
    streams: float
    sized_by: str
    shares: Mapping[str, float]

    @property
    def next(self) -> str:
        """The other limit that would be met first if the load grew, and replicas and gateways did not."""
        return max(self.shares, key=lambda name: self.shares[name])


def cost(points: Mapping[int, float], size: float) -> float:
    """Return the cost of a body of `size` bytes: a straight line between points, the last one's slope beyond them.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("no cost was measured")
    known = sorted(points.items())
    if len(known) == 1 or size <= known[0][0]:
        return known[0][1]
    # Of the last pair that begins below `size`.
    (low, below), (high, above) = next((pair for pair in pairwise(known) if size <= pair[1][0]), tuple(known[-2:]))
    return below + (above - below) * (size - low) / (high - low)


def mean_cost(points: Mapping[int, float], mix: Mix) -> float:
    """Return microseconds for an average request of a mix."""
    return sum(share * cost(points, size) for size, share in mix.shares.items())


def plan(rate: float, mix: Mix, costs: Costs, site: Site) -> Plan:
    """Return what `rate` requests per second of a mix need: two replicas and two gateways at least."""
    cores = rate * mean_cost(costs.router, mix) / 1e6 / site.utilisation
    open_streams = rate * sum(share * site.in_flight(size) for size, share in mix.shares.items())
    held = rate * sum(share * size * site.in_flight(size) for size, share in mix.shares.items())
    needs = {
        "two, for drains": 2,
        "processor": math.ceil(cores),
        "`--max-buffered-bytes`": math.ceil(held / BUFFERED_BYTES / site.utilisation),
    }
    sized_by = max(needs, key=lambda name: needs[name])
    replicas = needs[sized_by]
    envoy_cores = rate * mean_cost(costs.envoy, mix) / 1e6 / site.utilisation
    gateways = max(2, math.ceil(envoy_cores / site.workers))
    workers = gateways * site.workers
    memory = replicas * (costs.base_mib + workers * costs.idle_kib / 1024) + held * costs.factor / MIB
    shares = {
        "streams of a connection": open_streams / workers / replicas / STREAMS_PER_CONNECTION,
        "Envoy's circuit breaker": open_streams / gateways / BREAKER,
        "`--max-buffered-bytes`": held / replicas / BUFFERED_BYTES,
        "`--max-connections`": workers / CONNECTIONS,
    }
    streams = open_streams / gateways
    return Plan(replicas, cores, memory, gateways, site.workers * replicas, streams, sized_by, shares)
