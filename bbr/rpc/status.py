"""gRPC status codes, and how an RPC ends. Pure data; every room may import it."""

import enum
from typing import Final, NamedTuple


class StatusCode(enum.IntEnum):
    """The gRPC status codes that the router ends an RPC with.

    Source: gRPC, statuscodes.md.
    """

    # The numbers are on the wire as decimal text (grpc-status), and they never change.
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Status(NamedTuple):
    """The status that ends an RPC: its code, and for an operator what happened."""

    code: StatusCode
    message: str = ""


OK: Final = Status(StatusCode.OK)
