"""Every query of the dashboard, and the alert rules, by a real Prometheus that scrapes two real routers."""

import inspect
import json
import re
import socket

import grpc
import pytest

from bbr.admin import exposition, forms
from bbr.exchange.policy import BodyMode
from bench.harness import messages
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import serving
from deploy.dashboards import build
from tests.support.prometheus import prometheus
from tests.support.tools import needs

DASHBOARD = json.loads(build.FILE.read_text("utf-8"))
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}: {target['legendFormat']}")
    for panel in GRAPHS
    for target in panel["targets"]
]
BODIES = [b'{"model": "qwen"}', b'{"model": "phi"}', b'{"model": "x"}', b"{}", b"["]

# What these routers don't have: no cluster's HTTPRoutes, and no stream that was reset for a fault. That the names are
# right is asked below.
ABSENT = ("bbr_route_mismatches", "bbr_stream_resets_total")


def test_the_file_is_what_the_panels_give(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["build", "--check"])
    assert build.main() == 0
    monkeypatch.setattr(build, "FILE", build.FILE.with_name("alerts.yaml"))
    assert build.main() == 1
    assert "is out of date" in capsys.readouterr().err


def test_panels_stand_beside_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# Units that Grafana writes in words or with a prefix, so that no panel reads "0.0004" or "12 m".
UNITS = {"reqps", "percentunit", "s", "bytes", "Bps", "d", "none", "suffix:/min"}


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_is_in_a_unit_that_people_read(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith(".")
    assert defaults["unit"] in UNITS
    values = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert values[0] is None
    assert values[1:] == sorted(values[1:])
    dashed = defaults.get("custom", {}).get("thresholdsStyle")
    assert (dashed is not None) == (panel["type"] == "timeseries" and len(values) > 1)


def test_tiles_come_first_and_are_coloured_by_thresholds():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Requests", "Speed", "Pressure", "Model table"]
    assert [panel["type"] for panel in GRAPHS[:8]] == ["stat"] * 8
    assert {panel["type"] for panel in GRAPHS[8:]} == {"timeseries"}
    coloured = [panel for panel in GRAPHS[:8] if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1]
    assert len(coloured) == 7
    assert {panel["fieldConfig"]["defaults"]["color"]["mode"] for panel in GRAPHS[:8]} == {"thresholds"}


def test_thresholds_of_errors_are_those_of_the_status_page():
    (failed,) = [panel for panel in GRAPHS if panel["title"] == "Failed"]
    steps = failed["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, forms.WARN_SHARE, forms.BAD_SHARE]


def test_links():
    assert [link["title"] for link in DASHBOARD["links"]] == ["Alerts", "Envoy"]
    replicas = [
        panel for panel in GRAPHS if any(target["legendFormat"] == "{{instance}}" for target in panel["targets"])
    ]
    assert len(replicas) == 3
    for panel in replicas:
        urls = [link["url"] for link in panel["fieldConfig"]["defaults"]["links"]]
        assert urls == ["http://${__field.labels.instance}/", "http://${__field.labels.instance}/help"]


def send(port):
    """Make requests that end in each way that the dashboard shows."""
    head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        process = channel.stream_stream(PROCESS)
        for body in BODIES:
            assert list(process(iter((head, messages.request_body(body, end_of_stream=True)))))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(100))
        while connection.recv(4096):
            pass


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A Prometheus that has scraped two routers, one with a certificate, before and after requests."""
    scratch = tmp_path_factory.mktemp("prometheus")
    models = scratch / "models.yaml"
    models.write_text("models: [{name: qwen}, {name: phi}]\n")
    with (
        serving(f"--models={models}", admin=True) as router,
        serving(f"--models={models}", "--secure-serving=true", admin=True) as other,
        prometheus(scratch, [router.admin_port, other.admin_port], build.FILE.with_name("alerts.yaml")) as found,
    ):
        send(router.port)  # a series that begins has no rate until it grows
        counted = 'sum(bbr_requests_total{outcome="refused"})'
        found.await_("what the first requests have counted", lambda: found.query(counted) == [({}, 2.0)])
        send(router.port)
        found.await_("what the second have counted", lambda: found.query(counted) == [({}, 4.0)])
        yield found


@needs("prometheus")
@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_has_an_answer(running, expression):
    asked = expression.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")
    assert "$" not in asked
    found = running.query(asked)
    if any(name in asked for name in ABSENT) and "vector(0)" not in asked:
        assert found == []
    else:
        assert found
        assert all(value == value for _, value in found), f"not a number: {found}"


def known_names():
    """Return the names of all metrics that a router can have."""
    names = re.findall(r'"(bbr_[a-z_]+)"', inspect.getsource(exposition))
    return {*names, *(f"{name}_total" for name in names)}


@needs("prometheus")
def test_the_variables_find_the_routers(running):
    for variable in DASHBOARD["templating"]["list"][1:]:
        label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"].replace("$job", ".*"))
        values = {labels[label[2]] for labels, _ in running.query(label[1])}
        assert len(values) == {"job": 1, "instance": 2}[variable["name"]]


@needs("prometheus")
def test_the_rules_are_evaluated_without_an_error(running):
    groups = running.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert {rule["name"]: rule.get("lastError", "") for rule in rules} == {rule["name"]: "" for rule in rules}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_every_metric_in_use_is_one_that_a_router_has():
    texts = build.FILE.read_text("utf-8") + build.FILE.with_name("alerts.yaml").read_text("utf-8")
    used = set(re.findall(r"\b(bbr_[a-z_]+)\{|\b(bbr_[a-z_]+)\b", texts))
    names = {re.sub(r"_(bucket|sum|count)$", "", each) for pair in used for each in pair if each}
    assert names - known_names() == set()
    assert len(names) > 20
