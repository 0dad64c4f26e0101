"""What requests are by OpenTelemetry's semantic conventions for generative AI, and counts by them.

The conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/. They name durations of a whole operation, which a
router does not see, and the time to the first token, which it sees where the gateway shows it responses. Requests are
counted beside that by a metric of the router's own with the conventions' attributes.
"""

from typing import Final, NamedTuple

from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Outcome
from bbr.telemetry.access_log import shown_path
from bbr.telemetry.metrics import Histogram, name_in_table

# Series of each metric. Requests beyond them are counted without a model.
MAX_SERIES: Final = 2_000

# The conventions' value for what is none of their well-known ones.
OTHER: Final = "_OTHER"

# Seconds: the conventions' buckets of gen_ai.server.time_to_first_token.
FIRST_TOKEN_BOUNDS: Final[tuple[float, ...]] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)


class Api(NamedTuple):
    """What a request's path says of it.

    Attributes:
        operation: for gen_ai.operation.name.
        provider: for gen_ai.provider.name: whose API it is, not who serves the model.
    """

    operation: str
    provider: str


_UNKNOWN: Final = Api(OTHER, OTHER)

# How a path ends -> what it asks for. The first that fits counts.
_ENDS: Final = (
    ("/chat/completions", Api("chat", "openai")),
    ("/completions", Api("text_completion", "openai")),
    ("/responses", Api("chat", "openai")),
    ("/embeddings", Api("embeddings", "openai")),
    ("/messages", Api("chat", "anthropic")),
    ("/converse", Api("chat", "aws.bedrock")),
    ("/converse-stream", Api("chat", "aws.bedrock")),
    ("/invoke", Api(OTHER, "aws.bedrock")),
    ("/invoke-with-response-stream", Api(OTHER, "aws.bedrock")),
    (":generateContent", Api("generate_content", "gcp.gemini")),
    (":streamGenerateContent", Api("generate_content", "gcp.gemini")),
    (":embedContent", Api("embeddings", "gcp.gemini")),
    (":batchEmbedContents", Api("embeddings", "gcp.gemini")),
)
_AZURE: Final = "/openai/deployments/"
_REFUSED: Final = (Outcome.REFUSED, Outcome.FAULT)


def api(path: str) -> Api:
    """Return what a path asks for; a query and a slash at its end do not matter."""
    path = shown_path(path).removesuffix("/")
    for end, found in _ENDS:
        if path.endswith(end):
            return found._replace(provider="azure.ai.openai") if _AZURE in path else found
    return _UNKNOWN


def attributes(exchange: Exchange) -> dict[str, str]:
    """Return the conventions' attributes of a request, for its span; those that are not known are left out."""
    verdict = exchange.verdict
    operation, provider = api(exchange.request_field(":path"))
    found = {"gen_ai.operation.name": operation, "gen_ai.provider.name": provider}
    found = {name: value for name, value in found.items() if value != OTHER}
    if verdict.model is not None:
        found["gen_ai.request.model"] = verdict.model
    return found


class Requests(NamedTuple):
    """The labels of a count, in the order of the conventions.

    Attributes:
        model: as the client named it, an alias or an adapter too; "" unless the model table holds it.
        routed: the model that the request was routed as: what an alias stands for.
        base_model: the base model that serves it.
        error: for error.type: why the router refused it, or "".
    """

    operation: str
    provider: str
    model: str
    routed: str
    base_model: str
    error: str


class GenAi:
    """Counts requests by the conventions. No client can make it grow beyond MAX_SERIES.

    Attributes:
        requests: labels -> requests.
        first_token: seconds from a request's first message to the first piece of its response's body, of requests
            whose response the gateway showed; without errors.
    """

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        self.requests: dict[Requests, int] = {}
        self.first_token: dict[Requests, Histogram] = {}

    def ended(self, exchange: Exchange) -> None:
        """Count an exchange that is over, if something came of it."""
        verdict = exchange.verdict
        if verdict.outcome is Outcome.PENDING:
            return
        operation, provider = api(exchange.request_field(":path"))
        model, routed, base_model = name_in_table(verdict), "", ""
        route = verdict.route
        if route is not None and model:
            routed, base_model = route.model, route.base_model
            if route.pattern and routed == verdict.model:
                routed = route.pattern
        error = verdict.reason if verdict.outcome in _REFUSED else ""
        labels = Requests(operation, provider, model, routed, base_model, error)
        if labels not in self.requests and len(self.requests) >= self._max_series:
            labels = labels._replace(model="", routed="", base_model="")
        self.requests[labels] = self.requests.get(labels, 0) + 1
        responded = exchange.times.responded
        if responded is not None and not error:
            histogram = self.first_token.setdefault(labels, Histogram(FIRST_TOKEN_BOUNDS))
            histogram.add(responded - exchange.times.began)
