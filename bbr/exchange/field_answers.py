"""Answers that also set the headers of the body's fields (--body-field). Sans-IO.

Nothing comes here if a server reads no fields.
"""

from typing import Final

from bbr.exchange.replies import Replies, Routing
from bbr.exchange.request import Request
from bbr.exchange.verdict import Outcome
from bbr.reading.fields import FieldValues

# Other bodies that are not routed were not read, or are no JSON.
_NO_MODEL: Final = Outcome.NO_MODEL


def decided(request: Request, found: FieldValues | None, routing: Routing | None, size: int | None) -> bytes:
    """Answer headers as Replies.decided does, and set the headers of what was found."""
    verdict = request.verdict
    outcome = verdict.outcome
    if found is None or (routing is None and outcome is not _NO_MODEL):
        return request.replies.decided(routing, outcome, size)
    verdict.fields = found  # as `_with_fields`, without a call
    replies = request.replies = request.replies.beside_fields
    return replies.header_tails.behind(replies.decided(routing, outcome, size), found.values)


def route(request: Request, found: FieldValues, routing: Routing) -> bytes:
    """Answer headers as Replies.route does, before the body's end, and set the headers of what has been found."""
    replies = _with_fields(request, found)
    return replies.header_tails.behind(replies.route(routing), found.values)


def decided_body(request: Request, found: FieldValues | None, routing: Routing | None) -> bytes:
    """Answer a body as Replies.decided_body does, and set the headers of what was found."""
    outcome = request.verdict.outcome
    if found is None or (routing is None and outcome is not _NO_MODEL):
        return request.replies.decided_body(routing, outcome)
    replies = _with_fields(request, found)
    return replies.body_tails.behind(replies.decided_body(routing, outcome), found.values)


def replaced_body(request: Request, found: FieldValues | None, routing: Routing | None, body: bytes) -> bytes:
    """Answer a body as Replies.replaced_body does, and set the headers of what was found."""
    outcome = request.verdict.outcome
    if found is None or (routing is None and outcome is not _NO_MODEL):
        return request.replies.replaced_body(routing, outcome, body)
    replies = _with_fields(request, found)
    return replies.body_tails.behind(replies.replaced_body(routing, outcome, body), found.values)


def _with_fields(request: Request, found: FieldValues) -> Replies:
    """Note in the verdict what goes into headers, and return answers that leave these headers alone."""
    request.verdict.fields = found
    replies = request.replies = request.replies.beside_fields
    return replies
