"""Looks at the first bytes of a body: could a server read it as JSON, whatever its type says? Pure.

Lenient parsers pass over more than JSON has. Such a body counts as an object here, which strict JSON then refuses:

| passed over | by whom |
|---|---|
| comments | Jackson, Gson, fastjson2, jsoncpp, Ruby's and Perl's parsers |
| all bytes up to the blank | cJSON, org.json |
| blanks that are not ASCII's, and marks | JSON5, Json.NET, who trims or strips a text first |
| a second byte order mark | hono |
| `)]}'`, which keeps browsers from running JSON as a script | Gson |
"""

import re
from typing import Final

from bbr.reading.spelling import INVISIBLE_CLASS

OBJECT: Final = ord("{")
LIST: Final = ord("[")

# Of a body; so far comments are looked for. A longer beginning that is not blank counts as that of an object.
MAX_BYTES: Final = 4096
# Behind them only blanks are passed over. A body that has more counts as an object: the router looks at all of these in
# the turn of the event loop in which they come, and a message may hold a body of 20 MB.
MAX_BLANKS: Final = 16 << 10

# In UTF-8, and UTF-16 or UTF-32 without a mark, whose zeros are taken out first. Bytes that are no UTF-8 stand in the
# text as lone surrogates. UTF-16 and UTF-32 with a mark count as an object: who goes by the mark knows blanks that look
# like anything here.
# The groups: a mark, what is passed over, and what begins then: an object or a list, or what may become of what is
# passed over: a comment without its end, a part of a character or of a guard.
_JSON: Final = re.compile(
    "(\ufeff)?+"
    f"((?:[ {INVISIBLE_CLASS}]|\\)\\]\\}}'|(?://|\\#)[^\r\n]*+[\r\n]|/\\*(?:[^*]|\\*(?!/))*+\\*/)*+)"
    "([\\[{]|\\udcfe\\udcff|\\udcff\\udcfe|\\Z|//[^\r\n]*+\\Z|\\#[^\r\n]*+\\Z|/\\*(?:[^*]|\\*(?!/))*+\\Z|/\\Z"
    "|\\)(?:\\]\\}?+)?+\\Z|[\\udcc2-\\udcf3][\\udc80-\\udcbf]{0,2}+\\Z|[\\udcfe\\udcff]\\Z)"
)
# Behind more blanks than that, any byte that something of what is passed over begins with will do.
_AFTER_BLANKS: Final = re.compile(rb"[ \t\r\n]*+([\[{]|[\x00-\x20/\#)\x7f-\xff]|\Z)")
_OPENING: Final = frozenset("[{")
# mypyc takes no surrogates in texts.
_MARKED: Final = frozenset(mark.decode(errors="surrogateescape") for mark in (b"\xfe\xff", b"\xff\xfe"))
_BLANKS: Final = " \t\r\n"
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

    __slots__ = ("_blanks_room", "_room", "begun", "octet")

    def __init__(self) -> None:
        self.octet: int | None = None
        self.begun = b""
        self._room = MAX_BYTES
        self._blanks_room = MAX_BLANKS

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
        shown = begun.replace(b"\0", b"")
        found = _JSON.match(shown.decode(errors="surrogateescape"))
        if found is None:
            self.octet = 0
            return
        mark, passed, begins = found[1] or "", found[2], found[3]
        if begins in _MARKED:
            self.octet = OBJECT
        elif begins in _OPENING:
            self.octet = ord(begins)
        else:
            between = _BLANK if passed else b""
            if len(shown) < len(begun) or passed.strip(_BLANKS):
                between = _COMMENT
            self.begun = mark.encode() + between + _shortened(begins.encode(errors="surrogateescape"))

    def _pass_blanks(self, octets: bytes) -> None:
        near = octets[: self._blanks_room]
        self._blanks_room -= len(near)
        found = _AFTER_BLANKS.match(near)
        if not self.begun.isspace():
            self.octet = OBJECT
        elif found is None:
            self.octet = 0
        elif found[1]:
            self.octet = LIST if found[1] == b"[" else OBJECT
        elif not self._blanks_room:
            self.octet = OBJECT


def _shortened(comment: bytes) -> bytes:
    """Return the beginning of a comment that ends where a longer one would; what is no comment is short."""
    if not comment.startswith((b"/", b"#")):
        return comment
    return comment[:2] + (b"*" if len(comment) > 2 and comment.startswith(b"/*") and comment.endswith(b"*") else b"")
