"""What the calls of a connection hold in memory, and which calls end first if there is no room."""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from bbr.http2.connection import Connection
from bbr.pieces import PIECE_BYTES
from bbr.rpc.calls import Call

# What a call takes in memory with its stream and its handler, beside what it holds of messages (measured: 3.3 KiB, and
# somewhat more with many header fields).
CALL_BYTES: Final = 8 << 10
# Why a call was ended that the process had no room for.
NO_ROOM: Final = "no-room"
# A longer message needs room for three of it while it is taken in: its pieces are joined, that is decoded, and its body
# is taken out. One is counted, and the others are borrowed for that moment.
LARGE_MESSAGE_BYTES: Final = 1 << 20


class Lender(Protocol):
    """Whom to ask for room that is given back at once."""

    def borrow(self, octets: int) -> bool:
        """Take room; False if there is too little."""

    def give_back(self, octets: int) -> None:
        """Give it back."""


class Unlimited:
    """Lends whatever is asked for."""

    def borrow(self, octets: int) -> bool:
        """Let it be."""
        return True

    def give_back(self, octets: int) -> None:
        """Let it be."""


class Rest:
    """Messages of a call that have come and wait for the connection's next turn: nothing else is looked at before."""

    # END_STREAM came with the last of the messages, so it must wait as long as they do.
    __slots__ = ("call", "end_stream", "messages")

    def __init__(self, call: Call, messages: list[bytes], end_stream: bool) -> None:
        self.call = call
        self.messages = messages
        self.end_stream = end_stream

    @property
    def size(self) -> int:
        """What the messages take in memory."""
        return sum(map(len, self.messages)) + PIECE_BYTES * len(self.messages)


class Holding:
    """See the module.

    Args:
        http2: what carries the calls.
        calls: the running ones by stream id.
    """

    __slots__ = ("_calls", "_http2")

    def __init__(self, http2: Connection, calls: Mapping[int, Call]) -> None:
        self._http2 = http2
        self._calls = calls

    def split(self, rest: Rest | None) -> tuple[int, int]:
        """Return what is held for calls and their connection as such, and what for messages and answers.

        Args:
            rest: what waits for the next turn.
        """
        http2 = self._http2
        held = http2.held
        bulk = held.bulk + http2.unread_bytes + (rest.size if rest is not None else 0)
        return CALL_BYTES * len(http2.streams) + held.octets - held.bulk, bulk

    def heaviest(self, octets: int) -> Iterator[int]:
        """Give the streams that hold the most, of alike ones the newest first, until they hold so many bytes."""
        weights = [(self._weight(stream_id), stream_id) for stream_id in self._http2.streams]
        for weight, stream_id in sorted(weights, reverse=True):
            if octets <= 0:
                return
            octets -= weight
            yield stream_id

    def _weight(self, stream_id: int) -> int:
        # A stream may outlive its call, by answers that wait for credit.
        call = self._calls.get(stream_id)
        reader = None if call is None else call.reader
        messages = 0 if reader is None else reader.held_bytes + reader.kept_bytes
        # What its handler holds is counted elsewhere, but makes room as well. Without it the first to end for want of
        # room would be the newest calls, and not the uploads that have filled it.
        messages += 0 if call is None else call.handler.held_bytes
        return CALL_BYTES + messages + self._http2.streams[stream_id].queued_bytes
