"""From the Go routers' chart, and from objects applied by hand, to this chart: docs/migrating.md step by step.

The objects of the release before are those of the Go chart (tests/conformance/go/CONTRACT.md), with our image.
"""

import json

import pytest
import yaml

from deploy.lab import releases, setting
from deploy.lab.cluster import LabError
from deploy.render import helm as renderer
from deploy.render import tools

NAMESPACE = "moved"
IN_NAMESPACE = f"--namespace={NAMESPACE}"
RELEASE = "body-based-router"
PICKER = "{.spec.endpointPickerRef.name}"

# As the Go chart has them; no probes, no resources, one port.
THEIRS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: body-based-router}
spec:
  replicas: 1
  selector: {matchLabels: {app: body-based-router}}
  template:
    metadata: {labels: {app: body-based-router}}
    spec:
      serviceAccountName: body-based-router-body-based-router
      containers:
        - name: bbr
          image: lab/bbr:theirs
          imagePullPolicy: Always
          args: [--streaming, --v, "3", --tracing=false]
          env: [{name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]
          ports: [{containerPort: 9004}, {containerPort: 9005}]
          securityContext: SECURITY
---
apiVersion: v1
kind: Service
metadata: {name: body-based-router}
spec:
  selector: {app: body-based-router}
  ports: [{protocol: TCP, port: 9004, targetPort: 9004, appProtocol: HTTP2}]
  type: ClusterIP
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: body-based-router-body-based-router}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: body-based-router-body-based-router-configmap-reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: body-based-router-body-based-router}
subjects: [{kind: ServiceAccount, name: body-based-router-body-based-router}]
roleRef:
  {apiGroup: rbac.authorization.k8s.io, kind: Role, name: body-based-router-body-based-router-configmap-reader}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: body-based-router}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: inference-gateway}]
  configPatches:
    - applyTo: HTTP_FILTER
      match:
        context: GATEWAY
        listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
      patch: {operation: INSERT_FIRST, value: {name: envoy.filters.http.ext_proc.bbr, typed_config: {theirs: true}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: body-based-router}
spec:
  host: body-based-router.moved.svc.cluster.local
  trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}
"""

# By hand: one picker for all pools, a pool whose selector is another than it will be, an adapter that will go.
BY_HAND = f"""
apiVersion: v1
kind: Service
metadata: {{name: shared-epp}}
spec: {{selector: {{app: shared-epp}}, ports: [{{port: 9002}}]}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: qwen-pool}}
spec:
  selector: {{matchLabels: {{model-instance: qwen}}}}
  targetPorts: [{{number: 8000}}]
  endpointPickerRef: {{name: shared-epp, port: {{number: 9002}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: qwen-model-route}}
spec:
  parentRefs: [{{name: inference-gateway}}]
  rules:
    - matches:
        - path: {{type: PathPrefix, value: /v1/}}
          headers: [{{name: X-Gateway-Base-Model-Name, value: {setting.QWEN}}}]
      backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: qwen-pool}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: qwen-allowlist, labels: {{inference.networking.k8s.io/bbr-managed: "true"}}}}
data:
  baseModel: {setting.QWEN}
  adapters: |
    - sql-lora
    - old-lora
"""


def values(*, models=True, attached=True, seconds=300):
    """Return the values of a step: without models, with pool and route left alone, with all of it."""
    found = setting.values("istio")
    found["bbr"] |= {"replicas": 1, "drainDelaySeconds": 0, "drainSeconds": 1}
    (model,) = (each for each in found["models"] if each["baseModel"] == setting.QWEN)
    model["adapters"] = ["sql-lora"]
    model["pool"] |= {"name": "qwen-pool", "create": attached, "timeoutSeconds": seconds}
    model["route"] = {"name": "qwen-model-route", "path": "/v1/", "create": attached}
    found["models"] = [model] if models else []
    found["aliases"] = {}
    return found


class Move:
    """A namespace in which their release is installed and the rest applied, and the steps of the guide."""

    def __init__(self, lab, helm):
        self.lab, self.helm = lab, helm
        # Helm 4 takes no field that somebody else has set, unless it is told.
        self.force = ("--force-conflicts",) if helm == "helm4" else ()
        self.chart = lab.folder / "theirs"
        (self.chart / "templates").mkdir(parents=True, exist_ok=True)
        (self.chart / "Chart.yaml").write_text("{apiVersion: v2, name: body-based-routing, version: 0.1.0}\n")
        text = THEIRS.replace("SECURITY", json.dumps(setting.RESTRICTED))
        (self.chart / "templates/all.yaml").write_text(text)
        self.file = lab.folder / "values-moved.yaml"

    def call(self, *words):
        return releases.call(self.lab, self.helm, *words, namespace=NAMESPACE)

    def tries(self, *words):
        return self.lab.tries(str(tools.BIN / self.helm), *words, IN_NAMESPACE)

    def before(self):
        self.call("install", RELEASE, str(self.chart), "--wait", "--timeout=600s")
        self.lab.kubectl("apply", IN_NAMESPACE, "--filename=-", text=BY_HAND)

    def upgrade(self, found, *words):
        self.file.write_text(yaml.safe_dump(found), "utf-8")
        file = f"--values={self.file}"
        self.call("upgrade", RELEASE, str(renderer.CHART), "--reset-values", file, *words, *releases.WAIT)

    def replace(self, found):
        """Put pools and routes as the chart has them in the place of those that are there."""
        self.file.write_text(yaml.safe_dump(found), "utf-8")
        shown = [f"--show-only=templates/models/{name}.yaml" for name in ("pool", "route")]
        text = self.call("template", RELEASE, str(renderer.CHART), f"--values={self.file}", *shown)
        self.lab.kubectl("replace", IN_NAMESPACE, "--filename=-", text=text)

    def get(self, what, path):
        return self.lab.kubectl("get", what, IN_NAMESPACE, f"--output=jsonpath={path}")


@pytest.fixture(params=renderer.HELMS)
def move(lab, request):
    lab.apply(yaml.safe_dump(setting.namespace(NAMESPACE)))
    lab.wait("the ServiceAccount", lambda: lab.kubectl_tries("get", "serviceaccount/default", IN_NAMESPACE))
    there = Move(lab, request.param)
    there.before()
    yield there
    lab.kubectl("delete", "namespace", NAMESPACE, "--timeout=600s")


def test_each_step_of_the_guide(lab, move):
    # 1: the router.
    move.upgrade(values(models=False))
    assert move.get("deployment/body-based-router", "{..image}") == "lab/bbr:0.1.0"
    assert "retry_policy" in move.get("envoyfilter/body-based-router", "{.spec}")
    assert move.get("inferencepool/qwen-pool", PICKER) == "shared-epp"
    # 2: table and pickers; pools and routes stay as they are.
    move.upgrade(values(attached=False), "--take-ownership", *move.force)
    assert move.get("deployment/qwen-epp", "{.status.readyReplicas}") == "1"
    assert move.get("configmap/qwen-allowlist", "{.data.adapters}") == "- sql-lora\n"
    assert move.get("inferencepool/qwen-pool", PICKER) == "shared-epp"
    # 3: pools and routes.
    move.replace(values())
    assert move.get("inferencepool/qwen-pool", PICKER) == "qwen-epp"
    assert move.get("inferencepool/qwen-pool", "{.spec.selector.matchLabels}") == '{"app":"qwen-server"}'
    # 4: Helm's, from now on.
    move.upgrade(values(), "--take-ownership", *move.force)
    assert move.get("inferencepool/qwen-pool", PICKER) == "qwen-epp"
    lab.kubectl("delete", "service", "shared-epp", IN_NAMESPACE)
    lab.wait("the test to succeed", lambda: move.tries("test", RELEASE, "--logs"))
    # And later upgrades reach what was taken over.
    move.upgrade(values(seconds=77))
    assert move.get("httproute/qwen-model-route", "{.spec.rules[0].timeouts.request}") == "77s"


def test_the_way_back(lab, move):
    move.upgrade(values(attached=False), "--take-ownership", *move.force)
    move.replace(values())
    move.upgrade(values(), "--take-ownership", *move.force)
    kept = ("inferencepool/qwen-pool", "httproute/qwen-model-route", "configmap/qwen-allowlist")
    lab.kubectl("annotate", *kept, IN_NAMESPACE, "helm.sh/resource-policy=keep")
    lab.kubectl("apply", "--server-side", "--force-conflicts", IN_NAMESPACE, "--filename=-", text=BY_HAND)
    move.call("rollback", RELEASE, "1", *releases.WAIT)
    assert move.get("deployment/body-based-router", "{..image}") == "lab/bbr:theirs"
    assert move.get("inferencepool/qwen-pool", PICKER) == "shared-epp"
    assert "old-lora" in move.get("configmap/qwen-allowlist", "{.data.adapters}")
    lab.wait("no picker", lambda: not lab.kubectl_tries("get", "deployment/qwen-epp", IN_NAMESPACE))


def test_taking_ownership_alone_changes_no_custom_resource(lab, move):
    """Why the guide has a step for pools and routes."""
    move.upgrade(values(models=False))
    if move.helm == "helm":
        move.upgrade(values(), "--take-ownership")  # "deployed"
    else:
        with pytest.raises(LabError, match=r"conflict with .kubectl-client-side-apply"):
            move.upgrade(values(), "--take-ownership")
    assert move.get("inferencepool/qwen-pool", PICKER) == "shared-epp"
