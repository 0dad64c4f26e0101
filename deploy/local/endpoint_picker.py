"""A stand-in for an InferencePool's endpoint picker (EPP): an ext_proc server that names a request's model server.

It shares no code with bbr: its messages are envoy-data-plane's, its gRPC is grpcio's. Like a real picker it reads the
whole request body before it decides, and sets `x-gateway-destination-endpoint`. It picks the endpoint with the fewest
requests in flight; of equals the one whose last pick is the longest ago. Queues, caches, adapters: it knows none.
"""

import argparse
import asyncio
import ipaddress
import itertools
import logging
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Final

import betterproto2
import grpc

with warnings.catch_warnings():
    # Of the package's use of pydantic; for its authors to hear, not for whoever treats warnings as errors.
    warnings.filterwarnings("ignore", message="Using `@model_validator` with mode='after' on a classmethod")
    from envoy_data_plane.envoy.config.core.v3 import (
        HeaderValue,
        HeaderValueOption,
        HeaderValueOptionHeaderAppendAction,
    )
    from envoy_data_plane.envoy.service.ext_proc.v3 import (
        BodyMutation,
        BodyResponse,
        CommonResponse,
        HeaderMutation,
        HeadersResponse,
        ProcessingRequest,
        ProcessingResponse,
        StreamedBodyResponse,
        TrailersResponse,
    )

DESTINATION_HEADER: Final = "x-gateway-destination-endpoint"

# One message, framing included, then fits the 65,535 octets of an HTTP/2 default window. Envoy takes any size back.
MAX_BODY_BYTES: Final = 62_000

# HealthCheckResponse{status: SERVING}: field 1, varint 1. Two octets are no reason for a dependency.
SERVING: Final = b"\x08\x01"

log = logging.getLogger("endpoint_picker")


class Endpoints:
    """The pool's model servers and how many requests each one has in flight.

    Args:
        endpoints: addresses as `ip:port`; Envoy's ORIGINAL_DST cluster resolves no names.

    Raises:
        ValueError: no endpoint, or one that is not `ip:port`.
    """

    def __init__(self, endpoints: list[str]) -> None:
        if not endpoints:
            raise ValueError("a pool needs at least one endpoint")
        for endpoint in endpoints:
            _check_endpoint(endpoint)
        self.in_flight = dict.fromkeys(endpoints, 0)
        self._order = itertools.count(1)
        self._last_pick = dict.fromkeys(endpoints, 0)

    def pick(self) -> str:
        """Choose an endpoint and count a request on it until `release`."""
        endpoint = min(self.in_flight, key=lambda name: (self.in_flight[name], self._last_pick[name]))
        self.in_flight[endpoint] += 1
        self._last_pick[endpoint] = next(self._order)
        return endpoint

    def release(self, endpoint: str) -> None:
        """Take back one `pick` of `endpoint`."""
        self.in_flight[endpoint] -= 1


class Picker:
    """The ext_proc service: one `process` call per HTTP request.

    A request is in flight from its pick until its stream ends or is reset. The filter must therefore subscribe to an
    event at the end of the answer (response_trailer_mode SEND does, with or without trailers): Envoy resets a stream
    that has nothing left to tell right after the last request message, and everything would look idle.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def process(
        self, requests: AsyncIterator[ProcessingRequest], _context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ProcessingResponse]:
        """Answer one ext_proc stream; its request body must come in FULL_DUPLEX_STREAMED."""
        body = bytearray()
        picked: str | None = None
        try:
            async for message in requests:
                kind, _ = betterproto2.which_one_of(message, "request")
                if message.request_body and picked is None:
                    body += message.request_body.body
                if picked is None and _ends_request(message):
                    picked = self._endpoints.pick()
                    for answer in _answer_request(picked, kind, body):
                        yield answer
                    body.clear()
                elif kind in ("response_headers", "response_trailers"):
                    yield _no_change(kind)
                # What is left are parts of a body, and body messages after its end (Envoy 1.35 - 1.37 repeat the
                # last one of a large body): neither has an answer.
        finally:
            if picked is not None:
                self._endpoints.release(picked)


def _check_endpoint(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        valid = 0 < int(port) < 65536
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"endpoint {endpoint!r} is not ip:port")


def _ends_request(message: ProcessingRequest) -> bool:
    part = message.request_headers or message.request_body
    return part.end_of_stream if part else message.request_trailers is not None


def _answer_request(endpoint: str, ended_by: str, body: bytearray) -> Iterator[ProcessingResponse]:
    yield ProcessingResponse(request_headers=HeadersResponse(response=_set_destination(endpoint)))
    if ended_by == "request_headers":
        return
    # Trailers end the request themselves: then no body message may carry end_of_stream, or Envoy hangs.
    ends = ended_by == "request_body"
    last = max(len(body) - 1, 0) // MAX_BODY_BYTES
    for index in range(last + 1):
        part = bytes(body[index * MAX_BODY_BYTES : (index + 1) * MAX_BODY_BYTES])
        if part or ends:
            streamed = StreamedBodyResponse(body=part, end_of_stream=ends and index == last)
            mutation = BodyMutation(streamed_response=streamed)
            yield ProcessingResponse(request_body=BodyResponse(response=CommonResponse(body_mutation=mutation)))
    if not ends:
        yield ProcessingResponse(request_trailers=TrailersResponse())


def _set_destination(endpoint: str) -> CommonResponse:
    option = HeaderValueOption(
        header=HeaderValue(key=DESTINATION_HEADER, raw_value=endpoint.encode()),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    return CommonResponse(header_mutation=HeaderMutation(set_headers=[option]))


def _no_change(kind: str) -> ProcessingResponse:
    if kind == "response_headers":
        return ProcessingResponse(response_headers=HeadersResponse())
    return ProcessingResponse(response_trailers=TrailersResponse())


async def _check_health(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return SERVING


def build_server(picker: Picker) -> grpc.aio.Server:
    """Return a server with the ext_proc and the health service; the caller adds ports and starts it."""
    options = [
        ("grpc.max_receive_message_length", -1),  # a message of a body can have the size of Envoy's buffer
        ("grpc.so_reuseport", 0),  # a second picker on the same port is a mistake, not a replica
    ]
    server = grpc.aio.server(options=options)
    process = grpc.stream_stream_rpc_method_handler(
        picker.process, request_deserializer=ProcessingRequest.parse, response_serializer=bytes
    )
    check = grpc.unary_unary_rpc_method_handler(_check_health)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        )
    )
    return server


async def serve(address: str, endpoints: list[str]) -> None:
    """Serve on `address` (`ip:port`) until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = build_server(Picker(Endpoints(endpoints)))
    server.add_insecure_port(address)
    await server.start()
    log.info("stand-in endpoint picker on %s for %s", address, ", ".join(endpoints))
    await stop.wait()
    await server.stop(grace=1)


def main(arguments: list[str] | None = None) -> None:
    """Run a picker from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bind-address", default="127.0.0.1", metavar="IP")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--endpoint", nargs="+", required=True, metavar="IP:PORT", help="the pool's model servers")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        asyncio.run(serve(f"{options.bind_address}:{options.port}", options.endpoint))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
