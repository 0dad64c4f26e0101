"""How many bytes the process holds for its peers, and whether it may hold more.

Pure. One Ledger is shared by all exchanges of a process, which count the bodies that they hold, and by the connections
of its ports (bbr.transports.room), which count all else. It counts what is held, never what somebody has announced.
Nobody waits for room: a body that finds none is refused at once, or takes the place of one that has all but stopped. So
half-received bodies can't wait for each other.
"""

from itertools import islice
from typing import Final, Protocol

# The part of the whole that long bodies leave to short ones. At 512 MiB that is 64 MiB: 256 of the longest short bodies
# at once, or 60,000 chats of 1 KB.
_KEPT_BACK: Final = 8

# What bodies on their way upstream may hold beyond the whole. One that flows holds a message for a moment, so that this
# is enough for all of those; one whose answers don't leave holds up to its window.
_IN_FLIGHT_BYTES: Final = 4 << 20

# One part in this many is kept back for bodies: calls that stay open, as of Health.Watch, are not admitted to it.
_KEPT_FOR_BODIES: Final = 16

# And one in this many for short bodies alone: what is long is not admitted to it either, as answers that wait for peers
# who hold calls open are.
_KEPT_FOR_SHORT: Final = 32

# A body gives way only to one that comes so many times as fast: clients that are alike don't push each other out.
_FASTER: Final = 4

# Bodies that are compared at a time; that takes 0.1 ms. Those that stay are compared again after all others.
_COMPARED: Final = 128


class Claimant(Protocol):
    """Who asks for room: a body, or a connection for a message that it joins."""

    def rate(self) -> float:
        """Return how many bytes of it came in a second, lately."""


class Holder(Claimant, Protocol):
    """A body that is held until more of it has come."""

    def may_give_way(self) -> bool:
        """Whether it has come for long enough to be compared with others."""

    def give_up(self) -> None:
        """Give back all that is reserved for it; its request is refused."""


class Ledger:
    """The process's account of what it holds.

    Attributes:
        max_bytes: nothing is admitted beyond this.
        max_long_bytes: long bodies together are not admitted beyond this.
        max_calls_bytes: connections and calls as such together are not admitted beyond this.
        max_others_bytes: nor these and long bodies together beyond this.
        held_bytes: reserved now. May exceed `max_bytes` by 4 MiB, for bodies that are already on their way upstream.
        calls_bytes: what of this connections and calls have.
        long_bytes: what of this long bodies have.
        peak_bytes: the most that was ever reserved.
        refused: how often a body was refused for want of room, its own or that which another one needed.
    """

    __slots__ = (
        "_holders",
        "calls_bytes",
        "held_bytes",
        "long_bytes",
        "max_bytes",
        "max_calls_bytes",
        "max_long_bytes",
        "max_others_bytes",
        "peak_bytes",
        "refused",
    )

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.max_long_bytes = max_bytes - max_bytes // _KEPT_BACK
        self.max_calls_bytes = max_bytes - max_bytes // _KEPT_FOR_BODIES
        self.max_others_bytes = max_bytes - max_bytes // _KEPT_FOR_SHORT
        self.held_bytes = 0
        self.calls_bytes = 0
        self.long_bytes = 0
        self.peak_bytes = 0
        self.refused = 0
        self._holders: dict[Holder, None] = {}

    def take(self, octets: int, claimant: Claimant | None = None, *, long: bool = False) -> bool:
        """Reserve bytes, if need be those of bodies that have all but stopped; False if there is no room.

        Args:
            octets: how many.
            claimant: whose they are.
            long: they are a long body's.
        """
        # All or nothing: half a reservation would only take room from another body that fits.
        while self.held_bytes + octets > self.max_bytes or (long and not self._has_room_for_long(octets)):
            self.refused += 1
            slow = None if claimant is None else self._slower_than(claimant)
            if slow is None:
                return False
            self.leave(slow)
            slow.give_up()
        self.held_bytes += octets
        if self.held_bytes > self.peak_bytes:
            self.peak_bytes = self.held_bytes
        if long:
            self.long_bytes += octets
        return True

    def _has_room_for_long(self, octets: int) -> bool:
        long = self.long_bytes + octets
        return long <= self.max_long_bytes and self.calls_bytes + long <= self.max_others_bytes

    def take_for_calls(self, octets: int) -> bool:
        """Reserve bytes for connections and calls as such; False if there is no room, or bodies alone may have it."""
        # Else who opens calls and leaves them open would shut out the bodies of all others.
        calls = self.calls_bytes + octets
        if calls > self.max_calls_bytes or calls + self.long_bytes > self.max_others_bytes:
            self.refused += 1
            return False
        if not self.take(octets):
            return False
        self.calls_bytes += octets
        return True

    def give_back_for_calls(self, octets: int) -> None:
        """Reserve so many bytes fewer for them."""
        self.held_bytes -= octets
        self.calls_bytes -= octets

    def take_in_flight(self, octets: int) -> bool:
        """Reserve bytes for a body on its way upstream, which should be let finish; False if there is no room."""
        # A refusal aborts a request that the model server already works on, so that such bodies may take what is kept
        # back for short ones, and some more.
        if self.held_bytes + octets > self.max_bytes + _IN_FLIGHT_BYTES:
            self.refused += 1
            return False
        self.held_bytes += octets
        if self.held_bytes > self.peak_bytes:
            self.peak_bytes = self.held_bytes
        return True

    def give_back(self, octets: int, *, long: bool = False) -> None:
        """Reserve so many bytes fewer; `long` if they are a long body's."""
        self.held_bytes -= octets
        if long:
            self.long_bytes -= octets

    def lengthen(self, octets: int) -> None:
        """Count bytes that are reserved for a short body as a long one's from now on."""
        self.long_bytes += octets

    def enter(self, holder: Holder) -> None:
        """Take note of a body that may have to give way. To do so again is no fault."""
        self._holders[holder] = None

    def leave(self, holder: Holder) -> None:
        """Forget it: all of it has come, it is on its way upstream, or it is over."""
        self._holders.pop(holder, None)

    def _slower_than(self, claimant: Claimant) -> Holder | None:
        """Return the slowest of some bodies, if it is slower by far."""
        compared = [*islice(self._holders, _COMPARED)]
        for each in compared:  # to the end: next time others are compared
            del self._holders[each]
            self._holders[each] = None
        others = [each for each in compared if each is not claimant and each.may_give_way()]
        slowest = min(others, key=lambda each: each.rate(), default=None)
        return slowest if slowest is not None and slowest.rate() * _FASTER < claimant.rate() else None
