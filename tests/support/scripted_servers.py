"""Servers that a client must be able to bear: octets as scripted, and gRPC that says what a test wants."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from bbr.pb.health_pb2 import HealthCheckResponse

Process = Callable[[Iterator[bytes], grpc.ServicerContext], Iterable[bytes]]


@contextlib.contextmanager
def speaking(octets: bytes, *, ends: bool = False) -> Iterator[int]:
    """Give the port of a server that says the same on each connection, and no more; `ends` closes its side then."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as connections:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                # A client that has heard enough is gone with octets unread.
                with connection, contextlib.suppress(OSError):
                    connection.sendall(octets)
                    if ends:
                        connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65_536):
                        pass

        thread = threading.Thread(target=serve, name="a scripted server")
        thread.start()
        connections.callback(thread.join, 90)
        connections.callback(listener.shutdown, socket.SHUT_RDWR)  # which wakes accept
        yield listener.getsockname()[1]


@contextlib.contextmanager
def grpc_server(process: Process, health: str | None = "SERVING") -> Iterator[int]:
    """Give the port of grpcio's server: `process` answers ext_proc; without `health` there is no health service."""

    def check(_request: bytes, context: grpc.ServicerContext) -> bytes:
        if health == "broken":
            context.abort(grpc.StatusCode.INTERNAL, "out of order\n")
        status = HealthCheckResponse.ServingStatus.Value(health or "UNKNOWN")
        return HealthCheckResponse(status=status).SerializeToString()

    handlers = [
        grpc.method_handlers_generic_handler(
            "envoy.service.ext_proc.v3.ExternalProcessor", {"Process": grpc.stream_stream_rpc_method_handler(process)}
        )
    ]
    if health is not None:
        checks = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        handlers.append(grpc.method_handlers_generic_handler("grpc.health.v1.Health", checks))
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()
