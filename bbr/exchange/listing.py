"""The router's own answer to a request for the list of models, or for one of them. Sans-IO."""

from typing import Final

from bbr.exchange.request import Request
from bbr.models.access import NOBODY
from bbr.models.listing import ModelsList, asked_for
from bbr.reading.head import Dialect, Head

_ANTHROPIC_VERSION: Final = "anthropic-version"


def answer(request: Request, models_list: ModelsList, head: Head) -> bytes | None:
    """Answer a request for the list of models, or for one of them; None if it is none, or the list is too long.

    Raises:
        DecodeError: its header section is none.
    """
    registry = request.registry
    # Identity mode knows no models. The request passes to a server that may know some.
    name = None if registry.identity else asked_for(head.method, head.path)
    if name is None:
        return None
    # Anthropic's clients say which version of its API they speak, and know no other list.
    if request.find(_ANTHROPIC_VERSION):
        request.dialect = Dialect.ANTHROPIC
    askers = request.askers if registry.grants else NOBODY
    found = models_list.answer(registry, name, askers, anthropic=request.dialect is Dialect.ANTHROPIC)
    if found is None:
        # The request passes. The reason says why the router did not answer it.
        request.verdict.reason = "models-list-too-long"
        return None
    request.verdict.status = 200
    return request.replies.answer(found, "models-list")
