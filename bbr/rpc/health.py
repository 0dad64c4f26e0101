"""The answers of grpc.health.v1 as pure functions of one fact: does this process take new requests?

Every service name gets the same answer, as from the Go routers: gateways and probes ask for names of their own choice
(kubernetes-sigs/gateway-api-inference-extension#788). The one exception is `liveness`, a name that endpoint pickers
know too: a process that can answer is alive, also while it waits for its model table, or drains.
"""

from typing import Final

from google.protobuf.message import DecodeError

from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListResponse

SERVICE: Final = "grpc.health.v1.Health"
# List names the real service, so a client that lists first finds a name that it can then ask Check for.
EXT_PROC_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS_SERVICE: Final = "liveness"


def check(*, serving: bool) -> bytes:
    """Return the encoded HealthCheckResponse of Check, and of each message of Watch."""
    return _check(serving).SerializeToString()


def asks_for_liveness(request: bytes) -> bool:
    """Tell whether an encoded HealthCheckRequest asks if the process lives, and not if it takes requests."""
    try:
        return HealthCheckRequest.FromString(request).service == LIVENESS_SERVICE
    except DecodeError:
        # A request that cannot be read asks for readiness, the stricter of the two questions.
        return False


def list_services(*, serving: bool) -> bytes:
    """Return the encoded HealthListResponse: the one service that matters."""
    return HealthListResponse(statuses={EXT_PROC_SERVICE: _check(serving)}).SerializeToString()


def _check(serving: bool) -> HealthCheckResponse:
    return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
