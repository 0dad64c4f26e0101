"""A request's body in the modes that await an answer to each message: BUFFERED, BUFFERED_PARTIAL, STREAMED, GRPC.

Sans-IO. The headers have been answered by then.
"""

from collections.abc import Callable, Sequence

from bbr import refusal
from bbr.exchange import replies
from bbr.exchange.long_body import LongBody
from bbr.exchange.policy import BodyMode, OverLimit
from bbr.exchange.request import DUPLEX, NOTHING, Owed, Phase, Request
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import HttpBody
from bbr.refusal import Refusal
from bbr.rpc.status import StatusCode


class AwaitedRequest(Request):
    """Answers for the other body modes."""

    __slots__ = ()

    def _awaited_body(self, body: HttpBody) -> Sequence[bytes]:
        mode = self._mode
        if mode == BodyMode.GRPC:
            return (replies.grpc_message(body, response=False),)
        self._check_headers_came()
        octets, ended = body.body, body.end_of_stream
        self.verdict.body_bytes += len(octets)
        if self._phase == Phase.DONE or self._owed:
            return self._fault(StatusCode.FAILED_PRECONDITION, "body-twice", "request_body came after its end")
        if self._phase == Phase.PASSING:
            self._drop()
            return (self._replies.stripped_body(),)
        self._phase = Phase.READING
        if self.verdict.body_bytes > self._policy.max_body_bytes:
            return (self._awaited_over_limit(),)
        self._piece_count += 1
        # In BUFFERED one message is the whole body, even without end_of_stream (a body that ends by trailers).
        owed = Owed.BODY
        if mode == BodyMode.STREAMED and not (ended and self._piece_count == 1):
            owed = Owed.LATE if ended else Owed.NOTHING
        elif mode == BodyMode.BUFFERED_PARTIAL and not ended:
            owed = Owed.PARTIAL
        if self._long is not None or self.verdict.body_bytes > self._policy.stream_threshold_bytes:
            return self._awaited_long(self._long or self._lengthen(), octets, owed)
        self._keep(octets)
        if not owed:
            self._hold(self.verdict.body_bytes)
        return (self._awaited_answer(owed, self._whole),)

    def _awaited_trailers(self) -> Sequence[bytes]:
        self._check_headers_came()
        if self._owed:
            return self._fault(StatusCode.FAILED_PRECONDITION, "trailers-early", "request_trailers came too early")
        if self._phase == Phase.READING:
            if self._long is not None and self.verdict.body_bytes:
                return self._await(self._long, Owed.TRAILERS)
            if self.verdict.body_bytes:
                return (self._awaited_answer(Owed.TRAILERS, self._whole),)
            self.verdict.outcome = Outcome.NO_BODY
        self._finish_request()
        return (self._replies.request_trailers,)

    def _awaited_over_limit(self) -> bytes:
        if self._policy.over_limit is OverLimit.REJECT:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        self._drop()
        return self._replies.stripped_body(self._decide(Phase.PASSING, Outcome.OVER_LIMIT))

    def _awaited_long(self, long: LongBody, octets: bytes, owed: str) -> Sequence[bytes]:
        """Take a piece of a body that is read as it comes; if it is the last one, `work` has its answer."""
        long.feed(octets)
        if owed:
            return self._await(long, owed)
        self._settle()
        return (self._replies.stripped_body(),)

    def _await(self, long: LongBody, owed: str) -> Sequence[bytes]:
        self._owed = owed
        long.close()
        self._settle()
        return NOTHING

    def _awaited_work(self, long: LongBody) -> Sequence[bytes]:
        try:
            if not long.work():
                return NOTHING
        except Refusal as refused:
            if self._owed == Owed.PARTIAL:  # of what it might have been, the cut says nothing
                return (self._awaited_answer(self._owed, _raising(refused)),)
            outcome = self._excuse(refused)
            if outcome is None:
                raise
            if self._owed:
                return (self._awaited_answer(self._owed, _raising(refused)),)
            self._decide(Phase.PASSING, outcome)
            self._drop()
            return NOTHING
        return (self._awaited_answer(self._owed, lambda: self._model_of_long(long)),)

    def _awaited_answer(self, owed: str, read: Callable[[], str | None]) -> bytes:
        """Return the answer that a piece of a body gets; with `read`, the model that the whole names."""
        if owed == Owed.NOTHING:
            # One of several pieces in STREAMED: each goes upstream at our answer, on the route chosen long ago.
            return self._replies.stripped_body()
        if owed == Owed.BODY:
            route = self._resolve(read)
            self._finish_request()
            return self._replies.route_body(*route) if route else self._replies.stripped_body(self.verdict.outcome)
        if owed == Owed.PARTIAL:
            return self._partial_answer(read)
        self._resolve_late(read)
        self._finish_request()
        if owed == Owed.TRAILERS:
            return self._replies.request_trailers
        return self._replies.stripped_body(self.verdict.outcome)

    def _partial_answer(self, read: Callable[[], str | None]) -> bytes:
        """Answer a body that was cut at the gateway's buffer or ended by trailers, which nobody can tell apart.

        What may follow goes upstream unread, so it is never routed: a document can be whole in the part that is seen.
        """
        try:
            if not self._resolve(read):
                self._finish_request()
                return self._replies.stripped_body(self.verdict.outcome)
        except Refusal:
            pass  # of what it might have been, the cut says nothing
        raise refusal.body_cut_off(self.verdict.body_bytes)

    def _resolve_late(self, read: Callable[[], str | None]) -> None:
        """Read a body when its request can be routed no more; refuse it if it named a model."""
        if self._resolve(read):
            raise refusal.body_in_pieces()

    def _check_headers_came(self) -> None:
        """Refuse a request of which a gateway that speaks today's protocol shows us the body and not the headers.

        A client's own routing headers have then chosen the route. Gateways that tell no body mode, and the Go routers'
        test scripts, may begin with the body.
        """
        if self._phase == Phase.START and self._told_mode:
            raise refusal.headers_not_sent()

    def _request_is_over(self) -> None:
        """Wait no longer for a body that would have come by now: HEADERS and trailers have no other end."""
        if self._mode != DUPLEX and self._phase == Phase.READING:
            self._decide(Phase.PASSING, Outcome.NO_BODY)
            self._drop()


def _raising(refused: Refusal) -> Callable[[], str | None]:
    def read() -> str | None:
        raise refused

    return read
