"""How many octets of request bodies the process holds, and whether it may hold more.

Pure. One Ledger is shared by all exchanges of a process. Nobody waits for room: a body that finds none is refused at
once, so half-received bodies can't wait for each other.
"""


class Ledger:
    """The process's account of body octets.

    Attributes:
        max_bytes: no body is admitted beyond this.
        held_bytes: reserved now. May exceed `max_bytes` by what bodies that are already on their way upstream need to
            finish: a window for each of them.
        peak_bytes: the most that was ever reserved.
        refused: how often there was no room.
    """

    __slots__ = ("held_bytes", "max_bytes", "peak_bytes", "refused")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self.peak_bytes = 0
        self.refused = 0

    def take(self, octets: int) -> bool:
        """Reserve octets; False, and nothing is reserved, if there is no room."""
        # All or nothing: half a reservation would only take room from another body that fits.
        if self.held_bytes + octets > self.max_bytes:
            self.refused += 1
            return False
        self.take_anyway(octets)
        return True

    def take_anyway(self, octets: int) -> None:
        """Reserve octets for a body that must be let finish; negative ones are given back."""
        # No limit here. A refusal now would abort a request that the model server already works on. The credit of its
        # stream bounds what one such body adds.
        self.held_bytes += octets
        if self.held_bytes > self.peak_bytes:
            self.peak_bytes = self.held_bytes
