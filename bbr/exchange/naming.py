"""Which model a request names by its URL and its body, and which bodies without a usable model may pass. Pure."""

from collections.abc import Sequence

from bbr import refusal
from bbr.exchange.body import Body
from bbr.exchange.policy import InvalidJson, OverLimit, Policy
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel
from bbr.reading import uri
from bbr.refusal import Refusal


def in_url(policy: Policy, path: bytes) -> tuple[str | None, tuple[str, ...]]:
    """Return the model that a URL's path or query names, if one does, and what else its body may call that one.

    Raises:
        Refusal: 400; they name two.
    """
    found = uri.model_in_path(path, policy.path_templates, policy.max_model_bytes)
    in_path, longer = found or (None, ())
    in_query = uri.model_in_query_of(path, policy.query_model_paths, policy.max_model_bytes)
    # Nobody knows which of two names a server believes. To route by one would let a client reach the other unchecked.
    if in_path and in_query and in_path != in_query:
        raise refusal.model_disagrees("URL's path", in_path, "URL's query", in_query)
    return in_path or in_query, longer


def check_query(policy: Policy, path: bytes, name: str) -> None:
    """Check that a URL's query names no other model than the one that a request is routed as, whatever its path.

    Many servers have one list of parameters for the query and a form in the body, and take the query's first: Java's
    getParameter, Go's fasthttp and fiber, Werkzeug's `values`.

    Args:
        policy: of the server.
        path: of the request, with its query.
        name: the model.

    Raises:
        Refusal: 400; it names another one, or not all servers would read the same one. 414; it is too long.
    """
    in_query = uri.model_in_query(path, policy.max_model_bytes)
    if in_query is not None and in_query != name:
        raise refusal.model_disagrees("URL's query", in_query, "rest of the request", name)


def agreed(
    policy: Policy, registry: Registry, url_model: str | None, url_longer: Sequence[str], name: str | None
) -> str | None:
    """Return the model of a request by its URL's, and its body's as far as that is known.

    Args:
        policy: of the server.
        registry: the model table.
        url_model: that its URL names, if one does.
        url_longer: what else its body may call that one.
        name: that its body names, if one does.

    Raises:
        Refusal: 400; they name two.
    """
    if url_model is not None and policy.url_wins:
        return url_model
    # This closes a hole: rules and quotas would apply to one model, and the server would run the other.
    if name is None or url_model is None or name == url_model:
        return name or url_model
    # Google's clients write `models/NAME` into the body. A table may hold that as another model's name.
    if name not in url_longer or registry.holds(name):
        raise refusal.model_disagrees("URL", url_model, "request body", name)
    return url_model


def check_serde(policy: Policy, url_model: str | None) -> None:
    """Refuse a list in a request that is routed by another name than its body's: its URL's, or the default.

    serde could find a model where the router finds none; see bbr.reading.name.serde_differs.

    Raises:
        Refusal: 400.
    """
    beside_url = url_model is not None and not policy.url_wins
    if beside_url or policy.rules.missing_model is MissingModel.DEFAULT:
        raise refusal.model_in_list()


def model_of(policy: Policy, body: Body) -> str | None:
    """Return the model that a whole body names, or None; null and "" name none where there is a default.

    Raises:
        Refusal: the body can't be routed.
    """
    try:
        return body.model()
    except Refusal as refused:
        if not is_unnamed(policy, refused.kept()):
            raise
        return None


def is_unnamed(policy: Policy, refused: Refusal) -> bool:
    """Tell whether a body with such a `model` (null, "") is one that names none: its server takes its default."""
    return refused.unnamed and policy.rules.missing_model is MissingModel.DEFAULT


def excuse(policy: Policy, refused: Refusal, *, is_text: bool) -> Outcome | None:
    """Return as what a body may pass, stripped, that is to be refused; None if it may not.

    Args:
        policy: of the server.
        refused: why.
        is_text: it is plain text by its type, and may be anything.
    """
    # The code covers every fault of JSON. The reason tells them apart, for the log.
    if refused.code == "invalid_json":
        if is_text:
            return Outcome.NOT_READ
        return Outcome.INVALID if policy.on_invalid_json is InvalidJson.PASS_STRIPPED else None
    # Only decoding shows this size. The bytes that came were within the limit, so no other check has caught it.
    if refused.reason == "decoded-too-large" and policy.over_limit is OverLimit.PASS:
        return Outcome.OVER_LIMIT
    return None
