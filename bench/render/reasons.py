"""README's three reasons: a sentence each, whose figures are those of bench/results."""

from collections.abc import Callable, Mapping
from typing import Final

from bench.harness.figures import Facts, short
from bench.render.results import Record, Results

MISSING: Final = "{}: not measured yet, run `make bench`."
OURS, GO = "uv", "Go "
_CHAT: Final[Facts] = {"kind": "chat", "bytes": 1_000, "mode": "FULL_DUPLEX_STREAMED"}


def reasons(results: Results) -> list[str]:
    """Return a list item for each reason; one whose figures are missing is a sentence that says so."""
    lines = []
    for title, names, build in _REASONS:
        records = [record for name in names if (record := results[name]) is not None]
        said = build(*records) if len(records) == len(names) else ""
        lines.append(f"- **{title}.** {said}" if said else f"- {MISSING.format(title)}")
    return lines


def _cheap(direct: Record, gateway: Record) -> str:
    cost = _medians(direct, _CHAT | {"family": "size", "tls": 0, "tracing": 0, "metric": "cpu"})
    added = _medians(gateway, _CHAT | {"loop": "closed", "concurrency": 1, "metric": "added p50"})
    if OURS not in cost or OURS not in added:
        return ""
    # The two builds differ by more than twice, and `pip install` gives the other one.
    compiled = "bbr is Python, compiled to C. " if "compiled" in direct.found["versions"].get("bbr", "") else ""
    return (
        f"{compiled}A 1 KB chat takes {short(cost[OURS])} µs of processor time{_other(cost, ' µs')}. "
        f"Behind Envoy, bbr adds {short(added[OURS])} ms to a request's median latency{_other(added, ' ms')}; "
        "most of it is Envoy's call."
    )


def _right(accuracy: Record) -> str:
    facts: Facts = {"kind": "all", "protocol": "all"}
    sent, wrong = (
        sum(entry.median for entry in accuracy.where(OURS, **facts) if entry.unit == unit)
        for unit in ("requests", "misroutes")
    )
    if not sent:
        return ""
    return (
        f"Of {sent:,.0f} requests of all kinds (JSON, forms, gzip, adapters, unknown models) through a real Envoy, "
        f"{wrong:,.0f} went to a wrong pool. "
        "A client cannot set the routing headers, and a request that names two models is rejected."
    )


def _small(memory: Record) -> str:
    held = {
        variant: each * 20
        for variant, each in _medians(memory, {"what": "MB in flight", "bytes": 20_000_000, "speed": "slow"}).items()
    }
    if OURS not in held:
        return ""
    # Memory was measured of whichever build: say so, since the sentences before are of the compiled one.
    build = "" if "compiled" in memory.found["versions"].get("bbr", "") else ", uncompiled,"
    return (
        f"While a client slowly uploads 20 MB that begin with `model`, bbr{build} holds {short(held[OURS])} MiB"
        f"{_other(held, ' MiB')}. One option limits the memory that clients can make it use."
    )


def _medians(record: Record, facts: Facts) -> dict[str, float]:
    """Return the median of each variant in the case that has these facts."""
    return {entry.variant: entry.median for entry in record.where(None, **facts)}


def _other(figures: Mapping[str, float], unit: str) -> str:
    """Return what the Go router takes, in brackets; nothing if it was not measured."""
    name = next((name for name in figures if name.startswith(GO)), None)
    return f" (the Go router: {short(figures[name])}{unit})" if name else ""


_REASONS: Final[tuple[tuple[str, tuple[str, ...], Callable[..., str]], ...]] = (
    ("It never guesses", ("accuracy",), _right),
    ("It costs little", ("direct", "gateway"), _cheap),
    ("It stays small", ("memory",), _small),
)
BLOCKS: Final[Mapping[str, Callable[[Results], list[str]]]] = {"reasons": reasons}
