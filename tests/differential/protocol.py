"""How the differential test speaks to parsers: cases on their standard input, a line of JSON for each comes back.

A case is four fields: method, Content-Type, path and body. A field is its length, four octets with the largest first,
and its octets; the length 0xFFFFFFFF alone is a field that is absent. A child first tells the names of its parsers, as
a list in one line of JSON, and then for each case what each of them reads: the model's name; null if it reads none, or
does not take the body; or an object for anything else, such as a list of two names.
"""

import struct
from typing import BinaryIO, Final

NONE: Final = 0xFFFFFFFF


def field(octets: bytes | None) -> bytes:
    """Return a field as it is sent."""
    return struct.pack(">I", NONE) if octets is None else struct.pack(">I", len(octets)) + octets


def read_field(source: BinaryIO) -> bytes | None:
    """Return the next field.

    Raises:
        struct.error: there is none.
    """
    (size,) = struct.unpack(">I", source.read(4))
    return None if size == NONE else source.read(size)
