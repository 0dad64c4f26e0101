"""The outcome of an exchange, for counting, logging and tracing."""

import enum
from typing import Final

from bbr.models.routing import Route
from bbr.native import mypyc_attr
from bbr.reading.fields import FieldValues


class Outcome(enum.StrEnum):
    """What came of a request."""

    PENDING = "pending"  # not decided yet; at the end of a stream: the client or the gateway went away first
    ROUTED = "routed"  # both routing headers set
    NO_BODY = "no-body"  # nothing to read: passed, stripped
    NOT_READ = "not-read"  # an upgrade or a content type that the router does not read: passed, stripped
    NO_MODEL = "no-model"  # read, and no `model` in it: passed, stripped
    INVALID = "invalid"  # no strict JSON, and the policy lets that pass, stripped; `reason` says which fault
    ANSWERED = "answered"  # by the router, with the list of models or one of them
    OVER_LIMIT = "over-limit"  # too large to look for its model, and the policy lets that pass, stripped
    OBSERVED = "observed"  # the gateway only lets us watch: no answer
    REFUSED = "refused"  # answered by the router; `reason` says why
    FAULT = "fault"  # the gateway broke the protocol; `reason` says how, the stream ends with an error


# Looked up once: to look up a member of an enum takes long.
_PENDING: Final = Outcome.PENDING


@mypyc_attr(free_list_len=1)
class Verdict:
    """The facts about one exchange.

    Attributes:
        outcome: see Outcome. A request may be ROUTED first and REFUSED later, by a fault in the rest of its body.
        reason: of a refusal, a fault, an invalid body, a list of models that was too long to answer, or an empty model
            (with --compat), in kebab case; else "".
        scope: whose model table counts; "" for what everyone has.
        model: the requested model, once known.
        base_model: what it resolved to.
        route: how and why, if it was routed.
        body_bytes: request body received so far.
        early: the request was routed before its body had ended.
        decoded: its body is forwarded without the Content-Encoding with which it came, unless the request is refused.
        rewritten: its body is forwarded with the model that an alias stands for.
        status: the HTTP status of an answer of the router's own; 0 without one.
        fields: what the body says in fields whose values went into headers, or the refusal that one of them called for;
            None if it was not asked.
        late_bodies: body and trailer messages after the request's end, which were dropped (envoyproxy/envoy#46237).
    """

    __slots__ = (
        "base_model",
        "body_bytes",
        "decoded",
        "early",
        "fields",
        "late_bodies",
        "model",
        "outcome",
        "reason",
        "rewritten",
        "route",
        "scope",
        "status",
    )

    def __init__(self) -> None:
        self.outcome: Outcome = _PENDING
        self.reason = ""
        self.scope = ""
        self.model: str | None = None
        self.base_model: str | None = None
        self.route: Route | None = None
        self.body_bytes = 0
        self.early = False
        self.decoded = False
        self.fields: FieldValues | None = None
        self.rewritten = False
        self.status = 0
        # Only counted: a gateway with that bug may repeat the end of any large body, which would fill a log.
        self.late_bodies = 0
