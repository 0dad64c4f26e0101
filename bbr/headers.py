"""Names of the headers by which routes, endpoint pickers and sidecars of model servers decide."""

from collections.abc import Iterable
from typing import Final

MODEL_HEADER: Final = "X-Gateway-Model-Name"
BASE_MODEL_HEADER: Final = "X-Gateway-Base-Model-Name"

# Where an endpoint picker says which model server it chose. A client that sets it itself could aim a request at any
# address, if a picker fails open.
DESTINATION_HEADER: Final = "x-gateway-destination-endpoint"

# A picker replaces the body's model by what these name (llm-d-router v0.10: the first, then the second; GIE v1.2 to
# v1.5 and llm-d-inference-scheduler up to v0.7: the second).
REWRITE_HEADERS: Final = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")

# By these a client could choose the model, the server, or an address that a sidecar connects to. Read from the sources
# of GIE v1.2 to v1.5, llm-d-inference-scheduler v0.4 and v0.7, llm-d-router v0.10 and of model servers.
STEERING_HEADERS: Final = (
    *REWRITE_HEADERS,
    # Beside the destination; a gateway may hand them on as metadata.
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-gateway-destination-endpoint-scores",
    # The scheduling profile of header-profile-handler; the server of header-based-testing-filter.
    "epp-profile",
    "test-epp-endpoint-selection",
    # The sidecar connects to what these name; its allow-list of addresses is off by default.
    "x-prefiller-host-port",
    "x-prefiller-url",  # its name before llm-d-inference-scheduler v0.2
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
    "x-data-parallel-host-port",
    # vLLM runs the request on the engine of this number.
    "x-data-parallel-rank",
    # The adapter, in the place of the body's `model`: vLLM at /invocations, DJL Serving.
    "x-amzn-sagemaker-adapter-identifier",
    "x-amzn-sagemaker-adapter-alias",
    # The model of a multiplexed deployment of Ray Serve.
    "serve_multiplexed_model_id",
)

# By these a client could take precedence over others: priority, share, and latency objectives.
PRIORITY_HEADERS: Final = (
    "x-llm-d-inference-objective",
    "x-gateway-inference-objective",
    "x-llm-d-inference-fairness-id",
    "x-gateway-inference-fairness-id",
    "x-llm-d-slo-ttft-ms",
    "x-slo-ttft-ms",
    "x-llm-d-slo-tpot-ms",
    "x-slo-tpot-ms",
    # Of the latency predictor of GIE v1.2.
    "x-prediction-based-scheduling",
    "x-ttft-slo",
    "x-avg-tpot-slo",
)

_STEERING: Final = frozenset((*STEERING_HEADERS, *PRIORITY_HEADERS))


def listed(removed: Iterable[str]) -> list[str]:
    """Return names of removed headers for people: those by which a client could steer count as one, and come last."""
    names = list(removed)
    others = [name for name in names if name not in _STEERING]
    steering = len(names) - len(others)
    return [*others, f"{steering} headers that steer pickers and sidecars"] if steering else others
