"""The convention of the Go routers, where ours differs on purpose (--compat), for whoever builds on them.

Pure. Theirs are: Content-Length in the header answer of FULL_DUPLEX_STREAMED, so that it waits for the body's end;
header values without append_action; no header of a client's removed; a model that is no string as the text that Go
makes of it, looked up without the blanks around it; an empty base model header for what is not in the table; errors as
plain text. What they don't have (forms, encodings, limits, deadlines) stays as it is, and so does what would be a hole:
of two `model` fields none is chosen, and a name that can't stand in a header is refused.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Final

from bbr.exchange.convention import Convention
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models import routing
from bbr.models.registry import Registry
from bbr.models.routing import Route, Rules, UnknownModel
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
from bbr.reading.base import Reading
from bbr.reading.coerced import CoercedReading
from bbr.reading.fields import BodyFields, FieldValues
from bbr.reading.go_model import model_at_once
from bbr.reading.head import Dialect
from bbr.reading.header_names import GuardedNames
from bbr.reading.json_body import Unsettled
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

# A router without a ConfigMap: nothing is known.
_EMPTY: Final = Registry(identity=False)


class GoRouter(Convention):
    """What the Go routers' users expect.

    Args:
        model_headers: the names that get the requested model.
        base_model_headers: the names that get its base model.
        strip_headers: headers of the client's that are removed from every request; none, as theirs.
        strip_prefixes: how the names of further such headers begin.
        fields: of the body whose values go into headers. Theirs leave a client's own header where the body has no such
            field; here it is removed.
    """

    # Their tests pin the Content-Length in this answer. It costs the early start of long bodies.
    sends_length = True
    # They look at no query, and take every body for JSON.
    minds_queries = False
    minds_forms = False

    def __init__(
        self,
        *,
        model_headers: Sequence[str] = (MODEL_HEADER,),
        base_model_headers: Sequence[str] = (BASE_MODEL_HEADER,),
        strip_headers: Iterable[str] = (),
        strip_prefixes: Iterable[str] = (),
        fields: BodyFields | None = None,
    ) -> None:
        super().__init__(fields, _set)
        self._model_headers = tuple(model_headers)
        self._base_model_headers = tuple(base_model_headers)
        self._strip_headers = tuple(dict.fromkeys((*strip_headers, *self._of_fields)))
        self._stripped_trailers = self._strip_headers
        # A client's routing headers are not among them: theirs leave those in place.
        spared = (*model_headers, *base_model_headers)
        self.guarded = GuardedNames(self._strip_headers, strip_prefixes, spared, len(self._strip_headers))

    def removing_also(self, names: Sequence[str]) -> "GoRouter":
        """See Convention."""
        # A copy: the convention serves all requests, and only one of them carried these names.
        other = copy.copy(self)
        other._strip_headers = (*self._strip_headers, *names)
        other._stripped_trailers = (*self._stripped_trailers, *names)
        return other

    def beside_fields(self) -> "GoRouter":
        """See Convention."""
        other = copy.copy(self)
        other._strip_headers = tuple(name for name in self._strip_headers if name not in self._of_fields)
        return other

    def model_at_once(
        self, octets: bytes, max_model_bytes: int, fields: FieldValues | None = None
    ) -> str | Unsettled | None:
        """See Convention: of any type."""
        return model_at_once(octets, max_model_bytes, fields)

    def open_document(self, max_model_bytes: int, whole_bytes: int) -> Reading:
        """See Convention: all of it is kept, to find a value of another type again. Never read in one piece."""
        return CoercedReading(max_model_bytes, self.fields)

    def route(self, registry: Registry, rules: Rules, name: str) -> Route:
        """See Convention: the blanks around a name do not count, and stay in the header."""
        asked = name.strip()
        # Without a table, identity mode would pass each name on as its own base model. Theirs find nothing then.
        empty = registry.identity and rules.unknown_model is UnknownModel.EMPTY
        route = routing.route(_EMPTY if empty else registry, rules, asked)
        return route._replace(model=name) if route.model == asked else route

    def unread_headers(self) -> HeadersResponse:
        """See Convention: an empty answer, unless an operator wants headers removed."""
        return HeadersResponse(response=self._common(None, None)) if self._strip_headers else HeadersResponse()

    def headers(
        self, model: str | None, base_model: str | None, size: int | None, *, rewrite: bool = False
    ) -> HeadersResponse:
        """See Convention."""
        common = self._common(model, base_model)
        # A body that ended by trailers gets no length: HTTP/1.1 carries trailers only in chunked encoding, which a
        # Content-Length rules out.
        if size is not None:
            common.header_mutation.set_headers.append(_set("Content-Length", str(size).encode()))
        return HeadersResponse(response=common)

    def body(self, model: str | None, base_model: str | None, *, rewrite: bool = False) -> BodyResponse:
        """See Convention."""
        return BodyResponse(response=self._common(model, base_model))

    def trailers(self) -> TrailersResponse:
        """See Convention: an empty answer, unless an operator wants headers removed."""
        trailers = TrailersResponse()
        if self._stripped_trailers:
            trailers.header_mutation.remove_headers.extend(self._stripped_trailers)
        return trailers

    def error(self, refusal: Refusal, dialect: Dialect) -> ImmediateResponse:
        """See Convention: one line of text, whatever API the client speaks."""
        code = _ERROR_CODES.get(refusal.status) or ("Internal" if refusal.status >= 500 else "BadRequest")
        message = refusal.message
        if refusal.code == "invalid_json":
            # Their prefix takes the place of ours, so that a search for their text still finds this error.
            message = f"failed to parse request body: {message.removeprefix(_OUR_PREFIX)}"
        # As theirs, it has neither a content type nor `details`.
        error = ImmediateResponse(
            status=HttpStatus(code=refusal.status), body=f"inference error: {code} - {message}".encode()
        )
        if refusal.headers:
            error.headers.set_headers.extend(_set(*field) for field in refusal.headers)
        return error

    def _common(self, model: str | None, base_model: str | None) -> CommonResponse:
        mutation = HeaderMutation(remove_headers=self._strip_headers)
        if model:  # their plugin that sets it has nothing to set if it is empty
            mutation.set_headers.extend(_set(name, model.encode()) for name in self._model_headers)
        if base_model is not None:  # the other one sets what it has found
            mutation.set_headers.extend(_set(name, base_model.encode()) for name in self._base_model_headers)
        # Without clear_route_cache Envoy would keep the route that it chose before these headers were set.
        return CommonResponse(header_mutation=mutation, clear_route_cache=True)


def _set(key: str, value: bytes) -> HeaderValueOption:
    # No append_action, as theirs. Envoy 1.40 overwrites whatever it says, and reads only raw_value.
    return HeaderValueOption(header=HeaderValue(key=key, raw_value=value))
