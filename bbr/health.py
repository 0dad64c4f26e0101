"""The answers of grpc.health.v1 as pure functions of one fact: does this process take new requests?

Every service name gets the same answer, as from the Go routers: gateways and probes ask for names of their own choice
(kubernetes-sigs/gateway-api-inference-extension#788).
"""

from typing import Final

from bbr.pb.health_pb2 import HealthCheckResponse, HealthListResponse

SERVICE: Final = "grpc.health.v1.Health"
EXT_PROC_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"


def check(*, serving: bool) -> bytes:
    """Return the encoded HealthCheckResponse of Check, and of each message of Watch."""
    return _check(serving).SerializeToString()


def list_services(*, serving: bool) -> bytes:
    """Return the encoded HealthListResponse: the one service that matters."""
    return HealthListResponse(statuses={EXT_PROC_SERVICE: _check(serving)}).SerializeToString()


def _check(serving: bool) -> HealthCheckResponse:
    return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
