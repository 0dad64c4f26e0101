"""Every reason for which the router answers a request itself, with its HTTP status and the client's sentence.

Pure. A refusal's `reason` is part of the contract with operators: it appears as `bbr:<reason>` in the gateway's access
log, so a name, once released, stays.
"""

from typing import Final

# How much of a client's own text an error repeats, in characters: enough to recognise a name.
MAX_ECHO_CHARACTERS: Final = 128


class Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """The request will not be routed; the client gets an error response instead.

    Attributes:
        status: HTTP status code.
        reason: stable name in kebab case, for `details`, metrics and logs.
        message: a sentence for the client: what was wrong and the way out. Never lists models, never holds body text
            other than the requested model name.
        type: OpenAI's coarse error class, e.g. `invalid_request_error`.
        param: the request's field at fault, or None.
        code: OpenAI's error code, or None.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.type = kind
        self.param = param
        self.code = code


def model_not_found(model: str) -> Refusal:
    """Refuse a model that the table does not hold: 404, as OpenAI and vLLM answer it."""
    message = f"The model {quoted(model)} is not served here. Check its spelling (names are compared exactly)."
    return Refusal(404, "model-not-found", message, param="model", code="model_not_found")


def model_not_string(found: str) -> Refusal:
    """Refuse a `model` whose JSON type, named by `found`, is no string."""
    message = f"`model` must be a JSON string, but it is {found}."
    return Refusal(400, "model-not-string", message, param="model", code="invalid_type")


def model_empty() -> Refusal:
    """Refuse a `model` of no characters."""
    message = "`model` is an empty string. Name a model, or leave the field out."
    return Refusal(400, "model-empty", message, param="model", code="invalid_value")


def model_too_long(length: int, limit: int) -> Refusal:
    """Refuse a `model` of `length` octets where `limit` are allowed."""
    message = f"`model` is {length} bytes long in UTF-8; at most {limit} are allowed."
    return Refusal(400, "model-too-long", message, param="model", code="string_above_max_length")


def model_illegal(why: str) -> Refusal:
    """Refuse a `model` that could not stand in a header as it is."""
    message = f"`model` can not be used as a model name: {why}."
    return Refusal(400, "model-illegal", message, param="model", code="invalid_value")


def invalid_json(why: str, offset: int) -> Refusal:
    """Refuse a body that is no JSON document; `offset` counts bytes from the body's start."""
    message = f"The request body is not valid JSON: {why} at byte {offset}."
    return Refusal(400, "invalid-json", message, code="invalid_json")


def body_too_large(limit: int) -> Refusal:
    """Refuse a body of more than `limit` bytes."""
    message = f"The request body is larger than {limit} bytes, the most that this gateway's router reads."
    return Refusal(413, "body-too-large", message, code="body_too_large")


def headers_not_sent() -> Refusal:
    """Refuse a request whose headers the gateway has let pass before it asked: nothing could be stripped or routed."""
    message = "The gateway is misconfigured: its router's ext_proc filter needs request_header_mode SEND."
    return Refusal(500, "headers-not-sent", message, kind="server_error", code="gateway_misconfigured")


def quoted(text: str) -> str:
    """Return `text` in quotes, cut to MAX_ECHO_CHARACTERS."""
    shown = text if len(text) <= MAX_ECHO_CHARACTERS else text[:MAX_ECHO_CHARACTERS] + "..."
    return f"`{shown}`"
