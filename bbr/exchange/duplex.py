"""The side of FULL_DUPLEX_STREAMED: the answer to the headers waits for the model, then the body goes back. Sans-IO.

Envoy holds the headers until they are answered. It takes what comes back as the body, and expects nothing else.
"""

from collections.abc import Sequence

from bbr import refusal
from bbr.exchange import field_answers, naming, replies
from bbr.exchange.body import AT_ONCE_BYTES, Body
from bbr.exchange.decoded_body import DecodedBody
from bbr.exchange.long_body import LongBody
from bbr.exchange.phases import DECIDING, DONE, FLUSHING, PASSING, READING, STREAMING
from bbr.exchange.policy import InvalidJson, OverLimit, Policy
from bbr.exchange.request import Request
from bbr.exchange.rewriting import rewrite, rewritten
from bbr.exchange.side import NOTHING, Side, finish
from bbr.exchange.verdict import Outcome
from bbr.refusal import Refusal


class Duplex(Side):
    """Answers for FULL_DUPLEX_STREAMED."""

    # Envoy forgets what it has sent, so what does not come back from here is lost.
    keeps = True

    def patience_seconds(self, policy: Policy) -> float:
        """See Side."""
        return policy.duplex_idle_seconds

    def open(self, request: Request) -> Sequence[bytes]:
        """See Side: Envoy sends the body without an answer, and the answer is in the body."""
        return NOTHING

    def forward_decoded(self, request: Request) -> None:
        """See Side: each answer to the headers has to fit a body that is forwarded decoded."""
        request.replies = request.replies.changing_body
        request.verdict.decoded = True

    def read(self, request: Request, body: Body, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """See Side: a short body is answered at its end; the answers for others come of `work`."""
        long = body.add(octets)
        if ended and long is None:
            if body.size > AT_ONCE_BYTES:
                long = body.end()
            if long is None:
                return _answer(request, body)
        if long is not None:
            # A short body needs no such check: the threshold is never above the limit.
            policy = request.policy
            if body.size > policy.max_body_bytes and policy.over_limit is OverLimit.REJECT:
                raise refusal.body_too_large(policy.max_body_bytes)
            # Closed first: `settle` then sees whether there is an end left to read.
            if ended:
                _close(request, long)
            body.settle(streaming=request.answered)
        else:
            body.settle()
        return NOTHING

    def end(self, request: Request, body: Body) -> Sequence[bytes]:
        """See Side: no message has said end_of_stream, and none of ours may; the trailers' answer ends the request."""
        # If an answer of ours said end_of_stream before the trailers are answered, the request would hang in Envoy
        # 1.40 (504).
        body.by_trailers = True
        long = body.end()
        if long is None:
            return [*_answer(request, body), request.replies.request_trailers]
        _close(request, long)
        body.settle(streaming=request.answered)
        return NOTHING

    def work(self, request: Request, body: Body) -> Sequence[bytes]:
        """See Side."""
        long = body.long
        answers: list[bytes] = []
        if long is None:
            return answers
        # The headers' answer comes first: a body answer before it is a spurious message for Envoy, and a 500.
        if long.reading:
            try:
                headers = _read_on(request, body, long)
            except Refusal as refused:
                headers = _pass_in_spite_of(request, body, long, refused)
            if headers is not None:
                answers.append(headers)
                request.phase = STREAMING if request.phase == READING else FLUSHING
        if request.answered:
            answers += _give_back(request, body, long)
        # The last of a body drops it, and then there is nothing to reserve.
        if body.long is not None:
            body.settle(streaming=request.answered)
        return answers

    def pass_on(self, request: Request, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """See Side: it goes back as it came."""
        if ended:
            request.phase = DONE
        return replies.request_body(octets, end_of_stream=ended)


def _close(request: Request, long: LongBody) -> None:
    long.close()
    request.phase = FLUSHING if request.answered else DECIDING


def _sent_size(body: Body) -> int | None:
    """Return the length of what is forwarded, for a Content-Length; None if it is not known, or ended by trailers."""
    return None if body.by_trailers else body.forwarded_bytes


def _answer(request: Request, body: Body) -> list[bytes]:
    """Answer a short body that has come to its end: the headers first, then the body as it came."""
    routing = request.resolve(body)
    octets = rewritten(request, body.take())
    request.phase = DONE
    if request.policy.fields is None:
        headers = request.replies.decided(routing, request.verdict.outcome, None if body.by_trailers else len(octets))
    else:
        headers = field_answers.decided(request, body.found, routing, None if body.by_trailers else len(octets))
    return [headers, *replies.request_body(octets, end_of_stream=not body.by_trailers)]


def _read_on(request: Request, body: Body, long: LongBody) -> bytes | None:
    """Read on, and return the answer to the headers if that is known now and was not before."""
    if isinstance(long, DecodedBody) and long.released:
        if long.work():
            long.open()
        return None
    policy = request.policy
    # A body may settle before its end: nothing that follows can then change the route, so nobody waits for it.
    if long.work() or long.settled:
        # Resolved even if the headers are answered. The rest may have named a second model, and the refusal then
        # makes Envoy abort the upstream request.
        routing = request.resolve(body)
        if not request.answered:
            rewrite(request, long)
        long.open()
        if request.answered:
            return None
        if policy.fields is not None:
            return field_answers.decided(request, long.fields, routing, _sent_size(body))
        return request.replies.decided(routing, request.verdict.outcome, _sent_size(body))
    if body.whole or policy.on_invalid_json is not InvalidJson.REJECT or policy.replies.convention.sends_length:
        return _over_limit(request, body, long)  # until its end any document may turn out to be none, and of any length
    known = long.model
    # Refused before the end: the client need not send the rest.
    if isinstance(known, Refusal):
        if not naming.is_unnamed(request.policy, known):
            raise known
        known = None
    name = request.agreed(known)
    if name is None or request.answered:
        return _over_limit(request, body, long)
    found = long.fields
    # A header that a route may go by is waited for, as long as the model would be.
    if found is not None and found.awaited and (long.reading or body.size <= policy.max_body_bytes):
        return None
    # The upstream request starts now, and the body follows only as far as it has been read.
    request.verdict.early = True
    routing = request.routed(name)
    rewrite(request, long)
    return request.replies.route(routing) if found is None else field_answers.route(request, found, routing)


def _over_limit(request: Request, body: Body, long: LongBody) -> bytes | None:
    """Let a body pass without routing headers that is too large and has named no model so far."""
    # While bytes wait to be read, the model may stand in them.
    if request.answered or long.reading or body.size <= request.policy.max_body_bytes:
        return None
    # What came is not held any more, and what it decodes to has no other bound.
    if isinstance(long, DecodedBody):
        raise refusal.body_too_large(request.policy.max_body_bytes)
    return _let_pass(request, long, Outcome.OVER_LIMIT)


def _pass_in_spite_of(request: Request, body: Body, long: LongBody, refused: Refusal) -> bytes:
    """Answer the headers of a body that can't be read and may pass nevertheless; else raise why."""
    # Once the headers are answered, the routing headers can't be taken back. So nothing may pass in spite of a fault.
    outcome = None if request.answered else request.excuse(refused)
    if outcome is None or (outcome is Outcome.OVER_LIMIT and isinstance(long, DecodedBody)):
        raise refused
    stripped = _let_pass(request, long, outcome)
    return request.replies.decided(None, outcome, _sent_size(body)) if body.whole else stripped


def _let_pass(request: Request, long: LongBody, outcome: Outcome) -> bytes:
    long.open()
    request.verdict.outcome = outcome
    return request.replies.stripped(outcome)


def _give_back(request: Request, body: Body, long: LongBody) -> list[bytes]:
    """Return what may be forwarded of a body that is held; with its last bytes, the request's end."""
    answers: list[bytes] = []
    chunks = long.take()
    over = long.read and long.closed and long.empty
    # A missing end_of_stream hangs the request: in full duplex Envoy applies no message_timeout.
    last = len(chunks) - 1 if over and not body.by_trailers else -1
    for index, (parts, size) in enumerate(chunks):
        answers.append(replies.request_chunk(parts, size, end_of_stream=index == last))
    if over:
        if body.by_trailers:
            answers.append(request.replies.request_trailers)
        # All had gone back before the end was known, so an empty piece carries it.
        elif not chunks:
            answers += replies.request_body(b"", end_of_stream=True)
        finish(request, body)
    elif long.read and long.empty:
        # Nothing is held and nothing is read any more: what follows goes back without a look.
        request.phase = PASSING
        body.drop()
    return answers
