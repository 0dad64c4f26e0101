"""The room that connections take of what the process may hold: all that is held for a peer, bodies aside.

Exchanges count the bodies that they hold on the process's ledger (bbr.exchange.ledger). What connections hold beside
them, each with an account of its own, draws from the same ledger: pieces of messages, output that waits, calls. So all
of it together stays below --max-buffered-bytes, and the little that a port has of its own.

Without room the connection gives way that holds the most of messages and answers. Connections and calls as such count
as short bodies do, so that neither long bodies nor long messages shut them out. They leave a part of the ledger to
bodies, and so do not shut those out.
"""

from collections.abc import Callable
from typing import Final, Protocol

from bbr.exchange.ledger import Claimant

# What the connections of a port may hold without drawing on the ledger, so that bodies can't shut them out: 250 idle
# connections, or 500 calls.
OWN_BYTES: Final = 4 << 20
# Accounts change in steps of so much, or a larger one of so many times that: most reads change nothing.
STEP_BYTES: Final = 16 << 10
_LARGE_STEP: Final = 16
# Messages and answers of a connection count as long from so much on.
BULK_BYTES: Final = 64 << 10


class Ledger(Protocol):
    """Whom to ask for more; see bbr.exchange.ledger."""

    def take(self, octets: int, claimant: Claimant | None = None, *, long: bool = False) -> bool:
        """Take room; False, and nothing is taken, if there is too little."""

    def take_for_calls(self, octets: int) -> bool:
        """Take room for connections and calls; False, and nothing is taken, if there is too little."""

    def give_back_for_calls(self, octets: int) -> None:
        """Give room of connections and calls back."""

    def give_back(self, octets: int, *, long: bool = False) -> None:
        """Give room back."""


class Unbounded:
    """Has room for all."""

    def take(self, octets: int, claimant: Claimant | None = None, *, long: bool = False) -> bool:
        """Let it be."""
        return True

    def take_for_calls(self, octets: int) -> bool:
        """Let it be."""
        return True

    def give_back_for_calls(self, octets: int) -> None:
        """Let it be."""

    def give_back(self, octets: int, *, long: bool = False) -> None:
        """Let it be."""


class Room:
    """What the connections of one port may hold.

    Attributes:
        fixed_bytes: what they hold that is no bulk.
    """

    def __init__(self, ledger: Ledger, own_bytes: int = OWN_BYTES) -> None:
        self.fixed_bytes = 0
        self._ledger = ledger
        self._own_bytes = own_bytes
        self._bulky: dict[Account, None] = {}

    def take(self, octets: int, account: "Account") -> bool:
        """Take room for connections and calls; False, and nothing is taken, if there is too little."""
        drawn = self._drawn(octets)
        while drawn > 0 and not self._ledger.take_for_calls(drawn):
            if not self._find_room(octets, account, 0):
                return False
        self.fixed_bytes += octets
        return True

    def give(self, octets: int) -> None:
        """Give it back."""
        drawn = self._drawn(-octets)
        if drawn:
            self._ledger.give_back_for_calls(-drawn)
        self.fixed_bytes -= octets

    def take_bulk(self, octets: int, account: "Account") -> bool:
        """Take room for messages and answers; False, and nothing is taken, if there is too little."""
        while not self._ledger.take(octets, account, long=True):
            if not self._find_room(octets, account, account.bulk_bytes + octets):
                return False
        return True

    def give_bulk(self, octets: int) -> None:
        """Give it back."""
        self._ledger.give_back(octets, long=True)

    def note(self, account: "Account") -> None:
        """Take note of how much bulk an account has now."""
        if account.bulk_bytes:
            self._bulky[account] = None
        else:
            self._bulky.pop(account, None)

    def _find_room(self, octets: int, account: "Account", least: int) -> bool:
        """Let the account give way that has the most bulk, and more than `least`; False if that is none but the asker.

        That takes 1 ms for 8,000, the most that fit into 512 MiB.
        """
        heaviest = max(self._bulky, key=lambda each: each.bulk_bytes, default=None)
        if heaviest is None or heaviest is account or heaviest.bulk_bytes <= least:
            return False
        return heaviest.give_way(octets)

    def _drawn(self, octets: int) -> int:
        """Return how much more of the ledger's it takes to hold so much more."""
        own = self._own_bytes
        return max(0, self.fixed_bytes + octets - own) - max(0, self.fixed_bytes - own)


class Account:
    """What one connection holds.

    Args:
        room: of its port.
        give_way: lets go of so many bytes, or of the whole connection, and settles the account; False if it let go of
            nothing.

    Attributes:
        bulk_bytes: reserved for messages and answers, if they are many.
        lowest, highest: while as much is held in all, nothing has to be settled.
    """

    __slots__ = ("_fixed_bytes", "_room", "bulk_bytes", "give_way", "highest", "lowest")

    def __init__(self, room: Room, give_way: Callable[[int], bool]) -> None:
        self.give_way = give_way
        self.bulk_bytes = 0
        self.lowest = self.highest = 0
        self._room = room
        self._fixed_bytes = 0

    def settle(self, fixed: int, bulk: int) -> int:
        """Hold so much from now on; return how many bytes there is no room for, 0 if for all.

        Args:
            fixed: by the connection and its calls as such.
            bulk: by messages and answers.
        """
        if bulk <= BULK_BYTES:
            fixed, bulk = fixed + bulk, 0
        room = self._room
        lacking = 0
        more = _in_steps(bulk) - self.bulk_bytes
        if more > 0 and not room.take_bulk(more, self):
            lacking = bulk - self.bulk_bytes
        elif more:
            if more < 0:
                room.give_bulk(-more)
            self.bulk_bytes += more
            room.note(self)
        more = _in_steps(fixed) - self._fixed_bytes
        if more > 0 and not room.take(more, self):
            lacking += fixed - self._fixed_bytes
        elif more:
            if more < 0:
                room.give(-more)
            self._fixed_bytes += more
        self.highest = self._fixed_bytes + self.bulk_bytes
        self.lowest = self.highest - max(4 * STEP_BYTES, self.highest >> 2)
        return lacking

    def vacate(self) -> None:
        """Give all of it back; what is held by now needs no room until it grows. Without bulk, and for a moment."""
        highest = self.highest
        self.settle(0, 0)
        self.highest = highest

    def borrow(self, octets: int) -> bool:
        """Take room for a moment; False if there is too little. To be given back before the next `settle`."""
        return self._room.take_bulk(octets, self)

    def give_back(self, octets: int) -> None:
        """Give back what was borrowed."""
        self._room.give_bulk(octets)

    def rate(self) -> float:
        """See Claimant. What asks for room has just come, so that bodies that have all but stopped give way to it."""
        return float(self.bulk_bytes + BULK_BYTES)

    def close(self) -> None:
        """Hold nothing any more. May be called twice."""
        self.settle(0, 0)
        # Its owner must not wait for the garbage collector with all that it holds.
        self.give_way = _has_nothing


def _has_nothing(octets: int) -> bool:
    """Give no way: the account is closed."""
    return False


def _in_steps(octets: int) -> int:
    step = STEP_BYTES if octets < STEP_BYTES << 6 else STEP_BYTES * _LARGE_STEP
    return -(-octets // step) * step
