"""Where the requests of the last minute went: from the names that clients used to base models and their pools.

Names are those of the model table alone. What a client has made up goes, with all that was refused, by the kind `none`.

    name            of a base model, an adapter (or the pattern that it fits) or an alias; "" for several or none
    kind            base model, adapter, alias; others: more names of the same base model; none: not routed by the
                    table; rest: those of more base models than are shown
    base_model      "" for none, null for the rest
    pools           the backends that HTTPRoutes name for it, with --discover-routes
    requests        of the last minute
    per_second
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bbr.admin.first import First
from bbr.admin.window import Name, Window
from bbr.models.registry import Registry
from bbr.models.steps import Steps
from bbr.telemetry.metrics import Metrics

BASE_MODELS: Final = 8
NAMES: Final = 10

# Less than a millisecond's.
_NAMES_A_STEP: Final = 200

_DIRECT: Final = "base model"
_NONE: Final = "none"
_OTHERS: Final = "others"
_REST: Final = "rest"

Row = dict[str, Any]
Pools = Mapping[str, tuple[str, ...]]


def flowing(
    metrics: Metrics,
    registry: Registry,
    window: Window,
    pools: Pools,
    busiest: Iterable[tuple[str, int]],
    seconds: float,
) -> Steps[list[Row]]:
    """Find what went where, a step at a time.

    Args:
        metrics: with the counts of adapters and aliases.
        registry: says what they stand for.
        window: the last minute.
        pools: base model -> its backends.
        busiest: base models and their requests in the window, those with the most first.
        seconds: how long the window is.

    Returns:
        Rows as the module describes them, in the order of their base models.
    """
    busy = [(name, requests) for name, requests in busiest if requests > 0]
    shown = busy[:BASE_MODELS]
    direct = dict(shown)
    first: First[tuple[int, str, str, str]] = First(NAMES)
    named = dict.fromkeys(direct, 0)
    counted: list[Name] = [*metrics.adapters, *metrics.aliases]  # pairs would take ten times as long to copy
    for number, key in enumerate(counted, 1):
        count = metrics.aliases[key] if isinstance(key, tuple) else metrics.adapters[key]
        requests = window.named(key, count)
        name, model, kind = (*key, "alias") if isinstance(key, tuple) else (key, key, "adapter")
        entry = registry.find(model) if requests else None
        if entry and entry.base_model in direct:
            first.add((-requests, kind, name, entry.base_model))
            direct[entry.base_model] -= requests
            named[entry.base_model] += requests
        if number % _NAMES_A_STEP == 0:
            yield
    found: list[Row] = []
    for base_model, _ in shown:
        rows = _of_one(base_model, direct[base_model], named[base_model], first)
        found += [_row(*row, base_model, pools, seconds) for row in rows if row[2] > 0]
    rest = sum(requests for _, requests in busy[BASE_MODELS:])
    return [*found, _row(_REST, "", rest, None, pools, seconds)] if rest else found


def _of_one(
    base_model: str, direct: int, named: int, first: First[tuple[int, str, str, str]]
) -> list[tuple[str, str, int]]:
    """Return kind, name and requests of a base model's rows: its own, the busiest names', and all others' as one."""
    rows = [(_DIRECT if base_model else _NONE, base_model, direct)]
    rows += [(kind, name, -minus) for minus, kind, name, base in first.kept if base == base_model]
    return [*rows, (_OTHERS, "", named - sum(requests for *_, requests in rows[1:]))]


def _row(kind: str, name: str, requests: int, base_model: str | None, pools: Pools, seconds: float) -> Row:
    return {
        "name": name,
        "kind": kind,
        "base_model": base_model,
        "pools": list(pools.get(base_model or "", ())),
        "requests": requests,
        "per_second": round(requests / seconds, 3),
    }
