"""When an exchange began and was decided, and how long the router worked on it. Pure: the caller passes the clock."""

from collections.abc import Callable

from bbr.native import mypyc_attr

# Returns seconds, from any beginning.
Clock = Callable[[], float]


def stopped() -> float:
    """Be a Clock that stands still, for an exchange whose times nobody looks at."""
    return 0.0


@mypyc_attr(free_list_len=1)
class Times:
    """The times of one exchange, in seconds of a Clock.

    Attributes:
        clock: see above. After the decision it is looked at once more, for the first piece of a response.
        since: when the router last began to do something for the exchange.
        began: when the stream began.
        decided: when the request was routed, stripped, refused or answered; None if it never was.
        busy_seconds: what the router itself took, from the last message that was needed until the decision. For a body
            that is read as it comes: all bits of work until then.
        responded: when the first piece of the response's body came; None if the gateway showed none.
    """

    __slots__ = ("began", "busy_seconds", "clock", "decided", "responded", "since")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began = self.since = clock()
        self.decided: float | None = None
        self.busy_seconds = 0.0
        self.responded: float | None = None

    def decide(self) -> None:
        """Take note that the request is decided."""
        self.decided = now = self.clock()
        # Added, not set: a body that is read as it comes has put its earlier bits of work in already.
        self.busy_seconds += now - self.since

    def respond(self) -> None:
        """Take note of a piece of the response's body: only the first one counts."""
        if self.responded is None:
            self.responded = self.clock()
