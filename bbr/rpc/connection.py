"""gRPC calls on one HTTP/2 connection: bytes in, calls answered, bytes out.

Sans-IO: time is an argument, and faults of ours are handed to the owner, which logs them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived, Event, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.fields import FieldSection
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from bbr.rpc import calls
from bbr.rpc.calls import Call, Handler
from bbr.rpc.holding import LARGE_MESSAGE_BYTES, Holding, Lender, Rest, Unlimited
from bbr.rpc.messages import MessageError, MessageReader
from bbr.rpc.openings import Openings
from bbr.rpc.running import OUR_FAULT, RunningCalls, Services
from bbr.rpc.status import Status

# A handler may keep what its call's HEADERS and first message say. CALL_BYTES have room for short ones. What is decoded
# takes up to so many times its size: the bytes of a message, and of a section as SETTINGS_MAX_HEADER_LIST_SIZE counts.
_SHORT_FIRST_BYTES: Final = 1 << 10
_SHORT_SECTION_BYTES: Final = 640
_DECODED_TIMES: Final = 2
_SECTION_TIMES: Final = 6

# A handler is asked to `expect` a longer message that is not complete.
# It may refuse it by its size, before the rest has crossed the wire and taken memory.
_LONG_MESSAGE_BYTES: Final = 64 << 10


class RpcConnection:
    """One client's connection.

    Attributes:
        calls: running calls by stream id.
        fault: why the connection has failed, by name; "" while it has not.
        held: counts what is held for the peer, but for calls as such, and for what waits for the next turn.
        streams: the open streams; one may outlive its call.

    A handler that is `pending` gets to work when the owner calls `work`. Meanwhile its peer gets no more credit for the
    call's stream; and while the call's own answers wait for credit, it does not work: then it, and not a queue, holds
    what is yet to be sent.
    """

    def __init__(self, settings: Settings, services: Services, now: float, lender: Lender | None = None) -> None:
        self._lender = lender or Unlimited()
        self.fault = ""
        self._services = services
        self._http2 = Connection(settings, now)
        self._running = RunningCalls(services, self._http2)
        self.calls = self._running.by_stream
        self._busy = self._running.pending.busy
        self._stuck = self._running.pending.stuck
        self._openings = Openings(services.methods)
        self._clock = services.clock
        self._until = math.inf  # of the turn that goes on
        self.held = self._http2.held
        self.streams = self._http2.streams
        self._holding = Holding(self._http2, self.calls)
        self._rest: Rest | None = None
        self._viewing: list[MessageReader] = []  # what holds views of the last read

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
    def preface_received(self) -> bool:
        """Whether the peer has begun to speak HTTP/2."""
        return self._http2.preface_received

    @property
    def goaway_read(self) -> bool:
        """Whether the peer has read that the connection will end, and all that it began before has come."""
        return self._http2.goaway_read

    @property
    def more(self) -> bool:
        """Whether there may be something that has come and was not looked at; see `receive`."""
        return self._http2.more or self._waits

    def receive(self, octets: bytes, now: float, until: float = math.inf) -> None:
        """Take bytes from the peer at `now`. Never raises; see `Services.failed`.

        A turn may have its time: after `until`, by `Services.clock`, no new frame or message is begun.
        While there is `more`, call it again, without bytes.
        """
        try:
            self._until = until
            self._http2.feed(octets, now)
            clock = self._clock
            # What the last turn has left comes first: the messages of a call are answered in their order.
            if self._rest is None or (self._take_rest(self._rest, now) and clock() < until):
                for event in self._http2.events():
                    if event is not None:
                        self._handle(event, now)
                    if clock() >= until:
                        break
            # Each view keeps all that was read with it. So none outlives the turn; most messages have ended by then.
            if self._viewing:
                for reader in self._viewing:
                    reader.own()
                self._viewing.clear()
            if self._stuck:
                self._unstick()
        except Exception as error:
            self._abandon(error, now)

    def _take_rest(self, rest: Rest, now: float) -> bool:
        """Go on with messages that have come; True if none is left."""
        self._rest = None
        if self.calls.get(rest.call.stream_id) is rest.call:
            self._messages(rest.call, rest.messages, now, rest.end_stream)
        return not self._waits

    @property
    def _waits(self) -> bool:
        """Whether messages wait for the next turn. Asked by a property: mypy, and so mypyc, believes what was set."""
        return self._rest is not None

    @property
    def pending(self) -> bool:
        """Whether `work` has something to do now."""
        return bool(self._busy)

    def work(self, now: float) -> None:
        """Let one pending handler work a bit; those that are pending take turns. Never raises, as `receive`."""
        try:
            call = self._running.pending.next()
            if call is None:
                return
            # We were busy with it, and not the peer silent: its time for the next message begins again.
            call.heard = now
            self._running.answer(call, call.handler.work)
            if call.handler.pending:
                self._running.pending.add(call)
                return
            # Its peer got no credit meanwhile. Now it may send as much as it could before.
            self._http2.resume(call.stream_id)
            if call.half_closed and call.stream_id in self.calls:
                self._running.finish(call)
        except Exception as error:
            self._abandon(error, now)

    def _unstick(self) -> None:
        self._running.pending.unstick(self._http2.take_unstuck())

    def expire(self, now: float) -> None:
        """End what is overdue: calls past their deadline or a handler's patience, and a connection that never began.

        To be called about as often as the shortest patience asks for; its cost grows with the running calls. Never
        raises, as `receive`.
        """
        try:
            for event in self._http2.expire(now):
                self._handle(event, now)
            self._running.expire(now)
            if self._stuck:
                self._unstick()  # by what has been reset
        except Exception as error:
            self._abandon(error, now)

    def holds(self) -> tuple[int, int]:
        """Return all that is held for the peer: for calls and the connection as such, and for messages and answers."""
        return self._holding.split(self._rest)

    def shed(self, octets: int) -> bool:
        """Let go of so many bytes that are held, by ending the calls that hold the most; False if there are none."""
        heaviest = list(self._holding.heaviest(octets))
        self._running.shed(heaviest)
        return bool(heaviest)

    def fail(self, code: ErrorCode, reason: str, now: float) -> None:
        """End the connection for a fault of its peer's that was found by its owner."""
        for event in self._http2.fail(code, reason):
            self._handle(event, now)

    @property
    def has_output(self) -> bool:
        """Whether more output can be taken, that found no place in the batch before."""
        return self._http2.has_output

    def take_output(self) -> bytes:
        """Return the bytes to send, and forget them; `pending` may be another afterwards."""
        octets = self._http2.take_output()
        if self._stuck:
            self._unstick()  # by what found its place in this batch
        return octets

    def hold(self, held: bool) -> None:
        """Produce no more DATA while the peer does not read."""
        self._http2.hold(held)
        self._unstick()

    def shut_down(self, *, refuse: bool) -> None:
        """Announce the end: first without refusing anything, then refusing new calls."""
        self._http2.shut_down(refuse=refuse)

    def lost(self) -> None:
        """Tell the running calls' owner that they are over: the connection is gone."""
        # A copy, here and wherever calls may end in the loop: `forget` takes each out.
        for call in list(self.calls.values()):
            self._running.forget(call)

    def push(self, call: Call, message: bytes) -> None:
        """Send a message that answers none."""
        self._running.send(call, (message,))

    def end(self, call: Call, status: Status) -> None:
        """End a call from outside."""
        self._running.end(call, status)

    def _abandon(self, error: Exception, now: float) -> None:
        """End the connection, and no other: a fault of ours has left it in an unknown state."""
        self._services.failed(error)
        for event in self._http2.fail(ErrorCode.INTERNAL_ERROR, "internal-error"):
            self._handle(event, now)

    def _handle(self, event: Event, now: float) -> None:
        # DATA comes most often, and so is asked for first.
        if isinstance(event, DataReceived):
            call = self.calls.get(event.stream_id)
            if call is not None:
                self._data(call, event.data, now, event.end_stream)
        elif isinstance(event, RequestReceived):
            self._request(event.stream_id, event.section, now, event.end_stream)
        elif isinstance(event, StreamReset):
            if event.reason:
                self._services.reset(event.reason)
            call = self.calls.get(event.stream_id)
            # No status can be sent on it any more, so the call is only let go.
            if call is not None:
                self._running.forget(call)
        # A gRPC request has no trailers. Those of another client end its side as END_STREAM does.
        elif isinstance(event, TrailersReceived):
            call = self.calls.get(event.stream_id)
            if call is not None:
                self._running.finish(call)
        else:
            self.fault = event.reason
            self._rest = None

    def _request(self, stream_id: int, section: FieldSection, now: float, end_stream: bool) -> None:
        opening = self._openings.of(section)
        new_handler = opening.new_handler
        # No call begins, so that nobody has to hear of its end.
        if new_handler is None:
            self._http2.send_headers(stream_id, opening.refusal, end_stream=True)
            return
        try:
            handler = new_handler(section)
        except Exception as error:
            self._services.failed(error)
            self._http2.send_headers(stream_id, calls.trailers(OUR_FAULT, alone=True), end_stream=True)
            return
        reader = MessageReader(self._services.max_message_bytes, opening.encoding, self.held, self._viewing)
        deadline = None if opening.seconds is None else now + opening.seconds
        call = self.calls[stream_id] = Call(stream_id, handler, reader, now, deadline)
        if section.size > _SHORT_SECTION_BYTES:
            reader.keep(_SECTION_TIMES * section.size)
        if end_stream:
            self._running.finish(call)

    def _data(self, call: Call, data: bytes | memoryview, now: float, end_stream: bool) -> None:
        """Take DATA, if there is room to take a large message in that it completes."""
        reader = call.reader
        borrowed = 0
        if reader.held_bytes > LARGE_MESSAGE_BYTES:
            borrowed = 2 * reader.completes(data)
            if borrowed and not self._lender.borrow(borrowed):
                self._running.give_up(call)
                return
        try:
            messages = reader.feed(data)
        except MessageError as refused:
            self._running.refuse(call, refused)
        else:
            # Nothing to do for a piece of a message, if nobody wants to know how long that will be.
            if messages or end_stream or reader.begun_bytes > _LONG_MESSAGE_BYTES:
                self._messages(call, messages, now, end_stream)
        if borrowed:
            self._lender.give_back(borrowed)

    def _messages(self, call: Call, messages: Sequence[bytes], now: float, end_stream: bool) -> None:
        """Let a call's handler take messages, as many as there is time for: at least one."""
        handler = call.handler
        reader = call.reader
        was_pending = handler.pending
        answers: list[bytes] = []
        taken = count = len(messages)
        try:
            if count == 1:
                answers += handler.receive(messages[0])
            elif count:
                taken = _receive_several(handler, messages, answers, self._clock, self._until)
            if reader.begun_bytes > _LONG_MESSAGE_BYTES and taken == count:
                answers += handler.expect(reader.begun_bytes)
                reader.begun_bytes = 0
        except Exception as error:
            self._running.fail(call, error)
            return
        if taken:
            call.heard = now
            if not call.begun:
                call.begun = True
                if len(messages[0]) > _SHORT_FIRST_BYTES:
                    reader.keep(_DECODED_TIMES * len(messages[0]))
        if answers:
            self._running.send(call, answers)
        if handler.end is not None:
            self._running.end(call, handler.end)
            return
        if handler.pending and not was_pending:
            self._http2.pause(call.stream_id)
            self._running.pending.add(call)
        if taken < count:
            self._rest = Rest(call, list(messages[taken:]), end_stream)
        elif end_stream:
            self._running.finish(call)


def _receive_several(
    handler: Handler, messages: Sequence[bytes], answers: list[bytes], clock: Callable[[], float], until: float
) -> int:
    """Let a handler take messages, as many as there is time for, and return how many that was."""
    taken, count = 0, len(messages)
    for message in messages:
        answers += handler.receive(message)
        taken += 1
        if taken < count and clock() >= until:
            break
    return taken
