"""Encoded ProcessingRequests as a gateway sends them, and the decoding of what it gets back."""

from collections.abc import Iterable, Mapping
from typing import TypedDict, Unpack

from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import (
    HeaderMap,
    HeaderMutation,
    HeaderValue,
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)

Fields = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]

JSON_POST: dict[str, str | bytes] = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    "content-type": "application/json",
}


class Modes(TypedDict, total=False):
    """Body modes that a gateway names in a stream's first message."""

    mode: BodyMode | None
    response_mode: BodyMode | None


def request_headers(fields: Fields = JSON_POST, *, end_of_stream: bool = False, **modes: Unpack[Modes]) -> bytes:
    """Return a message with request headers; with a `mode` it is the first of its stream."""
    return _message("request_headers", _headers(fields, end_of_stream), **modes)


def request_body(octets: bytes = b"", *, end_of_stream: bool = False, **modes: Unpack[Modes]) -> bytes:
    """Return a message with a piece of the request's body."""
    return _message("request_body", HttpBody(body=octets, end_of_stream=end_of_stream), **modes)


def request_trailers(fields: Fields = (), **modes: Unpack[Modes]) -> bytes:
    """Return a message with the request's trailers."""
    return _message("request_trailers", HttpTrailers(trailers=header_map(fields)), **modes)


def response_headers(
    fields: Fields = ((":status", "200"),), *, end_of_stream: bool = False, **modes: Unpack[Modes]
) -> bytes:
    """Return a message with response headers."""
    return _message("response_headers", _headers(fields, end_of_stream), **modes)


def response_body(octets: bytes = b"", *, end_of_stream: bool = False, **modes: Unpack[Modes]) -> bytes:
    """Return a message with a piece of the response's body."""
    return _message("response_body", HttpBody(body=octets, end_of_stream=end_of_stream), **modes)


def response_trailers(fields: Fields = (), **modes: Unpack[Modes]) -> bytes:
    """Return a message with the response's trailers."""
    return _message("response_trailers", HttpTrailers(trailers=header_map(fields)), **modes)


def parse(reply: bytes) -> ProcessingResponse:
    """Decode an answer."""
    return ProcessingResponse.FromString(reply)


def set_headers(mutation: HeaderMutation) -> dict[str, bytes]:
    """Return the fields that a mutation sets, by their names as written."""
    return {option.header.key: option.header.raw_value for option in mutation.set_headers}


def header_map(fields: Fields) -> HeaderMap:
    """Return `fields` as Envoy sends them: in order, values in raw_value; a name may stand several times."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    values = (HeaderValue(key=key, raw_value=_octets(value)) for key, value in pairs)
    return HeaderMap(headers=[value.SerializeToString() for value in values])


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _headers(fields: Fields, end_of_stream: bool) -> HttpHeaders:
    return HttpHeaders(headers=header_map(fields), end_of_stream=end_of_stream)


def _message(
    name: str,
    content: HttpHeaders | HttpBody | HttpTrailers,
    mode: BodyMode | None = None,
    response_mode: BodyMode | None = None,
) -> bytes:
    """Return a message whose one field of this name is the content."""
    message = ProcessingRequest(**{name: content})  # type: ignore[arg-type]
    if mode is not None or response_mode is not None:
        message.protocol_config.CopyFrom(
            ProtocolConfiguration(request_body_mode=mode or 0, response_body_mode=response_mode or 0)
        )
    return message.SerializeToString()
