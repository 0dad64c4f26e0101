"""The alert rules, each on series on which it must fire and on a healthy router's, by Prometheus' promtool."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.tools import needs

pytestmark = needs("promtool")

ALERTS = Path(__file__).resolve().parents[2] / "deploy/dashboards/alerts.yaml"
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"][0]["rules"]}

A = {"job": "bbr", "instance": "a"}
B = {"job": "bbr", "instance": "b"}
OTHER = {"job": "other", "instance": "c"}
REASONS, REQUESTS = "bbr_request_reasons_total", "bbr_requests_total"

# As Prometheus writes a series in a test: first value, step, how often; one value a minute.
HEALTHY = [
    ("bbr_build_info", A, "1x60"),
    ("bbr_build_info", B, "1x60"),
    ("bbr_ready", A, "1x60"),
    ("bbr_ready", B, "1x60"),
    (REQUESTS, {**A, "outcome": "routed", "base_model": "qwen"}, "0+600x60"),
    (REQUESTS, {**A, "outcome": "refused", "base_model": ""}, "0+6x60"),
    (REASONS, {**A, "outcome": "refused", "reason": "model-not-found"}, "0+6x60"),
    ("bbr_buffered_bytes", A, "100x60"),
    ("bbr_buffered_bytes_limit", A, "1000x60"),
    ("bbr_buffer_refusals_total", A, "7x60"),
    ("process_cpu_seconds_total", A, "0+30x60"),
    ("process_cpu_seconds_total", OTHER, "0+60x60"),
    ("bbr_request_busy_seconds_bucket", {**A, "le": "0.001"}, "0+600x60"),
    ("bbr_request_busy_seconds_bucket", {**A, "le": "+Inf"}, "0+600x60"),
    ("bbr_connections_turned_away_total", A, "7x60"),
    ("process_open_fds", A, "30x60"),
    ("process_max_fds", A, "1024x60"),
    ("process_open_fds", OTHER, "1000x60"),
    ("process_max_fds", OTHER, "1024x60"),
    ("bbr_stream_resets_total", {**A, "reason": "refused"}, "0+6x60"),
    ("bbr_connection_failures_total", {**A, "layer": "TLS", "reason": ""}, "0+6x60"),
    ("bbr_models", A, "5x60"),
    ("bbr_models", B, "5x60"),
    ("bbr_table_broken_objects", A, "0x60"),
    ("bbr_table_conflicts", A, "0x60"),
    ("bbr_source_age_seconds", {**A, "source": "model files"}, "1x60"),
    ("bbr_source_failing", {**A, "source": "HTTPRoutes"}, "0x60"),
    ("bbr_task_restarts_total", {**A, "task": "model files"}, "0+0.1x60"),
    ("bbr_route_mismatches", {**A, "kind": "unrouted-base-model"}, "0x60"),
    ("bbr_certificate_expiry_timestamp_seconds", A, "1000000x60"),
]

# Alert -> what is otherwise than above, the labels that it has then, and its summary; None for a series that is gone.
SICK = {
    "BbrNotReady": ([("bbr_ready", A, "0x60")], A, "a takes no requests"),
    "BbrGone": (
        [("bbr_build_info", A, None), ("bbr_build_info", B, None)],
        {},
        "No router is scraped",
    ),
    "BbrGatewayMisconfigured": (
        [(REASONS, {**A, "outcome": "fault", "reason": "headers-twice"}, "0+60x60")],
        {"reason": "headers-twice"},
        "Requests fail because the gateway is configured wrongly (headers-twice)",
    ),
    "BbrUnknownModels": (
        [(REASONS, {**A, "outcome": "refused", "reason": "model-not-found"}, "0+60.6x60")],
        {},
        "10% of requests name a model that is not in the table",
    ),
    "BbrRefusals": (
        [(REQUESTS, {**A, "outcome": "refused", "base_model": ""}, "0+200x60")],
        {},
        "25% of requests are rejected",
    ),
    "BbrSourceStale": (
        [("bbr_source_age_seconds", {**A, "source": "model files"}, "1+60x60")],
        {**A, "source": "model files"},
        "a has not seen its model files for 50m 1s",
    ),
    "BbrSourceFailing": (
        [("bbr_source_failing", {**A, "source": "HTTPRoutes"}, "1x60")],
        {**A, "source": "HTTPRoutes"},
        "a can't follow its HTTPRoutes",
    ),
    "BbrTaskFailing": (
        [("bbr_task_restarts_total", {**A, "task": "model files"}, "0+2x60")],
        {**A, "task": "model files"},
        "a: model files fails again and again",
    ),
    "BbrNoRoomForBodies": (
        [("bbr_buffer_refusals_total", A, "0+1x60")],
        {"instance": "a"},
        "a rejects bodies: its memory for them is used up",
    ),
    "BbrBuffersNearlyFull": ([("bbr_buffered_bytes", A, "900x60")], A, "a uses 90% of its memory for bodies"),
    "BbrBusy": ([("process_cpu_seconds_total", A, "0+54x60")], A, "a uses 90% of a processor"),
    "BbrSlow": (
        [
            ("bbr_request_busy_seconds_bucket", {**A, "le": "0.001"}, "0+500x60"),
            ("bbr_request_busy_seconds_bucket", {**A, "le": "0.1"}, "0+600x60"),
        ],
        {"instance": "a"},
        "a takes 94.06ms for one request in a hundred",
    ),
    "BbrConnectionsTurnedAway": (
        [("bbr_connections_turned_away_total", A, "0+1x60")],
        {"instance": "a"},
        "a has reached its limit of connections",
    ),
    "BbrFilesNearlyExhausted": (
        [("process_open_fds", A, "921.6x60")],
        A,
        "a has 90% of its files and sockets open",
    ),
    "BbrPeerFaults": (
        [("bbr_stream_resets_total", {**A, "reason": "refused"}, "0+120x60")],
        {"reason": "refused"},
        "Peers violate HTTP/2 or TLS, 2 times a second ( refused)",
    ),
    "BbrTableBroken": (
        [("bbr_table_broken_objects", A, "2x60")],
        {"job": "bbr"},
        "2 objects of the model table have errors",
    ),
    "BbrTableConflicts": (
        [("bbr_table_conflicts", A, "3x60")],
        {"job": "bbr"},
        "3 entries of the model table are ignored",
    ),
    "BbrTablesDiffer": (
        [("bbr_models", B, "4x60")],
        {"job": "bbr"},
        "Replicas do not have the same model table",
    ),
    "BbrRouteMismatch": (
        [("bbr_route_mismatches", {**A, "kind": "unrouted-base-model"}, "1x60")],
        {"job": "bbr", "kind": "unrouted-base-model"},
        "Model table and HTTPRoutes do not fit: 1 of unrouted-base-model",
    ),
    "BbrCertificateExpires": (
        [("bbr_certificate_expiry_timestamp_seconds", A, "6600x60")],
        A,
        "The certificate of a expires in 1h 0m 0s",
    ),
}


def series(changes):
    """Return the series of a test: those of a healthy router, with changes."""
    found = {(name, tuple(labels.items())): values for name, labels, values in (*HEALTHY, *changes)}
    return [
        {"series": f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels)}}}", "values": values}
        for (name, labels), values in found.items()
        if values is not None
    ]


def promtool(tmp_path, tests):
    """Run promtool's unit tests of the rules."""
    file = tmp_path / "test.yaml"
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(document), "utf-8")
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expectations(name, labels=None, summary=""):
    if labels is None:
        return {"eval_time": "50m", "alertname": name, "exp_alerts": []}
    rule = RULES[name]
    alert = {
        "exp_labels": {**rule["labels"], **labels},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }
    return {"eval_time": "50m", "alertname": name, "exp_alerts": [alert]}


def test_every_rule_is_tried():
    assert SICK.keys() == RULES.keys()


def test_the_rules_are_valid():
    done = subprocess.run(
        ["promtool", "check", "rules", ALERTS], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_router_that_is_well_has_no_alerts(tmp_path):
    quiet = {"interval": "1m", "input_series": series(()), "alert_rule_test": [expectations(name) for name in RULES]}
    promtool(tmp_path, [quiet])


def test_a_router_that_exits_and_is_started_again_and_again_is_not_ready(tmp_path):
    # It runs for 2 minutes, then it is gone for 5: as a container that Kubernetes starts again later each time.
    minutes = " ".join(["0", "0", "stale", "_", "_", "_", "_"] * 8)
    crashes = {"interval": "1m", "input_series": series([("bbr_ready", A, minutes)])}
    promtool(tmp_path, [{**crashes, "alert_rule_test": [expectations("BbrNotReady", A, SICK["BbrNotReady"][2])]}])


@pytest.mark.parametrize("name", SICK)
def test_an_alert_fires_alone(tmp_path, name):
    changes, labels, summary = SICK[name]
    others = [expectations(other) for other in RULES if other != name]
    fires = {"interval": "1m", "input_series": series(changes)}
    promtool(tmp_path, [{**fires, "alert_rule_test": [expectations(name, labels, summary), *others]}])
