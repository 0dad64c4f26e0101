"""grpc.health.v1 as handlers of the native transport's calls."""

from collections.abc import Sequence
from typing import Final

from bbr.rpc import health
from bbr.rpc.status import OK, Status, StatusCode
from bbr.transports.serving import Serving

# How long a call may take to say what it asks, as long as a silent ext_proc stream by default.
MESSAGE_SECONDS: Final = 60.0

_SILENT: Final = Status(StatusCode.DEADLINE_EXCEEDED, "no message came in time")
SHUTTING_DOWN: Final = Status(StatusCode.UNAVAILABLE, "this replica is shutting down")


class Answer:
    """A health call with one answer, whatever was asked."""

    pending = False
    held_bytes = 0

    def __init__(self, answer: bytes) -> None:
        self.patience_seconds: float | None = MESSAGE_SECONDS
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

    def give_up(self) -> Sequence[bytes]:
        """Have no better answer than the status."""
        return ()

    def expire(self) -> Sequence[bytes]:
        """End: the question did not come."""
        self.end = _SILENT
        return ()

    def finish(self) -> Status | None:
        """A unary call without a message is none."""
        return Status(StatusCode.INTERNAL, "a unary call needs one message")

    def over(self) -> None:
        """Hold nothing that would have to be let go."""


class Check(Answer):
    """Health.Check: the state now."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(b"")
        self._serving = serving

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer for the service that was asked for, and end."""
        self.end = OK
        return (health.check(serving=self._serving.now or health.asks_for_liveness(message)),)


class Watch(Answer):
    """Health.Watch: the state now, and again when it changes, until it has changed for good."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(b"")
        self._serving = serving
        self._sent: bool | None = None

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Answer, and stay while there is more to come."""
        if self._serving.stopping:
            self.end = SHUTTING_DOWN
        self.patience_seconds = None  # from now on it waits for us
        self._sent = self._serving.now
        return (health.check(serving=self._sent),)

    def changed(self) -> Sequence[bytes]:
        """Return what is to be sent after the state has changed; nothing before the first answer."""
        if self._sent in (None, self._serving.now):
            return ()
        self._sent = self._serving.now
        return (health.check(serving=self._sent),)

    def finish(self) -> Status | None:
        """Go on: the client has no more to say."""
        return None
