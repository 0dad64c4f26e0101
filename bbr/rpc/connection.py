"""gRPC calls on one HTTP/2 connection: octets in, calls answered, octets out.

Sans-IO: time is an argument, and faults of ours are handed to the owner, which logs them.
"""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived, Event, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.fields import Entry, FieldSection
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bbr.rpc import calls
from bbr.rpc.calls import Call, Handler
from bbr.rpc.messages import MessageError, MessageReader, frame
from bbr.rpc.status import Status, StatusCode

_UNIMPLEMENTED: Final = Status(StatusCode.UNIMPLEMENTED, "no such method")
_BAD_TIMEOUT: Final = Status(StatusCode.INTERNAL, "grpc-timeout is malformed")
_TIMEOUT: Final = Status(StatusCode.DEADLINE_EXCEEDED, "the call's grpc-timeout is over")
_CUT_OFF: Final = Status(StatusCode.INTERNAL, "the call ended inside of a message")
_OUR_FAULT: Final = Status(StatusCode.INTERNAL, "the router failed on this request")


# Of a message that is longer and not complete its handler is told.
_LONG_MESSAGE_BYTES: Final = 64 << 10

# Makes the handler of a new call, whose header section it is given.
NewHandler = Callable[[FieldSection], Handler]

# How a call begins: the block that refuses it, or else its handler's maker, its timeout in seconds and its encoding.
_Opening = tuple[bytes, NewHandler | None, float | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Services:
    """What a server offers.

    Attributes:
        methods: path -> what makes a new call's handler.
        max_message_bytes: a longer message is refused.
        failed: called with an exception of ours; its call ends with INTERNAL, and no other notices.
        reset: called with the reason of each stream that is reset for a fault of its peer's, or for a slow one.
    """

    methods: Mapping[bytes, NewHandler]
    max_message_bytes: int
    failed: Callable[[Exception], None]
    reset: Callable[[str], None] = lambda reason: None


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
        self._last_entries: Sequence[Entry] | None = None
        self._last_opening: _Opening = (b"", None, None, None)

    @property
    def closed(self) -> bool:
        """Whether to close once the output is sent: nothing more will be received."""
        return self._http2.closed

    @property
    def idle(self) -> bool:
        """Whether no call runs, and no answer of one that has ended still waits for the peer's credit."""
        return not self._http2.streams

    @property
    def goaway_read(self) -> bool:
        """Whether the peer has read that the connection will end, and all that it began before has come."""
        return self._http2.goaway_read

    @property
    def more(self) -> bool:
        """Whether there may be frames that have come and were not looked at; see `receive`."""
        return self._http2.more

    def receive(self, octets: bytes, now: float, most: int = sys.maxsize) -> None:
        """Take octets from the peer, `most` frames of them. Never raises; see `Services.failed`."""
        try:
            for event in self._http2.receive(octets, now, most):
                self._handle(event, now)
            if self._stuck:
                self._unstick()
        except Exception as error:
            self._abandon(error, now)

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

    def _request(self, stream_id: int, section: FieldSection, now: float, *, end_stream: bool) -> None:
        if section.entries is not self._last_entries:  # alike field blocks share them, and a gateway's are alike
            self._last_opening = self._opening(section)
            self._last_entries = section.entries
        refusal, new_handler, seconds, encoding = self._last_opening
        if new_handler is None:
            self._http2.send_headers(stream_id, refusal, end_stream=True)
            return
        try:
            handler = new_handler(section)
        except Exception as error:
            self._services.failed(error)
            self._http2.send_headers(stream_id, calls.trailers(_OUR_FAULT, alone=True), end_stream=True)
            return
        reader = MessageReader(self._services.max_message_bytes, encoding)
        deadline = None if seconds is None else now + seconds
        call = self.calls[stream_id] = Call(stream_id, handler, reader, now, deadline)
        if end_stream:
            self._finish(call)

    def _opening(self, section: FieldSection) -> _Opening:
        """Read what a request's header section says of its call."""
        refusal = calls.http_refusal(section)
        if refusal is not None:
            return refusal, None, None, None
        new_handler = self._services.methods.get(section.get(b":path") or b"")
        if new_handler is None:
            return calls.trailers(_UNIMPLEMENTED, alone=True), None, None, None
        timeout = section.get(b"grpc-timeout")
        seconds = None if timeout is None else calls.timeout_seconds(timeout)
        if timeout is not None and seconds is None:
            return calls.trailers(_BAD_TIMEOUT, alone=True), None, None, None
        return b"", new_handler, seconds, section.get(b"grpc-encoding")

    def _data(self, call: Call, data: bytes, now: float, *, end_stream: bool) -> None:
        handler = call.handler
        reader = call.reader
        was_pending = handler.pending
        answers: list[bytes] = []
        fault: Status | None = None
        try:
            try:
                messages = reader.feed(data)
            except MessageError as error:
                messages = ()
                fault = error.status
                if error.size:  # the handler may have a better answer
                    answers += handler.expect(error.size)
            if messages:
                call.heard = now
            for message in messages:
                answers += handler.receive(message)
            if reader.begun_bytes > _LONG_MESSAGE_BYTES:
                answers += handler.expect(reader.begun_bytes)
                reader.begun_bytes = 0
        except Exception as error:
            self._fail(call, error)
            return
        if answers:
            self._send(call, answers)
        status = handler.end or fault
        if status is not None:
            self._end(call, status)
            return
        if handler.pending and not was_pending:
            self._http2.pause(call.stream_id)
            self._busy.append(call)
        if end_stream:
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
