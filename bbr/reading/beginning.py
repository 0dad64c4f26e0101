"""Looks at the first bytes of a body: could a server read it as JSON, whatever its type says? Pure."""

import re
from typing import Final

OBJECT: Final = ord("{")
LIST: Final = ord("[")

# In any encoding that json.loads of Python or Jackson would take it in: UTF-8, UTF-16, UTF-32, with a mark or without.
_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf|\xfe\xff|\xff\xfe)?+[\0 \t\r\n]*+([\[{]|\Z)")
_MARK_BEGUN: Final = re.compile(rb"(?:\xef\xbb?+|\xfe|\xff)\Z")
_BLANK: Final = b" "


class Beginning:
    """The first bytes of a body, until it is known what it begins with.

    Attributes:
        octet: what it begins with: OBJECT, LIST, or 0 for anything else; None as long as there are blanks alone.
        begun: while it is None, what has come: of many blanks only some.
    """

    __slots__ = ("begun", "octet")

    def __init__(self) -> None:
        self.octet: int | None = None
        self.begun = b""

    def feed(self, octets: bytes) -> int | None:
        """Add bytes, while it is not known, and return what is known then."""
        begun = self.begun + octets
        found = _JSON.match(begun)
        if found is None and not _MARK_BEGUN.match(begun):
            self.octet = 0
        elif found and found[1]:
            self.octet = found[1][0]
        else:
            self.begun = begun if len(begun) < 4 else begun[:3] + _BLANK  # a mark may stand there
        return self.octet
