"""One HTTP request's ext_proc conversation: encoded ProcessingRequests in, encoded ProcessingResponses out.

Sans-IO: never blocks, logs, counts or reads a clock. What came of the request is left in `Exchange.verdict`.

The request's way, for a gateway in FULL_DUPLEX_STREAMED (left) and in the modes that await an answer to each message:

    request_headers   (nothing yet)                  strip
    request_body      (nothing yet)                  route, or strip; or an error
    its end           route, or strip; the body;     -
                      or an error

A request that is not read (an upgrade, gRPC, another content type) or has no body is stripped at its headers, and its
body goes back piece by piece. "Strip" removes the routing headers that a client may have sent; see ENVOY behaviour in
DESIGN.md for why each answer is what it is.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from bbr import model, refusal, replies
from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue, HttpBody, HttpHeaders, ProcessingMode, ProcessingRequest
from bbr.refusal import Refusal
from bbr.registry import Registry
from bbr.replies import Replies
from bbr.status import OK, Status, StatusCode


class BodyMode(enum.IntEnum):
    """How a gateway sends a body; the values are those of ProcessingMode.BodySendMode."""

    NONE = ProcessingMode.NONE
    STREAMED = ProcessingMode.STREAMED
    BUFFERED = ProcessingMode.BUFFERED
    BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
    FULL_DUPLEX_STREAMED = ProcessingMode.FULL_DUPLEX_STREAMED
    GRPC = ProcessingMode.GRPC


class Outcome(enum.Enum):
    """What came of a request."""

    PENDING = "pending"  # not decided yet; at the end of a stream: the client or the gateway went away first
    ROUTED = "routed"  # both routing headers set
    NO_BODY = "no-body"  # nothing to read: passed, stripped
    NOT_READ = "not-read"  # an upgrade or a content type that the router does not read: passed, stripped
    NO_MODEL = "no-model"  # read, and no `model` in it: passed, stripped
    REFUSED = "refused"  # answered by the router; `reason` says why
    FAULT = "fault"  # the gateway broke the protocol; `reason` says how, the stream ends with an error


@dataclass(slots=True)
class Verdict:
    """The facts about one exchange, for whoever counts, logs and traces.

    Attributes:
        outcome: see Outcome.
        reason: of a refusal or a fault, in kebab case; else "".
        model: the requested model, once known.
        base_model: what it resolved to.
        body_bytes: request body received so far.
        late_bodies: request body messages after the body's end, which were dropped (envoyproxy/envoy#46237).
    """

    outcome: Outcome = Outcome.PENDING
    reason: str = ""
    model: str | None = None
    base_model: str | None = None
    body_bytes: int = 0
    late_bodies: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What every exchange of a server has in common.

    Attributes:
        replies: the messages to answer with.
        assume_body_mode: for a gateway that sends no protocol_config; governs response bodies too.
        max_body_bytes: a larger body is refused, if it is of the kind that is read.
    """

    replies: Replies
    assume_body_mode: BodyMode = BodyMode.FULL_DUPLEX_STREAMED
    max_body_bytes: int = 8 << 20


class _Phase(enum.Enum):
    """Where the request side of an exchange stands."""

    START = enum.auto()  # no request message yet
    READING = enum.auto()  # the body will be read for its model
    PASSING = enum.auto()  # decided; the body goes back as it comes
    DONE = enum.auto()  # the request has ended and is answered


_NOTHING: Final[Sequence[bytes]] = ()


class Exchange:
    """One ext_proc stream.

    Attributes:
        verdict: what is known of the request's fate so far.
        end: once set, the status to end the RPC with, after the messages already returned; later messages are ignored.
    """

    __slots__ = ("_body", "_duplex", "_echo_response", "_mode", "_phase", "_policy", "_registry", "end", "verdict")

    def __init__(self, policy: Policy, registry: Registry) -> None:
        self._policy = policy
        self._registry = registry
        self._phase = _Phase.START
        self._mode: int | None = None
        self._duplex = False
        self._echo_response = False
        self._body: list[bytes] = []
        self.verdict = Verdict()
        self.end: Status | None = None

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Take the next ProcessingRequest and return the ProcessingResponses it calls for, in order.

        Never raises on what a gateway or a client sent: a fault ends the exchange (see `end`), a refused request is
        answered with an ImmediateResponse.
        """
        if self.end is not None:
            return _NOTHING  # Envoy may have sent more before it saw our ImmediateResponse
        try:
            request = ProcessingRequest.FromString(message)
        except DecodeError:
            return self._fault(StatusCode.INVALID_ARGUMENT, "undecodable-message", "not a ProcessingRequest")
        if self._mode is None:
            self._begin(request)
        try:
            match request.WhichOneof("request"):
                case "request_body":
                    return self._request_body(request.request_body)
                case "request_headers":
                    return self._request_headers(request.request_headers)
                case "request_trailers":
                    return self._request_trailers()
                case "response_headers":
                    return (replies.RESPONSE_HEADERS,)
                case "response_body":
                    return self._response_body(request.response_body)
                case "response_trailers":
                    return (replies.RESPONSE_TRAILERS,)
                case _:
                    return self._fault(StatusCode.UNIMPLEMENTED, "unknown-message", "a message of no known kind")
        except Refusal as refused:
            return self._refuse(refused)

    def finish(self) -> Status:
        """Return the status for a stream that the gateway has half-closed.

        OK only if nothing is owed: an ext_proc stream that ends with OK before its answer makes Envoy send the request
        on with an empty body.
        """
        if self.end is not None:
            return self.end
        if self._phase is _Phase.DONE or (self._phase is _Phase.PASSING and not self._duplex):
            return OK
        return Status(StatusCode.CANCELLED, "the gateway closed the stream before the request had ended")

    def _begin(self, request: ProcessingRequest) -> None:
        """Read the body modes: protocol_config stands in the first message only, whichever that is."""
        assumed = self._policy.assume_body_mode
        response_mode: int = assumed
        self._mode = assumed
        if request.HasField("protocol_config"):
            self._mode = request.protocol_config.request_body_mode
            response_mode = request.protocol_config.response_body_mode
        self._duplex = self._mode == BodyMode.FULL_DUPLEX_STREAMED
        self._echo_response = response_mode == BodyMode.FULL_DUPLEX_STREAMED

    def _request_headers(self, headers: HttpHeaders) -> Sequence[bytes]:
        if self._phase is not _Phase.START:
            return self._fault(StatusCode.FAILED_PRECONDITION, "headers-twice", "request_headers came twice")
        if headers.end_of_stream:
            self._decide(_Phase.DONE, Outcome.NO_BODY)
            return (self._policy.replies.strip,)
        announced = _body_to_read(headers.headers)
        if announced is None:
            self._decide(_Phase.PASSING, Outcome.NOT_READ)
            return (self._policy.replies.strip if self._duplex else self._policy.replies.strip_unbuffered,)
        if announced > self._policy.max_body_bytes:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        self._phase = _Phase.READING
        # Full duplex holds the headers until we answer, and the answer is in the body. The other modes send no body
        # before it; they get the client's own routing headers stripped, in case no body message follows.
        return _NOTHING if self._duplex else (self._policy.replies.strip,)

    def _request_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._duplex:
            return self._duplex_body(body)
        self.verdict.body_bytes += len(body.body)
        if self._phase is _Phase.PASSING:
            return (self._policy.replies.strip_body,)
        if self._phase is _Phase.DONE:
            return self._fault(StatusCode.FAILED_PRECONDITION, "body-twice", "request_body came after its end")
        if self._mode != BodyMode.BUFFERED and not body.end_of_stream:
            # A piece of a body that the gateway will not hold back for us: nothing can be routed any more.
            self._decide(_Phase.PASSING, Outcome.NOT_READ)
            return (self._policy.replies.strip_body,)
        # In BUFFERED one message is the whole body, even without end_of_stream (a body that ends by trailers).
        if self.verdict.body_bytes > self._policy.max_body_bytes:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        route = self._resolve(body.body)
        return (self._policy.replies.route_body(*route) if route else self._policy.replies.strip_body,)

    def _duplex_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._phase is _Phase.DONE:
            self.verdict.late_bodies += 1
            return _NOTHING
        if self._phase is _Phase.START:
            raise refusal.headers_not_sent()
        octets = body.body
        self.verdict.body_bytes += len(octets)
        if self._phase is _Phase.PASSING:
            if body.end_of_stream:
                self._phase = _Phase.DONE
            return replies.request_body(octets, end_of_stream=body.end_of_stream)
        if self.verdict.body_bytes > self._policy.max_body_bytes:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        self._body.append(octets)
        return self._duplex_answer(end_of_stream=True) if body.end_of_stream else _NOTHING

    def _duplex_answer(self, *, end_of_stream: bool) -> list[bytes]:
        """Answer a body that has been read to its end: the headers first, then the body as it came."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        route = self._resolve(body)
        headers = self._policy.replies.route(*route) if route else self._policy.replies.strip
        return [headers, *replies.request_body(body, end_of_stream=end_of_stream)]

    def _request_trailers(self) -> Sequence[bytes]:
        if self._duplex and self._phase is _Phase.DONE:
            self.verdict.late_bodies += 1
            return _NOTHING
        if self._duplex and self._phase is _Phase.START:
            raise refusal.headers_not_sent()
        if self._phase is _Phase.READING:
            if self._duplex:
                # No message has said end_of_stream, and none of ours may: the trailers' answer ends the request.
                return [*self._duplex_answer(end_of_stream=False), replies.REQUEST_TRAILERS]
            self._decide(_Phase.DONE, Outcome.NO_BODY)
        self._phase = _Phase.DONE
        return (replies.REQUEST_TRAILERS,)

    def _response_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._echo_response:
            return replies.response_body(body.body, end_of_stream=body.end_of_stream)
        return (replies.RESPONSE_BODY,)

    def _resolve(self, body: bytes) -> tuple[str, str] | None:
        """Return the model that a whole body names and its base model, or None if it names none."""
        name = model.read_model(body)
        if name is None:
            self._decide(_Phase.DONE, Outcome.NO_MODEL)
            return None
        self.verdict.model = name
        base_model = self._registry.resolve(name)
        if base_model is None:
            raise refusal.model_not_found(name)
        self.verdict.base_model = base_model
        self._decide(_Phase.DONE, Outcome.ROUTED)
        return name, base_model

    def _decide(self, phase: _Phase, outcome: Outcome) -> None:
        self._phase = phase
        self.verdict.outcome = outcome

    def _refuse(self, refused: Refusal) -> Sequence[bytes]:
        self._decide(_Phase.DONE, Outcome.REFUSED)
        self.verdict.reason = refused.reason
        self._body = []
        self.end = OK  # an ImmediateResponse is an answer
        return (replies.refuse(refused),)

    def _fault(self, code: StatusCode, reason: str, message: str) -> Sequence[bytes]:
        self._decide(_Phase.DONE, Outcome.FAULT)
        self.verdict.reason = reason
        self._body = []
        self.end = Status(code, message)
        return _NOTHING


def _body_to_read(headers: HeaderMap) -> int | None:
    """Return the announced length of a body that is to be read for its model (0 if none is), or None to pass it.

    Passed are upgrades and CONNECT, which have no body to wait for, and content types other than JSON. A request with
    several Content-Type fields is read if one of them is JSON: the model server may go by any.
    """
    length = 0
    content_types = []
    for header in headers.headers:
        key = header.key
        if key == "content-type":
            content_types.append(_value(header))
        elif key == "content-length":
            value = _value(header)
            # Longer than any integer that an HTTP stack accepts: over every limit, without parsing it.
            length = (int(value) if len(value) < 19 else 1 << 63) if value.isdigit() else 0
        elif key == "upgrade" or (key == ":method" and _value(header) == b"CONNECT"):
            return None
    if content_types and not any(map(model.is_json, content_types)):
        return None
    return length


def _value(header: HeaderValue) -> bytes:
    return header.raw_value or header.value.encode()
