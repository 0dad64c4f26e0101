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
        headers: fields of the response, besides those that every error has.
        unnamed: for a `model` that many servers take for none; an operator may have it routed as that.
        offset: where in the body, if the message says so; see `at`.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        unnamed: bool = False,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.type = "invalid_request_error" if status < 500 else "server_error"
        self.param = param
        self.code = code
        self.headers = headers
        self.unnamed = unnamed
        self.offset = offset

    def at(self, offset: int) -> Self:
        """Return the same refusal, its message saying where in the body: `offset` counts bytes from its start."""
        message = f"{self.message} (At byte {offset} of the body.)"
        return type(self)(
            self.status,
            self.reason,
            message,
            param=self.param,
            code=self.code,
            headers=self.headers,
            unnamed=self.unnamed,
            offset=offset,
        )

    def kept(self) -> Self:
        """Return the same refusal, without the frames that it has come through.

        They hold the body and its readers. So a refusal that one of these holds would keep them in memory, uncounted,
        until Python looks for garbage in cycles.
        """
        self.__context__ = None
        return self.with_traceback(None)

    def about(self, what: str) -> str:
        """Return the message for an operator who has declared the name: about `what`, and without its full stop."""
        return self.message.removesuffix(".").replace("`model`", what)


def model_not_found(model: str) -> Refusal:
    """Refuse a model that the table does not hold: 404, as OpenAI and vLLM answer it."""
    message = f"The model {quoted(model)} is not served here. Check its spelling (names are compared exactly)."
    return Refusal(404, "model-not-found", message, param="model", code="model_not_found")


def model_not_allowed(model: str) -> Refusal:
    """Refuse a model to somebody whom the table does not allow to use it: 403."""
    message = f"You may not use the model {quoted(model)} here. Ask the operator of this service for access."
    return Refusal(403, "model-not-allowed", message, param="model", code="model_not_allowed")


def table_incomplete() -> Refusal:
    """Refuse a model that a source which has not been read yet may hold: 503, for the client to try again."""
    message = "The router has not read its model table yet. Try again in a few seconds."
    return Refusal(503, "table-incomplete", message, code="service_unavailable", headers=(("retry-after", b"5"),))


def model_missing(found: str = "") -> Refusal:
    """Refuse a body that was read and names no model, where every request must name one.

    Args:
        found: what it is, if it is JSON and no object, in which alone a model can be named: `a list`.
    """
    message = "The request body names no model: the field `model` is missing."
    if found:
        message = f"The request body names no model: it is JSON, but {found} and not an object with a field `model`."
    return Refusal(400, "model-missing", message, param="model", code="missing_required_parameter")


def default_model_unknown() -> Refusal:
    """Refuse a request that names no model while the table does not hold the operator's default model."""
    message = "The gateway is misconfigured: its router's table does not have the model for requests without one."
    return Refusal(500, "default-model-unknown", message, code="gateway_misconfigured")


def model_not_string(found: str) -> Refusal:
    """Refuse a `model` whose JSON type, named by `found`, is no string."""
    message = f"`model` must be a JSON string, but it is {found}."
    return Refusal(400, "model-not-string", message, param="model", code="invalid_type", unnamed=found == "null")


def model_empty(where: str | None = None) -> Refusal:
    """Refuse a `model` of no characters, in the body or where else it stands, e.g. `URL path`."""
    message = "`model` is an empty string. Name a model, or leave the field out."
    if where is not None:
        message = f"The {where} has no name where the model's name should be."
    return Refusal(400, "model-empty", message, param="model", code="invalid_value", unnamed=where is None)


def model_too_long(length: int | None, limit: int) -> Refusal:
    """Refuse a `model` of `length` bytes where `limit` are allowed; None if it was not read to its end."""
    if length is None:
        message = f"`model` is more than {limit} bytes long in UTF-8, the most that are allowed."
    else:
        message = f"`model` is {length} bytes long in UTF-8; at most {limit} are allowed."
    return Refusal(400, "model-too-long", message, param="model", code="string_above_max_length")


def model_illegal(why: str) -> Refusal:
    """Refuse a `model` that could not stand in a header as it is."""
    message = f"`model` cannot be used as a model name: {why}."
    return Refusal(400, "model-illegal", message, param="model", code="invalid_value")


def model_duplicate(where: str = "request body") -> Refusal:
    """Refuse a document with several top-level `model` keys: which one counts is each parser's own affair."""
    message = f"`model` occurs twice in the {where}. Leave one."
    return Refusal(400, "model-duplicate", message, param="model", code="duplicate_key")


def model_spelling() -> Refusal:
    """Refuse a document with a key that only some parsers take for `model`: without letter case, or up to a NUL."""
    message = "A key of the request body is a spelling of `model` that only some servers read. Write it as `model`."
    return Refusal(400, "model-spelling", message, param="model", code="invalid_value")


def field_duplicate(name: str) -> Refusal:
    """Refuse a body that has a field twice whose value goes into a header (--body-field)."""
    message = f"`{name}` occurs twice in the request body. Leave one."
    return Refusal(400, "field-duplicate", message, param=name, code="duplicate_key")


def field_spelling(name: str) -> Refusal:
    """Refuse a body with a key that only some parsers take for such a field."""
    message = f"A key of the request body is a spelling of `{name}` that only some servers read. Write it as `{name}`."
    return Refusal(400, "field-spelling", message, param=name, code="invalid_value")


def field_type(name: str, found: str, *, wanted_object: bool) -> Refusal:
    """Refuse the value of such a field by its JSON type, named by `found`."""
    wanted = "a JSON object" if wanted_object else "a JSON string, a number, true or false"
    return Refusal(400, "field-type", f"`{name}` must be {wanted}, but it is {found}.", param=name, code="invalid_type")


def field_too_long(name: str, limit: int) -> Refusal:
    """Refuse the value of such a field that has more bytes than are allowed."""
    message = f"`{name}` is more than {limit} bytes long in UTF-8, the most that are allowed."
    return Refusal(400, "field-too-long", message, param=name, code="string_above_max_length")


def field_illegal(name: str, why: str) -> Refusal:
    """Refuse the value of such a field that could not stand in a header as it is."""
    return Refusal(400, "field-illegal", f"`{name}` cannot be used: {why}.", param=name, code="invalid_value")


# What can be wrong with a body that is no JSON document.
INVALID_JSON_REASONS: Final = frozenset(
    (
        *("byte-order-mark", "invalid-json", "invalid-utf8", "lone-surrogate"),
        *("non-finite-number", "too-deep", "trailing-bytes"),
    )
)


def invalid_json(reason: str, why: str, offset: int) -> Refusal:
    """Refuse a body that is no JSON document; `offset` counts bytes from the body's start."""
    message = f"The request body is not valid JSON: {why} at byte {offset}."
    return Refusal(400, reason, message, code="invalid_json")


def trailing_blanks(limit: int) -> Refusal:
    """Refuse a document with more than `limit` blanks after it, which would have to be held back until its end."""
    message = f"More than {limit} blanks follow the JSON document in the request body."
    return Refusal(400, "trailing-blanks", message, code="trailing_blanks")


def body_too_large(limit: int) -> Refusal:
    """Refuse a body of more than `limit` bytes."""
    message = f"The request body is larger than {limit} bytes, the most that this gateway's router reads."
    return Refusal(413, "body-too-large", message, code="body_too_large")


def no_room() -> Refusal:
    """Refuse a body for which the process has no memory left: others that are under way are let finish."""
    message = "The gateway's router has no room for more request bodies. Try again in a moment."
    return Refusal(503, "no-room", message, code="overloaded", headers=(("retry-after", b"1"),))


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
    message = f"The gateway's request_body_mode {mode} is unknown to its router."
    return Refusal(500, "body-mode-unknown", message, code="gateway_misconfigured")


def headers_not_sent() -> Refusal:
    """Refuse a request whose headers the gateway has let pass before it asked: nothing could be stripped or routed."""
    message = "The gateway is misconfigured: its router's ext_proc filter needs request_header_mode SEND."
    return Refusal(500, "headers-not-sent", message, code="gateway_misconfigured")


def body_timeout(seconds: float) -> Refusal:
    """Refuse a request whose body stood still for `seconds`."""
    message = f"The rest of the request body did not arrive within {seconds:g} seconds."
    return Refusal(408, "body-timeout", message, code="request_timeout")


def body_too_slow(bytes_per_second: int) -> Refusal:
    """Refuse a request whose body came at less than a rate for the span in which a body may stand still."""
    message = f"The request body arrived at less than {bytes_per_second} bytes a second."
    return Refusal(408, "body-too-slow", message, code="request_timeout")


def model_disagrees(one: str, named: str, other: str, otherwise: str) -> Refusal:
    """Refuse a request that names two different models in two places, e.g. `URL path` and `request body`."""
    message = (
        f"The {one} names the model {quoted(named)}, and the {other} names {quoted(otherwise)}. Name the same one, or "
        "leave one out."
    )
    return Refusal(400, "model-disagrees", message, param="model", code="invalid_value")


def model_in_list() -> Refusal:
    """Refuse JSON in which serde alone finds a model, in a request that is routed by another name.

    It reads a struct's fields from a list's items, and an object from a text that has a key of its own.
    """
    message = (
        "The request body is a JSON list, or has a key of serde_json's own. Some servers would read a model from its "
        "items, or from that key's text, and the request is for another one. Send an object without that key."
    )
    return Refusal(400, "model-in-list", message, param="model", code="invalid_value")


def path_ambiguous(why: str) -> Refusal:
    """Refuse a path that a server could read as naming another model than the router does."""
    message = f"The URL path can be read in several ways, which could name different models: {why}."
    return Refusal(400, "path-ambiguous", message, param="model", code="invalid_value")


def url_too_long(part: str, limit: int) -> Refusal:
    """Refuse a URL whose path or query is looked at for a model, and is longer than `limit` bytes."""
    message = f"The {part} of the URL is longer than {limit} bytes, the most in which this gateway looks for a model."
    return Refusal(414, "url-too-long", message, code="url_too_long")


def alias_not_replaced(model: str) -> Refusal:
    """Refuse a request for an alias in a body in which it can't be replaced: a form, or one with Content-Encoding."""
    message = (
        f"The model {quoted(model)} is an alias. The router can replace it only in plain JSON, not in a form or a "
        "body with Content-Encoding. Name the model itself, or send plain JSON."
    )
    return Refusal(400, "alias-not-replaced", message, param="model", code="alias_not_replaced")


def headers_stray(limit: int) -> Refusal:
    """Refuse a request with more fields that have to be removed than one answer can remove: 431."""
    message = (
        f"The request has more than {limit} header fields that only the gateway may set, other spellings included."
    )
    return Refusal(431, "headers-stray", message, code="headers_stray")


def headers_too_many(limit: int) -> Refusal:
    """Refuse a request with more header fields, or fields in its trailers, than are looked at: 431."""
    message = f"The request has more than {limit} header fields, the most that this gateway's router looks at."
    return Refusal(431, "headers-too-many", message, code="headers_too_many")


def headers_too_large(limit: int) -> Refusal:
    """Refuse a request whose header section, or trailers, take more than `limit` bytes in a gateway's message: 431."""
    message = (
        f"The request's header section is larger than {limit} bytes, the most that this gateway's router looks at."
    )
    return Refusal(431, "headers-too-large", message, code="headers_too_large")


def multipart_boundary(why: str) -> Refusal:
    """Refuse a multipart/form-data content type whose boundary parameter is unusable."""
    message = f"The Content-Type of the multipart body cannot be used: {why}."
    return Refusal(400, "multipart-boundary", message, code="invalid_multipart")


def multipart_invalid(why: str) -> Refusal:
    """Refuse a body that is no multipart/form-data as RFC 7578 has it, or that not all parsers read alike."""
    message = f"The multipart body is not valid, or servers read it in different ways: {why}."
    return Refusal(400, "multipart-invalid", message, code="invalid_multipart")


def multipart_model(why: str) -> Refusal:
    """Refuse a part that is the `model` field for some parsers and not for others, or not with the same value."""
    message = f"Not all servers would read the same `model` from the multipart body: {why}."
    return Refusal(400, "multipart-model", message, param="model", code="invalid_multipart")


def multipart_too_many(what: str, limit: int) -> Refusal:
    """Refuse a multipart body of too many parts, or a part of too many header fields."""
    message = f"The multipart body has too many {what}: at most {limit} are allowed."
    return Refusal(400, "multipart-too-many", message, code="invalid_multipart")


def multipart_cut_off() -> Refusal:
    """Refuse a multipart body that ended before its closing boundary."""
    message = "The multipart body ended before its closing boundary."
    return Refusal(400, "multipart-cut-off", message, code="invalid_multipart")


def form_model(where: str, why: str) -> Refusal:
    """Refuse a form, or a query, of which not all parsers would read the same `model`."""
    message = f"Not all servers would read the same `model` from the {where}: {why}."
    return Refusal(400, "form-model", message, param="model", code="invalid_form")


def content_type_too_long(limit: int) -> Refusal:
    """Refuse a body whose Content-Type fields are longer than `limit` bytes."""
    message = f"The Content-Type is longer than {limit} bytes, which is the limit."
    return Refusal(400, "content-type-too-long", message, code="invalid_content_type")


def content_type_ambiguous(why: str) -> Refusal:
    """Refuse a body whose Content-Type servers take for different types, in which it does not name the same model."""
    message = (
        "Servers could read the Content-Type as several types, and would then not read the same `model` from the "
        f"request body: {why}."
    )
    return Refusal(400, "content-type-ambiguous", message, code="invalid_content_type")


def charset_unknown(charset: str) -> Refusal:
    """Refuse a body in a character set in which `model` could be spelled with other bytes than in ASCII."""
    message = f"The charset {quoted(charset)} is not supported. Use UTF-8."
    return Refusal(415, "charset-unknown", message, code="unsupported_charset")


def encoding_unknown(coding: str, known: str) -> Refusal:
    """Refuse a Content-Encoding that is none of those `known`: 415, as RFC 9110, section 15.5.16 has it."""
    message = f"The Content-Encoding {quoted(coding)} is not supported. Supported are {known}."
    headers = (("accept-encoding", known.encode()),)
    return Refusal(415, "encoding-unknown", message, code="unsupported_encoding", headers=headers)


def encoding_layers(count: int, limit: int, known: str) -> Refusal:
    """Refuse a body that was encoded more than `limit` times."""
    message = f"The request body is encoded {count} times by its Content-Encoding; at most {limit} are allowed."
    headers = (("accept-encoding", known.encode()),)
    return Refusal(415, "encoding-layers", message, code="unsupported_encoding", headers=headers)


def encoding_corrupt(coding: str) -> Refusal:
    """Refuse a body that is not what its Content-Encoding says, or goes on behind its end."""
    message = (
        f"The request body is not valid {coding} data, as its Content-Encoding says, something follows its end, "
        "or it needs a larger window than is allowed."
    )
    return Refusal(400, "encoding-corrupt", message, code="invalid_encoding")


def encoding_cut_off() -> Refusal:
    """Refuse an encoded body that ended too early."""
    message = "The request body ended before its Content-Encoding says that it is complete."
    return Refusal(400, "encoding-cut-off", message, code="invalid_encoding")


def encoding_ambiguous() -> Refusal:
    """Refuse an encoded body that is something to read in another way as well: servers differ in what they do."""
    message = (
        "The request body has a Content-Encoding, but some servers could read another one from it: without decoding "
        "it, or as deflate without zlib's header."
    )
    return Refusal(400, "encoding-ambiguous", message, code="invalid_encoding")


def encoding_members(coding: str, limit: int) -> Refusal:
    """Refuse a body of too many gzip members or zstd frames."""
    message = f"The request body has more than {limit} {coding} streams in a row."
    return Refusal(413, "encoding-members", message, code="body_too_large")


def decoded_too_large(limit: int) -> Refusal:
    """Refuse a body that is larger than `limit` bytes once decoded."""
    message = f"The decoded request body is larger than {limit} bytes, the most that this gateway's router reads."
    return Refusal(413, "decoded-too-large", message, code="body_too_large")


def decoded_ratio(ratio: int) -> Refusal:
    """Refuse a body that grows, or of which a long stretch grows, to more than `ratio` times its size when decoded."""
    message = f"The request body, or a long part of it, grows to more than {ratio} times its size when it is decoded."
    return Refusal(413, "decoded-ratio", message, code="body_too_large")


def quoted(text: str) -> str:
    """Return `text` in quotes, cut to MAX_ECHO_CHARACTERS."""
    shown = text if len(text) <= MAX_ECHO_CHARACTERS else text[:MAX_ECHO_CHARACTERS] + "..."
    return f"`{shown}`"
