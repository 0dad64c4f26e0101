"""The messages that answer a gateway, as encoded ProcessingResponses.

Pure. What an answer says is fixed by a few facts, so each distinct one is built once with protobuf and kept as bytes;
only the messages that carry body bytes are assembled for each request.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property, lru_cache
from typing import Final, Self

import orjson

from bbr.headers import BASE_MODEL_HEADER, DESTINATION_HEADER, MODEL_HEADER
from bbr.pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpBody,
    HttpStatus,
    ImmediateResponse,
    ProcessingMode,
    ProcessingResponse,
    StreamedBodyResponse,
    TrailersResponse,
)
from bbr.reading.head import Dialect
from bbr.reading.header_names import GuardedNames
from bbr.refusal import Refusal

# Anthropic's error types for the statuses that it gives a name of their own.
_ANTHROPIC_TYPES: Final = {404: "not_found_error", 413: "request_too_large", 504: "timeout_error"}

# The most body bytes in one message. Google's proxies take 64 KB per message back; the Go router sends 62,000 too.
MAX_BODY_CHUNK_BYTES: Final = 62_000

# Distinct routes kept as bytes. In identity mode a client chooses the names, so this bounds the cache: about 400 octets
# an entry with ordinary names, 1.2 KB with the longest. There are three such caches.
_CACHED_ROUTES: Final = 4096
_CACHED_NAME_CHARACTERS: Final = 256

# Answers that only say "go on": the protocol wants one for each event of the response, and for trailers.
RESPONSE_HEADERS: Final = ProcessingResponse(response_headers=HeadersResponse()).SerializeToString()
RESPONSE_BODY: Final = ProcessingResponse(response_body=BodyResponse()).SerializeToString()
RESPONSE_TRAILERS: Final = ProcessingResponse(response_trailers=TrailersResponse()).SerializeToString()


class Replies:
    """The answers that set or remove routing headers.

    Each of them carries clear_route_cache: without it Envoy keeps the route that it chose by the client's own headers.

    Args:
        model_headers: the names that get the requested model.
        base_model_headers: the names that get its base model.
        strip_headers: other headers of the client's that are removed from every request.
        trust_client_headers: leave the client's own routing headers in requests that name no model.
        metadata_namespace: also tell model, base model and outcome as dynamic metadata under this name; "" is off.

    Attributes:
        guarded: the names of headers that are removed or set.
    """

    def __init__(
        self,
        *,
        model_headers: Sequence[str] = (MODEL_HEADER,),
        base_model_headers: Sequence[str] = (BASE_MODEL_HEADER,),
        strip_headers: Iterable[str] = (DESTINATION_HEADER,),
        trust_client_headers: bool = False,
        metadata_namespace: str = "",
    ) -> None:
        self._model_headers = tuple(model_headers)
        self._base_model_headers = tuple(base_model_headers)
        self._strip_headers = tuple(strip_headers)
        # The usual names route wherever a route still has them, so no client may say them, whatever names are set.
        own = {name.lower() for name in (*model_headers, *base_model_headers)}
        self._unset_headers = tuple(name for name in (MODEL_HEADER, BASE_MODEL_HEADER) if name.lower() not in own)
        self._trust_client_headers = trust_client_headers
        self._metadata_namespace = metadata_namespace
        routing = () if trust_client_headers else (*own, *self._unset_headers)
        self.guarded = GuardedNames((*routing, *self._strip_headers))
        self._keep_answers()

    def _keep_answers(self) -> None:
        self.stripped = cache(self._stripped)
        self.stripped_unbuffered = cache(self._stripped_unbuffered)
        self.stripped_body = cache(self._stripped_body)
        self._cached_route = lru_cache(_CACHED_ROUTES)(self._route)
        self._cached_route_unbuffered = lru_cache(_CACHED_ROUTES)(self._route_unbuffered)
        self._cached_route_body = lru_cache(_CACHED_ROUTES)(self._route_body)

    def stripping_also(self, names: Iterable[str]) -> Self:
        """Return the same answers, which remove headers by these names too; none of them is kept for long."""
        other = copy.copy(self)
        other.__dict__.pop("request_trailers", None)
        other._strip_headers += tuple(names)
        other._keep_answers()
        return other

    @property
    def tells_metadata(self) -> bool:
        """Whether answers tell the requested model; only then `requested`, if it is another than `model`, matters."""
        return bool(self._metadata_namespace)

    @cached_property
    def request_trailers(self) -> bytes:
        """Answer request_trailers and remove there what a client may not say: an upstream may take them for headers."""
        removal = self._stripping().header_mutation
        return ProcessingResponse(request_trailers=TrailersResponse(header_mutation=removal)).SerializeToString()

    def route(self, model: str, base_model: str, requested: str | None = None) -> bytes:
        """Answer request_headers and set the routing headers; see `tells_metadata` for `requested`."""
        return (self._route if _is_long(model, requested) else self._cached_route)(model, base_model, requested)

    def route_unbuffered(self, model: str, base_model: str, requested: str | None = None) -> bytes:
        """Answer as `route`, and ask a buffering gateway to send no body; see `stripped_unbuffered`."""
        answer = self._route_unbuffered if _is_long(model, requested) else self._cached_route_unbuffered
        return answer(model, base_model, requested)

    def route_body(self, model: str, base_model: str, requested: str | None = None) -> bytes:
        """Answer request_body and set the routing headers."""
        answer = self._route_body if _is_long(model, requested) else self._cached_route_body
        return answer(model, base_model, requested)

    def refuse(self, refusal: Refusal, dialect: Dialect = Dialect.OPENAI, model: str | None = None) -> bytes:
        """Return the ImmediateResponse for a refusal: an error in the client's dialect, `bbr:<reason>` as details."""
        error = _anthropic_error(refusal) if dialect is Dialect.ANTHROPIC else _openai_error(refusal)
        immediate = ImmediateResponse(
            status=HttpStatus(code=refusal.status),
            headers=HeaderMutation(set_headers=_overwrite([("content-type", b"application/json"), *refusal.headers])),
            body=orjson.dumps(error),
            details=f"bbr:{refusal.reason}",
        )
        return self._encode(ProcessingResponse(immediate_response=immediate), refusal.reason, model)

    def answer(self, body: bytes, reason: str) -> bytes:
        """Return the ImmediateResponse for a request that the router serves itself: 200, JSON, `bbr:<reason>`."""
        immediate = ImmediateResponse(
            status=HttpStatus(code=200),
            headers=HeaderMutation(set_headers=_overwrite([("content-type", b"application/json")])),
            body=body,
            details=f"bbr:{reason}",
        )
        return self._encode(ProcessingResponse(immediate_response=immediate), reason)

    def _stripped(self, outcome: str = "") -> bytes:
        """Answer request_headers and remove the routing headers."""
        return self._encode(ProcessingResponse(request_headers=HeadersResponse(response=self._stripping())), outcome)

    def _stripped_unbuffered(self, outcome: str = "") -> bytes:
        """Answer as `stripped`, and ask a buffering gateway to send no body.

        A gateway without allow_mode_override ignores that part. The override replaces the whole mode, so it says SKIP
        for what a router has no use for.
        """
        answer = ProcessingResponse(request_headers=HeadersResponse(response=self._stripping()))
        unbuffer(answer)
        return self._encode(answer, outcome)

    def _stripped_body(self, outcome: str = "") -> bytes:
        """Answer request_body and remove the routing headers."""
        return self._encode(ProcessingResponse(request_body=BodyResponse(response=self._stripping())), outcome)

    def _route(self, model: str, base_model: str, requested: str | None) -> bytes:
        answer = ProcessingResponse(request_headers=HeadersResponse(response=self._routing(model, base_model)))
        return self._encode(answer, "routed", requested or model, base_model)

    def _route_unbuffered(self, model: str, base_model: str, requested: str | None) -> bytes:
        answer = ProcessingResponse(request_headers=HeadersResponse(response=self._routing(model, base_model)))
        unbuffer(answer)
        return self._encode(answer, "routed", requested or model, base_model)

    def _route_body(self, model: str, base_model: str, requested: str | None) -> bytes:
        answer = ProcessingResponse(request_body=BodyResponse(response=self._routing(model, base_model)))
        return self._encode(answer, "routed", requested or model, base_model)

    def _stripping(self) -> CommonResponse:
        routing = (*self._model_headers, *self._base_model_headers, *self._unset_headers)
        stripped = self._strip_headers if self._trust_client_headers else (*routing, *self._strip_headers)
        removal = HeaderMutation(remove_headers=stripped)
        if not removal.remove_headers:
            return CommonResponse()
        return CommonResponse(header_mutation=removal, clear_route_cache=True)

    def _routing(self, model: str, base_model: str) -> CommonResponse:
        headers = [(name, model.encode()) for name in self._model_headers]
        headers += [(name, base_model.encode()) for name in self._base_model_headers]
        removed = (*self._unset_headers, *self._strip_headers)
        mutation = HeaderMutation(set_headers=_overwrite(headers), remove_headers=removed)
        return CommonResponse(header_mutation=mutation, clear_route_cache=True)

    def _encode(
        self, answer: ProcessingResponse, outcome: str, model: str | None = None, base_model: str | None = None
    ) -> bytes:
        if self._metadata_namespace and outcome:
            fields = answer.dynamic_metadata.fields[self._metadata_namespace].struct_value.fields
            facts = {"outcome": outcome, "requested_model": model, "base_model": base_model}
            for name, value in facts.items():
                if value is not None:
                    fields[name].string_value = value
        return answer.SerializeToString(deterministic=True)


def unbuffer(answer: ProcessingResponse) -> None:
    """Ask for no body, and for nothing of the response."""
    answer.mode_override.request_body_mode = ProcessingMode.NONE
    answer.mode_override.response_header_mode = ProcessingMode.SKIP


def _is_long(model: str | None, requested: str | None) -> bool:
    return (model is not None and len(model) > _CACHED_NAME_CHARACTERS) or (
        requested is not None and len(requested) > _CACHED_NAME_CHARACTERS
    )


def _openai_error(refusal: Refusal) -> dict[str, object]:
    error = {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def _anthropic_error(refusal: Refusal) -> dict[str, object]:
    kind = _ANTHROPIC_TYPES.get(refusal.status) or ("api_error" if refusal.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}


def _overwrite(headers: Iterable[tuple[str, bytes]]) -> Iterator[HeaderValueOption]:
    # Envoy 1.40 overwrites whatever append_action says; other gateways append unless told. Only raw_value is read.
    for key, value in headers:
        yield HeaderValueOption(
            header=HeaderValue(key=key, raw_value=value), append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        )


def grpc_message(body: HttpBody, *, response: bool) -> bytes:
    """Return a message of a body in GRPC mode as it came: there a piece is a gRPC message and may not be cut."""
    streamed = StreamedBodyResponse(
        body=body.body,
        end_of_stream=body.end_of_stream,
        end_of_stream_without_message=body.end_of_stream_without_message,
        grpc_message_compressed=body.grpc_message_compressed,
    )
    answer = BodyResponse(response=CommonResponse(body_mutation=BodyMutation(streamed_response=streamed)))
    if response:
        return ProcessingResponse(response_body=answer).SerializeToString()
    return ProcessingResponse(request_body=answer).SerializeToString()


def request_body(body: bytes | memoryview, *, end_of_stream: bool) -> list[bytes]:
    """Return `body` as request_body answers for FULL_DUPLEX_STREAMED, of at most MAX_BODY_CHUNK_BYTES of body each.

    `end_of_stream` marks the last of them; an empty body then still is one message. Without it an empty body is none.
    """
    return _streamed(_REQUEST_BODY, body, end_of_stream)


def response_body(body: bytes, *, end_of_stream: bool) -> list[bytes]:
    """Return a response body's bytes as request_body does a request's; an empty piece is answered by an empty piece."""
    return _streamed(_RESPONSE_BODY, body, end_of_stream) or [_prefix(_RESPONSE_BODY, 0, False)]


# Protobuf by hand, for the one message whose size grows with the body: building and encoding the five nested messages
# costs ten times as much (3.8 against 0.36 us at 1 KB, 23 against 1.7 us at 62,000 bytes; bench/micro/replies.py).
_REQUEST_BODY: Final = 3 << 3 | 2
_RESPONSE_BODY: Final = 4 << 3 | 2
_FIELD_1: Final = b"\x0a"
_FIELD_3: Final = b"\x1a"
_END_OF_STREAM: Final = b"\x10\x01"


def _streamed(tag: int, body: bytes | memoryview, end_of_stream: bool) -> list[bytes]:
    size = len(body)
    if size <= MAX_BODY_CHUNK_BYTES:
        if not size and not end_of_stream:
            return []
        return [b"".join((_prefix(tag, size, end_of_stream), body, _END_OF_STREAM if end_of_stream else b""))]
    view = memoryview(body)
    full = _prefix(tag, MAX_BODY_CHUNK_BYTES, False)
    last = (size - 1) // MAX_BODY_CHUNK_BYTES * MAX_BODY_CHUNK_BYTES
    messages = [
        b"".join((full, view[start : start + MAX_BODY_CHUNK_BYTES])) for start in range(0, last, MAX_BODY_CHUNK_BYTES)
    ]
    messages += _streamed(tag, view[last:], end_of_stream)
    return messages


@lru_cache(1024)
def _prefix(tag: int, size: int, end_of_stream: bool) -> bytes:
    """Return all that stands before the body in a streamed_response message of `size` body bytes."""
    streamed = _FIELD_1 + _varint(size) if size else b""
    length = len(streamed) + size + (len(_END_OF_STREAM) if end_of_stream else 0)
    for field in (_FIELD_3, _FIELD_3, _FIELD_1):  # streamed_response, body_mutation, response: from the inside out
        header = field + _varint(length)
        streamed = header + streamed
        length += len(header)
    return bytes((tag,)) + _varint(length) + streamed


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
