"""A gRPC client of an RpcConnection that builds every frame itself, and the handlers that it talks to."""

from collections.abc import Callable, Sequence

from bbr.http2.fields import FieldSection
from bbr.http2.settings import Settings
from bbr.rpc.calls import Handler
from bbr.rpc.connection import RpcConnection
from bbr.rpc.running import Services
from bbr.rpc.status import OK, Status, StatusCode
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import HEADERS, Fields, Frame, Peer, block, data, headers

PATH = "/test.Talk/Talk"
MAX_MESSAGE_BYTES = 100_000
REFUSED = Status(StatusCode.FAILED_PRECONDITION, "no more")


class Simple:
    """What a handler is that answers at once, whatever comes.

    Attributes:
        overs: how often it was told that its call is over.
    """

    pending = False
    held_bytes = 0
    patience_seconds: float | None = None
    overs = 0

    def work(self) -> Sequence[bytes]:
        """Never asked: nothing is pending."""
        raise AssertionError

    def expect(self, size: int) -> Sequence[bytes]:
        """Let it come."""
        return ()

    def give_up(self) -> Sequence[bytes]:
        """Have no better answer than the status."""
        return ()

    def over(self) -> None:
        """Count."""
        self.overs += 1


class Talk(Simple):
    """Keeps each message and sends it back; "quiet" gets no answer, "end" ends the call, "fail" is a fault of ours."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.end: Status | None = None
        self.patience_seconds: float | None = None
        self.finished = 0

    def receive(self, message: bytes) -> Sequence[bytes]:
        """Take a message."""
        self.messages.append(message)
        if message == b"fail":
            raise RuntimeError("ours")
        if message == b"end":
            self.end = REFUSED
        return () if message.startswith(b"quiet") else (message,)

    def expire(self) -> Sequence[bytes]:
        """Never asked: patience is endless."""
        return ()

    def finish(self) -> Status | None:
        """End with OK."""
        self.finished += 1
        return OK


class RpcPeer(Peer):
    """See the module.

    Attributes:
        handlers: of all calls that began, in order.
        failed: exceptions that the connection reported as faults of ours.
    """

    def __init__(
        self,
        limits: Settings | None = None,
        *,
        chunk: int | None = None,
        own: tuple[tuple[int, int], ...] = (),
        new_handler: Callable[[], Handler] = Talk,
    ) -> None:
        self.handlers: list[Handler] = []
        self.failed: list[Exception] = []
        self._new_handler = new_handler
        super().__init__(limits, chunk=chunk, own=own)

    def connect(self) -> RpcConnection:  # type: ignore[override]
        """Return a connection that offers PATH."""
        methods = {PATH.encode(): self._begin}
        return RpcConnection(self.limits, Services(methods, MAX_MESSAGE_BYTES, self.failed.append), self.now)

    def deliver(self, octets: bytes) -> None:
        """Hand over what one read brings."""
        self.connection.receive(octets, self.now)

    @property
    def ended(self) -> list[Simple]:
        """Return the handlers whose call is over, which each of them was told once."""
        assert all(each.overs <= 1 for each in self.handlers if isinstance(each, Simple))
        return [each for each in self.handlers if isinstance(each, Simple) and each.overs]

    def _begin(self, call: FieldSection) -> Handler:
        self.handlers.append(self._new_handler())
        return self.handlers[-1]

    def open(self, stream_id: int = 1, *messages: bytes, end: bool = False, **changes: str | None) -> None:
        """Begin a call with messages in one DATA frame; `changes` are fields with _ for -, None leaves one out."""
        octets = b"".join(map(framed, messages))
        head = headers(stream_id, block(fields(**changes)), end=end and not octets)
        self.send(head, *([data(stream_id, octets, end=end)] if octets else []))

    def expire(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        self.connection.expire(self.now)
        self.collect()

    def heads(self, stream_id: int = 1) -> list[dict[str, str]]:
        """Return the field sections that came back on a stream; call it once for each stream, in order."""
        return [dict(self.fields(each)) for each in self.of(HEADERS, stream_id)]

    def status(self, stream_id: int = 1) -> str | None:
        """Return the grpc-status that ended a stream; None if it has not ended."""
        for each in self.heads(stream_id):
            if "grpc-status" in each:
                return each["grpc-status"]
        return None

    def last(self, stream_id: int = 1) -> list[Frame]:
        """Return all frames that came back on a stream."""
        return [each for each in self.frames if each.stream_id == stream_id]


def fields(**changes: str | None) -> Fields:
    """Return the header section of a call."""
    section: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": PATH,
        ":authority": "router",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    section |= {(f":{name}" if f":{name}" in section else name.replace("_", "-")): v for name, v in changes.items()}
    return [(name, value) for name, value in section.items() if value is not None]
