"""The operator's decisions for all exchanges of a server."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bbr.exchange.asker import Asker
from bbr.exchange.ledger import Ledger
from bbr.exchange.replies import Replies
from bbr.models.listing import ModelsList
from bbr.models.routing import Rules
from bbr.pb.ext_proc_pb2 import ProcessingMode
from bbr.reading.fields import BodyFields
from bbr.reading.name import MAX_MODEL_BYTES
from bbr.reading.paths import PathFilter
from bbr.reading.templates import Template

# What a message may hold beside a body: a header section of any gateway's (Envoy's limit is 60 KiB by default).
MESSAGE_OVERHEAD_BYTES: Final = 1 << 20
# A longer JSON body is read piece by piece. Up to 64 KiB Envoy can replay a request to another replica, so an early
# start is worth nothing. Somewhat above that, one whole read is still the cheaper way.
STREAM_THRESHOLD_BYTES: Final = 256 << 10


class BodyMode(enum.IntEnum):
    """How a gateway sends a body; the values are those of ProcessingMode.BodySendMode."""

    NONE = ProcessingMode.NONE
    STREAMED = ProcessingMode.STREAMED
    BUFFERED = ProcessingMode.BUFFERED
    BUFFERED_PARTIAL = ProcessingMode.BUFFERED_PARTIAL
    FULL_DUPLEX_STREAMED = ProcessingMode.FULL_DUPLEX_STREAMED
    GRPC = ProcessingMode.GRPC


class Compat(enum.Enum):
    """Whose answers are given where ours differ on purpose; see bbr.exchange.convention."""

    NONE = "none"
    GIE = "gie"  # the body-based router of the Gateway API Inference Extension
    IPP = "ipp"  # llm-d's inference payload processor


class AliasRewrite(enum.Enum):
    """How a server behind the router gets the model that an alias, or a model that is routed as another, stands for."""

    OFF = "off"
    HEADER = "header"  # headers ask an endpoint picker to put it into the body
    BODY = "body"  # the router replaces the one string in the body


class UrlModel(enum.Enum):
    """What happens to a request whose URL and body name different models."""

    AGREES = "agrees"  # 400
    WINS = "wins"  # it is routed by its URL: servers must go by that, as Azure OpenAI does


class ClientSteering(enum.Enum):
    """By which headers a client may steer what stands behind the router: endpoint pickers, the pods' sidecars."""

    NONE = "none"
    PRIORITY = "priority"  # bbr.headers.PRIORITY_HEADERS
    ALL = "all"  # these, and bbr.headers.STEERING_HEADERS


class InvalidJson(enum.Enum):
    """What happens to a body that is not strict JSON. Model servers accept some of it: NaN, lone surrogates, a BOM."""

    REJECT = "reject"  # 400
    PASS_STRIPPED = "pass-stripped"  # noqa: S105 (no password); it is forwarded without routing headers


class OverLimit(enum.Enum):
    """What happens to a body that is larger than the limit, and has named no model up to there."""

    REJECT = "reject"  # 413
    PASS = "pass"  # noqa: S105 (no password); it is forwarded without routing headers


@dataclass(frozen=True, slots=True)
class Policy:
    """What every exchange of a server has in common.

    Attributes:
        replies: the messages to answer with, and by their convention how a body is read.
        ledger: bounds the body bytes that all exchanges together hold.
        assume_body_mode: for a gateway that sends no protocol_config; governs response bodies too.
        max_body_bytes: a larger body is refused, if it is of the kind that is read. Of an encoded body it is the limit
            before and after decoding.
        stream_threshold_bytes: at most max_body_bytes. A longer JSON body is read piece by piece, and in
            FULL_DUPLEX_STREAMED it is forwarded upstream as soon as its model is known.
        over_limit: see OverLimit.
        forward_decoded: a body that is read is forwarded without its Content-Encoding.
        rewrites_body: the model in a body is replaced by the one that it is routed as.
        max_model_bytes: a longer model name is refused.
        on_invalid_json: see InvalidJson.
        duplex_idle_seconds: how long a body may stand still in FULL_DUPLEX_STREAMED.
        buffered_wait_seconds: how long a body may take to come in the other modes.
        min_body_rate: bytes a second that a body must bring in FULL_DUPLEX_STREAMED while it is held, in each span of
            `duplex_idle_seconds`; 0: any rate will do.
        query_model_paths: URL paths on which `?model=` names the model.
        path_templates: URL paths that name the model themselves.
        url_wins: a body that names another model than the URL is routed by the URL.
        rules: what happens to requests for unknown models, and to those without a model.
        paths: which paths' bodies are read; None: all.
        models_list: the answers to GET /v1/models; None: such requests pass.
        asker: where a gateway names the client; None: nobody knows who asks.
        scope: where a gateway names the scope whose model table counts; None: by the host.
        uses_context: asker or scope stands in metadata or attributes, not in a header.
        fields: of the body whose values go into headers, those of the convention; None for none.
    """

    replies: Replies
    # Room for eight bodies of the largest size that is read.
    ledger: Ledger = field(default_factory=lambda: Ledger(512 << 20))
    assume_body_mode: BodyMode = BodyMode.FULL_DUPLEX_STREAMED
    max_body_bytes: int = 64 << 20
    stream_threshold_bytes: int = STREAM_THRESHOLD_BYTES
    over_limit: OverLimit = OverLimit.REJECT
    forward_decoded: bool = False
    rewrites_body: bool = False
    max_model_bytes: int = MAX_MODEL_BYTES
    on_invalid_json: InvalidJson = InvalidJson.REJECT
    # Envoy applies no message_timeout in full duplex. Without this a silent client would hold its request for good.
    duplex_idle_seconds: float = 60.0
    # A gateway that buffers shows no progress, so this bounds a whole body, and is five times as long.
    buffered_wait_seconds: float = 300.0
    min_body_rate: int = 0
    query_model_paths: frozenset[bytes] = frozenset()
    path_templates: Sequence[Template] = ()
    url_wins: bool = False
    rules: Rules = field(default_factory=Rules)
    paths: PathFilter | None = None
    models_list: ModelsList | None = None
    asker: Asker | None = None
    scope: Asker | None = None
    uses_context: bool = field(default=False, init=False)
    fields: BodyFields | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        # What is larger than the limit is looked at by what knows limits.
        threshold = min(self.stream_threshold_bytes, self.max_body_bytes)
        # The dataclass is frozen, so a plain assignment would raise.
        object.__setattr__(self, "stream_threshold_bytes", threshold)
        beside = any(where is not None and not where.header for where in (self.asker, self.scope))
        object.__setattr__(self, "uses_context", beside)
        object.__setattr__(self, "fields", self.replies.convention.fields)
