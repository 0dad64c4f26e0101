"""Replaces the model that a body names by the model that the request is routed as. Sans-IO."""

from bbr import refusal
from bbr.exchange.long_body import LongBody
from bbr.exchange.request import Request
from bbr.reading.replacing import replace


def rewritten(request: Request, octets: bytes) -> bytes:
    """Return a whole JSON body with the model that it is routed as, if that is to be."""
    if request.rewrite_to is None:
        return octets
    _note(request)
    return replace(octets, request.rewrite_to)


def rewrite(request: Request, body: LongBody) -> None:
    """Put the model that it is routed as into a long body, if that is to be; before anything of it has been passed on.

    Raises:
        Refusal: 400; that can't be done in a body of its kind.
    """
    if request.rewrite_to is None:
        return
    if not body.replace_model(request.rewrite_to):
        raise refusal.alias_not_replaced(request.verdict.model or "")
    _note(request)


def _note(request: Request) -> None:
    request.verdict.rewritten = True
    # The client's Content-Length and digests are of another text now: these answers remove them.
    request.replies = request.replies.changing_body
