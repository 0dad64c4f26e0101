"""The side of the modes that await an answer to each message: BUFFERED, BUFFERED_PARTIAL, STREAMED, NONE, GRPC.

Sans-IO. The headers have been answered before the body comes.
"""

from collections.abc import Sequence
from typing import Final

from bbr import refusal
from bbr.exchange import field_answers
from bbr.exchange.body import Body
from bbr.exchange.decoded_body import DecodedBody
from bbr.exchange.long_body import LongBody
from bbr.exchange.phases import DECIDING, PASSING
from bbr.exchange.policy import BodyMode, OverLimit, Policy
from bbr.exchange.replies import Routing
from bbr.exchange.request import Owed, Request
from bbr.exchange.rewriting import rewrite, rewritten
from bbr.exchange.side import NOTHING, Side, finish
from bbr.exchange.verdict import Outcome
from bbr.refusal import Refusal

# What is borrowed of less does not matter: it fits into what the allocator keeps.
_LARGE_BYTES: Final = 2 << 20


class Awaited(Side):
    """Answers for one of these modes."""

    def __init__(self, mode: int) -> None:
        self._streamed = mode == BodyMode.STREAMED
        self._partial = mode == BodyMode.BUFFERED_PARTIAL

    def patience_seconds(self, policy: Policy) -> float:
        """See Side."""
        # A gateway that buffers shows no progress. So this bounds the whole body, and not a pause in it.
        return policy.buffered_wait_seconds

    def open(self, request: Request) -> Sequence[bytes]:
        """See Side: no body comes before the answer, which strips, in case none follows."""
        # Envoy may send no body message at all after this answer (headers and trailers alone). An empty answer would
        # then let the client's own header route.
        return (request.replies.stripped(),)

    def forward_decoded(self, request: Request) -> None:
        """See Side: the gateway holds the body, so the answer to that has what takes its place."""

    def read(self, request: Request, body: Body, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """See Side: a short body is answered at once, a long one when `work` has read it."""
        first = not body.began
        body.began = True
        # Looked at before `add`, so that nothing beyond the limit is kept.
        if body.size + len(octets) > request.policy.max_body_bytes:
            return (_over_limit(request, body),)
        body.add(octets)
        owed = self._owed(first, ended)
        if owed:
            long = body.end()
            return (_answer(request, body, owed),) if long is None else _wait(request, body, long, owed)
        # One of several pieces in STREAMED: each goes upstream at our answer, on the route chosen long ago.
        body.settle()
        return (request.replies.stripped_body(),)

    def end(self, request: Request, body: Body) -> Sequence[bytes]:
        """See Side."""
        if not body.size:
            # HEADERS and trailers without DATA: no body message was ever due.
            request.verdict.outcome = Outcome.NO_BODY
            finish(request, body)
            return (request.replies.request_trailers,)
        # Only STREAMED comes here: what came before the trailers is upstream already, so it can be routed no more.
        long = body.end()
        if long is not None:
            return _wait(request, body, long, Owed.TRAILERS)
        return (_answer(request, body, Owed.TRAILERS),)

    def work(self, request: Request, body: Body) -> Sequence[bytes]:
        """See Side."""
        # Short bodies that are settled are answered by `read`, and never come to wait.
        if body.long is None:
            return NOTHING
        try:
            read = body.long.work()
        except Refusal:
            read = True  # the result raises it again
        if not read:
            body.settle()
            return NOTHING
        if request.owed:
            return (_answer(request, body, request.owed),)
        request.resolve(body)  # what is refused before its end, or may pass
        request.phase = PASSING
        body.drop()
        return NOTHING

    def pass_on(self, request: Request, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """See Side."""
        # It strips again: that costs nothing, and covers a gateway that still holds the headers.
        return (request.replies.stripped_body(),)

    def _owed(self, first: bool, ended: bool) -> str:
        """Return what is owed for a piece."""
        # STREAMED holds the headers for a body that comes in one piece with them, and no longer.
        if self._streamed and not (first and ended):
            return Owed.LATE if ended else Owed.NOTHING
        # In BUFFERED one message is the whole body, even without end_of_stream (a body that ends by trailers).
        return Owed.PARTIAL if self._partial and not ended else Owed.BODY


def _over_limit(request: Request, body: Body) -> bytes:
    if request.policy.over_limit is OverLimit.REJECT:
        raise refusal.body_too_large(request.policy.max_body_bytes)
    # What follows is not read, but each piece still awaits an answer.
    request.phase = PASSING
    request.verdict.outcome = Outcome.OVER_LIMIT
    body.drop()
    return request.replies.stripped_body(Outcome.OVER_LIMIT)


def _wait(request: Request, body: Body, long: LongBody, owed: str) -> Sequence[bytes]:
    """Owe the answer until the body has been read."""
    # The gateway sends nothing more until it has the answer. So the read may take many bits of work, between which
    # other requests get theirs.
    request.owed = owed
    request.phase = DECIDING
    long.close()
    body.settle()
    return NOTHING


def _answer(request: Request, body: Body, owed: str) -> bytes:
    """Return the answer to the message that ended a body, which has been read."""
    if owed == Owed.PARTIAL:
        _check_partial(request, body)
        routing = None
    else:
        # A name that comes too late to route by is refused, not ignored: the default route would get a request for a
        # model.
        routing = request.resolve(body)
        if routing is not None and owed != Owed.BODY:
            raise refusal.body_in_pieces()  # it can be routed no more
    if owed == Owed.BODY and (answer := _answer_replaced(request, body, routing)) is not None:
        return answer
    # Only now: `resolve` reads what `finish` drops.
    if request.policy.fields is not None and owed == Owed.BODY:
        found = body.fields
        finish(request, body)
        return field_answers.decided_body(request, found, routing)
    finish(request, body)
    if owed == Owed.TRAILERS:
        return request.replies.request_trailers
    return request.replies.decided_body(routing, request.verdict.outcome)


def _answer_replaced(request: Request, body: Body, routing: Routing | None) -> bytes | None:
    """Return the answer to a body in whose place another one is forwarded; None if it is forwarded as it came.

    Raises:
        Refusal: 503; there is no room to put it together. 400; see rewrite.
    """
    # Its pieces are joined, put into a message, and that is encoded: three of it at a time, of which one is counted.
    ledger, octets = request.policy.ledger, 2 * body.held_bytes
    if octets < _LARGE_BYTES or (request.rewrite_to is None and not isinstance(body.long, DecodedBody)):
        octets = 0
    elif not ledger.take(octets, body, long=True):
        raise refusal.no_room()
    try:
        replaced = _replaced(request, body)
        if replaced is None:
            return None
        if request.policy.fields is not None:
            found = body.fields
            finish(request, body)
            return field_answers.replaced_body(request, found, routing, replaced)
        finish(request, body)
        return request.replies.replaced_body(routing, request.verdict.outcome, replaced)
    finally:
        ledger.give_back(octets, long=True)


def _replaced(request: Request, body: Body) -> bytes | None:
    """Return what is forwarded in the place of a body that has been read; None if it is forwarded as it came."""
    long = body.long
    if long is None:
        return rewritten(request, body.take()) if request.rewrite_to is not None else None
    rewrite(request, long)
    if isinstance(long, DecodedBody):
        whole = long.whole
        request.verdict.decoded = whole is not None
        return whole
    return long.whole if request.rewrite_to is not None else None


def _check_partial(request: Request, body: Body) -> None:
    """Refuse a body that was cut at the gateway's buffer or ended by trailers, which nobody can tell apart.

    What may follow goes upstream unread, so it is never routed: a document can be whole in the part that is seen. One
    that names no model there passes.
    """
    try:
        if request.resolve(body) is None:
            return
    except Refusal as refused:
        refused.kept()  # of what it might have been, the cut says nothing
    raise refusal.body_cut_off(body.size)
