"""The tables of docs/performance.md and docs/scaling.md, by name, from what was recorded.

A table is a list of lines in Markdown. What was not measured is a sentence or an empty cell, never a figure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from bench.harness import go_router
from bench.harness.figures import Facts, short
from bench.render import scaling_tables
from bench.render.results import Entry, Record, Results, variants

MISSING: Final = "Not measured yet: run `make bench`."
NO_CASES: Final = "This run has left these cases out."

STREAMED: Final = "FULL_DUPLEX_STREAMED"
PLAIN: Final[Mapping[str, str | int]] = {"tls": 0, "tracing": 0, "kind": "chat", "mode": STREAMED}
ADDED: Final = ("added p50", "added p90", "added p99", "added p99.9", "added to read p50")
# Who gets the body from Envoy without a router.
IN_PROCESS: Final = ("Lua", "json_to_metadata")
BASELINES: Final = ("none", "none, body read")
HEADLINE_BYTES: Final = (1_000, 10_000, 100_000, 1_000_000)

Lines = list[str]


def size(count: float) -> str:
    """Return bytes as people say them."""
    for unit, name in ((1_000_000, "MB"), (1_000, "KB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count:g} bytes"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """Return a table; columns that are empty in every row are left out."""
    found = list(rows)
    kept = [at for at, _ in enumerate(heads) if any(row[at] for row in found)]
    cells = [[heads[at] for at in kept], ["---"] * len(kept), *([row[at] for at in kept] for row in found)]
    return ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in cells]


def with_conditions(name: str, build: Callable[[Record], Lines], results: Results) -> Lines:
    """Return a table of a file with its conditions below it, or a sentence."""
    record = results[name]
    if record is None:
        return [MISSING]
    lines = build(record)
    if not lines:
        return [NO_CASES, "", *record.conditions()]
    return [*lines, "", *record.conditions()]


def numbers(entries: Iterable[Entry], fact: str) -> list[float]:
    """Return the values of a number among facts, in order."""
    return sorted({value for entry in entries if isinstance(value := entry.facts.get(fact), int | float)})


def text(entry: Entry | None) -> str:
    """Return the figure of an entry, with its spread; nothing for none."""
    return "" if entry is None else str(entry)


def ratio(entry: Entry | None, other: Entry | None) -> str:
    """Return how many times the other's figure this one is, by round; nothing if one of them is missing."""
    found = entry.by(other) if entry and other else None
    return "" if found is None else f"{found}x" if not found.spread else f"{short(found.median)}x ({found.spread})"


def direct_sizes(record: Record) -> Lines:
    """Processor time and rate by body size."""
    facts = {**PLAIN, "family": "size"}
    cpus = record.where(None, **facts, metric="cpu")
    rows = []
    for count in numbers(cpus, "bytes"):
        ours = record.one("uv", **facts, metric="cpu", bytes=count)
        for name in variants(cpus):
            cpu = record.one(name, **facts, metric="cpu", bytes=count)
            rate = record.one(name, **facts, metric="rate", bytes=count)
            if cpu is None:
                continue
            by_second = f"{short(1e6 / cpu.median)}" if cpu.median else ""
            against = ratio(cpu, ours) if name != "uv" else ""
            rows.append((size(count), name, text(cpu), by_second, text(rate), against))
    heads = ("body", "router", "us / exchange", "exchanges / CPU second", "exchanges / s", "CPU, times uv's")
    return table(heads, rows) if rows else []


def direct_family(family: str, record: Record) -> Lines:
    """Processor time by what else differs in a family of cases, a column for each variant."""
    found = record.where(None, family=family, metric="cpu")
    names = variants(found)
    cases: dict[tuple[str | int | float, ...], dict[str, Entry]] = {}
    for entry in found:
        facts = entry.facts
        told = (str(facts.get("kind", "")), str(facts.get("mode", "")), facts.get("bytes", 0))
        case = (*told, facts.get("tls", 0), facts.get("tracing", 0))
        cases.setdefault(case, {})[entry.variant] = entry
    rows = []
    for (kind, mode, count, tls, traced), by_name in sorted(
        cases.items(), key=lambda case: tuple(map(_order, case[0]))
    ):
        what = (str(kind), str(mode), size(float(count)), "yes" if tls else "no", "fresh" if traced else "constant")
        rows.append((*what, *(text(by_name.get(name)) for name in names)))
    if not rows:
        return []
    heads = ("kind", "mode", "body", "TLS", "trace headers", *(f"{name}, us / exchange" for name in names))
    return table(heads, _without_constant(rows, 5, keep=2))


def _order(value: str | int | float) -> tuple[bool, str | int | float]:
    return isinstance(value, str), value


def _without_constant(rows: list[tuple[str, ...]], count: int, keep: int) -> list[tuple[str, ...]]:
    """Blank the first `count` columns that say the same in every row, but for the one at `keep`."""
    same = [at for at in range(count) if at != keep and len({row[at] for row in rows}) == 1]
    return [tuple("" if at in same else cell for at, cell in enumerate(row)) for row in rows]


Cell = tuple[float, float, float, str]


def _cell(entry: Entry) -> Cell:
    """Return the cell of the gateway's benchmark: bytes, concurrency, rate, kind; tables are in this order."""
    size, concurrency, rate = (float(entry.facts.get(name, 0)) for name in ("bytes", "concurrency", "rate"))
    return size, concurrency, rate, str(entry.facts.get("kind", ""))


def gateway(loop: str, mode: str, only: Sequence[str], record: Record) -> Lines:
    """Latency, processor time and rate behind Envoy; `only` names variants whose cells are wanted, () is all others."""
    found = record.where(None, loop=loop, mode=mode)
    if only:
        cells = {_cell(entry) for entry in found if entry.variant in only}
        names = [name for name in variants(found) if name in (*BASELINES, "uv", *only)]
    else:
        cells = {_cell(entry) for entry in found}
        names = [name for name in variants(found) if name not in IN_PROCESS]
    rows = []
    for cell in sorted(cells):
        for name in names:
            mine = [entry for entry in found if entry.variant == name and _cell(entry) == cell]
            if mine:
                rows.append(_gateway_row(cell, name, {str(entry.facts.get("metric")): entry for entry in mine}))
    load = "at a time" if loop == "closed" else "requests / s offered"
    added = (f"{metric}, ms" for metric in ADDED)
    heads = ("body", "kind", load, "variant", "p50, ms", "p99, ms", *added, "router, us", "Envoy, us", "requests / s")
    return table(heads, _without_constant(rows, 2, keep=0)) if rows else []


def _gateway_row(cell: Cell, name: str, by: Mapping[str, Entry]) -> tuple[str, ...]:
    count, concurrency, rate, kind = cell
    if any(entry.facts.get("overloaded") for entry in by.values()):
        name += " (overloaded)"
    latencies = (text(by.get(metric)) for metric in ("p50", "p99", *ADDED))
    cost = (text(by.get("router")), text(by.get("Envoy")), text(by.get("rate")))
    return (size(count), kind, f"{concurrency or rate:,.0f}", name, *latencies, *cost)


def by_facts(wanted: Mapping[str, str], record: Record) -> Lines:
    """Return a row for each combination of facts and variant, a column for each metric, or unit where none is stated.

    `wanted` are facts that rows must have. Facts that not all rows state, or that are the same in all, have no column.
    """
    found = [entry for entry in record.where(None, **wanted) if entry.facts]
    # Kinds come in the order of the first request of each, and "all" among them.
    found.sort(key=lambda entry: (entry.facts.get("kind", "all") != "all", str(entry.facts.get("kind", ""))))
    everywhere = set[str].intersection(*(set(entry.facts) for entry in found)) if found else set()
    # The variant tells whether there was a router.
    names = [name for name in (found[0].facts if found else ()) if name in everywhere - {"metric", "router"}]
    units: dict[str, set[str]] = {}
    for entry in found:
        units.setdefault(_column(entry), set()).add(entry.unit)
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for entry in found:
        key, column = (*(_said(name, entry.facts[name]) for name in names), entry.variant), _column(entry)
        said = text(entry) if len(units[column]) == 1 else f"{text(entry)} {entry.unit}"
        rows.setdefault(key, {})[column] = said
    told = [(*key, *(by.get(column, "") for column in units)) for key, by in rows.items()]
    if not told:
        return []
    heads = [column if len(said) > 1 else _with_unit(column, min(said)) for column, said in units.items()]
    return table((*names, "variant", *heads), _without_constant(told, len(names) + 1, keep=0))


def _column(entry: Entry) -> str:
    return str(entry.facts.get("metric", entry.unit))


def _with_unit(column: str, unit: str) -> str:
    return unit if unit.startswith(column) else f"{column}, {unit}"


def _said(name: str, value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    return size(value) if name == "bytes" else f"{value:,g}"


def by_case(what: str, record: Record) -> Lines:
    """Return rows by their case, a column for each variant; `what` chooses by the fact of that name, "" is all."""
    found = [entry for entry in record.entries if not what or entry.facts.get("what") == what]
    names = variants(found)
    rows = []
    for case, unit in dict.fromkeys((entry.case, entry.unit) for entry in found):
        mine = {entry.variant: entry for entry in found if (entry.case, entry.unit) == (case, unit)}
        rows.append((case, unit, *(text(mine.get(name)) for name in names)))
    return table(("case", "unit", *names), rows) if rows else []


def memory(record: Record) -> Lines:
    """Return memory's rows, a table for each thing that was measured."""
    lines: Lines = []
    for what in dict.fromkeys(str(entry.facts.get("what", "")) for entry in record.entries):
        lines += [*([""] if lines else []), *by_case(what, record)]
    return lines


def headline(results: Results) -> Lines:
    """Return the summary: costs by size, added latency, accuracy, memory, each with its conditions."""
    parts = (
        ("Processor time of an exchange, without a gateway", "direct", _headline_direct),
        (
            "Added latency behind Envoy, one request at a time, and the processor time of a request",
            "gateway",
            _headline_gateway,
        ),
        ("Accuracy, behind Envoy", "accuracy", partial(by_facts, {"kind": "all"})),
        ("Memory", "memory", _headline_memory),
    )
    if all(results[name] is None for _, name, _ in parts):
        return [MISSING]
    lines: Lines = []
    for title, name, build in parts:
        record = results[name]
        found = [MISSING] if record is None else [*(build(record) or [NO_CASES]), "", record.command]
        lines += [f"**{title}**", "", *found, ""]
    # Once for those that were measured together.
    conditions: dict[str, Lines] = {}
    for title, name, _ in parts:
        if (record := results[name]) is not None:
            conditions.setdefault(record.circumstances, []).append(title)
    alike = len(conditions) == 1
    return lines + [said if alike else f"{'; '.join(titles)}: {said}  " for said, titles in conditions.items()]


def _headline_direct(record: Record) -> Lines:
    facts = {**PLAIN, "family": "size", "metric": "cpu"}
    names = variants(record.where(None, **facts))
    rows = []
    for count in HEADLINE_BYTES:
        found = {name: record.one(name, **facts, bytes=count) for name in names}
        if any(found.values()):
            cells = (text(found[name]) for name in names)
            times = (ratio(found[name], found.get("uv")) for name in names if name != "uv")
            rows.append((size(count), *cells, *times))
    heads = ("body", *(f"{name}, us" for name in names), *(f"{name} / uv" for name in names if name != "uv"))
    return table(heads, rows) if rows else []


def _headline_gateway(record: Record) -> Lines:
    facts: Facts = {"loop": "closed", "concurrency": 1, "mode": STREAMED, "kind": "chat"}
    names = [
        name for name in variants(record.where(None, **facts)) if name not in (*IN_PROCESS, *BASELINES, "uv polling")
    ]
    rows = []
    for count in HEADLINE_BYTES:
        for name in names:
            metrics = ("added p50", "added p99", "added to read p50", "router", "Envoy")
            cells = [text(record.one(name, **facts, bytes=count, metric=metric)) for metric in metrics]
            if any(cells):
                rows.append((size(count), name, *cells))
    heads = ("body", "router", "added p50, ms", "added p99, ms", "added to read p50, ms", "router, us", "Envoy, us")
    return table(heads, rows) if rows else []


def ratios(results: Results) -> Lines:
    """Return how many times ours the Go router's processor time and added p50 are, by body; medians of the rounds."""
    direct, behind = results["direct"], results["gateway"]
    if direct is None or behind is None:
        return [MISSING]
    costs: Facts = {**PLAIN, "family": "size", "metric": "cpu"}
    added: Facts = {"loop": "closed", "concurrency": 1, "mode": STREAMED, "kind": "chat", "metric": "added p50"}
    rows = []
    for count in HEADLINE_BYTES:
        cells = [
            _times(record.one(go_router.NAME, **facts, bytes=count), record.one("uv", **facts, bytes=count))
            for record, facts in ((direct, costs), (behind, added))
        ]
        if any(cells):
            rows.append((size(count), *cells))
    heads = ("body", "processor time, Go / bbr", "added latency at the median, Go / bbr")
    return [*table(heads, rows), "", direct.circumstances] if rows else [NO_CASES]


def _times(entry: Entry | None, other: Entry | None) -> str:
    found = entry.by(other) if entry and other else None
    return "" if found is None else f"{found.median:.1f}"


def _headline_memory(record: Record) -> Lines:
    kept = ("MB in flight", "idle connection", "1,000 streams")
    found = [entry for entry in record.entries if entry.facts.get("what") in kept]
    lesser = Record({**record.found, "rows": []})
    lesser.entries = found
    return by_case("", lesser)


def _from(name: str, build: Callable[..., Lines], *given: object) -> Callable[[Results], Lines]:
    return partial(with_conditions, name, partial(build, *given))


BLOCKS: Final[Mapping[str, Callable[[Results], Lines]]] = {
    "headline": headline,
    "ratios": ratios,
    "direct-size": _from("direct", direct_sizes),
    "direct-kind": _from("direct", direct_family, "kind"),
    "direct-mode": _from("direct", direct_family, "mode"),
    "direct-tls": _from("direct", direct_family, "tls"),
    "direct-tracing": _from("direct", direct_family, "tracing"),
    "gateway-closed-streamed": _from("gateway", gateway, "closed", STREAMED, ()),
    "gateway-closed-buffered": _from("gateway", gateway, "closed", "BUFFERED", ()),
    "gateway-open-streamed": _from("gateway", gateway, "open", STREAMED, ()),
    "gateway-open-buffered": _from("gateway", gateway, "open", "BUFFERED", ()),
    "gateway-in-process": _from("gateway", gateway, "closed", STREAMED, IN_PROCESS),
    "accuracy": _from("accuracy", by_facts, {}),
    "pattern2": _from("pattern2", by_facts, {}),
    "memory": _from("memory", memory),
    "scaling-costs": scaling_tables.costs_block,
    "scaling": scaling_tables.plans_block,
}
