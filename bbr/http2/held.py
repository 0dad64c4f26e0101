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
        """Count octets of messages or answers; negative ones are let go."""
        self.octets += octets
        self.bulk += octets


# What a piece of something unfinished takes beside its octets, as an object and in its list.
PIECE_BYTES = 48
# Shorter pieces are joined to the one before, until that is as long as JOINED_BYTES: a drip of single octets would take
# fifty times its size. To join copies at most JOINED_BYTES, and pieces this short are rare.
TINY_BYTES = 512
JOINED_BYTES = 4096


def add_piece(pieces: list[bytes], octets: bytes) -> None:
    """Add octets to the pieces of something unfinished."""
    if len(octets) < TINY_BYTES and pieces and len(pieces[-1]) < JOINED_BYTES:
        pieces[-1] += octets
    else:
        pieces.append(octets)
