"""Bytes that are held in the pieces in which they arrived, until they are needed as one. Pure.

Transports, messages and bodies hold their pieces by the same rule.
"""

from collections.abc import MutableSequence
from typing import Final

# What a held piece takes beside its bytes, as an object and in its list.
PIECE_BYTES: Final = 48
# Pieces of fewer bytes than this are joined to the one before, unless that is as long as the second: each costs a copy
# of what it is joined to. In the mean none is shorter then; a drip of single bytes would take fifty times its size.
TINY_PIECE_BYTES: Final = 512
JOINED_BYTES: Final = 4 << 10
# From so many bytes on, a part of what was read is taken as a view, which copies nothing. Of less a copy costs less.
VIEWED_BYTES: Final = 4 << 10


def add_piece(pieces: MutableSequence[bytes] | MutableSequence[bytes | memoryview], piece: bytes) -> None:
    """Add bytes to pieces that are held, at little more cost than they have themselves."""
    if pieces and len(piece) < TINY_PIECE_BYTES:
        last = pieces[-1]
        if type(last) is bytes and len(last) < JOINED_BYTES:
            pieces[-1] = last + piece
            return
    pieces.append(piece)
