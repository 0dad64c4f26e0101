"""One HTTP request's ext_proc conversation: encoded ProcessingRequests in, encoded ProcessingResponses out.

Sans-IO: never blocks, logs, counts or reads a clock. What came of the request is left in `Exchange.verdict`.

The request's way, for a gateway in FULL_DUPLEX_STREAMED (left) and in the modes that await an answer to each message:

    request_headers   (nothing yet)                  strip
    request_body      (nothing yet)                  route, or strip; or an error
    its end           route, or strip; the body;     -
                      or an error

A request that is not read (an upgrade, gRPC, another content type) or has no body is stripped at its headers, and its
body goes back piece by piece. "Strip" removes the routing headers that a client may have sent. DESIGN.md tells which
behaviour of Envoy makes each answer what it is.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from bbr import model, refusal, replies, routing
from bbr.head import Dialect, Head, read_head
from bbr.model import MAX_MODEL_BYTES, BodyKind
from bbr.models_list import ModelsList, asked_for
from bbr.paths import PathFilter
from bbr.pb.ext_proc_pb2 import HttpBody, HttpHeaders, ProcessingMode, ProcessingRequest
from bbr.refusal import Refusal
from bbr.registry import Registry
from bbr.replies import Replies
from bbr.routing import Route, Rules
from bbr.status import OK, Status, StatusCode


class BodyMode(enum.IntEnum):
    """How a gateway sends a body; the values are those of ProcessingMode.BodySendMode."""

    NONE = ProcessingMode.NONE
    STREAMED = ProcessingMode.STREAMED
    BUFFERED = ProcessingMode.BUFFERED
    BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
    FULL_DUPLEX_STREAMED = ProcessingMode.FULL_DUPLEX_STREAMED
    GRPC = ProcessingMode.GRPC


class InvalidJson(enum.Enum):
    """What becomes of a body that is no strict JSON. Model servers take some of it: NaN, lone surrogates, a BOM."""

    REJECT = "reject"  # 400
    PASS_STRIPPED = "pass-stripped"  # noqa: S105 (no password); it goes on without routing headers


class Outcome(enum.StrEnum):
    """What came of a request."""

    PENDING = "pending"  # not decided yet; at the end of a stream: the client or the gateway went away first
    ROUTED = "routed"  # both routing headers set
    NO_BODY = "no-body"  # nothing to read: passed, stripped
    NOT_READ = "not-read"  # an upgrade or a content type that the router does not read: passed, stripped
    NO_MODEL = "no-model"  # read, and no `model` in it: passed, stripped
    INVALID = "invalid"  # no strict JSON, and the policy lets that pass, stripped; `reason` says which fault
    OBSERVED = "observed"  # the gateway only lets us watch: no answer
    ANSWERED = "answered"  # by the router, with the list of models or one of them
    REFUSED = "refused"  # answered by the router; `reason` says why
    FAULT = "fault"  # the gateway broke the protocol; `reason` says how, the stream ends with an error


@dataclass(slots=True)
class Verdict:
    """The facts about one exchange, for whoever counts, logs and traces.

    Attributes:
        outcome: see Outcome.
        reason: of a refusal, a fault, an invalid body or a list of models that was too long to answer, in kebab case;
            else "".
        model: the requested model, once known.
        base_model: what it resolved to.
        route: how and why, if it was routed.
        body_bytes: request body received so far.
        late_bodies: body and trailer messages after the request's end, which were dropped (envoyproxy/envoy#46237).
    """

    outcome: Outcome = Outcome.PENDING
    reason: str = ""
    model: str | None = None
    base_model: str | None = None
    route: Route | None = None
    body_bytes: int = 0
    late_bodies: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What every exchange of a server has in common.

    Attributes:
        replies: the messages to answer with.
        assume_body_mode: for a gateway that sends no protocol_config; governs response bodies too.
        max_body_bytes: a larger body is refused, if it is of the kind that is read.
        max_model_bytes: a longer model name is refused.
        on_invalid_json: see InvalidJson.
        duplex_idle_seconds: how long a body may stand still in FULL_DUPLEX_STREAMED.
        buffered_wait_seconds: how long a body may take to come in the other modes.
        single_reply_bytes: bodies up to this go back in one message with the header answer, in FULL_DUPLEX_STREAMED;
            at most MAX_BODY_CHUNK_BYTES. 0: none.
        rules: what becomes of models that are unknown or missing.
        paths: which paths' bodies are read; None: all.
        models_list: the answers to GET /v1/models; None: such requests pass.
    """

    replies: Replies
    assume_body_mode: BodyMode = BodyMode.FULL_DUPLEX_STREAMED
    max_body_bytes: int = 8 << 20
    max_model_bytes: int = MAX_MODEL_BYTES
    on_invalid_json: InvalidJson = InvalidJson.REJECT
    duplex_idle_seconds: float = 60.0
    buffered_wait_seconds: float = 300.0
    single_reply_bytes: int = 0
    rules: Rules = field(default_factory=Rules)
    paths: PathFilter | None = None
    models_list: ModelsList | None = None


class _Phase:
    """Where the request side of an exchange stands. Plain strings: to look up a member of an enum takes long."""

    START: Final = "start"  # no request message yet
    PEEKING: Final = "peeking"  # the body's first octet will tell whether it is read
    READING: Final = "reading"  # the body will be read for its model
    PASSING: Final = "passing"  # decided; the body goes back as it comes
    DONE: Final = "done"  # the request has ended and is answered


# Looked up once, for the same reason.
_DUPLEX: Final = BodyMode.FULL_DUPLEX_STREAMED
_ROUTED: Final = Outcome.ROUTED
_JSON: Final = BodyKind.JSON
_OTHER: Final = BodyKind.OTHER
_FORM: Final = BodyKind.FORM

_NOTHING: Final[Sequence[bytes]] = ()
_KNOWN_MODES: Final = frozenset(BodyMode)

# A held piece takes some 50 octets beside its own. Pieces of fewer than this on the average are joined as they come, so
# that a body takes little more than its octets, at the cost of copying about as many octets with each piece.
_TINY_PIECE_BYTES: Final = 512
_MANY_PIECES: Final = 64


class Exchange:
    """One ext_proc stream.

    Attributes:
        verdict: what is known of the request's fate so far.
        end: once set, the status to end the RPC with, after the messages already returned; later messages are ignored.
    """

    __slots__ = (
        "_dialect",
        "_mode",
        "_phase",
        "_piece_count",
        "_pieces",
        "_policy",
        "_registry",
        "_replies",
        "_response_mode",
        "_told_mode",
        "end",
        "verdict",
    )

    def __init__(self, policy: Policy, registry: Registry) -> None:
        self._policy = policy
        self._replies = policy.replies
        self._registry = registry
        self._phase = _Phase.START
        self._dialect = Dialect.OPENAI
        self._mode: int | None = None
        self._told_mode = False
        self._response_mode: int | None = None
        self._pieces: list[bytes] = []  # of the body so far; some may be several messages' joined
        self._piece_count = 0
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
            if self._mode is None:
                self._begin(request)
            if request.observability_mode:
                self._decide(_Phase.DONE, Outcome.OBSERVED)
                return _NOTHING
            return self._answer(request)
        except DecodeError:
            return self._fault(StatusCode.INVALID_ARGUMENT, "undecodable-message", "not a ProcessingRequest")
        except Refusal as refused:
            return self._refuse(refused)

    @property
    def patience_seconds(self) -> float | None:
        """How long to wait for the next message before `expire`; None is forever.

        Envoy has no timeout of its own in full duplex. Bodies that are not read may stand still as long as they like:
        a WebSocket does for hours.
        """
        if self._phase in (_Phase.PEEKING, _Phase.READING):
            duplex = self._mode == _DUPLEX
            return self._policy.duplex_idle_seconds if duplex else self._policy.buffered_wait_seconds
        return self._policy.duplex_idle_seconds if self._mode is None else None

    def expire(self) -> Sequence[bytes]:
        """Answer for a message that did not come in time: 408, or an error status if there never was a request."""
        if self._phase in (_Phase.PEEKING, _Phase.READING):
            return self._refuse(refusal.body_timeout(self.patience_seconds or 0))
        return self._fault(StatusCode.DEADLINE_EXCEEDED, "silent-stream", "no message came in time")

    def finish(self) -> Status:
        """Return the status for a stream that the gateway has half-closed.

        OK only if nothing is owed: an ext_proc stream that ends with OK before its answer makes Envoy send the request
        on with an empty body.
        """
        if self.end is not None:
            return self.end
        # Without a body mode that streams, all that came has been answered.
        if self._phase == _Phase.DONE or (self._phase == _Phase.PASSING and self._mode != _DUPLEX):
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
                if self._mode == _DUPLEX:
                    return self._duplex_body(request.request_body)
                return self._awaited_body(request.request_body)
            case "request_headers":
                return self._request_headers(request.request_headers)
            case "request_trailers":
                return self._request_trailers()
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
        if self._phase != _Phase.START:
            return self._fault(StatusCode.FAILED_PRECONDITION, "headers-twice", "request_headers came twice")
        head = read_head(headers.headers)
        self._dialect = head.dialect
        if self._policy.models_list is not None and (answer := self._models_answer(self._policy.models_list, head)):
            return (answer,)
        excluded = self._policy.paths is not None and not self._policy.paths.reads(head.path)
        if headers.end_of_stream:
            return (self._replies.stripped(self._decide(_Phase.DONE, Outcome.NO_BODY)),)
        mode = self._mode
        if mode not in _KNOWN_MODES:
            raise refusal.body_mode_unknown(mode or 0)
        if head.kind is _OTHER or mode in (BodyMode.NONE, BodyMode.GRPC) or excluded:
            outcome = self._decide(_Phase.PASSING, Outcome.NOT_READ)
            if mode in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL):
                return (self._replies.stripped_unbuffered(outcome),)
            return (self._replies.stripped(outcome),)
        if head.kind is _FORM:
            self._phase = _Phase.PEEKING
        elif head.content_length > self._policy.max_body_bytes:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        else:
            self._phase = _Phase.READING
        # Full duplex holds the headers until we answer, and the answer is in the body. The other modes send no body
        # before it; they get the client's own routing headers stripped, in case no body message follows.
        return _NOTHING if mode == _DUPLEX else (self._replies.stripped(),)

    def _models_answer(self, models_list: ModelsList, head: Head) -> bytes | None:
        """Answer a request for the list of models, or for one of them; None if it is none, or the list is too long."""
        name = None if self._registry.identity else asked_for(head.method, head.path)
        if name is None:
            return None
        found = models_list.answer(self._registry, name)
        if found is None:
            self.verdict.reason = "models-list-too-long"
            return None
        self._decide(_Phase.DONE, Outcome.ANSWERED)
        self.end = OK  # an ImmediateResponse is an answer
        return self._replies.answer(found, "models-list")

    def _request_trailers(self) -> Sequence[bytes]:
        if self._mode == _DUPLEX:
            return self._duplex_trailers()
        self._check_headers_came()
        if self._phase in (_Phase.READING, _Phase.PEEKING):
            if self._pieces:
                self._resolve_late(self._take_body())
            else:
                self._decide(_Phase.DONE, Outcome.NO_BODY)
        self._phase = _Phase.DONE
        return (self._replies.request_trailers,)

    def _response_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._response_mode == _DUPLEX:
            return replies.response_body(body.body, end_of_stream=body.end_of_stream)
        if self._response_mode == BodyMode.GRPC:
            return (replies.grpc_message(body, response=True),)
        return (replies.RESPONSE_BODY,)

    def _request_is_over(self) -> None:
        """Wait no longer for a body that would have come by now: HEADERS and trailers have no other end."""
        if self._mode != _DUPLEX and self._phase in (_Phase.READING, _Phase.PEEKING):
            self._decide(_Phase.PASSING, Outcome.NO_BODY)
            self._pieces = []

    # FULL_DUPLEX_STREAMED: one header answer, then the body; no answer is due before the request has ended.

    def _duplex_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._phase == _Phase.DONE:
            self.verdict.late_bodies += 1
            return _NOTHING
        if self._phase == _Phase.START:
            raise refusal.headers_not_sent()
        octets, ended = body.body, body.end_of_stream
        self.verdict.body_bytes += len(octets)
        if self._phase == _Phase.PASSING:
            if ended:
                self._phase = _Phase.DONE
            return replies.request_body(octets, end_of_stream=ended)
        self._keep(octets)
        if self._phase == _Phase.PEEKING:
            kind = self._peek(octets, ended=ended)
            if kind is _OTHER:
                return self._duplex_pass(ended=ended)
            if kind is _FORM:
                return _NOTHING
            self._phase = _Phase.READING
        self._check_size()
        return self._duplex_answer(end_of_stream=True) if ended else _NOTHING

    def _duplex_trailers(self) -> Sequence[bytes]:
        match self._phase:
            case _Phase.DONE:
                self.verdict.late_bodies += 1
                return _NOTHING
            case _Phase.START:
                raise refusal.headers_not_sent()
            case _Phase.READING:
                # No message has said end_of_stream, and none of ours may: the trailers' answer ends the request.
                return [*self._duplex_answer(end_of_stream=False), self._replies.request_trailers]
            case _Phase.PEEKING:  # there were nothing but blanks
                return [*self._duplex_pass(ended=True, end_of_stream=False), self._replies.request_trailers]
            case _:
                self._phase = _Phase.DONE
                return (self._replies.request_trailers,)

    def _duplex_answer(self, *, end_of_stream: bool) -> list[bytes]:
        """Answer a body that has been read to its end: the headers first, then the body as it came."""
        body = self._take_body()
        route = self._resolve(body)
        if end_of_stream and 0 < len(body) <= self._policy.single_reply_bytes:
            return [self._replies.single(body, self.verdict.outcome, *(route or ()))]
        headers = self._replies.route(*route) if route else self._replies.stripped(self.verdict.outcome)
        return [headers, *replies.request_body(body, end_of_stream=end_of_stream)]

    def _duplex_pass(self, *, ended: bool, end_of_stream: bool = True) -> list[bytes]:
        """Let go of a body that turned out to be none to read; `end_of_stream` says how it ended, if it has."""
        headers = self._replies.stripped(self._decide(_Phase.PASSING, Outcome.NOT_READ))
        if ended:
            self._phase = _Phase.DONE
        return [headers, *replies.request_body(self._take_body(), end_of_stream=ended and end_of_stream)]

    # The other modes: every message is awaited and gets one answer; the headers have had theirs.

    def _awaited_body(self, body: HttpBody) -> Sequence[bytes]:
        if self._mode == BodyMode.GRPC:
            return (replies.grpc_message(body, response=False),)
        self._check_headers_came()
        octets, ended = body.body, body.end_of_stream
        self.verdict.body_bytes += len(octets)
        if self._phase == _Phase.DONE:
            return self._fault(StatusCode.FAILED_PRECONDITION, "body-twice", "request_body came after its end")
        if self._phase == _Phase.PASSING:
            return (self._replies.stripped_body(),)
        self._keep(octets)
        if self._phase == _Phase.PEEKING:
            kind = self._peek(octets, ended=ended or self._mode != BodyMode.STREAMED)
            if kind is _OTHER:
                self._pieces = []
                return (self._replies.stripped_body(self._decide(_Phase.PASSING, Outcome.NOT_READ)),)
            if kind is _FORM:
                return (self._replies.stripped_body(),)
            self._phase = _Phase.READING
        self._check_size()
        # In BUFFERED one message is the whole body, even without end_of_stream (a body that ends by trailers).
        if self._mode == BodyMode.STREAMED and not (ended and self._piece_count == 1):
            return self._streamed_piece(ended=ended)
        if self._mode == BodyMode.BUFFERED_PARTIAL and not ended:
            return (self._partial_answer(self._take_body()),)
        return (self._awaited_answer(self._take_body()),)

    def _awaited_answer(self, body: bytes) -> bytes:
        route = self._resolve(body)
        if route:
            return self._replies.route_body(*route)
        return self._replies.stripped_body(self.verdict.outcome)

    def _partial_answer(self, body: bytes) -> bytes:
        """Answer a body that was cut at the gateway's buffer or ended by trailers, which nobody can tell apart.

        What may follow goes upstream unread, so it is never routed: a document can be whole in the part that is seen.
        """
        try:
            if not self._resolve(body):
                return self._replies.stripped_body(self.verdict.outcome)
        except Refusal:
            pass  # of what it might have been, the cut says nothing
        raise refusal.body_cut_off(len(body))

    def _streamed_piece(self, *, ended: bool) -> Sequence[bytes]:
        """Answer one of several pieces in STREAMED: each goes upstream at our answer, on the route chosen long ago."""
        if ended:
            self._resolve_late(self._take_body())
            return (self._replies.stripped_body(self.verdict.outcome),)
        return (self._replies.stripped_body(),)

    def _resolve_late(self, body: bytes) -> None:
        """Read a body when its request can be routed no more; refuse it if it named a model."""
        if self._resolve(body):
            raise refusal.body_in_pieces()

    # What both have in common.

    def _peek(self, octets: bytes, *, ended: bool) -> BodyKind:
        """Tell by a form's first octet whether it is JSON or to be passed (OTHER); FORM: nothing but blanks so far."""
        begins = model.begins_as_json_object(octets)
        if begins:
            return _JSON
        too_long = self.verdict.body_bytes > self._policy.max_body_bytes
        return _OTHER if begins is False or ended or too_long else _FORM

    def _check_headers_came(self) -> None:
        """Refuse a request of which a gateway that speaks today's protocol shows us the body and not the headers.

        A client's own routing headers have then chosen the route. Gateways that tell no body mode, and the Go routers'
        test scripts, may begin with the body.
        """
        if self._phase == _Phase.START and self._told_mode:
            raise refusal.headers_not_sent()

    def _check_size(self) -> None:
        if self.verdict.body_bytes > self._policy.max_body_bytes:
            raise refusal.body_too_large(self._policy.max_body_bytes)

    def _keep(self, octets: bytes) -> None:
        """Hold a piece of the body. Pieces are joined once, at its end, or before that if they are tiny and many."""
        self._piece_count += 1
        if octets:
            pieces = self._pieces
            pieces.append(octets)
            if len(pieces) >= _MANY_PIECES and self.verdict.body_bytes < len(pieces) * _TINY_PIECE_BYTES:
                self._pieces = [b"".join(pieces)]

    def _take_body(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _resolve(self, body: bytes) -> tuple[str, ...] | None:
        """Return both routing headers' values for a whole body, or None if it goes on without them."""
        try:
            name = model.read_model(body, self._policy.max_model_bytes)
        except Refusal as refused:
            if refused.code != "invalid_json" or self._policy.on_invalid_json is InvalidJson.REJECT:
                raise
            self._decide(_Phase.DONE, Outcome.INVALID)
            self.verdict.reason = refused.reason
            return None
        if name is not None:
            self.verdict.model = name
            return self._routed(routing.route(self._registry, self._policy.rules, name))
        route = routing.route_unnamed(self._registry, self._policy.rules)
        if route is None:
            self._decide(_Phase.DONE, Outcome.NO_MODEL)
            return None
        return self._routed(route)

    def _routed(self, route: Route) -> tuple[str, ...]:
        """Return what a routing answer of `Replies` takes."""
        verdict = self.verdict
        verdict.route = route
        verdict.base_model = route.base_model
        self._decide(_Phase.DONE, _ROUTED)
        if verdict.model is not None and verdict.model != route.model and self._replies.tells_metadata:
            return route.model, route.base_model, verdict.model
        return route.model, route.base_model

    def _decide(self, phase: str, outcome: Outcome) -> str:
        self._phase = phase
        self.verdict.outcome = outcome
        return outcome

    def _refuse(self, refused: Refusal) -> Sequence[bytes]:
        self._decide(_Phase.DONE, Outcome.REFUSED)
        self.verdict.reason = refused.reason
        self._pieces = []
        self.end = OK  # an ImmediateResponse is an answer
        return (self._replies.refuse(refused, self._dialect, self.verdict.model),)

    def _fault(self, code: StatusCode, reason: str, message: str) -> Sequence[bytes]:
        self._decide(_Phase.DONE, Outcome.FAULT)
        self.verdict.reason = reason
        self._pieces = []
        self.end = Status(code, message)
        return _NOTHING
