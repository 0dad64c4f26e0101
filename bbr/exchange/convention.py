"""The answers of the Go routers where ours differ on purpose (--compat), for whoever builds on them.

Sans-IO. Theirs are: Content-Length in the header answer of FULL_DUPLEX_STREAMED, so that it waits for the body's end;
header values without append_action; no header of a client's removed; a model that is no string as the text that Go
makes of it, looked up without the blanks around it; an empty base model header for what is not in the table; errors as
plain text. What they don't have (forms, encodings, limits, deadlines) stays as it is, and so does what would be a hole:
of two `model` fields none is chosen, and a name that can't stand in a header is refused.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final, cast

from bbr.exchange import replies
from bbr.exchange.exchange import Exchange
from bbr.exchange.long_body import LongBody
from bbr.exchange.replies import Replies
from bbr.exchange.request import DUPLEX
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models import routing
from bbr.models.registry import Registry
from bbr.models.routing import UnknownModel
from bbr.pb.ext_proc_pb2 import (
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    ImmediateResponse,
    ProcessingResponse,
    TrailersResponse,
)
from bbr.reading.coerced import CoercedReading
from bbr.reading.go_model import read_model
from bbr.reading.head import Dialect
from bbr.refusal import Refusal

_OUR_PREFIX: Final = "The request body is not valid JSON: "

# The names of errors in the Go routers; others have none there.
_ERROR_CODES: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "ResourceExhausted",
    503: "ServiceUnavailable",
}

# What the verdict's reason says of a `model` that is empty, which is no refusal here.
EMPTY_MODEL: Final = "model-empty"

# A router without a ConfigMap: nothing is known.
_EMPTY: Final = Registry(identity=False)


class CompatReplies(Replies):
    """The Go routers' answers.

    Args:
        model_headers: the names that get the requested model.
        base_model_headers: the names that get its base model.
        strip_headers: headers of the client's that are removed from every request; none, as theirs.
        metadata_namespace: see Replies.
    """

    def __init__(
        self,
        *,
        model_headers: Sequence[str] = (MODEL_HEADER,),
        base_model_headers: Sequence[str] = (BASE_MODEL_HEADER,),
        strip_headers: Iterable[str] = (),
        metadata_namespace: str = "",
    ) -> None:
        super().__init__(
            model_headers=model_headers,
            base_model_headers=base_model_headers,
            strip_headers=strip_headers,
            trust_client_headers=True,
            metadata_namespace=metadata_namespace,
        )

    @cached_property
    def request_trailers(self) -> bytes:
        """Answer request_trailers."""
        trailers = TrailersResponse()
        if self._strip_headers:
            trailers.header_mutation.remove_headers.extend(self._strip_headers)
        return ProcessingResponse(request_trailers=trailers).SerializeToString()

    def streamed(
        self,
        size: int | None,
        outcome: str,
        model: str | None = None,
        base_model: str | None = None,
        requested: str | None = None,
    ) -> bytes:
        """Answer request_headers once the body has been read, of which `size` octets follow; None if trailers do too.

        With a base model it sets the routing headers.
        """
        common = self._stripping() if model is None or base_model is None else self._routing(model, base_model)
        if size is not None:
            common.header_mutation.set_headers.append(_set("Content-Length", str(size).encode()))
        answer = ProcessingResponse(request_headers=HeadersResponse(response=common))
        return self._encode(answer, outcome, requested or model, base_model)

    def refuse(self, refusal: Refusal, dialect: Dialect = Dialect.OPENAI, model: str | None = None) -> bytes:
        """Return the ImmediateResponse for a refusal: one line of text."""
        code = _ERROR_CODES.get(refusal.status) or ("Internal" if refusal.status >= 500 else "BadRequest")
        message = refusal.message
        if refusal.code == "invalid_json":
            message = f"failed to parse request body: {message.removeprefix(_OUR_PREFIX)}"
        immediate = ImmediateResponse(
            status=HttpStatus(code=refusal.status), body=f"inference error: {code} - {message}".encode()
        )
        if refusal.headers:
            immediate.headers.set_headers.extend(_set(*field) for field in refusal.headers)
        return self._encode(ProcessingResponse(immediate_response=immediate), refusal.reason, model)

    def _stripped(self, outcome: str = "") -> bytes:
        return self._encode(ProcessingResponse(request_headers=self._empty()), outcome)

    def _stripped_unbuffered(self, outcome: str = "") -> bytes:
        answer = ProcessingResponse(request_headers=self._empty())
        replies.unbuffer(answer)
        return self._encode(answer, outcome)

    def _empty(self) -> HeadersResponse:
        return HeadersResponse(response=self._stripping()) if self._strip_headers else HeadersResponse()

    def _stripping(self) -> CommonResponse:
        return CommonResponse(
            header_mutation=HeaderMutation(remove_headers=self._strip_headers), clear_route_cache=True
        )

    def _routing(self, model: str, base_model: str) -> CommonResponse:
        # Their plugin that sets the model has nothing to set if it is empty; the other one sets what it has found.
        headers = [_set(name, model.encode()) for name in self._model_headers if model]
        headers += [_set(name, base_model.encode()) for name in self._base_model_headers]
        common = self._stripping()
        common.header_mutation.set_headers.extend(headers)
        return common


class CompatExchange(Exchange):
    """An exchange that reads models as the Go routers do. Its policy's replies are CompatReplies."""

    __slots__ = ()

    def _read_model(self, body: bytes) -> str | None:
        return read_model(body, self._policy.max_model_bytes)

    def _lengthen(self) -> LongBody:
        self._long = LongBody(CoercedReading(self._policy.max_model_bytes), kept=self._mode == DUPLEX)
        for piece in self._pieces:
            self._long.feed(piece)
        self._pieces = []
        return self._long

    def _routed(self, name: str) -> tuple[str, ...]:
        self.verdict.model = name
        if not name:
            self.verdict.reason = EMPTY_MODEL
        asked = name.strip()
        rules = self._policy.rules
        empty = self._registry.identity and rules.unknown_model is UnknownModel.EMPTY
        route = routing.route(_EMPTY if empty else self._registry, rules, asked)
        return self._told(route._replace(model=name) if route.model == asked else route)

    def _duplex_answer(self, *, end_of_stream: bool) -> list[bytes]:
        body = self._take_body()
        route = self._resolve(lambda: self._model_of_whole(body))
        headers = self._streamed(len(body) if end_of_stream else None, route)
        self._finish_request()
        return [headers, *replies.request_body(body, end_of_stream=end_of_stream)]

    def _duplex_read(self, long: LongBody) -> bytes | None:
        if not (long.work() or long.settled):
            return self._over_limit(long)
        route = self._resolve(lambda: self._model_of_long(long))
        long.open()
        return self._streamed(None if self._by_trailers else self.verdict.body_bytes, route)

    def _streamed(self, size: int | None, route: tuple[str, ...] | None) -> bytes:
        made = cast(CompatReplies, self._replies)
        return made.streamed(size, self.verdict.outcome, *(route or ()))


def _set(key: str, value: bytes) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=key, raw_value=value))
