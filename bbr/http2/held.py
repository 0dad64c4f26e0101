"""A count of the memory that a connection holds for its peer."""


class Held:
    """Whoever holds something adds what it takes in memory, and takes that away when it lets go.

    A sum that is kept costs a read of the socket one look, whatever is held; to add it up anew would cost all of them.

    Attributes:
        octets: held now.
        bulk: what of this are messages and answers.
    """

    __slots__ = ("bulk", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self.bulk = 0

    def add_bulk(self, octets: int) -> None:
        """Count bytes of messages or answers; negative ones are let go."""
        self.octets += octets
        self.bulk += octets
