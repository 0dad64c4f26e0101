"""Every reason for which the router answers a request itself, with its HTTP status and the client's sentence.

Pure. A refusal's `reason` is part of the contract with operators: it appears as `bbr:<reason>` in the gateway's access
log, so a name, once released, stays.
"""

from typing import Final, Self

# How much of a client's own text an error repeats, in characters: enough to recognise a name.
MAX_ECHO_CHARACTERS: Final = 128


class Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """The request will not be routed; the client gets an error response instead.

    Attributes:
        status: HTTP status code.
        reason: stable name in kebab case, for `details`, metrics and logs.
        message: for the client: what was wrong and the way out. Never lists models, never holds body text other than
            the requested model name.
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
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.type = "invalid_request_error" if status < 500 else "server_error"
        self.param = param
        self.code = code

    def at(self, offset: int) -> Self:
        """Return the same refusal, its message saying where in the body: `offset` counts bytes from its start."""
        message = f"{self.message} (At byte {offset} of the body.)"
        return type(self)(self.status, self.reason, message, param=self.param, code=self.code)


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


def model_duplicate() -> Refusal:
    """Refuse a document with several top-level `model` keys: which one counts is each parser's own affair."""
    message = "`model` stands twice in the request body. Leave one."
    return Refusal(400, "model-duplicate", message, param="model", code="duplicate_key")


def invalid_json(reason: str, why: str, offset: int) -> Refusal:
    """Refuse a body that is no JSON document; `offset` counts bytes from the body's start."""
    message = f"The request body is not valid JSON: {why} at byte {offset}."
    return Refusal(400, reason, message, code="invalid_json")


def body_too_large(limit: int) -> Refusal:
    """Refuse a body of more than `limit` bytes."""
    message = f"The request body is larger than {limit} bytes, the most that this gateway's router reads."
    return Refusal(413, "body-too-large", message, code="body_too_large")


def body_cut_off(size: int) -> Refusal:
    """Refuse a body of which BUFFERED_PARTIAL showed the router only the first `size` bytes."""
    message = (
        f"The gateway showed its router only the first {size} bytes of the request body, too few to read the model. "
        "Send a smaller body, or ask the gateway's operator for a larger buffer (or FULL_DUPLEX_STREAMED)."
    )
    return Refusal(413, "body-cut-off", message, code="body_too_large")


def body_in_pieces() -> Refusal:
    """Refuse a model that was only known when the gateway had chosen a route: STREAMED, body in several pieces."""
    message = (
        "The gateway is misconfigured: it sends bodies in STREAMED mode, in which a body of several pieces can't be "
        "routed by its model. Its router's ext_proc filter needs request_body_mode FULL_DUPLEX_STREAMED or BUFFERED."
    )
    return Refusal(500, "body-in-pieces", message, code="gateway_misconfigured")


def body_mode_unknown(mode: int) -> Refusal:
    """Refuse a request of a gateway whose body mode is none that the router knows."""
    message = f"The gateway's request_body_mode {mode} is none that its router knows."
    return Refusal(500, "body-mode-unknown", message, code="gateway_misconfigured")


def headers_not_sent() -> Refusal:
    """Refuse a request whose headers the gateway has let pass before it asked: nothing could be stripped or routed."""
    message = "The gateway is misconfigured: its router's ext_proc filter needs request_header_mode SEND."
    return Refusal(500, "headers-not-sent", message, code="gateway_misconfigured")


def body_timeout(seconds: float) -> Refusal:
    """Refuse a request whose body stood still for `seconds`."""
    message = f"The rest of the request body did not come within {seconds:g} seconds."
    return Refusal(408, "body-timeout", message, code="request_timeout")


def quoted(text: str) -> str:
    """Return `text` in quotes, cut to MAX_ECHO_CHARACTERS."""
    shown = text if len(text) <= MAX_ECHO_CHARACTERS else text[:MAX_ECHO_CHARACTERS] + "..."
    return f"`{shown}`"
