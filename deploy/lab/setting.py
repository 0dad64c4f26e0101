"""What the lab serves: two base models with adapters on simulators, each with its pool and picker."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.lab import parts

NAMESPACE: Final = "models"
RELEASE: Final = "bbr"

QWEN: Final = "Qwen/Qwen2.5-3B-Instruct"
PHI: Final = "microsoft/Phi-3-mini-4k-instruct"
# Base model -> its name in the chart, and its adapters.
MODELS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    QWEN: ("qwen", ("sql-lora", "code-lora")),
    PHI: ("phi", ("phi-lora",)),
}
SERVERS: Final = 2

# Other names: of an adapter, of a base model, and one that is shared out by weights.
ALIASES: Final[Mapping[str, str | Mapping[str, int]]] = {
    "assistant": "sql-lora",
    "small": PHI,
    "canary": {QWEN: 80, PHI: 20},
}

# Its servers have it, but the chart does not say so: for tests that bring a ConfigMap of their own.
SPARE: Final = "spare-lora"
SPARE_BASE: Final = QWEN

# The simulator reserves 8 bytes for each token of the longest context: once for each request that runs or may wait, and
# again for each request that comes. Go takes the first for memory in use, so it collects the others only when there are
# as many of them. With 1,000 waiting requests, its default, and 1,000,000 tokens a server grew by 8 MB a request to
# 8 GB; with these it stays below 200 MB. The lab's longest body has 420,000 tokens.
_ROOM: Final = ("--max-model-len=450000", "--max-waiting-queue-length=32")

# What the namespace wants of each container.
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def namespace(name: str = NAMESPACE) -> dict[str, Any]:
    """Return a namespace that lets in only pods of the restricted standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def values(provider: str = "none") -> dict[str, Any]:
    """Return the chart's values."""
    return {
        "provider": {"name": provider},
        "bbr": {
            "image": {"repository": "lab/bbr"},
            "drainDelaySeconds": 3,
            "drainSeconds": 10,
            "flags": {
                "metrics-endpoint-auth": True,
                "serve-models-list": True,
                "alias-sticky-header": "x-session-id",
                "query-model-path": "/v1/realtime,/v1/completions",
                "path-template": "/deployments/{model}/**",
            },
        },
        "epp": {"image": f"lab/gateway-api-inference-extension/epp:{parts.PICKER.version}"},
        "aliases": {name: meant if isinstance(meant, str) else dict(meant) for name, meant in ALIASES.items()},
        "models": [
            {
                "baseModel": base,
                "name": name,
                "adapters": list(adapters),
                "pool": {"selector": {"app": f"{name}-server"}},
            }
            for base, (name, adapters) in MODELS.items()
        ],
    }


def servers() -> list[dict[str, Any]]:
    """Return the model servers' Deployments."""
    return [_server(base, name, adapters) for base, (name, adapters) in MODELS.items()]


def pickers() -> list[tuple[str, str]]:
    """Return base model and picker's Service of each pool."""
    return [(base, f"{name}-epp") for base, (name, _) in MODELS.items()]


def _server(base: str, name: str, adapters: Sequence[str]) -> dict[str, Any]:
    labels = {"app": f"{name}-server"}
    served = [*adapters, SPARE] if base == SPARE_BASE else adapters
    modules = [json.dumps({"name": each}) for each in served]
    container = {
        "name": "simulator",
        "image": f"lab/llm-d-inference-sim:{parts.SIMULATOR.version}",
        "args": [
            f"--model={base}",
            "--port=8000",
            "--mode=random",
            *_ROOM,
            f"--max-loras={len(served)}",
            "--lora-modules",
            *modules,
        ],
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            # Without a limit it collects no garbage: it grew by 80 KB a request, in long tests to 7 GB.
            {"name": "GOMEMLIMIT", "value": "300MiB"},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-server", "namespace": NAMESPACE},
        "spec": {
            "replicas": SERVERS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
