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

# The bytes that a message may have in addition to a body: a header section (Envoy's limit is 60 KiB by default).
MESSAGE_OVERHEAD_BYTES: Final = 1 << 20
# A longer JSON body is read in pieces. Envoy can repeat requests of up to 64 KiB, so for these an early start has no
# value. Somewhat above that, reading the body whole is still cheaper.
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
    """Which router's answers are given where ours differ on purpose; see bbr.exchange.convention."""

    NONE = "none"
    GIE = "gie"  # the body-based router of the Gateway API Inference Extension
    IPP = "ipp"  # llm-d's inference payload processor


class AliasRewrite(enum.Enum):
    """How the model server learns the real model, if a request was routed as another model than its body names."""

    OFF = "off"
    HEADER = "header"  # a header tells the endpoint picker to put it into the body
    BODY = "body"  # the router replaces that string in the body


class UrlModel(enum.Enum):
    """What happens to a request whose URL and body name different models."""

    AGREES = "agrees"  # 400
    WINS = "wins"  # it is routed by its URL; the servers must use the URL too, as Azure OpenAI does


class ClientSteering(enum.Enum):
    """The headers by which a client may steer endpoint pickers and the pods' sidecars behind the router."""

    NONE = "none"
    PRIORITY = "priority"  # bbr.headers.PRIORITY_HEADERS
    ALL = "all"  # these, and bbr.headers.STEERING_HEADERS


class InvalidJson(enum.Enum):
    """What happens to a body that is not strict JSON. Model servers accept some: with NaN, lone surrogates, a BOM."""

    REJECT = "reject"  # 400
    PASS_STRIPPED = "pass-stripped"  # noqa: S105 (no password); it is forwarded without routing headers


class OverLimit(enum.Enum):
    """What happens to a body that has reached the limit without naming a model."""

    REJECT = "reject"  # 413
    PASS = "pass"  # noqa: S105 (no password); it is forwarded without routing headers


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that all exchanges of a server share.

    Attributes:
        replies: builds the answers. Its convention also says how a body is read.
        ledger: limits the body bytes that all exchanges together hold.
        assume_body_mode: the body mode of a gateway that sends no protocol_config, for response bodies too.
        max_body_bytes: the limit of a body that is read. For an encoded body it holds before and after decoding.
        stream_threshold_bytes: at most max_body_bytes. A longer JSON body is read in pieces, and in
            FULL_DUPLEX_STREAMED it goes upstream as soon as its model is known.
        over_limit: see OverLimit.
        forward_decoded: an encoded body that is read goes upstream decoded, without Content-Encoding.
        rewrites_body: the router replaces the model in a body by the model that the request was routed as.
        max_model_bytes: the limit of a model name.
        on_invalid_json: see InvalidJson.
        duplex_idle_seconds: how long a body may make no progress in FULL_DUPLEX_STREAMED.
        buffered_wait_seconds: how long a whole body may take in the other modes.
        min_body_rate: in FULL_DUPLEX_STREAMED, the bytes a second that a body must bring while it is held, averaged
            over each period of `duplex_idle_seconds`. 0: no minimum.
        query_model_paths: URL paths on which `?model=` names the model.
        path_templates: URL paths that name the model themselves.
        url_wins: if URL and body name different models, the URL counts.
        rules: what happens to requests for unknown models, and to those without a model.
        paths: the paths whose bodies are read; None: all.
        models_list: answers GET /v1/models; None: such requests pass.
        asker: where the gateway names the client; None: clients are unknown.
        scope: where the gateway names the scope; None: the host tells it.
        uses_context: asker or scope is in metadata or attributes, not in a header.
        fields: the convention's fields of the body whose values go into headers; None if there are none.
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
    # Envoy has no message_timeout in full duplex. Without this limit a silent client would hold its request for ever.
    duplex_idle_seconds: float = 60.0
    # A gateway that buffers shows no progress, so this limits the whole body, and is five times as long.
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
        # The reader of long bodies enforces max_body_bytes, so every larger body has to go to it.
        threshold = min(self.stream_threshold_bytes, self.max_body_bytes)
        # The dataclass is frozen, so a plain assignment would raise.
        object.__setattr__(self, "stream_threshold_bytes", threshold)
        beside = any(where is not None and not where.header for where in (self.asker, self.scope))
        object.__setattr__(self, "uses_context", beside)
        object.__setattr__(self, "fields", self.replies.convention.fields)
