"""The tables of docs/scaling.md: recorded costs put into the arithmetic of `bench.render.scaling`."""

from dataclasses import dataclass
from typing import Final

from bench.harness.figures import Facts, short
from bench.render.results import Entry, Results
from bench.render.scaling import Costs, Mix, Plan, Site, cost, mean_cost, plan

MODE: Final = "FULL_DUPLEX_STREAMED"
RATES: Final = (1_000, 10_000, 100_000, 1_000_000)
MIXES: Final = (
    Mix("chat, 2 KB", {2_000: 1}),
    Mix("coding agents, 100 KB", {100_000: 1}),
    Mix("images, 1 MB", {1_000_000: 1}),
    Mix("mixed: 70% 2 KB, 25% 100 KB, 5% 1 MB", {2_000: 0.7, 100_000: 0.25, 1_000_000: 0.05}),
)
SITE: Final = Site()

# The chart's memory request of a replica: what it needs besides connections and bodies is less.
BASE_MIB: Final = 256.0

_KIB: Final = {"bytes": 1 / 1024, "KB": 1000 / 1024, "KiB": 1.0, "MB": 1e6 / 1024, "MiB": 1024.0}


@dataclass(frozen=True)
class Sources:
    """The costs, and words that say which figures they are."""

    costs: Costs
    router: str
    envoy: str
    idle: str
    factor: str


def _loaded(results: Results, metric: str) -> tuple[dict[int, float], int]:
    """Return uv's figures behind Envoy by body size, all at one concurrency, and that.

    It is more than 1, since a fleet's processors are busy: of those with the most sizes the greatest; 0 without any.
    """
    gateway = results["gateway"]
    rows = gateway.where("uv", loop="closed", mode=MODE, kind="chat", metric=metric) if gateway else []
    found: dict[int, dict[int, float]] = {}
    for entry in rows:
        concurrency = int(entry.facts.get("concurrency", 0))
        if concurrency > 1 and "bytes" in entry.facts:
            found.setdefault(concurrency, {})[int(entry.facts["bytes"])] = entry.median
    chosen = max(found, key=lambda concurrency: (len(found[concurrency]), concurrency), default=0)
    return found.get(chosen, {}), chosen


def router_points(results: Results) -> tuple[dict[int, float], str]:
    """Return the router's cost by body size, and where it comes from.

    Behind Envoy as far as that was measured; for longer bodies as without a gateway, times what a gateway adds at the
    largest size that both have.
    """
    direct = results["direct"]
    facts: Facts = {"kind": "chat", "mode": MODE, "tls": 0, "tracing": 0}
    rows = direct.where("uv", **facts, family="size", metric="cpu") if direct else []
    alone = {int(entry.facts["bytes"]): entry.median for entry in rows if "bytes" in entry.facts}
    behind, concurrency = _loaded(results, "router")
    if not behind:
        return alone, "without a gateway (what one adds was not measured)"
    said = f"behind Envoy, {concurrency} requests at a time"
    largest = max(behind)
    longer = {size: figure for size, figure in alone.items() if size > largest}
    if not longer:
        return behind, said
    factor = behind[largest] / cost(alone, largest)
    said += f"; for bodies over {largest:,} bytes the cost without a gateway, times {short(factor)}"
    return behind | {size: figure * factor for size, figure in longer.items()}, said


def _largest(results: Results, what: str) -> tuple[Entry, float] | None:
    """Return the row of memory's that costs most of what there is, with its figure in KiB."""
    memory = results["memory"]
    rows = memory.where("uv", what=what) if memory else []
    known = [
        (entry, entry.median * _KIB[unit])
        for entry in rows
        if (unit := entry.unit.replace("/", " ").split()[0]) in _KIB
    ]
    return max(known, key=lambda each: each[1], default=None)


def sources(results: Results) -> Sources | str:
    """Return the costs, or a sentence that says what is missing."""
    router, said = router_points(results)
    (envoy, concurrency), idle, held = (
        _loaded(results, "Envoy"),
        _largest(results, "idle connection"),
        _largest(results, "MB in flight"),
    )
    there = {"the router's cost": router, "Envoy's cost": envoy, "an idle connection": idle, "a MB in flight": held}
    missing = [name for name, found in there.items() if not found]
    if missing or idle is None or held is None:
        return f"Not measured yet ({', '.join(missing)}): run `make bench`."
    # KiB for each MB (10^6 bytes) of body.
    costs = Costs(router, envoy, BASE_MIB, idle[1], held[1] * 1024 / 1e6)
    return Sources(costs, said, f"with the router, {concurrency} requests at a time", idle[0].case, held[0].case)


def costs_block(results: Results) -> list[str]:
    """Return what each mix costs by request, and which recorded figures that is."""
    found = sources(results)
    if isinstance(found, str):
        return [found]
    costs = found.costs
    lines = ["| mix | router, us | Envoy, us | requests / s by replica | body in flight, ms |", "|---|---|---|---|---|"]
    for mix in MIXES:
        router, envoy = mean_cost(costs.router, mix), mean_cost(costs.envoy, mix)
        flight = sum(share * SITE.in_flight(size) for size, share in mix.shares.items()) * 1e3
        by_replica = SITE.utilisation * 1e6 / router
        lines.append(f"| {mix.name} | {short(router)} | {short(envoy)} | {short(by_replica)} | {short(flight)} |")
    lines += [
        "",
        (
            f"Router: {found.router}. Envoy: {found.envoy}; extrapolated for bodies longer than those measured. "
            f"An idle connection: {short(costs.idle_kib)} KiB ({found.idle}). A body in flight: {short(costs.factor)} "
            f"times its size ({found.factor}). A replica at rest: {BASE_MIB:g} MiB, the chart's request, not measured."
        ),
    ]
    for name in ("direct", "gateway", "memory"):
        if (record := results[name]) is not None:
            lines += ["", f"From `bench/results/{name}.json`. " + " ".join(record.conditions())]
    return lines


def plans_block(results: Results) -> list[str]:
    """Return what each mix needs at each rate."""
    found = sources(results)
    if isinstance(found, str):
        return [found]
    heads = ["mix", "requests / s", "replicas", "cores", "memory, GiB", "gateways", "connections of a gateway"]
    heads += ("streams of a gateway", "replicas by", "next limit", "must be raised")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for mix in MIXES:
        lines += [_line(mix, rate, plan(rate, mix, found.costs, SITE)) for rate in RATES]
    return [*lines, "", "Computed by `bench/render/scaling.py` from the costs above, not measured."]


def _line(mix: Mix, rate: int, made: Plan) -> str:
    over = ", ".join(name for name, share in made.shares.items() if share > 1)
    cells = [mix.name, f"{rate:,}", f"{made.replicas:,}", short(made.cores), short(made.memory_mib / 1024)]
    cells += (f"{made.gateways:,}", f"{made.connections:,}", short(made.streams))
    return (
        f"| {' | '.join(cells)} | {made.sized_by} | {made.next} ({made.shares[made.next]:.1%}) | {over or 'nothing'} |"
    )
