"""The messages that answer a gateway, as encoded ProcessingResponses.

Pure. What an answer says is fixed by a few facts, so each distinct one is built once with protobuf and kept as bytes;
only the messages that carry body bytes are assembled for each request.
"""

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from typing import Final

from bbr.exchange.convention import Convention, Ours, immediate, overwriting
from bbr.exchange.wire import Wanted, number
from bbr.pb.ext_proc_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeadersResponse,
    HttpBody,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
    StreamedBodyResponse,
    TrailersResponse,
)
from bbr.reading.head import Dialect, wanted
from bbr.reading.header_names import BEGINNING_BYTES, GuardedNames
from bbr.refusal import Refusal

# The most body bytes in one message. Google's proxies take 64 KB per message back; the Go router sends 62,000 too.
# In such pieces 100 MB take 89 MB of Envoy's memory; in one message the peak is 349 MB.
MAX_BODY_CHUNK_BYTES: Final = 62_000

# Distinct routes kept as bytes. In identity mode a client chooses the names, so this bounds the cache: about 400 bytes
# an entry with ordinary names, 1.2 KB with the longest. There are three such caches.
_CACHED_ROUTES: Final = 4096
_CACHED_NAME_CHARACTERS: Final = 256

# Answers that only say "go on": the protocol wants one for each event of the response, and for trailers.
RESPONSE_HEADERS: Final = ProcessingResponse(response_headers=HeadersResponse()).SerializeToString()
RESPONSE_BODY: Final = ProcessingResponse(response_body=BodyResponse()).SerializeToString()
# What holds no more for a body that is forwarded changed: lengths and digests are those of what came. Only
# what is decoded is forwarded so if it had a Content-Encoding.
CHANGED_HEADERS: Final = (
    "content-encoding",
    "content-length",
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
)

RESPONSE_TRAILERS: Final = ProcessingResponse(response_trailers=TrailersResponse()).SerializeToString()


# What a routing answer is made of: model, base model, and the requested model if that matters and is another one.
Routing = tuple[str, str, str | None]


class Replies:
    """The answers of a convention.

    Args:
        convention: what they say.
        metadata_namespace: also give model, base model and outcome as dynamic metadata under this name; "" is off.

    Attributes:
        convention: see above.
        request_trailers: answers the message of this name.
        depends_on_requested: answers differ by the requested model, if it is another than `model`.
        wanted: the fields of a request's header section that matter.
        header_tails, body_tails: the convention's.
    """

    def __init__(self, convention: Convention | None = None, *, metadata_namespace: str = "") -> None:
        self.convention = convention or Ours()
        self.depends_on_requested = bool(metadata_namespace) or self.convention.rewrites
        self.wanted = _wanted(self.convention.guarded)
        self._metadata_namespace = metadata_namespace
        self._changes_body = False
        self.header_tails = self.convention.header_tails
        self.body_tails = self.convention.body_tails
        # This answer strips too: some servers merge trailers into the headers.
        self.request_trailers = ProcessingResponse(request_trailers=self.convention.trailers()).SerializeToString()
        # Unbounded caches are safe for these: the only key is an Outcome, of which there are about ten. They belong
        # to the object. On a method they would keep every short-lived Replies of `stripping_also` alive.
        self.stripped = cache(self._stripped)
        self.stripped_unbuffered = cache(self._stripped_unbuffered)
        self.stripped_body = cache(self._stripped_body)
        # These are keyed by names that a client may choose, so they need a bound.
        self._cached_route = lru_cache(_CACHED_ROUTES)(self._route)
        self._cached_route_unbuffered = lru_cache(_CACHED_ROUTES)(self._route_unbuffered)
        self._cached_route_body = lru_cache(_CACHED_ROUTES)(self._route_body)

    def stripping_also(self, names: Sequence[str], *, changes_body: bool = False) -> "Replies":
        """Return the same answers, which remove headers by these names too; none of them is kept for long."""
        other = Replies(self.convention.removing_also(names), metadata_namespace=self._metadata_namespace)
        other._changes_body = changes_body or self._changes_body
        return other

    @cached_property
    def changing_body(self) -> "Replies":
        """The same answers for a body that is forwarded changed: decoded, or with another model."""
        return self if self._changes_body else self.stripping_also(CHANGED_HEADERS, changes_body=True)

    @cached_property
    def beside_fields(self) -> "Replies":
        """The same answers, which leave the headers of the body's fields alone; see bbr.exchange.field_answers."""
        other = Replies(self.convention.beside_fields(), metadata_namespace=self._metadata_namespace)
        other._changes_body = self._changes_body
        return other

    def decided(self, routing: Routing | None, outcome: str, size: int | None) -> bytes:
        """Answer request_headers of a body that has been read; `size` is its length, None if it ended by trailers."""
        if self.convention.sends_length:
            # Not cached: the size makes nearly every answer a new one.
            model, base_model, requested = routing or (None, None, None)
            answer = ProcessingResponse(
                request_headers=self.convention.headers(model, base_model, size, rewrite=requested is not None)
            )
            return self._encode(answer, outcome, requested or model, base_model)
        return self.stripped(outcome) if routing is None else self.route(routing)

    def route(self, routing: Routing) -> bytes:
        """Answer request_headers and set the routing headers."""
        # As `_is_long`, without a call.
        if len(routing[0]) <= _CACHED_NAME_CHARACTERS and routing[2] is None:
            return self._cached_route(routing)
        return self._route(routing) if _is_long(routing) else self._cached_route(routing)

    def route_unbuffered(self, routing: Routing) -> bytes:
        """Answer as `route`, and ask a buffering gateway to send no body; see `stripped_unbuffered`."""
        return self._route_unbuffered(routing) if _is_long(routing) else self._cached_route_unbuffered(routing)

    def decided_body(self, routing: Routing | None, outcome: str) -> bytes:
        """Answer request_body of a body that has been read: set the routing headers, or strip."""
        if routing is None:
            return self.stripped_body(outcome)
        return self._route_body(routing) if _is_long(routing) else self._cached_route_body(routing)

    def replaced_body(self, routing: Routing | None, outcome: str, body: bytes) -> bytes:
        """Answer request_body of a gateway that holds the body: route it, or strip it, and replace the body."""
        model, base_model, requested = routing or (None, None, None)
        answer = ProcessingResponse(request_body=self.convention.body(model, base_model, rewrite=requested is not None))
        common = answer.request_body.response
        common.body_mutation.body = body
        # Envoy answers 500 if the length is not that of the new body.
        mutation = common.header_mutation
        removed = [name for name in (*mutation.remove_headers, *CHANGED_HEADERS) if name != "content-length"]
        del mutation.remove_headers[:]
        mutation.remove_headers.extend(dict.fromkeys(removed))
        mutation.set_headers.append(overwriting("content-length", b"%d" % len(body)))
        return self._encode(answer, outcome, requested or model, base_model)

    def refuse(self, refusal: Refusal, dialect: Dialect = Dialect.OPENAI, model: str | None = None) -> bytes:
        """Return the ImmediateResponse for a refusal; `model` is the requested one, if it is known."""
        error = self.convention.error(refusal, dialect)
        return self._encode(ProcessingResponse(immediate_response=error), refusal.reason, model)

    def answer(self, body: bytes, reason: str) -> bytes:
        """Return the ImmediateResponse for a request that the router serves itself: 200, JSON, `bbr:<reason>`."""
        return self._encode(ProcessingResponse(immediate_response=immediate(200, body, f"bbr:{reason}")), reason)

    def _stripped(self, outcome: str = "") -> bytes:
        """Answer request_headers and remove the routing headers."""
        return self._encode(ProcessingResponse(request_headers=self.convention.unread_headers()), outcome)

    def _stripped_unbuffered(self, outcome: str = "") -> bytes:
        """Answer as `stripped`, and ask a buffering gateway to send no body.

        A gateway without allow_mode_override ignores that part. The override replaces the whole mode, so it says SKIP
        for what a router has no use for.
        """
        answer = ProcessingResponse(request_headers=self.convention.unread_headers())
        _unbuffer(answer)
        return self._encode(answer, outcome)

    def _stripped_body(self, outcome: str = "") -> bytes:
        """Answer request_body and remove the routing headers."""
        return self._encode(ProcessingResponse(request_body=self.convention.body(None, None)), outcome)

    def _route(self, routing: Routing) -> bytes:
        model, base_model, requested = routing
        answer = ProcessingResponse(request_headers=self._headers(routing))
        return self._encode(answer, "routed", requested or model, base_model)

    def _route_unbuffered(self, routing: Routing) -> bytes:
        model, base_model, requested = routing
        answer = ProcessingResponse(request_headers=self._headers(routing))
        _unbuffer(answer)
        return self._encode(answer, "routed", requested or model, base_model)

    def _route_body(self, routing: Routing) -> bytes:
        model, base_model, requested = routing
        answer = ProcessingResponse(request_body=self.convention.body(model, base_model, rewrite=requested is not None))
        return self._encode(answer, "routed", requested or model, base_model)

    def _headers(self, routing: Routing) -> HeadersResponse:
        model, base_model, requested = routing
        return self.convention.headers(model, base_model, None, rewrite=requested is not None)

    def _encode(
        self, answer: ProcessingResponse, outcome: str, model: str | None = None, base_model: str | None = None
    ) -> bytes:
        # An answer without an outcome only strips early; the answer that decides has the metadata.
        if self._metadata_namespace and outcome:
            fields = answer.dynamic_metadata.fields[self._metadata_namespace].struct_value.fields
            facts = {"outcome": outcome, "requested_model": model, "base_model": base_model}
            for name, value in facts.items():
                if value is not None:
                    fields[name].string_value = value
        # The metadata are protobuf maps, whose order could otherwise change from one run to the next.
        return answer.SerializeToString(deterministic=True)


@lru_cache(16)
def _wanted(guarded: GuardedNames) -> Wanted:
    return Wanted(wanted(guarded), BEGINNING_BYTES)


def _unbuffer(answer: ProcessingResponse) -> None:
    """Ask for no body, and for nothing of the response."""
    # For gateways that buffer alone: after an override from full duplex to NONE, Envoy 1.40 hangs.
    answer.mode_override.request_body_mode = ProcessingMode.NONE
    answer.mode_override.response_header_mode = ProcessingMode.SKIP


def _is_long(routing: Routing) -> bool:
    model, _, requested = routing
    # Without this, a client in identity mode could fill the caches with its longest names. The base model needs no
    # look: it is the operator's, or the model itself.
    return len(model) > _CACHED_NAME_CHARACTERS or (requested is not None and len(requested) > _CACHED_NAME_CHARACTERS)


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
    size = len(body)
    if 0 < size <= MAX_BODY_CHUNK_BYTES:  # as most are
        prefix = _request_prefixes.get(-size if end_of_stream else size) or _request_prefix(size, end_of_stream)
        return [b"".join((prefix, body, _END_OF_STREAM)) if end_of_stream else b"".join((prefix, body))]
    return _streamed(_REQUEST_BODY, body, end_of_stream)


def request_chunk(parts: Sequence[bytes | memoryview], size: int, *, end_of_stream: bool) -> bytes:
    """Return parts of a body that follow each other as one such answer; `size` is all of their bytes.

    They are 1 byte at least, and MAX_BODY_CHUNK_BYTES at most.
    """
    prefix = _request_prefixes.get(-size if end_of_stream else size) or _request_prefix(size, end_of_stream)
    return b"".join([prefix, *parts, _END_OF_STREAM] if end_of_stream else [prefix, *parts])


def response_event(message: ProcessingRequest) -> bytes:
    """Return the answer to the headers or the trailers of a response, which are of no interest."""
    return RESPONSE_HEADERS if message.HasField("response_headers") else RESPONSE_TRAILERS


def response_piece(body: HttpBody, mode: int) -> Sequence[bytes]:
    """Return the answer to a piece of a response's body, by the body mode of responses."""
    # In full duplex Envoy answers 500 to an empty answer: the piece itself must come back. In the other modes the
    # gateway keeps the piece, and only waits for an answer.
    if mode == ProcessingMode.FULL_DUPLEX_STREAMED:
        return response_body(body.body, end_of_stream=body.end_of_stream)
    if mode == ProcessingMode.GRPC:
        return (grpc_message(body, response=True),)
    return (RESPONSE_BODY,)


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
    # The last full chunk carries end_of_stream itself. Hence the -1: no empty message follows a body that fills its
    # chunks.
    last = (size - 1) // MAX_BODY_CHUNK_BYTES * MAX_BODY_CHUNK_BYTES
    messages = [
        b"".join((full, view[start : start + MAX_BODY_CHUNK_BYTES])) for start in range(0, last, MAX_BODY_CHUNK_BYTES)
    ]
    messages += _streamed(tag, view[last:], end_of_stream)
    return messages


# Envoy's pieces have few sizes, mostly 16,384 bytes by HTTP/2, so nearly all prefixes are found here. A client can
# choose other sizes, hence the bound.
_CACHED_SIZES: Final = 1024
# Those of a request's pieces, by size, below zero for the last one. Plain, and emptied when it is full: to ask an
# lru_cache takes five times as long.
_request_prefixes: Final[dict[int, bytes]] = {}


def _request_prefix(size: int, end_of_stream: bool) -> bytes:
    if len(_request_prefixes) >= _CACHED_SIZES:
        _request_prefixes.clear()
    prefix = _request_prefixes[-size if end_of_stream else size] = _prefix(_REQUEST_BODY, size, end_of_stream)
    return prefix


@lru_cache(_CACHED_SIZES)
def _prefix(tag: int, size: int, end_of_stream: bool) -> bytes:
    """Return all that stands before the body in a streamed_response message of `size` body bytes."""
    # proto3 leaves out an empty field, and so does this: the bytes are those that protobuf would write.
    streamed = _FIELD_1 + number(size) if size else b""
    length = len(streamed) + size + (len(_END_OF_STREAM) if end_of_stream else 0)
    for field in (_FIELD_3, _FIELD_3, _FIELD_1):  # streamed_response, body_mutation, response: from the inside out
        header = field + number(length)
        streamed = header + streamed
        length += len(header)
    return bytes((tag,)) + number(length) + streamed
