"""Looks at the first bytes of a body: could a server read it as JSON, whatever its type says? Pure.

Lenient parsers pass over more than JSON has: comments (Jackson, Gson, fastjson2, jsoncpp, Ruby's and Perl's), and all
bytes up to the blank (cJSON, org.json). Such a body counts as an object here, which strict JSON then refuses.
"""

import re
from typing import Final

OBJECT: Final = ord("{")
LIST: Final = ord("[")

# Of a body; so far comments are looked for. A longer beginning that is not blank counts as that of an object.
MAX_BYTES: Final = 4096

# In any encoding that json.loads of Python or Jackson would take it in: UTF-8, UTF-16, UTF-32, with a mark or without;
# the zeros of the last two are taken out first. The groups: a mark, what is passed over, and what begins then: an
# object, a list, or a comment without its end.
_JSON: Final = re.compile(
    rb"(\xef\xbb\xbf|\xfe\xff|\xff\xfe)?+"
    rb"((?:[\x01-\x20]|(?://|\#)[^\r\n]*+[\r\n]|/\*(?:[^*]|\*(?!/))*+\*/)*+)"
    rb"([\[{]|\Z|//[^\r\n]*+\Z|\#[^\r\n]*+\Z|/\*(?:[^*]|\*(?!/))*+\Z|/\Z)"
)
_MARK_BEGUN: Final = re.compile(rb"(?:\xef\xbb?+|\xfe|\xff)\Z")
_AFTER_BLANKS: Final = re.compile(rb"[ \t\r\n]*+([\[{]|[\x00-\x20/\#]|\Z)")
_BLANKS: Final = b" \t\r\n"
_BLANK: Final = b" "
_COMMENT: Final = b"/**/"


class Beginning:
    """The first bytes of a body, until it is known what it begins with.

    Attributes:
        octet: what it begins with: OBJECT, LIST, or 0 for anything else; None as long as there are blanks and comments
            alone.
        begun: while it is None, what stands for all that has come: a few bytes that JSON may begin with only if it may
            with those.
    """

    __slots__ = ("_room", "begun", "octet")

    def __init__(self) -> None:
        self.octet: int | None = None
        self.begun = b""
        self._room = MAX_BYTES

    def feed(self, octets: bytes) -> int | None:
        """Add bytes, while it is not known, and return what is known then."""
        if self._room:
            near = octets[: self._room]
            self._room -= len(near)
            self._look(near)
            octets = octets[len(near) :]
        if octets and self.octet is None:
            self._pass_blanks(octets)
        return self.octet

    def _look(self, octets: bytes) -> None:
        begun = self.begun + octets
        text = begun.replace(b"\0", b"")
        found = _JSON.match(text)
        if found is None:
            if _MARK_BEGUN.match(text):
                self.begun = text
            else:
                self.octet = 0
        elif found[3] and found[3] in b"[{":
            self.octet = found[3][0]
        else:
            passed = _BLANK if found[2] else b""
            if len(text) < len(begun) or found[2].strip(_BLANKS):
                passed = _COMMENT
            self.begun = (found[1] or b"") + passed + _shortened(found[3])

    def _pass_blanks(self, octets: bytes) -> None:
        found = _AFTER_BLANKS.match(octets)
        if self.begun.strip(_BLANKS):
            self.octet = OBJECT
        elif found is None:
            self.octet = 0
        elif found[1]:
            self.octet = LIST if found[1] == b"[" else OBJECT


def _shortened(comment: bytes) -> bytes:
    """Return the beginning of a comment that ends where a longer one would."""
    return comment[:2] + (b"*" if len(comment) > 2 and comment.startswith(b"/*") and comment.endswith(b"*") else b"")
