"""Whatever others write, each place that shows it shows one text on one line: tests/support/hostile_texts.py."""

import asyncio
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bbr.admin.endpoints import endpoints
from bbr.admin.http import Request
from bbr.admin.window import Window
from bbr.commands import output
from bbr.commands.check import check
from bbr.commands.doctor import report
from bbr.commands.doctor.examine import examine
from bbr.commands.explain import SampleRequest, explain
from bbr.commands.models import models as shown_models
from bbr.commands.probe import probe
from bbr.commands.probe.client import CallEndedError
from bbr.commands.probe.wire import Address
from bbr.config.settings import Settings
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import HttpStatus, ImmediateResponse
from bbr.sources.objects import SourceError, SourceObject, refusing
from bbr.sources.routes import Mismatches, Unknown
from bbr.system.supervisor import Failures
from bbr.telemetry.logs import as_json, as_text
from bbr.telemetry.observed import clock
from bbr.text import encodable as encodable_text
from bench.harness.vitals import vitals
from tests.support import doctor
from tests.support.hostile_texts import ENCODABLE, HOSTILE, holds

every = pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
encodable = pytest.mark.parametrize("hostile", ENCODABLE.values(), ids=ENCODABLE)


def printed(capsys, text, *, as_json=False):
    output.write(text, as_json=as_json)
    return capsys.readouterr().out


def gateways(name):
    """Give gateways whose names are all somebody else's, each wrong in other ways."""
    off = doctor.demo()
    doctor.hcm(off)["http_filters"][0]["name"] = name
    for route in doctor.routes(off):
        route["name"] = name
        for header in route["match"].get("headers", ()):
            header["string_match"] = {"exact": name}
        doctor.per_route(route, doctor.OFF, name)
    doctor.hcm(off)["route_config"]["name"] = name
    doctor.host(off)["name"] = name
    off["static_resources"]["listeners"][0]["name"] = name
    yield off
    picker = doctor.demo()
    chain = doctor.hcm(picker)["http_filters"]
    chain.insert(0, {**chain[0], "name": name})
    chain.insert(2, {**chain[0], "name": f"{name}-epp", "disabled": True})
    for route in doctor.routes(picker):
        if "headers" in route["match"]:
            doctor.per_route(route, doctor.ON, f"{name}-epp")
    yield picker
    missing = doctor.demo()
    doctor.bbr(missing)["grpc_service"]["envoy_grpc"]["cluster_name"] = name
    yield missing


def found_in(config):
    gateway = doctor.saved(config, server_info={"version": f"x/{doctor.entry(config)['name']}/y"})
    return gateway, examine(gateway, Registry(), max_body_bytes=1 << 20, secure_serving=False)


@encodable
@pytest.mark.parametrize("number", range(3))
def test_the_doctor(hostile, number, capsys):
    def show(name):
        return printed(capsys, report.as_text(*found_in([*gateways(name)][number])))

    holds(show, hostile)


@encodable
def test_the_doctor_as_json(hostile, capsys):
    def show(name):
        return printed(capsys, report.as_json(*found_in(next(gateways(name)))), as_json=True)

    assert json.loads(holds(show, hostile, most=1 << 26))["routers"][0]["filter"] == hostile


def probed(text):
    report_of = probe.Report(probe.ProbeOptions(address=Address("x", 1), model=text))
    data = text.encode("utf-8", "surrogateescape" if "\udcff" in text else "strict")
    report_of.exchange = probe.Exchange(b"x", sets=[("name", data), (text, b"value")], removes=[text])
    report_of.problems.append(f"x: {CallEndedError(2, text)}")
    return report_of


@encodable
def test_the_probe(hostile, capsys):
    holds(lambda text: printed(capsys, probe.text(probed(text))), hostile)


@encodable
def test_the_probe_as_json(hostile, capsys):
    shown = holds(lambda text: printed(capsys, probe.as_json(probed(text)), as_json=True), hostile, most=1 << 26)
    assert json.loads(shown)["exchange"]["remove_headers"] == [hostile]


@encodable
def test_what_an_answer_of_a_server_is_refused_with(hostile, capsys):
    def show(text):
        of = probed("model")
        of.exchange.immediate = ImmediateResponse(
            status=HttpStatus(code=500), body=f"harmless{text}".encode(), details=f"harmless{text}"
        )
        probe._judge(of, of.exchange, "model")
        return printed(capsys, probe.text(of))

    holds(show, hostile)


# What a model file may hold, each with a text where somebody else could write it.
FILES = {
    "a model": lambda text: {"models": [{"name": f"harmless{text}"}]},
    "an adapter": lambda text: {"models": [{"name": "qwen", "adapters": [f"harmless{text}"]}]},
    "a claim that loses": lambda text: {"models": [{"name": "harmless", "adapters": [text]}, {"name": text}]},
    "an alias": lambda text: {"models": [{"name": "harmless"}], "aliases": {text: "harmless", "b": text}},
    "shares": lambda text: {"models": [{"name": "harmless"}], "aliases": {"b": {"harmless": 1, text: text}}},
    "a key": lambda text: {"models": [{"name": "qwen", f"harmless{text}": 1}]},
    "a key of the file": lambda text: {f"harmless{text}": 1},
    "who may use it": lambda text: {"models": [{"name": "qwen", "allow": [f"harmless{text}", text]}]},
    "a list for no model": lambda text: {"models": [{"name": "qwen"}], "allow": {f"harmless{text}": ["a"]}},
    "a scope": lambda text: {"models": [{"name": "qwen"}], "scopes": {f"harmless{text}": {}}},
    "a host": lambda text: {"models": [{"name": "harmless"}], "scopes": {"a": {"hosts": [text]}}},
    "a pattern": lambda text: {"models": [{"name": "qwen", "adapters": [f"harmless*{text}*"]}]},
}


@encodable
@pytest.mark.parametrize("what", FILES)
def test_commands_that_read_a_model_file(hostile, what, tmp_path, capsys):
    path = tmp_path / "harmless.yaml"

    def show(text):
        path.write_text(json.dumps(FILES[what](text)), "utf-8")
        settings = Settings(models=path)
        shown = printed(capsys, check(settings)[0]) + printed(capsys, shown_models(settings)[0])
        try:
            request = SampleRequest("POST", "/v1/x", [("content-type", "application/json")], b'{"model": "harmless"}')
            shown += printed(capsys, explain(settings, request))
        except SourceError as error:
            shown += printed(capsys, f"bbr explain: {error}.\n".replace("\n", " "))
        return shown

    holds(show, hostile)


# What a client may send, each with a text.
REQUESTS = {
    "a model": lambda text: ([("content-type", "application/json")], json.dumps({"model": f"x{text}"}), "/v1/x"),
    "a charset": lambda text: ([("content-type", f"application/json; charset=x{text}")], "{}", "/v1/x"),
    "a quoted charset": lambda text: ([("content-type", f'application/json; charset="x{text}"')], "{}", "/v1/x"),
    "a parameter": lambda text: ([("content-type", f"multipart/form-data; x{text}=1; x{text}=2")], "{}", "/v1/x"),
    "an encoding": lambda text: (
        [("content-type", "application/json"), ("content-encoding", f"x{text}")],
        "{}",
        "/v1/x",
    ),
    "a path": lambda text: ([("content-type", "application/json")], '{"model": "b"}', f"/m/x{text}/y"),
    "a query": lambda text: ([("content-type", "application/json")], '{"model": "b"}', f"/v1/x?model=x{text}"),
}


@every
@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_that_clients_get(hostile, what, as_json, tmp_path, capsys):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: harmless}]")
    settings = Settings(models=path)

    def show(text):
        headers, body, url = REQUESTS[what](text)
        request = SampleRequest("POST", url, headers, body.encode("utf-8", "surrogatepass"))
        try:
            shown = explain(settings, request, as_json=as_json)
        except UnicodeEncodeError:  # no word of a command line
            return "harmless"
        # The body that a client gets, too, which nobody prints.
        bodies = [line for line in shown.split("\n") if line.startswith('{"error"')]
        return "harmless\n" + "\n".join(bodies) + printed(capsys, shown, as_json=as_json)

    holds(show, hostile)


def record(text):
    error = ValueError(text)
    made = logging.makeLogRecord(
        {"name": "bbr.x", "levelno": 30, "levelname": "WARNING", "msg": "said: %s", "args": (text,)}
    )
    made.exc_info = (type(error), error, None)
    made.path, made.several = text, [text, {text: 1}]
    return made


@every
@pytest.mark.parametrize("form", [as_text, as_json])
def test_logs(hostile, form):
    # A stack has lines, each of them indented.
    def show(text):
        shown = form(record(text), "")
        return shown if form is as_json else shown.partition("\n    ")[0]

    holds(show, hostile, most=80_000)  # five texts of 4,096 characters, spelled out


def asked(of, path, query=None):
    answer = asyncio.run(endpoints(of, Window(of.metrics))[path](Request(path, {}, query or {})))
    return b"".join(answer.body).decode()


def watched(text, tmp_path, monkeypatch):
    """Return a router's vitals, with a text wherever somebody else's can come from."""
    path = tmp_path / "harmless.yaml"
    path.write_text("models: [{name: harmless}]")
    of = vitals(path)
    table = of.sources.table
    table.put("file", SourceObject(f"harmless{text}", 1, refusing(f"harmless{text}")))
    table.apply_now()
    of.supervisor.failures[f"harmless{text}"] = Failures(1, f"harmless{text}")
    of.metrics.unknown.add(f"harmless{text}", clock())
    unfit = Mismatches((f"harmless{text}",), (Unknown("X-Gateway-Model-Name", text, f"HTTPRoute {text}"),))
    monkeypatch.setattr(type(of.sources), "mismatches", property(lambda _: unfit))
    monkeypatch.setattr(of.sources, "failing", lambda: {"model files": f"harmless{text}"})
    return of


@every
@pytest.mark.parametrize("path", ["/readyz", "/", "/status.json", "/debug/models", "/debug/config"])
def test_pages_of_the_admin_port(hostile, path, tmp_path, monkeypatch):
    def show(text):
        return asked(watched(text, tmp_path, monkeypatch), path, {"q": text.encode("utf-8", "replace").decode()})

    shown = holds(show, hostile, most=1 << 26)
    if path == "/":
        assert "<script>alert" not in shown
    elif path != "/readyz":
        json.loads(shown)


@every
def test_metrics_keep_labels_as_they_are(hostile, tmp_path, monkeypatch):
    shown = asked(watched(hostile, tmp_path, monkeypatch), "/metrics")
    samples = [each for family in text_string_to_metric_families(shown) for each in family.samples]
    assert [each.value for each in samples if each.name == "bbr_ready"] == [1]
    (failing,) = (each for each in samples if each.name == "bbr_task_failing")
    assert failing.labels == {"task": encodable_text(f"harmless{hostile}")}
