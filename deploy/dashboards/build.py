"""The Grafana dashboard, from a list of panels. Run: python -m deploy.dashboards.build [--check]

Writes bbr.json beside this file; with --check, says whether it is what would be written.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from deploy.dashboards.panels import BAD, COLOURS, FINE, LIMITS, ROWS, RUNBOOK, TILES, Panel

FILE: Final = Path(__file__).with_name("bbr.json")

_WIDTH: Final = 24  # of a dashboard, in Grafana's units
_PANEL_WIDTH: Final = 8
_PANEL_HEIGHT: Final = 8
_TILE_WIDTH: Final = 6
_TILE_HEIGHT: Final = 4

# The status page of a replica, by the address at which Prometheus scrapes it, and what it says to do.
_REPLICA: Final = "http://${__field.labels.instance}/"
_LINKS: Final = (
    {"title": "Its status page", "url": _REPLICA, "targetBlank": True},
    {"title": "What its problems mean", "url": f"{_REPLICA}help", "targetBlank": True},
)


def dashboard() -> dict[str, Any]:
    """Return Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in (("Now", TILES), *ROWS.items()):
        panels.append(_place({"type": "row", "title": title, "collapsed": False, "panels": []}, top, 0, _WIDTH, 1))
        top += 1
        width, height = (_TILE_WIDTH, _TILE_HEIGHT) if row is TILES else (_PANEL_WIDTH, _PANEL_HEIGHT)
        for index, panel in enumerate(row):
            left = index * width % _WIDTH
            if index and not left:
                top += height
            panels.append(_place(_drawn(panel), top, left, width, height))
        top += height
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
        "links": [
            {"title": "Alerts", "type": "link", "url": "/alerting/list?search=Bbr", "icon": "bell"},
            {"title": "Envoy", "type": "dashboards", "tags": ["envoy"], "asDropdown": True, "keepTime": True},
        ],
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


def _drawn(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.replica:
        defaults["links"] = list(_LINKS)
    if panel.words:
        words = {value: {"text": text, "color": colour} for value, (text, colour) in panel.words}
        defaults["mappings"] = [{"type": "value", "options": words}]
    drawn = _tile(panel) if panel.stat else _graph(panel)
    return {
        "title": panel.title,
        "description": _described(panel),
        "datasource": source,
        **drawn,
        "fieldConfig": {"defaults": {**defaults, **drawn["fieldConfig"]}, "overrides": _overrides(panel)},
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


def _described(panel: Panel) -> str:
    """Return what a panel shows, and where its alerts are explained (the chart replaces the file by an address)."""
    if not panel.alerts:
        return panel.what
    places = ", ".join(f"{RUNBOOK}#{name.lower()}" for name in panel.alerts)
    return f"{panel.what} {'Alerts' if len(panel.alerts) > 1 else 'Alert'}: {places}."


def _steps(panel: Panel) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"value": None, "color": BAD if panel.falling else FINE}
    return [first, *({"value": value, "color": colour} for value, colour in panel.steps)]


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """Return the colours of series that have the same one wherever they are drawn."""
    if panel.stat:
        return []
    names = {query.legend for query in panel.queries} & COLOURS.keys()
    if any(query.legend == "{{outcome}}" for query in panel.queries):
        names |= {"routed", "refused", "fault", "pending"}
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": COLOURS[name]}},
                *(_LIMIT if name in LIMITS else ()),
            ],
        }
        for name in sorted(names)
    ]


_LIMIT: Final = (
    {"id": "custom.fillOpacity", "value": 0},
    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
)


def _tile(panel: Panel) -> dict[str, Any]:
    return {
        "type": "stat",
        "fieldConfig": {"color": {"mode": "thresholds"}, "noValue": "none"},
        "options": {
            "colorMode": "value",
            "graphMode": "none" if panel.words else "area",
            "textMode": "value_and_name" if panel.replica else "value",
            "justifyMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }


def _graph(panel: Panel) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never", "lineWidth": 2, "spanNulls": False}
    if panel.steps:
        custom["thresholdsStyle"] = {"mode": "dashed"}
    if panel.stacked:
        custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 30, "lineWidth": 1}
    return {
        "type": "timeseries",
        "fieldConfig": {"min": 0, "custom": custom},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
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
