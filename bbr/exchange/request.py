"""What is known of one request, what is held of its body, and what it resolves to.

Sans-IO. The base of both ways to answer a gateway: bbr.exchange.duplex, bbr.exchange.awaited.
"""

from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from bbr import refusal
from bbr.exchange.long_body import LongBody
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit, Policy
from bbr.exchange.times import Clock, Times, stopped
from bbr.exchange.verdict import Outcome, Verdict
from bbr.models import routing
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Route
from bbr.pb.ext_proc_pb2 import HeaderMap
from bbr.reading import name as model
from bbr.reading import uri
from bbr.reading.document import DocumentReading
from bbr.reading.head import Dialect, find_field
from bbr.refusal import Refusal
from bbr.rpc.status import Status, StatusCode


class Phase:
    """Where the request side of an exchange stands. Plain strings: to look up a member of an enum takes long."""

    START: Final = "start"  # no request message yet
    READING: Final = "reading"  # the body is read for its model
    STREAMING: Final = "streaming"  # full duplex: the headers are answered, and what was held of the body follows
    PASSING: Final = "passing"  # decided; the body goes back as it comes
    DONE: Final = "done"  # the request has ended and is answered


class Owed:
    """What a gateway that awaits answers gets when the body has been read."""

    NOTHING: Final = ""
    BODY: Final = "body"  # it was shown the whole of it
    PARTIAL: Final = "partial"  # it may have been cut off at the gateway's buffer
    LATE: Final = "late"  # its last piece, when the request can be routed no more
    TRAILERS: Final = "trailers"  # the same, and trailers are what ended it


# Looked up once, for the same reason.
DUPLEX: Final = BodyMode.FULL_DUPLEX_STREAMED
_ROUTED: Final = Outcome.ROUTED

NOTHING: Final[Sequence[bytes]] = ()

# A held piece takes some 50 octets beside its own. Pieces of fewer than this on the average are joined as they come, so
# that a body takes little more than its octets, at the cost of copying about as many octets with each piece.
_TINY_PIECE_BYTES: Final = 512
_MANY_PIECES: Final = 64


class Request:
    """The request side of an exchange, as far as no body mode matters."""

    __slots__ = (
        "_by_trailers",
        "_content_length",
        "_dialect",
        "_headers",
        "_long",
        "_mode",
        "_owed",
        "_phase",
        "_piece_count",
        "_pieces",
        "_policy",
        "_registry",
        "_replies",
        "_reserved_bytes",
        "_response_mode",
        "_told_mode",
        "_url_model",
        "end",
        "pending",
        "times",
        "verdict",
    )

    def __init__(self, policy: Policy, registry: Registry, clock: Clock = stopped) -> None:
        self.times = Times(clock)
        self._policy = policy
        self._replies = policy.replies
        self._registry = registry
        self._phase = Phase.START
        self._dialect = Dialect.OPENAI
        self._headers: HeaderMap | None = None
        self._mode: int | None = None
        self._told_mode = False
        self._response_mode: int | None = None
        self._content_length = 0
        self._url_model: str | None = None
        self._pieces: list[bytes] = []  # of a short body so far; some may be several messages' joined
        self._piece_count = 0
        self._long: LongBody | None = None
        self._owed = Owed.NOTHING
        self._by_trailers = False  # the body has ended by trailers
        self._reserved_bytes = 0
        self.verdict = Verdict()
        self.end: Status | None = None
        self.pending = False

    def request_field(self, name: str) -> str:
        """Return a field of the request's header section, by its name in small letters; "" if it is not there.

        For logs and traces: octets that are no ASCII stand in it as \\x escapes.
        """
        try:
            value = find_field(self._headers, name) if self._headers is not None else None
        except DecodeError:
            value = None
        return (value or b"").decode("ascii", "backslashreplace")

    @property
    def body_mode(self) -> int | None:
        """How the gateway sends the body, as a BodyMode or another number; None before the first message."""
        return self._mode

    # Its URL.

    def _model_of_url(self, path: bytes) -> str | None:
        """Return the model that a URL names, in its path or its query."""
        policy = self._policy
        in_path = uri.model_in_path(path, policy.path_templates, policy.max_model_bytes)
        in_query = uri.model_in_query_of(path, policy.query_model_paths, policy.max_model_bytes)
        if in_path and in_query and in_path != in_query:
            raise refusal.model_disagrees("URL's path", "URL's query")
        return in_path or in_query

    # Its body.

    def _keep(self, octets: bytes) -> None:
        """Hold a piece of a short body. Pieces are joined once, at its end, or earlier if they are tiny and many."""
        if octets:
            pieces = self._pieces
            pieces.append(octets)
            if len(pieces) >= _MANY_PIECES and self.verdict.body_bytes < len(pieces) * _TINY_PIECE_BYTES:
                self._pieces = [b"".join(pieces)]

    def _take_body(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        if self._reserved_bytes:
            self._hold(0)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _whole(self) -> str | None:
        """Read a short body that has ended."""
        return self._model_of_whole(self._take_body())

    def _model_of_whole(self, body: bytes) -> str | None:
        name = self._read_model(body)
        if name is None and model.is_json_list(body):
            self._check_list()
        return name

    def _read_model(self, body: bytes) -> str | None:
        return model.read_model(body, self._policy.max_model_bytes)

    def _model_of_long(self, long: LongBody) -> str | None:
        """Return the model of a body that has been read as it came, to its end."""
        name = long.result()
        if name is None and long.is_list:
            self._check_list()
        return name

    def _check_list(self) -> None:
        """Refuse a list in a request that is routed by another name than its body's: its URL's, or the default."""
        if self._url_model is not None or self._policy.rules.missing_model is MissingModel.DEFAULT:
            raise refusal.model_in_list()

    def _lengthen(self) -> LongBody:
        """Read a JSON body as it comes from now on: it has turned out to be long."""
        reading = DocumentReading(self._policy.max_model_bytes, 0)
        self._long = LongBody(reading, kept=self._mode == DUPLEX)
        for piece in self._pieces:
            self._long.feed(piece)
        self._pieces = []
        return self._long

    def _settle(self) -> None:
        """Reserve what is held now, and see whether there is work."""
        long = self._long
        if long is None:
            return
        reading = long.reading
        wanted = long.held_bytes
        if self._phase == Phase.READING and not reading and self._mode == DUPLEX:
            # What has come names no model. It is admitted whole, so that it can't get stuck half-way.
            wanted = max(wanted, self._content_length)
        self._hold(wanted, in_flight=self._phase == Phase.STREAMING)
        self.pending = reading or (self._phase == Phase.STREAMING and (long.takeable or long.read))

    def _held_bytes(self) -> int:
        return self._long.held_bytes if self._long is not None else sum(map(len, self._pieces))

    def _hold(self, octets: int, *, in_flight: bool = False) -> None:
        """Reserve that much in all. A body that is on its way upstream is let finish even if there is no room."""
        more = octets - self._reserved_bytes
        if more > 0 and not in_flight:
            if not self._policy.ledger.take(more):
                raise refusal.no_room()
        elif more:
            self._policy.ledger.take_anyway(more)
        self._reserved_bytes = octets

    def _drop(self) -> None:
        """Hold no octet any more."""
        self._pieces = []
        self._long = None
        self.pending = False
        if self._reserved_bytes:
            self._hold(0)

    def _finish_request(self, outcome: Outcome | None = None) -> None:
        self._phase = Phase.DONE
        self.verdict.outcome = outcome or self.verdict.outcome
        self._drop()

    def _fault(self, code: StatusCode, reason: str, message: str) -> Sequence[bytes]:
        """End the stream with an error: the gateway broke the protocol."""
        self._finish_request(Outcome.FAULT)
        self.verdict.reason = reason
        self.end = Status(code, message)
        return NOTHING

    def _excuse(self, refused: Refusal) -> Outcome | None:
        """Return as what a body may pass, stripped, that is to be refused; None if it may not."""
        policy = self._policy
        if refused.code == "invalid_json" and policy.on_invalid_json is InvalidJson.PASS_STRIPPED:
            self.verdict.reason = refused.reason
            return Outcome.INVALID
        if refused.reason == "decoded-too-large" and policy.over_limit is OverLimit.PASS:
            return Outcome.OVER_LIMIT
        return None

    def _resolve(self, read: Callable[[], str | None]) -> tuple[str, ...] | None:
        """Return both routing headers' values for a whole body, or None if it goes on without them."""
        try:
            name = read()
        except Refusal as refused:
            outcome = self._excuse(refused)
            if outcome is None:
                raise
            self.verdict.outcome = outcome
            return None
        if self._url_model is not None:
            name = self._agreed(name)
        if name is not None:
            return self._routed(name)
        route = routing.route_unnamed(self._registry, self._policy.rules)
        if route is None:
            self.verdict.outcome = Outcome.NO_MODEL
            return None
        return self._told(route)

    def _agreed(self, name: str | None) -> str | None:
        """Return the model of a request, by its body's and its URL's."""
        url_model = self._url_model
        if name is not None and url_model is not None and name != url_model:
            raise refusal.model_disagrees("URL", "request body")
        return name or url_model

    def _routed(self, name: str) -> tuple[str, ...]:
        """Return what a routing answer of `Replies` takes for a model."""
        self.verdict.model = name
        return self._told(routing.route(self._registry, self._policy.rules, name))

    def _told(self, route: Route) -> tuple[str, ...]:
        verdict = self.verdict
        verdict.route = route
        verdict.base_model = route.base_model
        verdict.outcome = _ROUTED
        if verdict.model is not None and verdict.model != route.model and self._replies.tells_metadata:
            return route.model, route.base_model, verdict.model
        return route.model, route.base_model

    def _decide(self, phase: str, outcome: Outcome) -> str:
        self._phase = phase
        self.verdict.outcome = outcome
        return outcome
