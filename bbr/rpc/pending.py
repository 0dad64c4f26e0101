"""Queues calls whose handlers have work to do, and calls that wait until their answers have left."""

from collections import deque
from collections.abc import Iterable, Mapping

from bbr.http2.connection import Connection
from bbr.rpc.calls import Call


class PendingCalls:
    """Those of one connection.

    Args:
        http2: knows whose answers wait.
        calls: the running ones by stream id.

    Attributes:
        busy: those that can work now, in turn; some of them may have ended meanwhile.
        stuck: those that wait, by stream id.
    """

    __slots__ = ("_calls", "_http2", "busy", "stuck")

    def __init__(self, http2: Connection, calls: Mapping[int, Call]) -> None:
        self._http2 = http2
        self._calls = calls
        self.busy: deque[Call] = deque()  # each call stands there once
        self.stuck: dict[int, Call] = {}  # pending as well, and their answers wait for credit

    def add(self, call: Call) -> None:
        """Let a call work after the others."""
        self.busy.append(call)

    def next(self) -> Call | None:
        """Return the call whose turn it is; None if it has ended meanwhile, or can't work now."""
        call = self.busy.popleft()
        if self._calls.get(call.stream_id) is not call:
            return None
        if self._http2.is_stuck(call.stream_id):
            # It, and not a queue, holds what is yet to be sent.
            self.stuck[call.stream_id] = call
            return None
        return call

    def unstick(self, stream_ids: Iterable[int]) -> None:
        """Let those work again whose answers have left."""
        for stream_id in stream_ids:
            call = self.stuck.pop(stream_id, None)
            if call is not None:
                self.busy.append(call)
