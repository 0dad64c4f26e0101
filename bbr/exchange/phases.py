"""Where a request stands, and what each message of its gateway's does there.

Pure data: bbr.exchange.exchange goes by it, and knows no other rule of order. A request goes down here, by what is
written beside the arrows:

    START
      | headers: nothing of the body is read            | headers, or a body that comes without any
      |                                                  v
      |                                               READING ---- the body's end ----> DECIDING
      |                                                  |                                 |
      |                       full duplex: the model is known, and the headers are answered
      |                                                  v                                 v
      |     all that was held has gone back           STREAMING --- the body's end ---> FLUSHING
      v <------------------------------------------------+                                 |
    PASSING --- its end                                                                    | all has gone back
      |                                                                                    |
      +------------------------------------> DONE <---------------------------------------+

A short body is read and answered in one go at its end, so that READING becomes DONE. In the modes that await an answer
to each message the headers are answered before READING, so there is no STREAMING, and DECIDING becomes DONE. A refusal
or a fault makes any phase DONE, and ends the stream.
"""

from collections.abc import Mapping
from typing import Final

# Where the request stands. Plain strings, and no class around them: to look up a member of an enum takes 0.1 us.
START: Final = "start"  # no request message yet
READING: Final = "reading"  # the body is read for its model, and there is more of it
DECIDING: Final = "deciding"  # the body has ended, and is still being read; its answer is owed
STREAMING: Final = "streaming"  # the headers are answered, and the body follows as far as it has been read
FLUSHING: Final = "flushing"  # the same, and the body has ended
PASSING: Final = "passing"  # decided; the body is forwarded as it comes
DONE: Final = "done"  # the request has ended, and is answered


class Act:
    """What a message does."""

    OPEN: Final = "open"  # the headers are read: they say whether the body will be
    BEGIN: Final = "begin"  # a body is read whose headers were not shown
    READ: Final = "read"  # a piece of a body that is read
    PASS: Final = "pass"  # noqa: S105 (no password); a piece of a body that is forwarded unread
    ECHO: Final = "echo"  # a piece that goes back as it came, whatever it is
    END: Final = "end"  # trailers end a body that is read
    FINISH: Final = "finish"  # trailers end a request of which nothing else is owed
    DROP: Final = "drop"  # Envoy may repeat the end of a body over 1 MB (envoyproxy/envoy#46237): counted and forgotten
    ANSWER: Final = "answer"  # an event of the response that wants an empty answer
    NO_BODY: Final = "no-body"  # the same, and it means that no body will come: one would have come before it
    RESPONSE: Final = "response"  # a piece of the response's body
    UNSEEN: Final = "unseen"  # refused: the headers were not shown, so the client's own have chosen the route
    HEADERS_TWICE: Final = "headers-twice"  # a fault
    BODY_TWICE: Final = "body-twice"  # a fault
    TRAILERS_EARLY: Final = "trailers-early"  # a fault
    UNKNOWN: Final = "unknown-message"  # a fault


# What a ProcessingRequest can be, by the names of its oneof; None: of a kind that a later API may have.
# A gateway that waits for an answer to a kind that nobody knows would hang, so the stream ends with an error instead.
KINDS: Final = (
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
    None,
)

# Rows are phases, columns KINDS. A side has no row for a phase that it never comes to.
PhaseTable = Mapping[str, tuple[str, str, str, str, str, str, str]]

# FULL_DUPLEX_STREAMED: nothing is awaited, so pieces and trailers come at any time.
# Headers that come twice are a fault in every phase. A second section could name another path than the one that was
# decided by. A body at START means request_header_mode SKIP: the headers are upstream, and no mode re-routes then. A
# refusal that says so is better than a silent default route. Events of the response may come in any phase. The
# gateway awaits an answer, and the request does not depend on them.
DUPLEX: Final[PhaseTable] = {
    START: (Act.OPEN, Act.UNSEEN, Act.UNSEEN, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    READING: (Act.HEADERS_TWICE, Act.READ, Act.END, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    DECIDING: (Act.HEADERS_TWICE, Act.DROP, Act.DROP, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    STREAMING: (Act.HEADERS_TWICE, Act.READ, Act.END, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    FLUSHING: (Act.HEADERS_TWICE, Act.DROP, Act.DROP, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    PASSING: (Act.HEADERS_TWICE, Act.PASS, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    DONE: (Act.HEADERS_TWICE, Act.DROP, Act.DROP, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
}

# The modes that await an answer to each message. Of a body, no more comes before its last piece is answered; an event
# of the response that comes first means that there is no body, which HEADERS and trailers alone don't.
AWAITED: Final[PhaseTable] = {
    START: (Act.OPEN, Act.UNSEEN, Act.UNSEEN, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    READING: (Act.HEADERS_TWICE, Act.READ, Act.END, Act.NO_BODY, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    # A second body is a fault here, where full duplex drops it. Envoy's known bug is of full duplex alone. In these
    # modes each message awaits an answer, so a dropped one would hang the request.
    DECIDING: (
        *(Act.HEADERS_TWICE, Act.BODY_TWICE, Act.TRAILERS_EARLY, Act.NO_BODY, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    ),
    PASSING: (Act.HEADERS_TWICE, Act.PASS, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    # Trailers may follow the answered body, and await an answer of their own.
    DONE: (Act.HEADERS_TWICE, Act.BODY_TWICE, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
}

# The same for a gateway that names no mode. Those, and the Go routers' test scripts, may begin with the body.
ASSUMED: Final[PhaseTable] = {
    **AWAITED,
    START: (Act.OPEN, Act.BEGIN, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
}

# GRPC: a piece is a gRPC message, of a body that is never read.
# Each is echoed in every phase: to cut or join pieces would break the message.
GRPC: Final[PhaseTable] = {
    START: (Act.OPEN, Act.ECHO, Act.UNSEEN, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    PASSING: (Act.HEADERS_TWICE, Act.ECHO, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
    DONE: (Act.HEADERS_TWICE, Act.ECHO, Act.FINISH, Act.ANSWER, Act.RESPONSE, Act.ANSWER, Act.UNKNOWN),
}
