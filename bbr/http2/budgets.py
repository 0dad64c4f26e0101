"""What a peer may make us do for nothing: tokens that work costs, and time or useful bytes give back.

No clock inside: time is an argument, in seconds of whatever monotonic clock the owner has.
"""

from typing import Final

from bbr.budget import Budget
from bbr.http2 import faults, frames
from bbr.http2.faults import ConnectionFault

# Precedents: hyperium 1,024 resets of ours, golang 10,000 control frames, nghttp2 and Envoy 1,000 unread ones.
# RFC 9113 sets no figures (section 10.5). Each first one is the burst, the second what comes back in a second.
FAULTS: Final = 1000.0  # streams that we reset for a fault of the peer's
FAULTS_PER_SECOND: Final = 10.0
CONTROL: Final = 2000.0  # frames that carry nothing: PING, SETTINGS, PRIORITY, unknown, empty, surplus WINDOW_UPDATE
CONTROL_PER_SECOND: Final = 500.0
# Far more than for faults: a gateway whose clients hang up cancels many calls at once, and does nothing wrong.
CANCELS: Final = 5000.0  # streams that the peer resets before they are answered
CANCELS_PER_SECOND: Final = 5000.0
# For each request that was answered, and then reset.
CANCELS_PER_ANSWER: Final = 9.0
# A connection that has never had an answer owes its first one within this many cancelled requests.
# Rapid reset (CVE-2023-44487) needs no answers; a gateway lives by them.
CANCELS_WITHOUT_ANSWER: Final = 1000
# DATA of fewer bytes costs. The smallest ext_proc message in its gRPC frame has ten: a gateway whose client trickles a
# body must not lose its connection for it.
SMALL_DATA_BYTES: Final = 8
# A WINDOW_UPDATE.
CONTROL_PER_CREDIT: Final = 0.25
# A change of INITIAL_WINDOW_SIZE is work for each open stream.
CONTROL_PER_STREAM: Final = 0.05
# What DATA of ours may bring in turn: WINDOW_UPDATEs for the stream and the connection, a PING to measure the path.
CONTROL_PER_REQUEST: Final = 4.0
CONTROL_PER_SEND: Final = 2.0
CONTROL_PER_OCTET: Final = 2.0 / frames.MIN_MAX_FRAME_SIZE


class Budgets:
    """The budgets of one connection.

    Attributes:
        now: when bytes last came, in seconds.
        answered: the peer has had an answer.
        faults: see FAULTS; the others alike.
    """

    __slots__ = ("_cancelled", "answered", "cancels", "control", "faults", "now")

    def __init__(self, now: float) -> None:
        # One look at the clock for each read, not for each frame: the owner sets it when bytes come.
        self.now = now
        self.answered = False
        self.faults = Budget(FAULTS, FAULTS_PER_SECOND, now)
        self.control = Budget(CONTROL, CONTROL_PER_SECOND, now)
        self.cancels = Budget(CANCELS, CANCELS_PER_SECOND, now)
        self._cancelled = 0

    def pay(self, tokens: float = 1.0) -> None:
        """Take tokens for frames that carry nothing.

        Raises:
            ConnectionFault: there are too few.
        """
        if not self.control.spend(tokens, self.now):
            raise ConnectionFault(faults.CONTROL_FLOOD)

    def pay_for_fault(self) -> None:
        """Count a stream that we reset.

        Raises:
            ConnectionFault: there were too many.
        """
        if not self.faults.spend(1, self.now):
            raise ConnectionFault(faults.FAULTS)

    def pay_for_cancel(self) -> bool:
        """Count a request that its peer has reset unanswered; False if there were too many.

        Raises:
            ConnectionFault: the peer has had no answer at all, and cancels request after request.
        """
        # Counted without time: a slow flood on a connection that has no answer yet is a flood too.
        self._cancelled += 1
        if not self.answered and self._cancelled > CANCELS_WITHOUT_ANSWER:
            raise ConnectionFault(faults.RAPID_RESET)
        return self.cancels.spend(1, self.now)
