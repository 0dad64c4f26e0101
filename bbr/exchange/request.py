"""One request: where it stands, and what it resolves to.

Sans-IO. What is owed to its gateway for that is the business of the sides: bbr.exchange.duplex, bbr.exchange.awaited.
"""

from typing import Final

from google.protobuf.message import DecodeError

from bbr import refusal
from bbr.exchange import naming, scoping
from bbr.exchange.body import Body
from bbr.exchange.phases import FLUSHING, START, STREAMING
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Routing
from bbr.exchange.verdict import Outcome, Verdict
from bbr.exchange.wire import Opening
from bbr.models import access, routing, shares
from bbr.models.access import NOBODY
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Route
from bbr.native import mypyc_attr
from bbr.pb.ext_proc_pb2 import HeaderMap, ProcessingRequest
from bbr.reading.fields import ScannedValues
from bbr.reading.head import Dialect, Head, find_field, head_of, read_head
from bbr.refusal import Refusal

# Looked up once: to look up a member of an enum takes long.
_ROUTED: Final = Outcome.ROUTED
_OPENAI: Final = Dialect.OPENAI
# As a number: to look for bytes in bytes makes Python raise and drop an exception inside, twenty times the cost.
_QUESTION_MARK: Final = ord("?")

# A header section of more fields is decoded anew for each field that is asked for. Envoy's own limit is 100.
_KEPT_DECODED: Final = 64

# A request with more header fields, or fields in its trailers, is refused before any is looked at.
MAX_HEADER_FIELDS: Final = 1_000

# Of a field that a log or a trace asks for.
SHOWN_BYTES: Final = 1 << 10

# What the verdict's reason says of a `model` that is empty; only the Go routers' convention lets one through.
EMPTY_MODEL: Final = "model-empty"


class Owed:
    """What a gateway that awaits answers gets when the body has been read. Plain strings, as phases are."""

    NOTHING: Final = ""
    BODY: Final = "body"  # it was shown the whole of it
    PARTIAL: Final = "partial"  # it may have been cut off at the gateway's buffer
    LATE: Final = "late"  # its last piece, when the request can be routed no more
    TRAILERS: Final = "trailers"  # the same, and trailers are what ended it


@mypyc_attr(free_list_len=1)
class Request:
    """What is known of a request.

    Attributes:
        phase: see bbr.exchange.phases.
        owed: see Owed.
        policy: of the server.
        registry: the model table; that of its scope, once it is known.
        replies: the policy's.
        verdict: what comes of it.
        url_model: the model that its URL names, if one does.
        url_longer: what else its body may call that one.
        dialect: of the API that its client speaks, in whose shape it is refused.
        is_text: its body is plain text by its type: routed if it is JSON that names a model, else passed.
        rewrite_to: the model to put into its body in the place of the one that this names; None: it stays.
    """

    __slots__ = (
        "_askers",
        "_headers",
        "_queried",
        "dialect",
        "is_text",
        "owed",
        "phase",
        "policy",
        "registry",
        "replies",
        "rewrite_to",
        "url_longer",
        "url_model",
        "verdict",
    )

    def __init__(self, policy: Policy, registry: Registry, verdict: Verdict) -> None:
        self.phase: str = START
        self.owed = ""
        self.policy = policy
        self.replies = policy.replies
        self.verdict = verdict
        self.url_model: str | None = None
        self.url_longer: tuple[str, ...] = ()
        self.rewrite_to: str | None = None
        self.is_text = False
        self.registry = registry
        self._headers: HeaderMap | bytes | None = None
        self._askers: frozenset[str] | None = None
        self._queried = b""  # the path, if its query may name a model that does not route
        # Some refusals come before the headers, which show the API.
        self.dialect = _OPENAI

    @property
    def answered(self) -> bool:
        """Whether the headers have been answered, in FULL_DUPLEX_STREAMED, and the body is on its way upstream."""
        return self.phase == STREAMING or self.phase == FLUSHING

    def field(self, name: str) -> str:
        """Return a field of its header section, by its name in small letters; "" if it is not there.

        SHOWN_BYTES of it at most. For logs and traces: bytes that are no ASCII stand in it as \\x escapes.
        """
        # Logs ask for fields after a fault too. Headers that can't be decoded then count as empty.
        try:
            value = self.find(name)
        except DecodeError:
            value = b""
        return value[:SHOWN_BYTES].decode("ascii", "backslashreplace")

    def read_headers(self, headers: HeaderMap) -> tuple[Head, int]:
        """Keep its header section, and return what read_head does.

        Raises:
            DecodeError: it is none.
            Refusal: 431; it has too many fields, or too many that are to be removed.
        """
        fields = [*headers.headers]
        if len(fields) > MAX_HEADER_FIELDS:
            raise refusal.headers_too_many(MAX_HEADER_FIELDS)
        # Kept before it is read, so that a log of what fails below can still look for fields.
        # Encoded: decoded, a field takes 32 bytes and more, though it may be two bytes on the wire. A part of a decoded
        # message keeps all of it in memory, its attributes too.
        self._headers = headers.SerializeToString()
        head = read_head(fields, self.replies.convention.guarded)
        self._note(head[0])
        return head

    def read_opening(self, opening: Opening) -> tuple[Head, int]:
        """Do as `read_headers` with a section of which the fields that matter have been found."""
        self._headers = opening.section
        head = head_of(opening.wanted, self.replies.convention.guarded)
        self._note(head[0])
        return head

    def _note(self, head: Head) -> None:
        # A server that reads `X_Name` as `X-Name` would obey the client. Such requests are rare, so only they get
        # answers of their own, and the shared ones stay cached.
        if head.strays:
            self.replies = self.replies.stripping_also(head.strays)
        self.dialect = head.dialect

    def read_trailers(self, trailers: HeaderMap) -> None:
        """Look for what a client may not say; an upstream may take trailers for headers.

        Raises:
            DecodeError: they are none.
            Refusal: 431; they are too many, or too many of them and of the header section are to be removed.
        """
        if len(trailers.headers) > MAX_HEADER_FIELDS:
            raise refusal.headers_too_many(MAX_HEADER_FIELDS)
        guarded = self.replies.convention.guarded
        strays = guarded.strays(trailers.headers)
        if strays:
            # One answer removes those of the header section too.
            headers = self._decoded()
            known = guarded.strays(headers.headers) if headers is not None else ()
            strays = tuple(name for name in strays if name not in known)
            guarded.checked(known + strays)
            self.replies = self.replies.stripping_also(strays)

    def answer_headers(self, phase: str, outcome: Outcome, *, unbuffered: bool = False) -> bytes:
        """Answer headers whose body is not read: routed if the URL names a model, else stripped.

        Args:
            phase: to be in from now on.
            outcome: of one that is not routed.
            unbuffered: ask the gateway not to wait for the body.

        Raises:
            Refusal: see `routed`.
        """
        replies = self.replies
        if self.url_model is not None:
            # This may refuse. The phase changes after it, so that nothing counts as begun that a refusal would have
            # to undo.
            routing = self.routed(self.url_model)
            self.phase = phase
            return replies.route_unbuffered(routing) if unbuffered else replies.route(routing)
        self.phase = phase
        self.verdict.outcome = outcome
        return replies.stripped_unbuffered(outcome) if unbuffered else replies.stripped(outcome)

    def refuse(self, refused: Refusal) -> bytes:
        """Answer with an error in the shape of the client's API."""
        self.verdict.reason = refused.reason
        self.verdict.status = refused.status
        if self.policy.fields is not None and refused.reason.startswith("field-"):
            found = self.verdict.fields = ScannedValues(self.policy.fields)
            found.refuse(refused)
        return self.replies.refuse(refused, self.dialect, self.verdict.model)

    def read_url(self, path: bytes) -> None:
        """Look for the model in a URL's path and query.

        Raises:
            Refusal: 400; they name two.
        """
        self.url_model, self.url_longer = naming.in_url(self.policy, path)
        if _QUESTION_MARK in path and self.replies.convention.minds_queries:
            self._queried = path

    def resolve(self, body: Body) -> Routing | None:
        """Return how to route a request whose body has been read, or None if it is forwarded without routing headers.

        Raises:
            Refusal: it is not to be forwarded.
        """
        try:
            name = naming.model_of(self.policy, body)
        except Refusal as refused:
            # Servers disagree about what is no strict JSON. So a body that may pass nevertheless is stripped, and
            # never routed.
            outcome = self.excuse(refused)
            if outcome is None:
                raise
            self.verdict.outcome = outcome
            return None
        if name is None and self.is_text:
            self.verdict.outcome = Outcome.NOT_READ
            return None
        if name is None and body.serde_differs:
            naming.check_serde(self.policy, self.url_model)
        if self.url_model is not None:
            name = self.agreed(name)
        if name is not None:
            return self.routed(name)
        if self.policy.rules.missing_model is MissingModel.REJECT:
            raise refusal.model_missing(body.no_object())
        route = routing.route_unnamed(self.registry, self.policy.rules)
        if route is None:
            self.verdict.outcome = Outcome.NO_MODEL
            return None
        if self._queried:
            naming.check_query(self.policy, self._queried, self.policy.rules.default_model)
        return self._routing_by(route)

    def agreed(self, name: str | None) -> str | None:
        """Return the model of a request by its URL's, and its body's as far as that is known.

        Raises:
            Refusal: 400; they name two.
        """
        return naming.agreed(self.policy, self.registry, self.url_model, self.url_longer, name)

    def routed(self, name: str) -> Routing:
        """Return how to route a request that names a model.

        Raises:
            Refusal: see bbr.models.routing.route.
        """
        # Noted before the look-up, so that the error and the log of an unknown model name it.
        self.verdict.model = name
        if self._queried:
            naming.check_query(self.policy, self._queried, name)
        if not name:
            self.verdict.reason = EMPTY_MODEL
        return self._routing_by(self.replies.convention.route(self.registry, self.policy.rules, name))

    def excuse(self, refused: Refusal) -> Outcome | None:
        """Return as what a body may pass, stripped, that is to be refused; None if it may not."""
        outcome = naming.excuse(self.policy, refused.kept(), is_text=self.is_text)
        if outcome is Outcome.INVALID:
            self.verdict.reason = refused.reason
        return outcome

    def note_context(self, message: ProcessingRequest) -> None:
        """Take who asks, and the scope, from what the gateway has put into metadata and attributes."""
        policy = self.policy
        if policy.uses_context:
            if policy.asker is not None:
                self._askers = policy.asker.in_context(message)
            if policy.scope is not None:
                self._enter(scoping.by_message(self.registry, policy.scope, message))

    def enter_scope(self) -> None:
        """Take the table of its scope, if it stands in the headers."""
        self._enter(scoping.by_headers(self.registry, self.policy.scope, self._decoded()))

    def _enter(self, registry: Registry) -> None:
        self.registry = registry
        self.verdict.scope = registry.scope

    @property
    def askers(self) -> frozenset[str]:
        """The names of whoever asks; empty if nobody knows."""
        if self._askers is None:
            self._askers = NOBODY if self.policy.asker is None else self.policy.asker.named(self._decoded())
        return self._askers

    def _routing_by(self, route: Route) -> Routing:
        """Return how to route by a route, and note it in the verdict.

        Raises:
            Refusal: 403; whoever asks may not use the model.
        """
        verdict = self.verdict
        if self.registry.grants:
            access.check(self.registry, verdict.model, route, self.askers)
        model, base_model, _, _, several, _ = route
        if several:
            route = self._chosen(route)
            model, base_model, _, _, _, _ = route
        verdict.route = route
        verdict.base_model = base_model
        verdict.outcome = _ROUTED
        named = verdict.model
        # The header carries what the rules made of the name. Metadata, and the header by which a picker rewrites the
        # body, are for a model that was asked for by another name, or by a URL, whatever the body says.
        if named is not None and (named != model or (self.policy.url_wins and self.url_model is not None)):
            # A server that takes the model from the URL could read two names: what stands in a URL stays everywhere.
            if self.policy.rewrites_body and self.url_model is None:
                self.rewrite_to = model
            if self.replies.depends_on_requested:
                return model, base_model, named
        return model, base_model, None

    def _chosen(self, route: Route) -> Route:
        """Return the route to one of the models that an alias stands for; always the same, once it is chosen."""
        before = self.verdict.route
        if before is not None:  # a long body is resolved at its end once more
            return before
        sticky = self.policy.rules.sticky_header
        return shares.chosen(route, self.policy.rules, self.verdict.model, self.find(sticky) if sticky else b"")

    def find(self, name: str) -> bytes:
        """Return a field of its header section, by its name in small letters; b"" if it is not there.

        Raises:
            DecodeError: its header section is none.
        """
        headers = self._decoded()
        return (find_field(headers, name) if headers is not None else None) or b""

    def _decoded(self) -> HeaderMap | None:
        headers = self._headers
        if isinstance(headers, bytes):
            headers = HeaderMap.FromString(headers)
            if len(headers.headers) <= _KEPT_DECODED:
                self._headers = headers  # whoever asks for one field asks for several
        return headers
