"""Istio's controller in the lab, with its own agent in the gateway's pod, and an Envoy of Envoy's own project.

Istio's Envoy has filters that this one lacks. They are left out by settings: ALPN filter, metadata exchange, telemetry.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.lab import parts, setting
from deploy.lab.cluster import Cluster
from deploy.lab.controllers import GATEWAY, Controller, chart, helm
from deploy.lab.network import DOMAIN
from deploy.local.gateway import find_envoy

NAMESPACE: Final = "istio-system"

# Where it finds what AuthorizationPolicies with the action CUSTOM ask: name -> kind and port of the server.
AUTHORIZERS: Final = {"authorizer-http": ("envoyExtAuthzHttp", 8000), "authorizer-grpc": ("envoyExtAuthzGrpc", 9000)}
_AUTHORIZER: Final = f"ext-authz.{setting.NAMESPACE}.svc.{DOMAIN}"


def _authorizer(name: str, kind: str, port: int) -> dict[str, Any]:
    more = {"includeRequestHeadersInCheck": ["x-ext-authz"]} if kind == "envoyExtAuthzHttp" else {}
    return {"name": name, kind: {"service": _AUTHORIZER, "port": port, **more}}


_OFF: Final = "false"
_VALUES: Final = {
    "global": {"hub": "lab", "tag": parts.ISTIO, "proxy": {"resources": {}}},
    "pilot": {
        "env": {
            "ENABLE_GATEWAY_API_INFERENCE_EXTENSION": "true",
            "PILOT_ENABLE_ALPN_FILTER": _OFF,
            "PILOT_ENABLE_METADATA_EXCHANGE": _OFF,
        },
        "autoscaleEnabled": False,
    },
    "telemetry": {"enabled": False},
    "meshConfig": {
        "enableAutoMtls": False,
        "extensionProviders": [_authorizer(name, *found) for name, found in AUTHORIZERS.items()],
    },
    # What namespaces want that enforce the restricted standard.
    "gateways": {"seccompProfile": {"type": "RuntimeDefault"}},
}


class Istio(Controller):
    """istiod."""

    provider: ClassVar[str] = "istio"
    programs: ClassVar[tuple[parts.Part, ...]] = (parts.ISTIOD, parts.ISTIO_AGENT)
    gateway_class: ClassVar[str] = "istio"
    secure: ClassVar[bool] = True
    admin_port: ClassVar[int] = 15000
    data_plane: ClassVar[tuple[str, str]] = (
        setting.NAMESPACE,
        f"gateway.networking.k8s.io/gateway-name={GATEWAY}",
    )

    def images(self) -> Mapping[str, Sequence[str]]:
        """See Controller."""
        # Where the agent looks for Envoy and its bootstrap; the container's files are its own.
        place = {
            find_envoy(sys.executable): "/usr/local/bin/envoy",
            parts.ISTIO_AGENT.data / "envoy_bootstrap.json": "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
        }
        lines = [
            f"mkdir -p {Path(target).parent}; ln -sf {shlex.quote(str(source))} {target}"
            for source, target in place.items()
        ]
        script = "\n".join(["set -e", *lines, f'exec {shlex.quote(str(parts.ISTIO_AGENT.binary))} "$@"'])
        return {"lab/pilot:": [str(parts.ISTIOD.binary)], "lab/proxyv2:": ["sh", "-c", script, "sh"]}

    def definitions(self) -> Iterable[Path]:
        """See Controller."""
        return [parts.ISTIOD.data / "base" / "files" / "crd-all.gen.yaml"]

    def install(self, there: Cluster) -> None:
        """See Controller."""
        folder = chart(there, parts.ISTIOD.data / "istio-control" / "istio-discovery", "1.31.0", {})
        helm(there, "istiod", folder, NAMESPACE, _VALUES)
