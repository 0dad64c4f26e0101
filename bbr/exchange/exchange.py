"""One HTTP request's ext_proc conversation: encoded ProcessingRequests in, encoded ProcessingResponses out.

Sans-IO: never blocks, logs, counts or reads a clock. What came of the request is left in `Exchange.verdict`.

The request's way, for a gateway in FULL_DUPLEX_STREAMED (left) and in the modes that await an answer to each message:

    request_headers   (nothing yet)                  strip
    request_body      (nothing yet)                  route, or strip; or an error
    its end           route, or strip; the body;     -
                      or an error

A short JSON body is read when it has ended. Any other is read as it comes (a LongBody), half a millisecond at a time,
and in full duplex the answer leaves as soon as the model is known; the body follows as far as it has been read.

A request that is not read (an upgrade, gRPC, another content type) or has no body is stripped at its headers, or routed
if its URL names a model; its body goes back piece by piece. "Strip" removes the routing headers that a client may have
sent. DESIGN.md tells which behaviour of Envoy makes each answer what it is.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from bbr import refusal
from bbr.exchange import replies
from bbr.exchange.awaited import AwaitedRequest
from bbr.exchange.duplex import DuplexRequest
from bbr.exchange.long_body import LongBody
from bbr.exchange.policy import BodyMode, OverLimit, Policy
from bbr.exchange.request import DUPLEX, NOTHING, Phase
from bbr.exchange.times import Clock, stopped
from bbr.exchange.verdict import Outcome
from bbr.models.listing import ModelsList, asked_for
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest
from bbr.reading.head import Head, read_head
from bbr.reading.kinds import open_reading
from bbr.reading.name import BodyKind
from bbr.refusal import Refusal
from bbr.rpc.status import OK, Status, StatusCode

# Looked up once: to look up a member of an enum takes long.
_JSON: Final = BodyKind.JSON
_OTHER: Final = BodyKind.OTHER
_PENDING: Final = Outcome.PENDING

_KNOWN_MODES: Final = frozenset(BodyMode)

# What a message with a piece of a body may have beside it.
_MESSAGE_OVERHEAD_BYTES: Final = 64 << 10


class CallFields(Protocol):
    """The header section of a gRPC call."""

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first field with a name, in small letters; None without one."""


class Exchange(DuplexRequest, AwaitedRequest):
    """One ext_proc stream.

    Args:
        policy: what all exchanges of a server have in common.
        registry: the model table as it is now.
        clock: tells the time, for `times`.
        call: the fields of the call itself, for whoever looks at the exchange afterwards.
        ended: called with the exchange once its stream is over, however it ended.

    Attributes:
        verdict: what is known of the request's fate so far.
        times: when it began and was decided.
        call: see above.
        end: once set, the status to end the RPC with, after the messages already returned; later messages are ignored.
        pending: `work` has something to do.
    """

    __slots__ = ("_ended", "call")

    def __init__(
        self,
        policy: Policy,
        registry: Registry,
        clock: Clock = stopped,
        *,
        call: CallFields | None = None,
        ended: "Callable[[Exchange], None] | None" = None,
    ) -> None:
        super().__init__(policy, registry, clock)
        self.call = call
        self._ended = ended

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Take the next ProcessingRequest and return the ProcessingResponses it calls for, in order.

        Never raises on what a gateway or a client sent: a fault ends the exchange (see `end`), a refused request is
        answered with an ImmediateResponse.
        """
        if self.end is not None:
            return NOTHING  # Envoy may have sent more before it saw our ImmediateResponse
        times = self.times
        if times.decided is not None:
            return self._receive(message)
        times.start()
        answers = self._receive(message)
        if self.verdict.outcome is not _PENDING:
            times.decide()
        return answers

    def _receive(self, message: bytes) -> Sequence[bytes]:
        try:
            request = ProcessingRequest.FromString(message)
            if self._mode is None:
                self._begin(request)
            if request.observability_mode:
                self._finish_request(Outcome.OBSERVED)
                return NOTHING
            return self._answer(request)
        except DecodeError:
            return self._fault(StatusCode.INVALID_ARGUMENT, "undecodable-message", "not a ProcessingRequest")
        except Refusal as refused:
            return self._refuse(refused)

    def work(self) -> Sequence[bytes]:
        """Do a bit of what is pending, about half a millisecond's, and return the ProcessingResponses that came of it.

        Not to be called while the answers that it has given wait for a slow peer: what they carry is then held here,
        within the bounds of the ledger.
        """
        long = self._long
        if not self.pending or long is None:
            return NOTHING
        times = self.times
        if times.decided is not None:
            return self._work(long)
        times.start()
        answers = self._work(long)
        if self.verdict.outcome is _PENDING:
            times.pause()
        else:
            times.decide()
        return answers

    def _work(self, long: LongBody) -> Sequence[bytes]:
        try:
            work = self._duplex_work if self._mode == DUPLEX else self._awaited_work
            answers = work(long)
            self._settle()
            return answers
        except Refusal as refused:
            return self._refuse(refused)

    def expect(self, size: int) -> Sequence[bytes]:
        """Take note that a long message of `size` octets has begun, and return the answers that this calls for.

        What it carries is reserved before it is held; if there is no room, or it is too large, the request is refused
        now (see `end`).
        """
        if self.end is not None or self._phase in (Phase.START, Phase.DONE):
            return NOTHING
        try:
            if self._phase == Phase.READING:
                room = self._policy.max_body_bytes + _MESSAGE_OVERHEAD_BYTES
                if self._policy.over_limit is OverLimit.REJECT and self.verdict.body_bytes + size > room:
                    raise refusal.body_too_large(self._policy.max_body_bytes)
            in_flight = self._mode == DUPLEX and self._phase != Phase.READING
            self._hold(self._held_bytes() + size, in_flight=in_flight)
        except Refusal as refused:
            return self._refuse(refused)
        return NOTHING

    def over(self) -> None:
        """Let go of everything, and report: the stream is over, however it ended. Called once."""
        self._drop()
        if self._ended is not None:
            self._ended(self)

    @property
    def patience_seconds(self) -> float | None:
        """How long to wait for the next message before `expire`; None is forever.

        Envoy has no timeout of its own in full duplex. Bodies that are not read may stand still as long as they like:
        a WebSocket does for hours.
        """
        if self.pending:
            return None  # it is we who are awaited
        if self._phase == Phase.READING:
            duplex = self._mode == DUPLEX
            return self._policy.duplex_idle_seconds if duplex else self._policy.buffered_wait_seconds
        if self._phase == Phase.STREAMING or self._mode is None:
            return self._policy.duplex_idle_seconds
        return None

    def expire(self) -> Sequence[bytes]:
        """Answer for a message that did not come in time: 408, or an error status if there never was a request."""
        self.times.start()
        answers: Sequence[bytes]
        if self._phase in (Phase.READING, Phase.STREAMING):
            answers = self._refuse(refusal.body_timeout(self.patience_seconds or 0))
        else:
            answers = self._fault(StatusCode.DEADLINE_EXCEEDED, "silent-stream", "no message came in time")
        if self.times.decided is None:
            self.times.decide()
        return answers

    def finish(self) -> Status:
        """Return the status for a stream that the gateway has half-closed.

        OK only if nothing is owed: an ext_proc stream that ends with OK before its answer makes Envoy send the request
        on with an empty body.
        """
        if self.end is not None:
            return self.end
        # Without a body mode that streams, all that came has been answered.
        if self._phase == Phase.DONE or (self._phase == Phase.PASSING and self._mode != DUPLEX):
            return OK
        return Status(StatusCode.CANCELLED, "the gateway closed the stream before the request had ended")

    def _begin(self, request: ProcessingRequest) -> None:
        """Read the body modes: protocol_config stands in the first message only, whichever that is."""
        self._told_mode = request.HasField("protocol_config")
        if self._told_mode:
            config = request.protocol_config
            self._mode = config.request_body_mode
            self._response_mode = config.response_body_mode
        else:
            self._mode = self._response_mode = self._policy.assume_body_mode

    def _answer(self, request: ProcessingRequest) -> Sequence[bytes]:
        match request.WhichOneof("request"):
            case "request_body":
                if self._mode == DUPLEX:
                    return self._duplex_body(request.request_body)
                return self._awaited_body(request.request_body)
            case "request_headers":
                return self._request_headers(request.request_headers)
            case "request_trailers":
                return self._request_trailers(request.request_trailers)
            case "response_headers":
                self._request_is_over()
                return (replies.RESPONSE_HEADERS,)
            case "response_body":
                return self._response_body(request.response_body)
            case "response_trailers":
                return (replies.RESPONSE_TRAILERS,)
            case _:
                return self._fault(StatusCode.UNIMPLEMENTED, "unknown-message", "a message of no known kind")

    def _request_headers(self, headers: HttpHeaders) -> Sequence[bytes]:
        if self._phase != Phase.START:
            return self._fault(StatusCode.FAILED_PRECONDITION, "headers-twice", "request_headers came twice")
        self._headers = headers.headers
        head = read_head(headers.headers, self._replies.guarded)
        if head.other_spellings:
            self._replies = self._replies.stripping_also(head.other_spellings)
        self._dialect = head.dialect
        if self._policy.models_list is not None and (answer := self._models_answer(self._policy.models_list, head)):
            return (answer,)
        excluded = self._policy.paths is not None and not self._policy.paths.reads(head.path)
        if not excluded and (b"?" in head.path or self._policy.path_templates):
            self._url_model = self._model_of_url(head.path)
        if headers.end_of_stream:
            return (self._headers_answer(Phase.DONE, Outcome.NO_BODY),)
        mode = self._mode
        if mode not in _KNOWN_MODES:
            raise refusal.body_mode_unknown(mode or 0)
        # A body of another type is looked at if its URL names a model: a server may read another one from it.
        unread = head.kind is _OTHER and (self._url_model is None or head.bodyless)
        if unread or excluded or mode in (BodyMode.NONE, BodyMode.GRPC):
            unbuffered = mode in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
            return (self._headers_answer(Phase.PASSING, Outcome.NOT_READ, unbuffered=unbuffered),)
        self._begin_body(head)
        # Full duplex holds the headers until we answer, and the answer is in the body. The other modes send no body
        # before it; they get the client's own routing headers stripped, in case no body message follows.
        return NOTHING if mode == DUPLEX else (self._replies.stripped(),)

    def _models_answer(self, models_list: ModelsList, head: Head) -> bytes | None:
        """Answer a request for the list of models, or for one of them; None if it is none, or the list is too long."""
        name = None if self._registry.identity else asked_for(head.method, head.path)
        if name is None:
            return None
        found = models_list.answer(self._registry, name)
        if found is None:
            self.verdict.reason = "models-list-too-long"
            return None
        self._finish_request(Outcome.ANSWERED)
        self.verdict.status = 200
        self.end = OK  # an ImmediateResponse is an answer
        return self._replies.answer(found, "models-list")

    def _headers_answer(self, phase: str, outcome: Outcome, *, unbuffered: bool = False) -> bytes:
        """Answer the headers of a request whose body is not read: routed if the URL names a model, else stripped."""
        if self._url_model is not None:
            route = self._routed(self._url_model)
            self._phase = phase
            return self._replies.route_unbuffered(*route) if unbuffered else self._replies.route(*route)
        self._decide(phase, outcome)
        return self._replies.stripped_unbuffered(outcome) if unbuffered else self._replies.stripped(outcome)

    def _begin_body(self, head: Head) -> None:
        """Prepare for a body that will be read."""
        policy = self._policy
        self._phase = Phase.READING
        self._content_length = head.content_length
        if head.content_length > policy.max_body_bytes and policy.over_limit is OverLimit.REJECT:
            raise refusal.body_too_large(policy.max_body_bytes)
        if head.kind is not _JSON or head.content_encodings:
            reading = open_reading(
                head,
                max_model_bytes=policy.max_model_bytes,
                whole_bytes=policy.stream_threshold_bytes,
                max_decoded_bytes=policy.max_body_bytes,
            )
            self._long = LongBody(reading, kept=self._mode == DUPLEX)

    def _request_trailers(self, trailers: HttpTrailers) -> Sequence[bytes]:
        others = self._replies.guarded.other_spellings(trailers.trailers)
        if others:
            self._replies = self._replies.stripping_also(others)
        if self._mode == DUPLEX:
            return self._duplex_trailers()
        return self._awaited_trailers()

    def _response_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._response_mode == DUPLEX:
            return replies.response_body(body.body, end_of_stream=body.end_of_stream)
        if self._response_mode == BodyMode.GRPC:
            return (replies.grpc_message(body, response=True),)
        return (replies.RESPONSE_BODY,)

    def _refuse(self, refused: Refusal) -> Sequence[bytes]:
        self._finish_request(Outcome.REFUSED)
        self.verdict.reason = refused.reason
        self.verdict.status = refused.status
        self.end = OK  # an ImmediateResponse is an answer
        return (self._replies.refuse(refused, self._dialect, self.verdict.model),)
