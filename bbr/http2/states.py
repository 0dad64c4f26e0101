"""The states of a stream, and what happens to each frame in each of them (RFC 9113, section 5.1).

A server that accepts no push sees these of the specification's seven. The two reserved states belong to push. A stream
is half-closed (local) only until the output is taken, and OPEN until then: a whole answer before its request's end is
followed by RST_STREAM with NO_ERROR (section 8.1). "Closed" is three states here, by what we know of the past:

                       HEADERS                   END_STREAM
            IDLE ------------------> OPEN -----------------------> HALF_CLOSED
              |                       |                                 |
              | HEADERS with          | our RST_STREAM: RESET           | our END_STREAM or the peer's
              | a higher id           | the peer's: CLOSED              | RST_STREAM: CLOSED; ours: RESET
              v                       v                                 v
           SKIPPED              RESET, CLOSED                     RESET, CLOSED

The table says what is taken; it is asked about all that is out of place, and a test walks through it with frames.
PRIORITY is not in it: a well-formed one means nothing in any state (section 5.3.2). Neither is CONTINUATION, which is a
part of HEADERS (section 4.3).
"""

from typing import Final

from bbr.http2 import faults
from bbr.http2.faults import Fault
from bbr.http2.frames import FrameType


class State:
    """Plain strings: to look up a member of an enum takes ten times as long (CPython 3.11)."""

    IDLE: Final = "idle"
    OPEN: Final = "open"
    HALF_CLOSED: Final = "half-closed (remote)"
    RESET: Final = "closed by a RST_STREAM of ours, lately"
    CLOSED: Final = "closed"
    SKIPPED: Final = "closed, or never opened: a higher id was, and ids were left out"


class Rule:
    """What happens to a frame.

    Attributes:
        fault: what is wrong with it; None if nothing is.
        ends_connection: the fault is the connection's, not the stream's alone.
        tokens: what it costs its peer of the budget for control frames, if it is passed over.
    """

    __slots__ = ("ends_connection", "fault", "tokens")

    def __init__(self, fault: Fault | None = None, *, ends_connection: bool = False, tokens: float = 0.0) -> None:
        self.fault = fault
        self.ends_connection = ends_connection
        self.tokens = tokens


def _connection_error(fault: Fault) -> Rule:
    return Rule(fault, ends_connection=True)


# It means what it says.
TAKEN: Final = Rule()
# It was under way when the stream was closed, and means nothing any more. Free if its bytes are paid for elsewhere.
LATE: Final = Rule()
LATE_AND_PAID: Final = Rule(tokens=1.0)

RULES: Final = {
    # "Receiving any frame other than HEADERS or PRIORITY on a stream in this state MUST be treated as a connection
    # error of type PROTOCOL_ERROR." HEADERS with an even id, which are a server's, are refused before.
    (FrameType.DATA, State.IDLE): _connection_error(faults.IDLE_STREAM),
    (FrameType.HEADERS, State.IDLE): TAKEN,
    (FrameType.RST_STREAM, State.IDLE): _connection_error(faults.IDLE_STREAM),
    (FrameType.WINDOW_UPDATE, State.IDLE): _connection_error(faults.IDLE_STREAM),
    # HEADERS are the trailers then (section 8.1).
    (FrameType.DATA, State.OPEN): TAKEN,
    (FrameType.HEADERS, State.OPEN): TAKEN,
    (FrameType.RST_STREAM, State.OPEN): TAKEN,
    (FrameType.WINDOW_UPDATE, State.OPEN): TAKEN,
    # "If an endpoint receives additional frames, other than WINDOW_UPDATE, PRIORITY, or RST_STREAM, for a stream that
    # is in this state, it MUST respond with a stream error of type STREAM_CLOSED."
    (FrameType.DATA, State.HALF_CLOSED): Rule(faults.DATA_AFTER_END),
    (FrameType.HEADERS, State.HALF_CLOSED): Rule(faults.HEADERS_AFTER_END),
    (FrameType.RST_STREAM, State.HALF_CLOSED): TAKEN,
    (FrameType.WINDOW_UPDATE, State.HALF_CLOSED): TAKEN,
    # "An endpoint that sends a RST_STREAM frame on a stream that is in the open or half-closed (local) state could
    # receive any type of frame" until its peer has read that. DATA pays for itself if it carries little, WINDOW_UPDATE
    # always.
    (FrameType.DATA, State.RESET): LATE,
    (FrameType.HEADERS, State.RESET): LATE_AND_PAID,
    (FrameType.RST_STREAM, State.RESET): LATE_AND_PAID,
    (FrameType.WINDOW_UPDATE, State.RESET): LATE,
    # "WINDOW_UPDATE or RST_STREAM frames can be received in this state for a short period"; of others "an endpoint MAY
    # treat receipt as a connection error of type STREAM_CLOSED".
    (FrameType.DATA, State.CLOSED): _connection_error(faults.DATA_ON_CLOSED_STREAM),
    (FrameType.HEADERS, State.CLOSED): _connection_error(faults.HEADERS_ON_CLOSED_STREAM),
    (FrameType.RST_STREAM, State.CLOSED): LATE_AND_PAID,
    (FrameType.WINDOW_UPDATE, State.CLOSED): LATE,
    # "The first use of a new stream identifier implicitly closes all streams in the idle state with lower-valued ids"
    # (section 5.1.1): HEADERS may then be the fault of using ids out of order, PROTOCOL_ERROR.
    (FrameType.DATA, State.SKIPPED): _connection_error(faults.DATA_ON_CLOSED_STREAM),
    (FrameType.HEADERS, State.SKIPPED): _connection_error(faults.HEADERS_ON_SKIPPED_STREAM),
    (FrameType.RST_STREAM, State.SKIPPED): LATE_AND_PAID,
    (FrameType.WINDOW_UPDATE, State.SKIPPED): LATE,
}
