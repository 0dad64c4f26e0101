"""kgateway's controller in the lab, with its own start of Envoy in the gateway's pod. It knows no InferencePools."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.lab import parts, setting
from deploy.lab.cluster import Cluster
from deploy.lab.controllers import GATEWAY, Controller, chart, helm
from deploy.local.gateway import find_envoy

NAMESPACE: Final = "kgateway-system"
_PARAMETERS: Final = "lab"

# What the restricted standard wants beyond what kgateway says by itself.
_PROXY: Final = f"""
apiVersion: gateway.kgateway.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: {_PARAMETERS}, namespace: {NAMESPACE}}}
spec:
  kube:
    envoyContainer:
      extraArgs: [--concurrency, "1"]
      securityContext: {{seccompProfile: {{type: RuntimeDefault}}}}
"""


class Kgateway(Controller):
    """kgateway. It has dropped InferencePools in 2.2."""

    provider: ClassVar[str] = "kgateway"
    programs: ClassVar[tuple[parts.Part, ...]] = (parts.KGATEWAY, parts.KGATEWAY_ENVOY)
    gateway_class: ClassVar[str] = "kgateway"
    secure: ClassVar[bool] = False
    admin_port: ClassVar[int] = 19000
    data_plane: ClassVar[tuple[str, str]] = (
        setting.NAMESPACE,
        f"gateway.networking.k8s.io/gateway-name={GATEWAY}",
    )

    def images(self) -> Mapping[str, Sequence[str]]:
        """See Controller."""
        # It reads the bootstrap, and becomes the Envoy that this variable names.
        envoy, program = (shlex.quote(str(each)) for each in (find_envoy(sys.executable), parts.KGATEWAY_ENVOY.binary))
        start = f'ENVOY={envoy} exec {program} "$@"'
        return {"lab/kgateway:": [str(parts.KGATEWAY.binary)], "lab/envoy-wrapper:": ["sh", "-c", start, "sh"]}

    def definitions(self) -> Iterable[Path]:
        """See Controller."""
        return sorted((parts.KGATEWAY.data / "kgateway-crds" / "templates").glob("*.yaml"))

    def install(self, there: Cluster) -> None:
        """See Controller."""
        version = parts.KGATEWAY.version
        folder = chart(there, parts.KGATEWAY.data / "kgateway", version, {})
        values: dict[str, Any] = {
            "image": {"registry": "lab"},
            "gatewayClassParametersRefs": {self.gateway_class: {"name": _PARAMETERS, "namespace": NAMESPACE}},
        }
        helm(there, "kgateway", folder, NAMESPACE, values)
        there.apply(_PROXY)
