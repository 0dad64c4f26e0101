"""How a router reads a model, and how its answers look. Pure.

It is chosen once for a server. `Ours` is bbr's own convention. bbr.exchange.go_router has that of the Go routers.
"""

import abc
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import orjson

from bbr.exchange.field_tails import FieldTails
from bbr.headers import BASE_MODEL_HEADER, DESTINATION_HEADER, MODEL_HEADER
from bbr.models import routing
from bbr.models.registry import Registry
from bbr.models.routing import Route, Rules
from bbr.pb.ext_proc_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    ImmediateResponse,
    TrailersResponse,
)
from bbr.reading import name as model_name
from bbr.reading.base import Reading
from bbr.reading.document import DocumentReading
from bbr.reading.fields import BodyFields, FieldValues
from bbr.reading.head import Dialect
from bbr.reading.header_names import NO_NAMES, GuardedNames
from bbr.reading.json_body import Unsettled
from bbr.refusal import Refusal

# Anthropic's error types for the statuses that it gives a name of their own.
_ANTHROPIC_TYPES: Final = {
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    504: "timeout_error",
}


class Convention(abc.ABC):
    """What differs from router to router. bbr.exchange.replies encodes the messages, and keeps them.

    Attributes:
        sends_length: the header answer of FULL_DUPLEX_STREAMED has a Content-Length, so it waits for the body's end.
        minds_queries: a URL's query, on any path, may name no other model than the one that a request is routed as.
        minds_forms: JSON without a Content-Type may not name another model to a server that takes it for a form.
        guarded: the names of headers that are removed or set, which a client may say in no spelling.
        rewrites: headers ask a picker to replace the model in the body, if that is another name of it.
        fields: of the body whose values go into headers; None for none.
        header_tails: what answers to headers have for those.
        body_tails: what answers to bodies have for those.
    """

    # Off by default, because a wait for the end gives up the early start. Behind Envoy that is 22 instead of 418 ms
    # for 5 MB with an image.
    sends_length = False
    minds_queries = True
    minds_forms = True
    guarded: GuardedNames = NO_NAMES
    rewrites = False

    def __init__(self, fields: BodyFields | None, setting: Callable[[str, bytes], HeaderValueOption]) -> None:
        """Take the fields, and what makes an option that sets a header."""
        written = [field.header for field in fields.fields] if fields else []
        self.fields = fields
        self.header_tails = FieldTails(written, setting, in_body=False)
        self.body_tails = FieldTails(written, setting, in_body=True)
        self._of_fields = tuple(name.lower() for name in written)

    @abc.abstractmethod
    def removing_also(self, names: Sequence[str]) -> "Convention":
        """Return the same convention, which removes headers by these names from every request too."""

    @abc.abstractmethod
    def beside_fields(self) -> "Convention":
        """Return the same convention, which leaves the headers of its fields alone: something else removes them."""

    @abc.abstractmethod
    def model_at_once(
        self, octets: bytes, max_model_bytes: int, fields: FieldValues | None = None
    ) -> str | Unsettled | None:
        """Return the model that a whole JSON body names, or None; UNSETTLED if `open_document` is to read it.

        Args:
            octets: the body.
            max_model_bytes: a longer name is refused.
            fields: get what the body says in them.
        """

    @abc.abstractmethod
    def open_document(self, max_model_bytes: int, whole_bytes: int) -> Reading:
        """Return what reads a JSON body that takes too long to be read at once, or is to be refused.

        It reads the convention's fields as well.

        Args:
            max_model_bytes: a longer name is refused.
            whole_bytes: one of up to so many may be read in one piece, at its end.
        """

    @abc.abstractmethod
    def route(self, registry: Registry, rules: Rules, name: str) -> Route:
        """Route a request that names a model.

        Raises:
            Refusal: see bbr.models.routing.route.
        """

    @abc.abstractmethod
    def unread_headers(self) -> HeadersResponse:
        """Return the answer to the headers of a request that is forwarded unread, or of which the body is awaited."""

    @abc.abstractmethod
    def headers(
        self, model: str | None, base_model: str | None, size: int | None, *, rewrite: bool = False
    ) -> HeadersResponse:
        """Return the answer to the headers of a request that is decided; without a base model it is not routed.

        Args:
            model: what it is routed as.
            base_model: the base model that serves that.
            size: of the body, for a Content-Length; None if it has not ended, or by trailers.
            rewrite: the body names the model by another name.
        """

    @abc.abstractmethod
    def body(self, model: str | None, base_model: str | None, *, rewrite: bool = False) -> BodyResponse:
        """Return the answer to the body of a request that is decided, as `headers` does."""

    @abc.abstractmethod
    def trailers(self) -> TrailersResponse:
        """Return the answer to trailers."""

    @abc.abstractmethod
    def error(self, refusal: Refusal, dialect: Dialect) -> ImmediateResponse:
        """Return the error for a refusal."""


class Ours(Convention):
    """The router's own convention: no header of a client's routes.

    Each answer that sets or removes headers carries clear_route_cache: without it Envoy keeps the route that it chose
    by the client's own headers.

    Args:
        model_headers: the names that get the requested model.
        base_model_headers: the names that get its base model.
        strip_headers: other headers of the client's that are removed from every request.
        strip_prefixes: how the names of further such headers begin; routing headers are not among them.
        trust_client_headers: leave the client's own routing headers in requests that name no model.
        rewrite_headers: the names that get the model that the body is to name, if it names it by another name; a client
            may not say them.
        fields: of the body whose values go into headers; a client may not say those.
    """

    def __init__(
        self,
        *,
        model_headers: Sequence[str] = (MODEL_HEADER,),
        base_model_headers: Sequence[str] = (BASE_MODEL_HEADER,),
        strip_headers: Iterable[str] = (DESTINATION_HEADER,),
        strip_prefixes: Iterable[str] = (),
        trust_client_headers: bool = False,
        rewrite_headers: Sequence[str] = (),
        fields: BodyFields | None = None,
    ) -> None:
        super().__init__(fields, overwriting)
        self._rewrite_headers = tuple(rewrite_headers)
        self.rewrites = bool(rewrite_headers)
        self._model_headers = tuple(model_headers)
        self._base_model_headers = tuple(base_model_headers)
        # The usual names route wherever a route still has them, so no client may say them, whatever names are set.
        own = {name.lower() for name in (*model_headers, *base_model_headers)}
        unset = tuple(name for name in (MODEL_HEADER, BASE_MODEL_HEADER) if name.lower() not in own)
        others = tuple(dict.fromkeys((*strip_headers, *self._of_fields)))
        self._removed = (*unset, *others)  # beside those that are set
        # A trusted client may say the routing headers. It may never say the others: a destination header would lead
        # it past every endpoint picker.
        self._stripped = others if trust_client_headers else (*model_headers, *base_model_headers, *self._removed)
        self._stripped_trailers = self._stripped
        # CGI and its heirs read X_Gateway_Model_Name as the routing header too, so the names count in every spelling.
        names = others if trust_client_headers else (*own, *self._removed)
        spared = (*own, MODEL_HEADER, BASE_MODEL_HEADER)
        self.guarded = GuardedNames(names, strip_prefixes, spared, len(self._stripped))

    def removing_also(self, names: Sequence[str]) -> "Ours":
        """See Convention."""
        # A copy: the convention serves all requests, and only one of them carried these names.
        other = copy.copy(self)
        other._removed = (*self._removed, *names)
        other._stripped = (*self._stripped, *names)
        other._stripped_trailers = (*self._stripped_trailers, *names)
        return other

    def beside_fields(self) -> "Ours":
        """See Convention."""
        other = copy.copy(self)
        other._removed = tuple(name for name in self._removed if name not in self._of_fields)
        other._stripped = tuple(name for name in self._stripped if name not in self._of_fields)
        return other

    def model_at_once(
        self, octets: bytes, max_model_bytes: int, fields: FieldValues | None = None
    ) -> str | Unsettled | None:
        """See Convention: one string, or none."""
        return model_name.model_at_once(octets, max_model_bytes, fields)

    def open_document(self, max_model_bytes: int, whole_bytes: int) -> Reading:
        """See Convention."""
        return DocumentReading(max_model_bytes, whole_bytes, self.fields)

    def route(self, registry: Registry, rules: Rules, name: str) -> Route:
        """See Convention."""
        return routing.route(registry, rules, name)

    def unread_headers(self) -> HeadersResponse:
        """See Convention: stripped."""
        # An awaited body may never come: BUFFERED sends no body message for headers and trailers alone. An empty
        # answer would then leave the client's own header to route.
        return HeadersResponse(response=self._common(None, None))

    def headers(
        self, model: str | None, base_model: str | None, size: int | None, *, rewrite: bool = False
    ) -> HeadersResponse:
        """See Convention."""
        # Without the size: Envoy sends what comes back to it in chunks, and drops the Content-Length itself.
        return HeadersResponse(response=self._common(model, base_model, rewrite=rewrite))

    def body(self, model: str | None, base_model: str | None, *, rewrite: bool = False) -> BodyResponse:
        """See Convention."""
        return BodyResponse(response=self._common(model, base_model, rewrite=rewrite))

    def trailers(self) -> TrailersResponse:
        """See Convention: what a client may not say is removed here too; an upstream may take trailers for headers."""
        # Only the mutation fits. A TrailersResponse has no clear_route_cache, and the route is chosen by then.
        return TrailersResponse(header_mutation=HeaderMutation(remove_headers=self._stripped_trailers))

    def error(self, refusal: Refusal, dialect: Dialect) -> ImmediateResponse:
        """See Convention: in the shape of the client's API, with `bbr:<reason>` as details for the gateway's log."""
        error = _anthropic_error(refusal) if dialect is Dialect.ANTHROPIC else _openai_error(refusal)
        return immediate(refusal.status, orjson.dumps(error), f"bbr:{refusal.reason}", refusal.headers)

    def _common(self, model: str | None, base_model: str | None, *, rewrite: bool = False) -> CommonResponse:
        if model is None or base_model is None:
            # Nothing is removed, so the route that the gateway chose holds, and there is no cache to clear.
            if not self._stripped:
                return CommonResponse()
            # Without clear_route_cache the header would be gone upstream, but would have chosen the route before.
            return CommonResponse(header_mutation=HeaderMutation(remove_headers=self._stripped), clear_route_cache=True)
        headers = [(name, model.encode()) for name in self._model_headers]
        headers += [(name, base_model.encode()) for name in self._base_model_headers]
        # What is set replaces all copies of the client's. So only the names that are not set need to be removed.
        removed: Sequence[str] = self._removed
        if rewrite and self._rewrite_headers:
            headers += [(name, model.encode()) for name in self._rewrite_headers]
            removed = [name for name in removed if name not in self._rewrite_headers]
        mutation = HeaderMutation(set_headers=_overwrite(headers), remove_headers=removed)
        return CommonResponse(header_mutation=mutation, clear_route_cache=True)


def immediate(status: int, body: bytes, details: str, headers: Sequence[tuple[str, bytes]] = ()) -> ImmediateResponse:
    """Return an answer of the router's own, in JSON, with `details` for the gateway's log."""
    # Envoy shows `details` in its access log, as RESPONSE_CODE_DETAILS. There it marks our error as none of the model
    # server's.
    return ImmediateResponse(
        status=HttpStatus(code=status),
        headers=HeaderMutation(set_headers=_overwrite([("content-type", b"application/json"), *headers])),
        body=body,
        details=details,
    )


def _overwrite(headers: Iterable[tuple[str, bytes]]) -> Iterator[HeaderValueOption]:
    # Envoy 1.40 overwrites whatever append_action says; other gateways append unless told. Only raw_value is read.
    for key, value in headers:
        yield overwriting(key, value)


def overwriting(key: str, value: bytes) -> HeaderValueOption:
    """Return a header that takes the place of all others of its name."""
    return HeaderValueOption(
        header=HeaderValue(key=key, raw_value=value), append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    )


def _openai_error(refusal: Refusal) -> dict[str, object]:
    error = {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def _anthropic_error(refusal: Refusal) -> dict[str, object]:
    kind = _ANTHROPIC_TYPES.get(refusal.status) or ("api_error" if refusal.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}
