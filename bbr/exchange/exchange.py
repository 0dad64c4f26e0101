"""One HTTP request's ext_proc conversation: encoded ProcessingRequests in, encoded ProcessingResponses out.

Sans-IO: never blocks, logs, counts or reads a clock of its own. What came of the request is left in `Exchange.verdict`.

The request's way, for a gateway in FULL_DUPLEX_STREAMED (left) and in the modes that await an answer to each message:

    request_headers   (nothing yet)                  strip
    request_body      (nothing yet)                  route, or strip; or an error
    its end           route, or strip; the body;     -
                      or an error

bbr.exchange.phases has the table of what each message does; here is how. An exchange has three parts: the body
(bbr.exchange.body: what is held of it), the side (what the gateway's body mode wants: bbr.exchange.duplex,
bbr.exchange.awaited) and the convention (bbr.exchange.convention: how models are read, and of what answers are made).

A request that is not read (an upgrade, gRPC, another content type) or has no body is stripped at its headers, or routed
if its URL names a model; its body goes back piece by piece. "Strip" removes the routing headers that a client may have
sent. docs/design/exchange.md says which behaviour of Envoy makes each answer what it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from bbr import refusal
from bbr.built import COMPILED
from bbr.exchange import envelope, listing, phases, replies
from bbr.exchange.awaited import Awaited
from bbr.exchange.body import Body
from bbr.exchange.duplex import Duplex
from bbr.exchange.phases import DECIDING, DONE, PASSING, READING, START, STREAMING, Act
from bbr.exchange.policy import BodyMode, OverLimit, Policy
from bbr.exchange.request import Request
from bbr.exchange.side import NOTHING, Side
from bbr.exchange.times import Clock, Times, stopped
from bbr.exchange.verdict import Outcome, Verdict
from bbr.exchange.wire import Opening, read_opening, read_piece
from bbr.models.registry import Registry
from bbr.native import mypyc_attr
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.reading.decoding import DecodingReading
from bbr.reading.head import Head
from bbr.reading.kinds import open_reading
from bbr.reading.name import BodyKind
from bbr.refusal import Refusal
from bbr.rpc.status import OK, Status, StatusCode

# Looked up once: to look up a member of an enum takes long.
_JSON: Final = BodyKind.JSON
_UNTYPED: Final = BodyKind.UNTYPED
_OTHER: Final = BodyKind.OTHER
_PENDING: Final = Outcome.PENDING
_NO_BODY: Final = Outcome.NO_BODY
_DUPLEX: Final = BodyMode.FULL_DUPLEX_STREAMED
# As a number: to look for bytes in bytes makes Python raise and drop an exception inside, twenty times the cost.
_QUESTION_MARK: Final = ord("?")

# Whether header sections are read by hand. Compiled that takes a third of protobuf's time, interpreted eight times it.
_READS_OPENINGS: Final = COMPILED


class CallFields(Protocol):
    """The header section of a gRPC call."""

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first field with a name, in small letters; None without one."""


@mypyc_attr(free_list_len=1)
class Exchange:
    """One ext_proc stream.

    Args:
        policy: what all exchanges of a server have in common.
        registry: the model table as it is now.
        clock: gives the time, for `times`.
        call: the fields of the call itself, for whoever looks at the exchange afterwards.
        ended: called with the exchange once its stream is over, however it ended.

    Attributes:
        verdict: what is known of the request's fate so far.
        times: when it began and was decided.
        call: see above.
        end: once set, the status to end the RPC with, after the messages already returned; later messages are ignored.
        pending: `work` has something to do.
        body_mode: how the gateway sends the body, as a BodyMode or another number; None before the first message.
    """

    __slots__ = (
        "_body",
        "_ended",
        "_manner",
        "_request",
        "_response_mode",
        "body_mode",
        "call",
        "end",
        "pending",
        "times",
        "verdict",
    )

    def __init__(
        self,
        policy: Policy,
        registry: Registry,
        clock: Clock = stopped,
        call: CallFields | None = None,
        ended: "Callable[[Exchange], None] | None" = None,
    ) -> None:
        self.verdict = Verdict()
        self.times = Times(clock)
        self.call = call
        self.end: Status | None = None
        self.pending = False
        self.body_mode: int | None = None
        self._ended = ended
        self._request = Request(policy, registry, self.verdict)
        self._manner = _NO_MODE_YET
        # Set by the first message; the body by the first that announces one.
        self._response_mode: int
        self._body: Body

    def request_field(self, name: str) -> str:
        """Return a field of the request's header section; see Request.field."""
        return self._request.field(name)

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Take the next ProcessingRequest and return the ProcessingResponses it calls for, in order.

        Never raises on what a gateway or a client sent: a fault ends the exchange (see `end`), a refused request is
        answered with an ImmediateResponse.
        """
        if self.end is not None:
            return NOTHING  # Envoy may have sent more before it saw our ImmediateResponse
        times = self.times
        undecided = times.decided is None
        if undecided:
            times.since = times.clock()
        answers: Sequence[bytes]
        try:
            act = self._manner.pieces.get(self._request.phase)
            if act is None or (piece := read_piece(message)) is None:
                answers = self._receive_other(message)
            else:
                octets, ended = piece
                answers = act(self, octets, ended)
        except DecodeError:
            answers = self._fault(StatusCode.INVALID_ARGUMENT, "undecodable-message", "not a ProcessingRequest")
        except Refusal as refused:
            answers = self._refuse(refused)
        if undecided and self.verdict.outcome is not _PENDING:
            times.decide()
        return answers

    def work(self) -> Sequence[bytes]:
        """Do a bit of what is pending, about half a millisecond's, and return the ProcessingResponses that came of it.

        Not to be called while the answers that it has given wait for a slow peer: what they carry is then held here,
        within the bounds of the ledger.
        """
        if not self.pending:
            return NOTHING
        times = self.times
        if times.decided is None:
            times.since = times.clock()
        answers: Sequence[bytes]
        try:
            answers = self._manner.side.work(self._request, self._body)
            self.pending = self._body.pending
        except Refusal as refused:
            answers = self._refuse(refused)
        if times.decided is None:
            if self.verdict.outcome is _PENDING:
                times.busy_seconds += times.clock() - times.since
            else:
                times.decide()
        return answers

    def expect(self, size: int) -> Sequence[bytes]:
        """Take note that a long message of `size` bytes has begun, and return the answers that this calls for.

        If it is too large, or could never be held, the request is refused now (see `end`). Nothing is reserved for what
        is only announced: whoever holds the message until it is complete counts what has come of it.
        """
        phase = self._request.phase
        if self.end is not None or phase in (START, DONE):
            return NOTHING
        awaited = phase in (READING, DECIDING)
        try:
            self._body.expect(size, read=awaited)
        except Refusal as refused:
            return self._refuse(refused)
        return NOTHING

    @property
    def held_bytes(self) -> int:
        """How many bytes of the body the ledger counts."""
        return 0 if self._request.phase in (START, DONE) else self._body.held_bytes

    def give_up(self) -> Sequence[bytes]:
        """Refuse the request: there is no room for what it has sent, or will."""
        if self.end is not None or self._request.phase in (START, DONE):
            return NOTHING
        answers = self._refuse(refusal.no_room())
        if self.times.decided is None:
            self.times.decide()
        return answers

    def over(self) -> None:
        """Let go of everything, and report: the stream is over, however it ended. Called once."""
        if self._request.phase != DONE:
            self._finish(self.verdict.outcome)
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
        phase = self._request.phase
        if phase in (READING, STREAMING):
            return self._body.patience_seconds(self._manner.side.patience_seconds(self._request.policy))
        return self._request.policy.duplex_idle_seconds if self.body_mode is None else None

    def expire(self) -> Sequence[bytes]:
        """Answer for a message that did not come in time: 408, or an error status if there never was a request."""
        request, times = self._request, self.times
        late: Refusal | None = None
        if request.phase in (READING, STREAMING):
            # Before the clock is looked at: what was due counts from when the last message came.
            late = self._body.why_late(self._manner.side.patience_seconds(request.policy))
        times.since = times.clock()
        answers: Sequence[bytes]
        if late is not None:
            answers = self._refuse(late)
        else:
            answers = self._fault(StatusCode.DEADLINE_EXCEEDED, "silent-stream", "no message came in time")
        if times.decided is None:
            times.decide()
        return answers

    def finish(self) -> Status:
        """Return the status for a stream that the gateway has half-closed.

        OK only if nothing is owed: an ext_proc stream that ends with OK before its answer makes Envoy send the request
        on with an empty body.
        """
        if self.end is not None:
            return self.end
        phase = self._request.phase
        # Without a body mode that streams, all that came has been answered.
        if phase == DONE or (phase == PASSING and self.body_mode != _DUPLEX):
            return OK
        return Status(StatusCode.CANCELLED, "the gateway closed the stream before the request had ended")

    def _receive_other(self, message: bytes) -> Sequence[bytes]:
        """Take a message that is no piece of a body, or has more than that."""
        size = len(message)
        if size > envelope.LONG_BYTES:
            envelope.check(message)
        request = self._request
        if self.body_mode is None:
            guarded = request.replies.convention.guarded
            if _READS_OPENINGS and size <= envelope.LONG_BYTES and not guarded.prefixes:
                opening = read_opening(message, request.replies.wanted)
                if opening is not None:
                    return self._open_by_hand(opening)
            decoded = ProcessingRequest.FromString(message)
            modes: tuple[int, int] | None = None
            if decoded.HasField("protocol_config"):
                config = decoded.protocol_config
                modes = config.request_body_mode, config.response_body_mode
            self._begin(modes)
            request.note_context(decoded)
        else:
            decoded = ProcessingRequest.FromString(message)
        # The gateway waits for no answer here.
        if decoded.observability_mode:
            self._finish(Outcome.OBSERVED)
            return NOTHING
        return self._manner.acts[request.phase][decoded.WhichOneof("request")](self, decoded)

    def _begin(self, modes: tuple[int, int] | None) -> None:
        """Take note of the body modes, which stand in the first message only, whichever that is."""
        if modes is None:
            mode = self.body_mode = self._response_mode = self._request.policy.assume_body_mode
            manner = _BY_MODE.get(mode, _OTHER_MODE)
            self._manner = manner.assumed or manner
        else:
            self.body_mode, self._response_mode = modes
            self._manner = _BY_MODE.get(modes[0], _OTHER_MODE)

    def _open_by_hand(self, opening: Opening) -> Sequence[bytes]:
        self._begin(opening.modes)
        head, announced = self._request.read_opening(opening)
        return self._open(head, announced, opening.end_of_stream)

    def _open(self, head: Head, announced: int, end_of_stream: bool) -> Sequence[bytes]:
        """Decide by the headers whether the body is read, of which so many bytes are announced."""
        request = self._request
        policy = request.policy
        if request.registry.scopes:
            request.enter_scope()
        if policy.models_list is not None and (listed := listing.answer(request, policy.models_list, head)):
            self._finish(Outcome.ANSWERED)
            self.end = OK  # an ImmediateResponse is an answer
            return (listed,)
        excluded = policy.paths is not None and not policy.paths.reads(head.path)
        if not excluded and (_QUESTION_MARK in head.path or policy.path_templates):
            request.read_url(head.path)
        # Before the check of the mode: nothing follows, so no mode is too new.
        if end_of_stream:
            return (request.answer_headers(DONE, _NO_BODY),)
        manner = self._manner
        if not manner.known:
            raise refusal.body_mode_unknown(self.body_mode or 0)
        self._body = Body(policy, manner.side.keeps, self.times)
        # A body of another type is looked at if its URL names a model: a server may read another one from it.
        unread = head.kind is _OTHER and (request.url_model is None or head.bodyless or policy.url_wins)
        # Short text may be JSON that a browser calls text. Longer text is an upload, of whatever size it may be.
        if unread and head.text and request.url_model is None and 0 < announced <= policy.stream_threshold_bytes:
            request.is_text, unread = True, False
        if unread or excluded or manner.unread:
            return (request.answer_headers(PASSING, Outcome.NOT_READ, unbuffered=manner.buffering),)
        # The announced size refuses a body before any of it is held.
        request.phase = READING
        if announced > policy.max_body_bytes and policy.over_limit is OverLimit.REJECT:
            raise refusal.body_too_large(policy.max_body_bytes)
        if head.kind is not _JSON or head.content_encodings:
            _read_otherwise(self, head)
        return manner.side.open(request)

    def _read(self, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        body = self._body
        self.verdict.body_bytes += len(octets)
        answers = self._manner.side.read(self._request, body, octets, ended)
        self.pending = body.pending
        return answers

    def _pass(self, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        self.verdict.body_bytes += len(octets)
        return self._manner.side.pass_on(self._request, octets, ended)

    def _refuse(self, refused: Refusal) -> Sequence[bytes]:
        self._finish(Outcome.REFUSED)
        self.end = OK  # an ImmediateResponse is an answer
        return (self._request.refuse(refused.kept()),)

    def _fault(self, code: StatusCode, reason: str, message: str) -> Sequence[bytes]:
        """End the stream with an error: the gateway broke the protocol."""
        self._finish(Outcome.FAULT)
        self.verdict.reason = reason
        self.end = Status(code, message)
        return NOTHING

    def _finish(self, outcome: Outcome) -> None:
        """Take note that the request has ended, and hold nothing of it."""
        request = self._request
        if request.phase != START and request.phase != DONE:
            self._body.drop()
        request.phase = DONE
        self.pending = False
        self.verdict.outcome = outcome


def _open_message(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    headers = message.request_headers
    head, announced = exchange._request.read_headers(headers.headers)
    return exchange._open(head, announced, headers.end_of_stream)


def _begin_unseen(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange._body = Body(exchange._request.policy, exchange._manner.side.keeps, exchange.times)
    exchange._request.phase = READING
    piece = message.request_body
    return exchange._read(piece.body, piece.end_of_stream)


def _read_otherwise(exchange: Exchange, head: Head) -> None:
    """Choose what reads a body that is no plain JSON."""
    request, policy = exchange._request, exchange._request.policy
    convention = policy.replies.convention
    if head.kind is _UNTYPED and not (convention.minds_forms or head.content_encodings):
        return  # it is plain JSON for them
    reading = open_reading(
        head,
        max_model_bytes=policy.max_model_bytes,
        whole_bytes=policy.stream_threshold_bytes,
        max_decoded_bytes=policy.max_body_bytes,
        forward_decoded=policy.forward_decoded,
        fields=convention.fields,
    )
    exchange._body.read_by(reading)
    if policy.forward_decoded and isinstance(reading, DecodingReading):
        exchange._manner.side.forward_decoded(request)


def _end(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange._request.read_trailers(message.request_trailers.trailers)
    answers = exchange._manner.side.end(exchange._request, exchange._body)
    exchange.pending = exchange._body.pending
    return answers


def _finish_by_trailers(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange._request.read_trailers(message.request_trailers.trailers)
    exchange._finish(exchange.verdict.outcome)
    return (exchange._request.replies.request_trailers,)


def _drop(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange.verdict.late_bodies += 1
    return NOTHING


def _no_body(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange._body.drop()
    exchange.pending = False
    exchange._request.phase = PASSING
    exchange.verdict.outcome = _NO_BODY
    return (replies.response_event(message),)


def _body_twice(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange.verdict.body_bytes += len(message.request_body.body)
    return exchange._fault(StatusCode.FAILED_PRECONDITION, Act.BODY_TWICE, "request_body came after its end")


def _respond(exchange: Exchange, message: ProcessingRequest) -> Sequence[bytes]:
    exchange.times.respond()
    return replies.response_piece(message.response_body, exchange._response_mode)


# What a message does, by phase and kind; and what a piece of a body does that was read by hand.
_Acts = Mapping[str, Mapping[str | None, Callable[[Exchange, ProcessingRequest], Sequence[bytes]]]]
_PieceAct = Callable[[Exchange, bytes | memoryview, bool], Sequence[bytes]]
_PieceActs = Mapping[str, _PieceAct]

_PIECE_ACTS: Final[Mapping[str, _PieceAct]] = {
    Act.READ: Exchange._read,
    # In full duplex it must come back even though nobody reads it: Envoy holds no copy.
    Act.PASS: Exchange._pass,
}

_ACTS: Final[Mapping[str, Callable[[Exchange, ProcessingRequest], Sequence[bytes]]]] = {
    Act.OPEN: _open_message,
    # Without the headers there is neither a Content-Length nor a content type, so the body counts as JSON.
    Act.BEGIN: _begin_unseen,
    Act.READ: lambda exchange, message: exchange._read(message.request_body.body, message.request_body.end_of_stream),
    Act.PASS: lambda exchange, message: exchange._pass(message.request_body.body, message.request_body.end_of_stream),
    # Neither cut nor joined: in GRPC mode a piece is one whole message.
    Act.ECHO: lambda _, message: (replies.grpc_message(message.request_body, response=False),),
    Act.END: _end,
    Act.FINISH: _finish_by_trailers,
    # No answer: the request has had its last one, and a repeated end asks for none.
    Act.DROP: _drop,
    # Always empty. The router changes nothing of a response, but a gateway that shows it waits.
    Act.ANSWER: lambda _, message: (replies.response_event(message),),
    # The body's turn is before the response's. An event of the response that comes first means that no body will.
    Act.NO_BODY: _no_body,
    # Responses have a body mode of their own. An empty answer is a 500 in full duplex, and due in the others.
    Act.RESPONSE: _respond,
    # The headers are upstream, and no answer can re-route. A 500 that says so is better than the default route.
    Act.UNSEEN: lambda exchange, _: exchange._refuse(refusal.headers_not_sent()),
    # Faults end the RPC with an error status. After OK in full duplex, Envoy would send the request on with an empty
    # body.
    Act.HEADERS_TWICE: lambda exchange, _: exchange._fault(
        StatusCode.FAILED_PRECONDITION, Act.HEADERS_TWICE, "request_headers came twice"
    ),
    Act.BODY_TWICE: _body_twice,
    Act.TRAILERS_EARLY: lambda exchange, _: exchange._fault(
        StatusCode.FAILED_PRECONDITION, Act.TRAILERS_EARLY, "request_trailers came too early"
    ),
    # Nobody can tell which answer a later API's message awaits. An error ends the request; silence would hang it.
    Act.UNKNOWN: lambda exchange, _: exchange._fault(
        StatusCode.UNIMPLEMENTED, Act.UNKNOWN, "a message of no known kind"
    ),
}


class _Manner:
    """How a gateway sends bodies.

    Args:
        side: answers for it. It keeps nothing of a request, so one serves all of them.
        table: what messages do, by phase and kind.
        known: it is a mode of this API.
        unread: a body is never read.
        buffering: the gateway waits for the end even of an upgrade's body, which has none. An override of the mode
            frees such requests.
        assumed: the same, for a gateway that has not named its mode; None if it makes no difference.

    Attributes:
        acts: see _ACTS, bound to the table once: a message then costs two look-ups and no branches.
        pieces: see _PIECE_ACTS, by phase. Pieces do all else as messages.
    """

    __slots__ = ("acts", "assumed", "buffering", "known", "pieces", "side", "unread")

    def __init__(
        self,
        side: Side,
        table: phases.PhaseTable,
        *,
        known: bool = True,
        unread: bool = False,
        buffering: bool = False,
        assumed: "_Manner | None" = None,
    ) -> None:
        self.side = side
        # `strict` keeps each row complete.
        self.acts: _Acts = {
            phase: {kind: _ACTS[act] for kind, act in zip(phases.KINDS, row, strict=True)}
            for phase, row in table.items()
        }
        body = phases.KINDS.index("request_body")
        self.pieces: _PieceActs = {
            phase: _PIECE_ACTS[row[body]] for phase, row in table.items() if row[body] in _PIECE_ACTS
        }
        self.known = known
        self.unread = unread
        self.buffering = buffering
        self.assumed = assumed


def _awaited(mode: int, *, unread: bool = False, buffering: bool = False) -> _Manner:
    # An assumed mode has a table of its own: a gateway that names its mode has no reason to begin with a body.
    assumed = _Manner(Awaited(mode), phases.ASSUMED, unread=unread, buffering=buffering)
    return _Manner(Awaited(mode), phases.AWAITED, unread=unread, buffering=buffering, assumed=assumed)


_BY_MODE: Final[Mapping[int, _Manner]] = {
    BodyMode.FULL_DUPLEX_STREAMED: _Manner(Duplex(), phases.DUPLEX),
    BodyMode.BUFFERED: _awaited(BodyMode.BUFFERED, buffering=True),
    BodyMode.BUFFERED_PARTIAL: _awaited(BodyMode.BUFFERED_PARTIAL, buffering=True),
    BodyMode.STREAMED: _awaited(BodyMode.STREAMED),
    # No body comes in this mode, so only the answer to the headers matters: it strips.
    BodyMode.NONE: _awaited(BodyMode.NONE, unread=True),
    BodyMode.GRPC: _Manner(Awaited(BodyMode.GRPC), phases.GRPC, unread=True),
}
# Of a later Envoy; it may send requests without a body. How a body must be answered is unknown, and a guess could hang
# it.
_OTHER_MODE: Final = _Manner(Awaited(BodyMode.NONE), phases.AWAITED, known=False)
# Before the first message.
_NO_MODE_YET: Final = _Manner(Awaited(BodyMode.NONE), {})
