"""An exchange that knows when it began and when it was decided, for whoever counts, logs and traces.

The exchange itself reads no clock; both transports make it through this class, so that they are measured alike.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from bbr.exchange.convention import CompatExchange
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry

# Not the event loop's: uvloop's counts in milliseconds.
clock: Final = time.perf_counter

# Looked up once: these are called for each message.
_PENDING: Final = Outcome.PENDING
_init: Final = Exchange.__init__
_receive: Final = Exchange.receive
_work: Final = Exchange.work
_expire: Final = Exchange.expire


class ObservedExchange(Exchange):
    """An Exchange with times, in seconds of `clock`.

    Attributes:
        began: when its stream began.
        decided: when its request was routed, stripped, refused or answered; None if it never was.
        busy_seconds: what the router itself took, from the last message that was needed until the decision. For a body
            that is read as it comes: all bits of work until then.
        call_field: returns a field of the headers of the gRPC call, in which a gateway that traces names its own span;
            like `request_field`. None if nobody has cared to set it.
    """

    __slots__ = ("_came", "began", "busy_seconds", "call_field", "decided")

    def __init__(self, policy: Policy, registry: Registry) -> None:
        _init(self, policy, registry)
        self.began = self._came = clock()
        self.decided: float | None = None
        self.busy_seconds = 0.0
        self.call_field: Callable[[str], str] | None = None

    def traced(self) -> tuple[str, Callable[[str], str]]:
        """Return the traceparent that counts, "" without one, and what gives other fields from where it stands.

        The gateway's own span, named in its call, comes before whatever the request names.
        """
        if self.call_field is not None and (traceparent := self.call_field("traceparent")):
            return traceparent, self.call_field
        return self.request_field("traceparent"), self.request_field

    def receive(self, message: bytes) -> Sequence[bytes]:
        """See Exchange."""
        if self.decided is not None:
            return _receive(self, message)
        self._came = clock()
        answers = _receive(self, message)
        if self.verdict.outcome is not _PENDING:
            self._decide_now()
        return answers

    def work(self) -> Sequence[bytes]:
        """See Exchange."""
        if self.decided is not None:
            return _work(self)
        self._came = clock()
        answers = _work(self)
        if self.verdict.outcome is _PENDING:
            self.busy_seconds += clock() - self._came
        else:
            self._decide_now()
        return answers

    def expire(self) -> Sequence[bytes]:
        """See Exchange."""
        self._came = clock()
        answers = _expire(self)
        if self.decided is None:
            self._decide_now()
        return answers

    def _decide_now(self) -> None:
        self.decided = now = clock()
        self.busy_seconds += now - self._came


class ObservedCompatExchange(CompatExchange, ObservedExchange):
    """The same with the Go routers' answers."""

    __slots__ = ()
