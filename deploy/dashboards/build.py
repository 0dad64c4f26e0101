"""The Grafana dashboard, from a list of panels. Run: python -m deploy.dashboards.build [--check]

Writes bbr.json beside this file; with --check, says whether it is what would be written.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("bbr.json")

_WIDTH: Final = 24  # of a dashboard, in Grafana's units
_PANEL_WIDTH: Final = 8
_PANEL_HEIGHT: Final = 7

# Which routers: by the labels that Prometheus gives to what it scrapes.
SELECTED: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "[$__rate_interval]"

_FAILED: Final = ', outcome=~"refused|fault"'


class Query(NamedTuple):
    """An expression, and what its series are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph.

    Attributes:
        unit: Grafana's id of it.
        what: shown at the panel's (i): what it tells, and what to do when it looks bad.
        rare: nothing may be there to show, on a good day.
    """

    title: str
    unit: str
    what: str
    queries: tuple[Query, ...]
    rare: bool = False


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return a rate per second, summed over the selected routers."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{SELECTED}{where}}}{RATE}))"


def quantiles(histogram: str, *shares: float) -> tuple[Query, ...]:
    """Return a histogram's quantiles."""
    buckets = rate(f"{histogram}_bucket", "le")
    return tuple(Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in shares)


def gauge(metric: str, legend: str, how: str = "sum") -> Query:
    """Return a gauge over the selected routers."""
    return Query(f"{how} ({metric}{{{SELECTED}}})", legend)


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Requests": (
        Panel(
            "Requests by outcome",
            "reqps",
            "What became of requests. `pending`: the client left before the router had decided; `fault`: the gateway "
            "broke the ext_proc protocol.",
            (Query(rate("bbr_requests_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Routed requests by base model",
            "reqps",
            "Which pools the requests go to. An empty name: the table does not hold it (no table, or passthrough).",
            (Query(rate("bbr_requests_total", "base_model", ', outcome="routed"'), "{{base_model}}"),),
        ),
        Panel(
            "Refusals by reason",
            "reqps",
            "Why clients got an error: the bbr:<reason> of the gateway's access log. `model-not-found`: see the status "
            "page for the names.",
            (Query(rate("bbr_request_reasons_total", "reason", ', outcome="refused"'), "{{reason}}"),),
            rare=True,
        ),
        Panel(
            "Share of requests that failed",
            "percentunit",
            "Refused, and ended by faults of the gateway's.",
            (Query(f"{rate('bbr_requests_total', where=_FAILED)} / {rate('bbr_requests_total')}", "failed"),),
            rare=True,
        ),
        Panel(
            "Request bodies",
            "Bps",
            "Octets of bodies that the router was shown.",
            (Query(rate("bbr_request_body_bytes_sum"), "received"),),
        ),
        Panel(
            "Size of a request body",
            "bytes",
            "Quantiles, as far as the buckets tell.",
            quantiles("bbr_request_body_bytes", 0.5, 0.9, 0.99),
        ),
    ),
    "Speed": (
        Panel(
            "What the router took for a request",
            "s",
            "Processor time until the decision, from the last message that it needed: what bbr adds by itself.",
            quantiles("bbr_request_busy_seconds", 0.5, 0.9, 0.99),
        ),
        Panel(
            "From a request's first message to its decision",
            "s",
            "With the time that the body took to come: a slow client's upload is in it.",
            quantiles("bbr_request_duration_seconds", 0.5, 0.9, 0.99),
        ),
        Panel(
            "Processors in use",
            "short",
            "A router runs on one; above 0.8 of one, add replicas.",
            (Query(f"rate(process_cpu_seconds_total{{{SELECTED}}}{RATE})", "{{instance}}"),),
        ),
    ),
    "Pressure": (
        Panel(
            "Bodies held",
            "bytes",
            "Octets of bodies that wait for their model, and the bound (--max-buffered-bytes), summed.",
            (gauge("bbr_buffered_bytes", "held"), gauge("bbr_buffered_bytes_limit", "bound")),
        ),
        Panel(
            "Connections and streams",
            "short",
            "Each of a gateway's workers has a connection; each request is a stream.",
            (gauge("bbr_connections", "connections"), gauge("bbr_streams", "streams")),
        ),
        Panel(
            "Faults of peers",
            "cps",
            "Streams reset and connections ended for a fault, by its name; none is normal.",
            (
                Query(rate("bbr_stream_resets_total", "reason"), "stream: {{reason}}"),
                Query(rate("bbr_connection_failures_total", "layer, reason"), "connection: {{layer}} {{reason}}"),
                Query(rate("bbr_connections_turned_away_total"), "turned away"),
                Query(rate("bbr_buffer_refusals_total"), "no room for a body"),
            ),
            rare=True,
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident set of each replica.",
            (Query(f"process_resident_memory_bytes{{{SELECTED}}}", "{{instance}}"),),
        ),
        Panel(
            "Files and sockets",
            "short",
            "Open now, and allowed, of the replica that has most.",
            (gauge("process_open_fds", "open", "max"), gauge("process_max_fds", "allowed", "min")),
        ),
        Panel(
            "Bodies in pieces",
            "reqps",
            "Requests routed before their body had ended, and messages after its end (envoyproxy/envoy#46237).",
            (
                Query(rate("bbr_requests_routed_early_total"), "routed early"),
                Query(rate("bbr_late_body_messages_total"), "late messages"),
            ),
        ),
    ),
    "Model table": (
        Panel(
            "Names in the table",
            "short",
            "The least of all replicas: they should have the same.",
            (gauge("bbr_models", "names", "min"), gauge("bbr_base_models", "base models", "min")),
        ),
        Panel(
            "What is wrong with it",
            "short",
            "Objects that can't be used, claims that lost to others, routes and models that do not fit: "
            "/debug/models has them.",
            (
                gauge("bbr_table_broken_objects", "broken objects", "max"),
                gauge("bbr_table_conflicts", "conflicts", "max"),
                Query(f"max by (kind) (bbr_route_mismatches{{{SELECTED}}})", "{{kind}}"),
            ),
        ),
        Panel(
            "Replicas",
            "short",
            "Those that are scraped, those that take requests, and those whose table is complete.",
            (
                gauge("bbr_ready", "scraped", "count"),
                gauge("bbr_ready", "ready"),
                gauge("bbr_table_synced", "complete table"),
            ),
        ),
        Panel(
            "Age of the table",
            "s",
            "Since its last change, of the replica that changed last and first: a gap between them is a replica that "
            "does not follow.",
            (gauge("bbr_table_age_seconds", "least", "min"), gauge("bbr_table_age_seconds", "most", "max")),
        ),
        Panel(
            "Certificate, days left",
            "d",
            "Until the first of the replicas' certificates expires.",
            (Query(f"(min (bbr_certificate_expiry_timestamp_seconds{{{SELECTED}}}) - time()) / 86400", "days left"),),
            rare=True,
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(_place({"type": "row", "title": title, "collapsed": False, "panels": []}, top, 0, _WIDTH, 1))
        top += 1
        for index, panel in enumerate(row):
            left = index * _PANEL_WIDTH % _WIDTH
            if index and not left:
                top += _PANEL_HEIGHT
            panels.append(_place(_graph(panel), top, left, _PANEL_WIDTH, _PANEL_HEIGHT))
        top += _PANEL_HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "bbr-router",
        "title": "bbr: body-based router",
        "description": "What goes where, how fast, and why not.",
        "tags": ["bbr", "envoy", "ext_proc", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    found: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    ]
    for name, label, query in (
        ("job", "Job", "label_values(bbr_build_info, job)"),
        ("instance", "Replica", 'label_values(bbr_build_info{job=~"$job"}, instance)'),
    ):
        found.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": source,
                "query": {"query": query, "refId": name},
                "definition": query,
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
                "sort": 1,
            }
        )
    return found


def _graph(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.what,
        "datasource": source,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": source,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _place(panel: dict[str, Any], top: int, left: int, width: int, height: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is out of date")
    given = parser.parse_args()
    text = json.dumps(dashboard(), indent=2) + "\n"
    if given.check:
        if not FILE.exists() or FILE.read_text("utf-8") != text:
            print(f"{FILE.name} is out of date: run python -m deploy.dashboards.build", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
