"""What a gateway's body mode demands of the answers. Sans-IO.

There is one Side for each body mode. The mode in the first message chooses it. It keeps no state of a request. See
bbr.exchange.duplex and bbr.exchange.awaited.
"""

import abc
from collections.abc import Sequence
from typing import Final

from bbr.exchange.body import Body
from bbr.exchange.phases import DONE
from bbr.exchange.policy import Policy
from bbr.exchange.request import Request

NOTHING: Final[Sequence[bytes]] = ()


class Side(abc.ABC):
    """Answers the messages of a request's body.

    All that its methods return are encoded ProcessingResponses, in order; what raises, raises the Refusal that answers
    the request.

    Attributes:
        keeps: bytes that have come are held, to be given back.
    """

    # A gateway that awaits answers keeps the body itself. A second copy of a long one here would only cost memory.
    keeps = False

    @abc.abstractmethod
    def patience_seconds(self, policy: Policy) -> float:
        """Return how long a body may stand still that is read."""

    @abc.abstractmethod
    def open(self, request: Request) -> Sequence[bytes]:
        """Answer headers whose body will be read."""

    @abc.abstractmethod
    def forward_decoded(self, request: Request) -> None:
        """Take note that the body is to be forwarded decoded."""

    @abc.abstractmethod
    def read(self, request: Request, body: Body, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """Take a piece of a body that is read."""

    @abc.abstractmethod
    def end(self, request: Request, body: Body) -> Sequence[bytes]:
        """Take the trailers that end a body that is read."""

    @abc.abstractmethod
    def work(self, request: Request, body: Body) -> Sequence[bytes]:
        """Do a bit of what is pending on the body, about half a millisecond's."""

    @abc.abstractmethod
    def pass_on(self, request: Request, octets: bytes | memoryview, ended: bool) -> Sequence[bytes]:
        """Take a piece of a body that is forwarded unread."""


def finish(request: Request, body: Body) -> None:
    """Take note that a request has ended, and is answered."""
    # The stream may stay open until the gateway resets it. It must not hold room in the ledger for that long.
    request.phase = DONE
    body.drop()
