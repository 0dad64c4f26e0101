"""A request's body in FULL_DUPLEX_STREAMED: one header answer, then the body; none is due before the model is known.

Sans-IO. Envoy holds the headers until they are answered, takes what comes back as the body, and asks for no more.
"""

from collections.abc import Sequence

from bbr import refusal
from bbr.exchange import replies
from bbr.exchange.long_body import LongBody
from bbr.exchange.policy import InvalidJson, OverLimit
from bbr.exchange.request import NOTHING, Phase, Request
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import HttpBody
from bbr.refusal import Refusal


class DuplexRequest(Request):
    """Answers for FULL_DUPLEX_STREAMED."""

    __slots__ = ()

    def _duplex_body(self, body: HttpBody) -> Sequence[bytes]:
        phase = self._phase
        if phase == Phase.DONE or (self._long is not None and self._long.closed):
            self.verdict.late_bodies += 1
            return NOTHING
        if phase == Phase.START:
            raise refusal.headers_not_sent()
        octets, ended = body.body, body.end_of_stream
        self.verdict.body_bytes += len(octets)
        if phase == Phase.PASSING:
            if self._reserved_bytes:
                self._drop()
            if ended:
                self._phase = Phase.DONE
            return replies.request_body(octets, end_of_stream=ended)
        if self._long is None and self.verdict.body_bytes <= self._policy.stream_threshold_bytes:
            self._keep(octets)
            if ended:
                return self._duplex_answer(end_of_stream=True)
            self._hold(self.verdict.body_bytes)
            return NOTHING
        return self._duplex_long(self._long or self._lengthen(), octets, ended=ended)

    def _duplex_long(self, long: LongBody, octets: bytes, *, ended: bool) -> Sequence[bytes]:
        """Take a piece of a body that is read as it comes; `work` has the answers."""
        if self.verdict.body_bytes > self._policy.max_body_bytes and self._policy.over_limit is OverLimit.REJECT:
            raise refusal.body_too_large(self._policy.max_body_bytes)
        long.feed(octets)
        if ended:
            long.close()
        self._settle()
        return NOTHING

    def _duplex_trailers(self) -> Sequence[bytes]:
        if self._phase == Phase.DONE or (self._long is not None and self._long.closed):
            self.verdict.late_bodies += 1
            return NOTHING
        if self._phase == Phase.START:
            raise refusal.headers_not_sent()
        # No message has said end_of_stream, and none of ours may: the trailers' answer ends the request.
        if self._long is not None:
            self._by_trailers = True
            self._long.close()
            self._settle()
            return NOTHING
        if self._phase == Phase.READING:
            return [*self._duplex_answer(end_of_stream=False), self._replies.request_trailers]
        self._finish_request()
        return (self._replies.request_trailers,)

    def _duplex_answer(self, *, end_of_stream: bool) -> list[bytes]:
        """Answer a short body that has come to its end: the headers first, then the body as it came."""
        body = self._take_body()
        route = self._resolve(lambda: self._model_of_whole(body))
        self._phase = Phase.DONE
        headers = self._replies.route(*route) if route else self._replies.stripped(self.verdict.outcome)
        return [headers, *replies.request_body(body, end_of_stream=end_of_stream)]

    def _duplex_work(self, long: LongBody) -> Sequence[bytes]:
        answers: list[bytes] = []
        if long.reading:
            try:
                headers = self._duplex_read(long)
            except Refusal as refused:
                headers = self._pass_in_spite_of(long, refused)
            if headers:
                answers.append(headers)
                self._phase = Phase.STREAMING
        if self._phase == Phase.STREAMING:
            answers += self._give_back(long)
        return answers

    def _duplex_read(self, long: LongBody) -> bytes | None:
        """Read on, and return the answer to the headers if that is known now and was not before."""
        policy = self._policy
        if long.work() or long.settled:
            known = self._phase == Phase.STREAMING
            route = self._resolve(lambda: self._model_of_long(long))
            long.open()
            if known:
                return None
            return self._replies.route(*route) if route else self._replies.stripped(self.verdict.outcome)
        if policy.on_invalid_json is not InvalidJson.REJECT:
            return self._over_limit(long)  # until its end any document may turn out to be none
        if isinstance(long.model, Refusal):
            raise long.model
        name = self._agreed(long.model)
        if name is None or self._phase == Phase.STREAMING:
            return self._over_limit(long)
        self.verdict.early = True
        return self._replies.route(*self._routed(name))

    def _over_limit(self, long: LongBody) -> bytes | None:
        """Let a body go on without routing headers that is too large and has named no model so far."""
        if self._phase == Phase.STREAMING or long.reading or self.verdict.body_bytes <= self._policy.max_body_bytes:
            return None
        return self._replies.stripped(self._let_pass(long, Outcome.OVER_LIMIT))

    def _pass_in_spite_of(self, long: LongBody, refused: Refusal) -> bytes:
        """Answer the headers of a body that can't be read and may pass nevertheless; else raise why."""
        outcome = self._excuse(refused) if self._phase == Phase.READING else None
        if outcome is None:
            raise refused
        return self._replies.stripped(self._let_pass(long, outcome))

    def _let_pass(self, long: LongBody, outcome: Outcome) -> Outcome:
        long.open()
        self.verdict.outcome = outcome
        return outcome

    def _give_back(self, long: LongBody) -> list[bytes]:
        """Return what may go on of a body that is held; with its last octets, the request's end."""
        answers: list[bytes] = []
        chunks = long.take()
        over = long.read and long.closed and long.empty
        last = len(chunks) - 1 if over and not self._by_trailers else -1
        for index, chunk in enumerate(chunks):
            answers += replies.request_body(chunk, end_of_stream=index == last)
        if over:
            if not chunks and not self._by_trailers:
                answers += replies.request_body(b"", end_of_stream=True)
            if self._by_trailers:
                answers.append(self._replies.request_trailers)
            self._finish_request()
        elif long.read and long.empty:
            self._phase = Phase.PASSING
            self._drop()
        return answers
