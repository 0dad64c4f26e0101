"""An OpenTelemetry collector for tests: the OTLP TraceService over gRPC, which keeps the spans that it gets."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.harness.processes import DEADLINE_SECONDS


@dataclass
class Received:
    """A span as it came, with what it came with."""

    span: Span
    resource: dict[str, Any]
    tracer: str

    @property
    def attributes(self) -> dict[str, Any]:
        """The span's attributes."""
        return values(self.span.attributes)

    @property
    def parent(self) -> str:
        """The traceparent field, but for version and flags, that made this span's parent."""
        return f"{self.span.trace_id.hex()}-{self.span.parent_span_id.hex()}"


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {each.key: _value(each) for each in attributes}


def _value(attribute: KeyValue) -> Any:
    return getattr(attribute.value, attribute.value.WhichOneof("value"))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Serves on a free loopback port while its context lasts.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        headers: the metadata of the last call.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.headers: dict[str, Any] = {}
        self._received: list[Received] = []
        self._news = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)

    def __enter__(self) -> Self:
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(0).wait(DEADLINE_SECONDS)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        """Take spans."""
        with self._news:
            self.headers = dict(context.invocation_metadata())
            for each in request.resource_spans:
                resource = values(each.resource.attributes)
                self._received += [
                    Received(span, resource, scope.scope.name) for scope in each.scope_spans for span in scope.spans
                ]
            self._news.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Received]:
        """What has come so far."""
        with self._news:
            return [*self._received]

    def wait_for(self, count: int) -> list[Received]:
        """Await that many spans in all."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._received) >= count, DEADLINE_SECONDS), self._received
            return [*self._received]
