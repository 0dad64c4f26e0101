"""Envoy Gateway's controller in the lab."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.lab import parts
from deploy.lab.cluster import Cluster
from deploy.lab.controllers import GATEWAY, Controller, chart, helm
from deploy.lab.network import DOMAIN

NAMESPACE: Final = "envoy-gateway-system"
_CLASS: Final = "eg"
_IMAGE: Final = f"lab/envoy-gateway:{parts.ENVOY_GATEWAY.version}"
_CHART: Final = "gateway-helm"

# Where Envoy Gateway's service for limits of several Envoys keeps its counts.
_REDIS: Final = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: redis, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: redis}}}}
  template:
    metadata: {{labels: {{app: redis}}}}
    spec:
      containers:
        - name: redis
          image: lab/redis:{parts.REDIS.version}
          readinessProbe: {{tcpSocket: {{port: 6379}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: redis, namespace: {NAMESPACE}}}
spec:
  selector: {{app: redis}}
  ports: [{{port: 6379}}]
"""

# Two Envoys of one machine would find each other by their shared memory.
_CLASS_AND_PROXY: Final = f"""
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {{name: lab, namespace: {NAMESPACE}}}
spec:
  concurrency: 1
  extraArgs: [--disable-hot-restart]
  provider:
    type: Kubernetes
    kubernetes:
      envoyDeployment:
        container: {{image: "lab/envoy:1"}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {_CLASS}}}
spec:
  controllerName: gateway.envoyproxy.io/gatewayclass-controller
  parametersRef: {{group: gateway.envoyproxy.io, kind: EnvoyProxy, name: lab, namespace: {NAMESPACE}}}
"""


class EnvoyGateway(Controller):
    """Envoy Gateway, without Envoy AI Gateway: it knows no InferencePools."""

    provider: ClassVar[str] = "envoy-gateway"
    programs: ClassVar[tuple[parts.Part, ...]] = (parts.ENVOY_GATEWAY,)
    gateway_class: ClassVar[str] = _CLASS
    secure: ClassVar[bool] = False
    admin_port: ClassVar[int] = 19000
    data_plane: ClassVar[tuple[str, str]] = (NAMESPACE, f"gateway.envoyproxy.io/owning-gateway-name={GATEWAY}")

    def images(self) -> Mapping[str, Sequence[str]]:
        """See Controller."""
        return {"lab/envoy-gateway:": [str(parts.ENVOY_GATEWAY.binary)]}

    def values(self) -> dict[str, Any]:
        """See Controller."""
        return {**super().values(), "backends": "services"}

    def definitions(self) -> Iterable[Path]:
        """See Controller."""
        return sorted((parts.ENVOY_GATEWAY.data / _CHART / "charts" / "crds" / "crds").rglob("*.yaml"))

    def install(self, there: Cluster) -> None:
        """See Controller."""
        replaced = {"${GatewayImage}": _IMAGE, "${GatewayImagePullPolicy}": "IfNotPresent"}
        folder = chart(there, parts.ENVOY_GATEWAY.data / _CHART, parts.ENVOY_GATEWAY.version, replaced)
        redis = {"type": "Redis", "redis": {"url": f"redis.{NAMESPACE}.svc.{DOMAIN}:6379"}}
        values = {
            "crds": {"enabled": False},
            "topologyInjector": {"enabled": False},
            "config": {"envoyGateway": {"rateLimit": {"backend": redis}}},
        }
        helm(there, "eg", folder, NAMESPACE, values)
        there.apply(_REDIS + "---" + _CLASS_AND_PROXY)
