"""A request's body: the bytes that are held, and the room that they take in the process's ledger. Sans-IO.

A short body is held until it has ended and then read as a whole, unless that would take too long: then it is read in
small steps. A longer body, and every body that is not plain JSON, is read as it arrives. Both of these are a LongBody.
"""

from math import inf
from typing import Final

from bbr import refusal
from bbr.exchange.decoded_body import DecodedBody
from bbr.exchange.long_body import LongBody
from bbr.exchange.policy import MESSAGE_OVERHEAD_BYTES, OverLimit, Policy
from bbr.exchange.progress import Progress
from bbr.exchange.times import Times
from bbr.native import mypyc_attr
from bbr.pieces import TINY_PIECE_BYTES, add_piece
from bbr.reading.base import Reading, read_through
from bbr.reading.decoding import DecodingReading
from bbr.reading.fields import FieldValues
from bbr.reading.json_body import UNSETTLED, Unsettled
from bbr.reading.name import serde_differs
from bbr.refusal import Refusal

# What is smaller need not give way: it would make little room.
_LARGE_BYTES: Final = 16 << 10

# What is not settled and no longer than this is read at once: a quarter of a millisecond at the worst bytes.
AT_ONCE_BYTES: Final = 4 << 10

# A longer one is not read where its last bytes come, but in a turn of its own. Parsers take up to a millisecond for it,
# and many may end in one read of the socket: what stands behind them there would wait for all.
IN_TURN_BYTES: Final = 128 << 10

_BY_FIRST_BYTE: Final = {
    b"[": "a list",
    b'"': "a string",
    **dict.fromkeys((b"t", b"f"), "a boolean"),
    b"n": "null",
    **dict.fromkeys((b"-", *(b"%d" % digit for digit in range(10))), "a number"),
}


@mypyc_attr(free_list_len=1)
class Body:
    """One body.

    Args:
        policy: of the server: its limits and its ledger.
        kept: hold the bytes, to give them back: in FULL_DUPLEX_STREAMED, where progress can be seen too.
        times: of the exchange; `since` is when the last message came.

    Attributes:
        size: bytes that have come.
        began: a piece has come, if only an empty one; for who cares.
        by_trailers: it has ended by trailers.
        long: it is read a bit at a time; None while it is short.
        whole: all of it had come before any was read, so nothing of it is decided before all is read.
        pending: there is work on it.
        found: what other fields of a short one say, once its model has been read; only for a policy that has fields.
        given_up: it had to make room for others; nothing of it is held.
    """

    __slots__ = (
        "_asked_bytes",
        "_entered",
        "_kept",
        "_look_at",
        "_model",
        "_pieces",
        "_policy",
        "_progress",
        "_reserved_bytes",
        "_times",
        "began",
        "by_trailers",
        "found",
        "given_up",
        "long",
        "pending",
        "size",
        "whole",
    )

    def __init__(self, policy: Policy, kept: bool, times: Times) -> None:
        self.size = 0
        self.began = False
        self.by_trailers = False
        self.long: LongBody | None = None
        self.pending = False
        self.whole = False
        self._policy = policy
        self._kept = kept
        self._times = times
        self._pieces: list[bytes | memoryview] = []  # of a short body
        self._model: str | Unsettled | None = UNSETTLED  # of a short body, once it is read
        # And of its other fields, if those matter.
        self.found: FieldValues | None
        self._reserved_bytes = 0
        # Most bodies come in one message, and need neither.
        self._progress: Progress | None = None
        self._look_at = -inf  # when its progress is looked at next
        self._asked_bytes = 0
        self._entered = False
        self.given_up = False

    def read_by(self, reading: Reading) -> LongBody:
        """Read it a bit at a time from now on."""
        # The long body keeps what it is fed, so the pieces must go from here, or they are held twice.
        long = self.long = _opened(reading, self._kept or self._policy.rewrites_body)
        for piece in self._pieces:
            long.feed(piece)
        self._pieces = []
        # What it holds counts as a long body's from now on, and so can't take what is kept back for short ones.
        if self._reserved_bytes and not self.whole:
            self._policy.ledger.lengthen(self._reserved_bytes)
        return long

    @property
    def forwarded_bytes(self) -> int | None:
        """How many bytes of it are forwarded upstream; None while that is not known."""
        long = self.long
        if long is None:
            return self.size
        if not long.closed or long.reading:  # it may be forwarded before its end, if nothing depends on what follows
            return None
        return (long.size if isinstance(long, DecodedBody) else self.size) + long.longer_bytes

    def add(self, octets: bytes | memoryview) -> LongBody | None:
        """Take a piece, and return what reads the body as it comes; None if it is held until it has ended.

        Raises:
            Refusal: 503; it was given up.
        """
        if self.given_up:
            raise refusal.no_room()
        size = self.size = self.size + len(octets)
        long = self.long
        if long is None:
            policy = self._policy
            # Whole bodies cost least: a chat takes 1.9 ms per MB in one piece, and 6.0 ms read as it comes. The early
            # start of a long body pays for that; a short body has none to gain.
            if size <= policy.stream_threshold_bytes:
                if len(octets) >= TINY_PIECE_BYTES or not self._pieces:
                    self._pieces.append(octets)
                elif octets:
                    add_piece(self._pieces, bytes(octets))
                return None
            long = self.read_by(self._document())
        long.feed(octets)
        return long

    def end(self) -> LongBody | None:
        """Take note that all of it has come, and return what is yet to read it; None if `model` can be asked.

        It may be left out for one of up to AT_ONCE_BYTES: `model` reads that.
        """
        if self.long is not None or self.given_up or self.size <= AT_ONCE_BYTES:
            return self.long
        late = self.size > IN_TURN_BYTES
        if not late:
            self._model = self._model_at_once()
            if self._model is not UNSETTLED:
                return None
        self.whole = True
        return self.read_by(self._document(self.size if late else 0))

    def settle(self, *, streaming: bool = False) -> None:
        """Reserve what is held now, and see whether there is work.

        Args:
            streaming: it is on its way upstream, and may finish as long as there is any room.

        Raises:
            Refusal: 503; there is no room. 408; it comes too slowly.
        """
        long = self.long
        if streaming:  # little of it is held from now on, and what is slow may be the upstream
            self._leave()
            self._progress = None
        elif self._kept:
            if self._times.since >= self._look_at:
                self._note_progress()
            if long is not None and long.closed:  # it waits for us now
                self._leave()
            # What a decoder holds counts: a few bytes may have come of what it has made 256 KiB of.
            elif not self._entered and max(self.size, 0 if long is None else long.held_bytes) >= _LARGE_BYTES:
                self._entered = True
                self._policy.ledger.enter(self)
        if long is None:
            # As `_hold` does, without calls: this is on the way of every piece of a short body.
            size = self.size
            self._asked_bytes = more = size - self._reserved_bytes
            if more and not self._policy.ledger.take(more, self):
                raise refusal.no_room()
            self._reserved_bytes = size
            return
        reading = long.reading
        # Decoders and unread input count too, as far as they are there.
        self._hold(long.held_bytes, in_flight=streaming)
        self.pending = reading or (streaming and (long.takeable or long.read))

    def patience_seconds(self, idle_seconds: float) -> float:
        """Return for how long no more of it may come, of which it may stand still for `idle_seconds`."""
        if self.given_up:
            return 0.0
        if self._progress is None:
            return idle_seconds
        policy = self._policy
        seconds, now = policy.duplex_idle_seconds, self._times.since
        left = self._progress.seconds_left(self.size, policy.min_body_rate, seconds, now)
        return idle_seconds if left is None else min(idle_seconds, left)

    def why_late(self, idle_seconds: float) -> Refusal:
        """Return why its request is refused when it has been waited for in vain."""
        if self.given_up:
            return refusal.no_room()
        if self.patience_seconds(idle_seconds) < idle_seconds:
            return refusal.body_too_slow(self._policy.min_body_rate)
        return refusal.body_timeout(idle_seconds)

    def expect(self, octets: int, *, read: bool) -> None:
        """Look at the size of a long message before it has come. Nothing is reserved for it.

        Args:
            octets: its size.
            read: the body is being read, and may be refused for its size.

        Raises:
            Refusal: 413; the body is too large. 503; it could never be held.
        """
        _check_announced(self._policy, self.size, octets, read=read)

    @property
    def held_bytes(self) -> int:
        """How many bytes the ledger counts for it."""
        return self._reserved_bytes

    def model(self) -> str | None:
        """Return the model that the whole body names, or None; it has ended, and there is no work on it.

        Raises:
            Refusal: it can't be routed.
        """
        if self.given_up:
            raise refusal.no_room()
        if self.long is not None:
            return self.long.result()
        model = self._model
        if model is UNSETTLED:
            model = self._model_at_once()
        if model is not UNSETTLED:
            return model
        document = self._document()
        name = read_through(document, self._joined())
        self.found = document.fields
        return name

    @property
    def fields(self) -> FieldValues | None:
        """What other fields of it say, once its model has been read; only for a policy that has fields."""
        return self.long.fields if self.long is not None else self.found

    def _document(self, whole_bytes: int = 0) -> Reading:
        """Return what reads it a bit at a time, or in one piece if it has no more than so many bytes."""
        return self._policy.replies.convention.open_document(self._policy.max_model_bytes, whole_bytes)

    def _model_at_once(self) -> str | Unsettled | None:
        policy = self._policy
        if policy.fields is not None:
            self.found = FieldValues(policy.fields)
            return policy.replies.convention.model_at_once(self._joined(), policy.max_model_bytes, self.found)
        return policy.replies.convention.model_at_once(self._joined(), policy.max_model_bytes)

    def _joined(self) -> bytes:
        """Return all of a short body. It is joined once and kept so: `take` gives these same bytes back."""
        pieces = self._pieces
        if len(pieces) == 1 and isinstance(pieces[0], bytes):
            return pieces[0]
        whole = b"".join(pieces)
        self._pieces = [whole]
        return whole

    @property
    def serde_differs(self) -> bool:
        """Whether serde could find a model in it, once it has been read; see bbr.reading.base.Reading."""
        return self.long.serde_differs if self.long is not None else serde_differs(self._joined())

    def no_object(self) -> str:
        """Return what the body is, once its model has been read, if it is JSON and no object; for people, or ""."""
        if self.long is not None:
            return "a list" if self.long.serde_differs else ""
        return _BY_FIRST_BYTE.get(self._joined().lstrip()[:1], "")

    def take(self) -> bytes:
        """Return a short body whose model is read, and hold it no more."""
        whole = bytes(self._pieces[0])  # which it is since its model was read
        self._pieces = []
        if self._reserved_bytes:
            self._hold(0)
            self._leave()
        return whole

    def drop(self) -> None:
        """Hold no byte any more."""
        self._pieces = []
        if self._reserved_bytes:
            self._hold(0)
            self._leave()
        self.long = None
        self.pending = False

    # What the ledger asks of a Holder.

    def may_give_way(self) -> bool:
        """See Holder."""
        return self._progress is not None and self._progress.is_known(self._times.clock())

    def rate(self) -> float:
        """See Holder."""
        if self._progress is None:
            return float(self.size + self._asked_bytes)  # it has just begun: that is in its first second
        return self._progress.rate(self.size, self._times.since, self._times.clock())

    def give_up(self) -> None:
        """See Holder. The exchange hears of it when it next looks at the body, or is asked for its patience."""
        # At once, and not when the client next says something: somebody else needs the room now.
        self.drop()
        self.given_up = True

    def _note_progress(self) -> None:
        """Look whether it comes as fast as it must."""
        policy, now = self._policy, self._times.since
        progress = self._progress
        if progress is None:
            progress = self._progress = Progress(now)
        if not progress.note(self.size, policy.min_body_rate, policy.duplex_idle_seconds, now):
            long = self.long
            if long is None or not long.closed:
                raise refusal.body_too_slow(policy.min_body_rate)
        self._look_at = progress.look_at

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            self._policy.ledger.leave(self)

    def _hold(self, octets: int, *, in_flight: bool = False) -> None:
        """Reserve that much in all."""
        # By differences: the ledger knows no bodies, but for those that may give way.
        more = octets - self._reserved_bytes
        long = self.long is not None and not self.whole
        if more > 0:
            # Only growth can be refused. To give room back always works.
            self._asked_bytes = more
            ledger = self._policy.ledger
            if not (ledger.take_in_flight(more) if in_flight else ledger.take(more, self, long=long)):
                raise refusal.no_room()
            if in_flight and long:
                ledger.lengthen(more)
        elif more:
            self._policy.ledger.give_back(-more, long=long)
        # Reached only when the room was there, so that `drop` gives back just what was taken.
        self._reserved_bytes = octets


def _opened(reading: Reading, kept: bool) -> LongBody:
    return DecodedBody(reading) if isinstance(reading, DecodingReading) else LongBody(reading, kept=kept)


def _check_announced(policy: Policy, size: int, octets: int, *, read: bool) -> None:
    # The size is the message's, with all that frames the body. A body at its limit must still fit.
    # A body that is not read has no limit: it goes back as it comes, and nothing of it stays.
    room = policy.max_body_bytes + MESSAGE_OVERHEAD_BYTES - size
    if octets > room and read and policy.over_limit is OverLimit.REJECT:
        raise refusal.body_too_large(policy.max_body_bytes)
    if octets > policy.ledger.max_long_bytes:
        raise refusal.no_room()
