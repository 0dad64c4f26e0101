"""gRPC calls on one HTTP/2 connection: octets in, calls answered, octets out.

Sans-IO: time is an argument, and faults of ours are handed to the owner, which logs them.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived, Event, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.fields import FieldSection
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bbr.rpc import calls
from bbr.rpc.calls import Call, NewHandler
from bbr.rpc.messages import MessageError, MessageReader, frame
from bbr.rpc.openings import Openings
from bbr.rpc.status import Status, StatusCode

_TIMEOUT: Final = Status(StatusCode.DEADLINE_EXCEEDED, "the call's grpc-timeout is over")
# A call that ends inside of a message is no clean end: to drop the piece would hide that the client has failed.
_CUT_OFF: Final = Status(StatusCode.INTERNAL, "the call ended inside of a message")
# The text names no exception: it goes to the client. The owner's log has it (see Services.failed).
_OUR_FAULT: Final = Status(StatusCode.INTERNAL, "the router failed on this request")

# Of a message that is longer and not complete its handler is told.
# The handler may refuse it by its size, before the rest has crossed the wire and taken memory.
_LONG_MESSAGE_BYTES: Final = 64 << 10


class Rest:
    """Messages of a call that have come and wait for the connection's next turn: nothing else is looked at before."""

    # END_STREAM came with the last of the messages, so it must wait as long as they do.
    __slots__ = ("call", "end_stream", "messages")

    def __init__(self, call: Call, messages: Sequence[bytes], end_stream: bool) -> None:
        self.call = call
        self.messages = messages
        self.end_stream = end_stream


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


class RpcConnection:
    """One client's connection.

    Attributes:
        calls: running calls by stream id.
        fault: why the connection has failed, by name; "" while it has not.

    A handler that is `pending` gets to work when the owner calls `work`. Meanwhile its peer gets no more credit for the
    call's stream; and while the call's own answers wait for credit, it does not work: then it, and not a queue, holds
    what is yet to be sent.
    """

    def __init__(self, settings: Settings, services: Services, now: float) -> None:
        self.calls: dict[int, Call] = {}
        self.fault = ""
        self._services = services
        self._http2 = Connection(settings, now)
        self._busy: deque[Call] = deque()  # their handlers are pending; each call stands there once
        self._stuck: dict[int, Call] = {}  # pending as well, and their answers wait for credit
        self._openings = Openings(services.methods)
        self._clock = services.clock
        self._until = math.inf  # of the turn that goes on
        self._rest: Rest | None = None

    @property
    def closed(self) -> bool:
        """Whether to close once the output is sent: nothing more will be received."""
        return self._http2.closed

    @property
    def idle(self) -> bool:
        """Whether no call runs, and no answer of one that has ended still waits for the peer's credit."""
        return not self._http2.streams

    @property
    def answered(self) -> bool:
        """Whether the peer has ever had an answer."""
        return self._http2.answered

    @property
    def goaway_read(self) -> bool:
        """Whether the peer has read that the connection will end, and all that it began before has come."""
        return self._http2.goaway_read

    @property
    def more(self) -> bool:
        """Whether there may be something that has come and was not looked at; see `receive`."""
        return self._http2.more or self._rest is not None

    def receive(self, octets: bytes, now: float, until: float = math.inf) -> None:
        """Take octets from the peer at `now`. Never raises; see `Services.failed`.

        A turn may have its time: after `until`, by `Services.clock`, nothing new is begun, be it a frame or a message.
        While there is `more`, call it again, without octets.
        """
        try:
            self._until = until
            self._http2.feed(octets, now)
            clock = self._clock
            if self._rest is None or (self._take_rest(self._rest, now) and clock() < until):
                for event in self._http2.events():
                    if event is not None:
                        self._handle(event, now)
                    if clock() >= until:
                        break
            if self._stuck:
                self._unstick()
        except Exception as error:
            self._abandon(error, now)

    def _take_rest(self, rest: Rest, now: float) -> bool:
        """Go on with messages that have come; True if none is left."""
        self._rest = None
        if self.calls.get(rest.call.stream_id) is rest.call:
            self._messages(rest.call, rest.messages, now, end_stream=rest.end_stream)
        return self._rest is None

    @property
    def pending(self) -> bool:
        """Whether `work` has something to do now."""
        return bool(self._busy)

    def work(self, now: float) -> None:
        """Let one pending handler work a bit; those that are pending take turns. Never raises, as `receive`."""
        try:
            call = self._busy.popleft()
            if self.calls.get(call.stream_id) is not call:
                return  # it has ended meanwhile
            if self._http2.is_stuck(call.stream_id):
                self._stuck[call.stream_id] = call
                return
            call.heard = now
            self._answer(call, call.handler.work)
            if call.handler.pending:
                self._busy.append(call)
                return
            self._http2.resume(call.stream_id)
            if call.half_closed and call.stream_id in self.calls:
                self._finish(call)
        except Exception as error:
            self._abandon(error, now)

    def _unstick(self) -> None:
        for stream_id in self._http2.take_unstuck():
            call = self._stuck.pop(stream_id, None)
            if call is not None:
                self._busy.append(call)

    def expire(self, now: float) -> None:
        """End what is overdue: calls past their deadline or a handler's patience, and a connection that never began.

        To be called about as often as the shortest patience asks for; its cost grows with the running calls. Never
        raises, as `receive`.
        """
        try:
            for event in self._http2.expire(now):
                self._handle(event, now)
            self._expire_calls(now)
            if self._stuck:
                self._unstick()  # by what has been reset
        except Exception as error:
            self._abandon(error, now)

    def take_output(self) -> bytes:
        """Return the octets to send, and forget them."""
        return self._http2.take_output()

    def hold(self, held: bool) -> None:
        """Produce no more DATA while the peer does not read."""
        self._http2.hold(held)
        self._unstick()

    def shut_down(self, *, refuse: bool) -> None:
        """Announce the end: first without refusing anything, then refusing new calls."""
        self._http2.shut_down(refuse=refuse)

    def lost(self) -> None:
        """Tell the running calls' owner that they are over: the connection is gone."""
        for call in list(self.calls.values()):
            self._forget(call)

    def push(self, call: Call, message: bytes) -> None:
        """Send a message that answers none."""
        self._send(call, (message,))

    def end(self, call: Call, status: Status) -> None:
        """End a call from outside."""
        self._end(call, status)

    def _expire_calls(self, now: float) -> None:
        for call in list(self.calls.values()):
            if call.deadline is not None and now > call.deadline:
                self._end(call, _TIMEOUT)
                continue
            patience = call.handler.patience_seconds
            if patience is not None and now - call.heard > patience:
                call.heard = now
                self._answer(call, call.handler.expire)

    def _abandon(self, error: Exception, now: float) -> None:
        """End the connection, and no other: a fault of ours has left it in an unknown state."""
        self._services.failed(error)
        for event in self._http2.fail(ErrorCode.INTERNAL_ERROR, "internal-error"):
            self._handle(event, now)

    def _handle(self, event: Event, now: float) -> None:
        if isinstance(event, DataReceived):
            call = self.calls.get(event.stream_id)
            if call is not None:
                self._data(call, event.data, now, end_stream=event.end_stream)
        elif isinstance(event, RequestReceived):
            self._request(event.stream_id, event.section, now, end_stream=event.end_stream)
        elif isinstance(event, StreamReset):
            if event.reason:
                self._services.reset(event.reason)
            call = self.calls.get(event.stream_id)
            if call is not None:
                self._forget(call)
        elif isinstance(event, TrailersReceived):
            call = self.calls.get(event.stream_id)
            if call is not None:
                self._finish(call)
        else:
            self.fault = event.reason
            self._rest = None

    def _request(self, stream_id: int, section: FieldSection, now: float, *, end_stream: bool) -> None:
        opening = self._openings.of(section)
        new_handler = opening.new_handler
        if new_handler is None:
            self._http2.send_headers(stream_id, opening.refusal, end_stream=True)
            return
        try:
            handler = new_handler(section)
        except Exception as error:
            self._services.failed(error)
            self._http2.send_headers(stream_id, calls.trailers(_OUR_FAULT, alone=True), end_stream=True)
            return
        reader = MessageReader(self._services.max_message_bytes, opening.encoding)
        deadline = None if opening.seconds is None else now + opening.seconds
        call = self.calls[stream_id] = Call(stream_id, handler, reader, now, deadline)
        if end_stream:
            self._finish(call)

    def _data(self, call: Call, data: bytes, now: float, *, end_stream: bool) -> None:
        try:
            messages = call.reader.feed(data)
        except MessageError as refused:
            self._refuse_message(call, refused)
            return
        self._messages(call, messages, now, end_stream=end_stream)

    def _refuse_message(self, call: Call, refused: MessageError) -> None:
        """End a call for a message that can't be read."""
        handler = call.handler
        if refused.size:  # the handler may have a better answer
            self._answer(call, lambda: handler.expect(refused.size))
        if call.stream_id in self.calls:
            self._end(call, refused.status)

    def _messages(self, call: Call, messages: Sequence[bytes], now: float, *, end_stream: bool) -> None:
        """Let a call's handler take messages, as many as there is time for: at least one."""
        handler = call.handler
        reader = call.reader
        was_pending = handler.pending
        answers: list[bytes] = []
        taken = 0
        try:
            for message in messages:
                answers += handler.receive(message)
                taken += 1
                if taken < len(messages) and self._clock() >= self._until:
                    break
            if reader.begun_bytes > _LONG_MESSAGE_BYTES and taken == len(messages):
                answers += handler.expect(reader.begun_bytes)
                reader.begun_bytes = 0
        except Exception as error:
            self._fail(call, error)
            return
        if taken:
            call.heard = now
        if answers:
            self._send(call, answers)
        if handler.end is not None:
            self._end(call, handler.end)
            return
        if handler.pending and not was_pending:
            self._http2.pause(call.stream_id)
            self._busy.append(call)
        if taken < len(messages):
            self._rest = Rest(call, messages[taken:], end_stream)
        elif end_stream:
            self._finish(call)

    def _answer(self, call: Call, ask: Callable[[], Sequence[bytes]]) -> None:
        try:
            answers = ask()
        except Exception as error:
            self._fail(call, error)
            return
        if answers:
            self._send(call, answers)
        if call.handler.end is not None:
            self._end(call, call.handler.end)

    def _finish(self, call: Call) -> None:
        """End a call that the client has half-closed."""
        if call.reader.unfinished:
            self._end(call, _CUT_OFF)
            return
        if call.handler.pending:
            call.half_closed = True
            return
        try:
            status = call.handler.finish()
        except Exception as error:
            self._fail(call, error)
            return
        if status is not None:
            self._end(call, status)

    def _send(self, call: Call, messages: Sequence[bytes]) -> None:
        if not call.headers_sent:
            call.headers_sent = True
            self._http2.send_headers(call.stream_id, calls.HEADERS)
        self._http2.send_data(call.stream_id, frame(messages))

    def _end(self, call: Call, status: Status) -> None:
        if not self._forget(call):
            status = _OUR_FAULT
        block = calls.trailers(status, alone=not call.headers_sent)
        self._http2.send_headers(call.stream_id, block, end_stream=True)

    def _fail(self, call: Call, error: Exception) -> None:
        self._services.failed(error)
        self._end(call, _OUR_FAULT)

    def _forget(self, call: Call) -> bool:
        """Let a call go; False if its handler failed at it."""
        del self.calls[call.stream_id]
        self._stuck.pop(call.stream_id, None)
        try:
            call.handler.over()
        except Exception as error:
            self._services.failed(error)
            return False
        return True
