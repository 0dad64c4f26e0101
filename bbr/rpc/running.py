"""The running calls of a connection: their answers and their ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bbr.http2.connection import Connection
from bbr.http2.frames import ErrorCode
from bbr.rpc import calls
from bbr.rpc.calls import Call, NewHandler
from bbr.rpc.holding import NO_ROOM
from bbr.rpc.messages import MessageError, framed
from bbr.rpc.pending import PendingCalls
from bbr.rpc.status import OK, Status, StatusCode

_OK_TRAILERS: Final = calls.trailers(OK, alone=False)
_TIMEOUT: Final = Status(StatusCode.DEADLINE_EXCEEDED, "the call's grpc-timeout is over")
# A call that ends inside of a message is no clean end: to drop the piece would hide that the client has failed.
_CUT_OFF: Final = Status(StatusCode.INTERNAL, "the call ended inside of a message")
_NO_ROOM_LEFT: Final = Status(StatusCode.RESOURCE_EXHAUSTED, "the router has no room left for this call")
# The text names no exception: it goes to the client. The owner's log has it (see Services.failed).
OUR_FAULT: Final = Status(StatusCode.INTERNAL, "the router failed on this request")


@dataclass(frozen=True, slots=True)
class Services:
    """What a server offers.

    Attributes:
        methods: path -> what makes a new call's handler.
        max_message_bytes: a longer message is refused.
        failed: called with an exception of ours; its call ends with INTERNAL, and no other notices.
        reset: called with the reason of each stream that is reset for a fault of its peer's, or for a slow one.
        clock: tells when the time of a turn is over; see `RpcConnection.receive`.
    """

    methods: Mapping[bytes, NewHandler]
    max_message_bytes: int
    failed: Callable[[Exception], None]
    reset: Callable[[str], None] = lambda reason: None
    # The room has no clock of its own. Without one a turn never ends, as with `until` at infinity.
    clock: Callable[[], float] = lambda: 0.0


class RunningCalls:
    """See the module.

    Attributes:
        by_stream: the calls by stream id.
        pending: those whose handlers have something to do.
    """

    __slots__ = ("_http2", "_services", "_stuck", "by_stream", "pending")

    def __init__(self, services: Services, http2: Connection) -> None:
        self.by_stream: dict[int, Call] = {}
        self.pending = PendingCalls(http2, self.by_stream)
        self._stuck = self.pending.stuck
        self._services = services
        self._http2 = http2

    def send(self, call: Call, messages: Sequence[bytes]) -> None:
        """Send messages on a call; with the first ones, its response HEADERS."""
        block = None
        if not call.headers_sent:
            call.headers_sent = True
            block = calls.HEADERS
        parts, size = framed(messages)
        self._http2.send_parts(call.stream_id, parts, size, block)

    def answer(self, call: Call, ask: Callable[[], Sequence[bytes]]) -> None:
        """Ask a call's handler for answers and send them; end the call if the handler says so, or fails."""
        try:
            answers = ask()
        except Exception as error:
            self.fail(call, error)
            return
        if answers:
            self.send(call, answers)
        if call.handler.end is not None:
            self.end(call, call.handler.end)

    def finish(self, call: Call) -> None:
        """End a call that the client has half-closed."""
        if call.reader.unfinished:
            self.end(call, _CUT_OFF)
            return
        # Answers are yet to come of its work, and would be lost if the call ended now.
        if call.handler.pending:
            call.half_closed = True
            return
        try:
            status = call.handler.finish()
        except Exception as error:
            self.fail(call, error)
            return
        if status is not None:
            self.end(call, status)

    def end(self, call: Call, status: Status) -> None:
        """End a call with a status."""
        # Whatever its answers said: the client is not told OK of a call that we have failed at.
        if not self.forget(call):
            status = OUR_FAULT
        if status is OK and call.headers_sent:  # as nearly all ends are
            block = _OK_TRAILERS
        else:
            block = calls.trailers(status, alone=not call.headers_sent)
        self._http2.send_headers(call.stream_id, block, end_stream=True)

    def fail(self, call: Call, error: Exception) -> None:
        """End a call for a fault of ours."""
        self._services.failed(error)
        self.end(call, OUR_FAULT)

    def refuse(self, call: Call, refused: MessageError) -> None:
        """End a call for a message that can't be read."""
        handler = call.handler
        if refused.size:  # the handler may have a better answer
            self.answer(call, lambda: handler.expect(refused.size))
        if call.stream_id in self.by_stream:
            self.end(call, refused.status)

    def give_up(self, call: Call) -> None:
        """End a call that there is no room for."""
        self.answer(call, call.handler.give_up)
        if call.stream_id in self.by_stream:
            self.end(call, _NO_ROOM_LEFT)

    def shed(self, stream_ids: Iterable[int]) -> None:
        """End streams for want of room, and the calls that run on them."""
        for stream_id in stream_ids:
            call = self.by_stream.get(stream_id)
            # An answer that could not leave would only be one more that is held.
            if call is not None and not self._http2.streams[stream_id].queue:
                self.give_up(call)
                continue
            if call is not None:
                self.forget(call)
            self._http2.reset(stream_id, ErrorCode.ENHANCE_YOUR_CALM)
            self._services.reset(NO_ROOM)

    def forget(self, call: Call) -> bool:
        """Let a call go; False if its handler failed at it."""
        del self.by_stream[call.stream_id]
        reader = call.reader
        if reader.held_bytes or reader.kept_bytes:
            reader.close()
        if self._stuck:
            self._stuck.pop(call.stream_id, None)
        try:
            call.handler.over()
        except Exception as error:
            self._services.failed(error)
            return False
        return True

    def expire(self, now: float) -> None:
        """See to calls past their deadline, and to handlers whose patience is over."""
        for call in list(self.by_stream.values()):
            if call.deadline is not None and now > call.deadline:
                self.end(call, _TIMEOUT)
                continue
            patience = call.handler.patience_seconds
            if patience is not None and now - call.heard > patience:
                # Its patience begins again: else it would be asked at each look.
                call.heard = now
                self.answer(call, call.handler.expire)
