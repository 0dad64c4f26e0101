"""grpc.health.v1 as handlers of the native transport's calls."""

from collections.abc import Sequence
from typing import Final

from bbr import health
from bbr.status import OK, Status, StatusCode
from bbr.transports.serving import Serving

SHUTTING_DOWN: Final = Status(StatusCode.UNAVAILABLE, "this replica is shutting down")


class Answer:
    """A health call with one answer, whatever was asked."""

    patience_seconds: float | None = None
    pending = False

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.end: Status | None = None

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer and end."""
        self.end = OK
        return (self._answer,)

    def work(self) -> Sequence[bytes]:
        """Never asked: nothing is pending."""
        return ()

    def expect(self, size: int) -> Sequence[bytes]:
        """Let it come: messages are small."""
        return ()

    def expire(self) -> Sequence[bytes]:
        """Never asked: there is no patience to lose."""
        return ()

    def finish(self) -> Status | None:
        """A unary call without a message is none."""
        return Status(StatusCode.INTERNAL, "a unary call needs one message")


class Watch(Answer):
    """Health.Watch: the state now, and once more when it changes; it can only change for the last time."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(health.check(serving=serving.now))
        self._last = not serving.now

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer, and stay while there is more to come."""
        if self._last:
            self.end = SHUTTING_DOWN
        return (self._answer,)

    def finish(self) -> Status | None:
        """Go on: the client has no more to say."""
        return None
