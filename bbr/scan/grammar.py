"""RFC 8259 as regular expressions that swallow as much of a document at once as can be had without a stack.

Pure. The octets are UTF-8 that has been checked. Quantifiers are possessive, so that a match takes time in proportion
to its text. W is what may stand between tokens; V is a value, its containers nested to a given depth.

A scan stands at a value's place most of the time. From there

- a *run* takes complete values of the container that it is in, each with what leads to the next one's place, up to the
  place of one that is none, or nests deeper than V, or is cut off;
- a MIXED takes scalars and brackets up and down to any depth. It does not know the type of the containers that it comes
  back to, but by what stands in them; whether they are what it takes them for is seen in its skeleton. That is its
  brackets, commas and colons, from which whole containers are taken out by a few substitutions; what is left are
  segments, some of closing and some of opening brackets each, which are compared with the stack.
"""

import re
from typing import Final, Protocol, cast


class Eager(Protocol):
    """A pattern that matches anywhere, if need be the empty string."""

    def match(self, string: bytes, pos: int = 0) -> re.Match[bytes]:
        """Return how much of it stands at `pos`."""


# The longest spelling of the key `model`: every letter as \u006X, and two quotes.
LONGEST_MODEL_KEY: Final = 32

# How deep V nests in a run. One more takes twice as long to compile (15 ms).
NESTED: Final = 2

_W: Final = r"[ \t\n\r]*+"
_HEX: Final = r"[0-9a-fA-F]"
# A positive set, with nothing else to look for, is the fastest that the engine has: 730 MB/s, [^"\\\x00-\x1f] 400.
_PLAIN: Final = r"[ !#-\[\]-\xff]*+"
_HIGH: Final = rf"[dD][89abAB]{_HEX}{{2}}"
_ESCAPE: Final = (
    rf'\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}|{_HIGH}\\u[dD][c-fC-F]{_HEX}{{2}}))'
)
_TEXT: Final = rf"{_PLAIN}(?:{_ESCAPE}{_PLAIN})*+"
_STRING: Final = rf'"{_TEXT}"'
_MODEL: Final = r'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"'
_NUMBER: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+"
# Numbers that are finite by their length: below 10^18 x 10^289.
_SMALL_NUMBER: Final = (
    r"-?+(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,40}+)?+(?:[eE](?:-[0-9]{1,9}+|\+?+(?:[12][0-8][0-9]|[0-9]{1,2}+)))?+"
)
_SCALAR: Final = rf"{_STRING}|{_SMALL_NUMBER}|true|false|null"


def _value(nested: int) -> str:
    if not nested:
        return f"(?:{_SCALAR})"
    inner = _value(nested - 1)
    array = rf"\[{_W}{_items(inner)}\]"
    members = rf"\{{{_W}(?:{_STRING}{_W}:{_W}{inner}{_W}(?:,{_W}(?!\}})|(?=\}})))*+\}}"
    return f"(?:{_SCALAR}|{array}|{members})"


def _items(value: str) -> str:
    """Return a run of an array: up to a value's place after a comma, or up to the closing bracket."""
    return rf"(?:{value}{_W}(?:,{_W}(?!\])|(?=\])))*+"


def _members(value: str, key: str) -> str:
    """Return a run of an object from a member's value on: up to the next one's, or up to the closing brace."""
    return rf"(?:{value}{_W}(?:,{_W}{key}{_W}:{_W}(?!\}})|(?=\}})))*+"


_ANY_KEY: Final = _STRING
_OTHER_KEY: Final = rf"(?!{_MODEL}){_STRING}"


def _compile(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def _eager(pattern: str) -> Eager:
    return cast(Eager, _compile(pattern))


def _run(run: str) -> re.Pattern[bytes]:
    return _compile(rf"{_W}(?![\]}}]){run}")


# By how deep V may nest.
ITEMS: Final = [_run(_items(_value(nested))) for nested in range(NESTED + 1)]
MEMBERS: Final = [_run(_members(_value(nested), _ANY_KEY)) for nested in range(NESTED + 1)]
# In the root object, where the key `model` is looked for.
ROOT_MEMBERS: Final = _run(_members(_value(NESTED), _OTHER_KEY))

_OPEN: Final = rf"(?:\[{_W}(?=[^\]])|\{{{_W}{_ANY_KEY}{_W}:{_W}(?!\}}))*+"
_LEAF: Final = rf"(?:{_SCALAR}|\[{_W}\]|\{{{_W}\}})"
_CLOSE: Final = rf"(?:{_W}[\]}}])"
_NEXT: Final = rf"{_W},{_W}(?:{_ANY_KEY}{_W}:{_W})?+(?![\]}}])"
_MIXED: Final = rf"(?:{_OPEN}{_LEAF}{_CLOSE}*+{_NEXT})*+{_OPEN}"
MIXED: Final = _eager(_W + _MIXED)
CLOSE_AND_MIXED: Final = _compile(rf"{_CLOSE}++(?:{_NEXT}{_MIXED})?+")

BLANKS: Final = _eager(_W)
TEXT: Final = _eager(_TEXT)
KEY_AND_COLON: Final = _compile(rf"{_W}{_ANY_KEY}{_W}:{_W}")
OTHER_KEY_AND_COLON: Final = _compile(rf"{_W}{_OTHER_KEY}{_W}:{_W}")
MODEL_KEY: Final = _compile(_MODEL)
NUMBER: Final = _compile(_NUMBER)
# What could be a part of a number, as far as it goes.
NUMBER_OCTETS: Final = _eager(r"[-+.0-9eE]*+")
# Runs with numbers of any size. Keys are plain, so that they are easy to take out.
_PLAIN_KEY: Final = rf'(?!{_MODEL})"{_PLAIN}"'
NUMBER_ITEMS: Final = _eager(_items(_NUMBER))
NUMBER_MEMBERS: Final = _eager(_members(_NUMBER, _PLAIN_KEY))
STRING_OR_NUMBER: Final = _compile(rf"{_STRING}|{_NUMBER}")

# An escape that may be whole, or be wrong in another way, when more octets have come.
LONGEST_ESCAPE: Final = 12
UNFINISHED_ESCAPE: Final = _compile(rf"\\(?:u(?:{_HIGH}(?:\\(?:u{_HEX}{{0,3}}+)?+)?+|{_HEX}{{0,3}}+))?+")
# Half of a pair without the other, except where the other has no four digits.
LONE_SURROGATE: Final = _compile(rf"\\u(?:[dD][c-fC-F]{_HEX}{{2}}|{_HIGH}(?!\\u(?!{_HEX}{{4}})))")

# How often what is closed at once is taken out of a skeleton.
REDUCTIONS: Final = 8

# Of a skeleton's object: a colon for each key, another one if it is `model`.
_BONES: Final = r"::?+(?:,::?+)*+"
_CLOSED: Final = _compile(rf"\[,*+\]|\{{(?:{_BONES})?+\}}")
# What is left of one: closing brackets with the run before each; a run; opening brackets with the run behind each.
SEGMENT: Final = _eager(rf"((?:,*+\]|(?:,::?+)*+\}})*+)([,:]*+)((?:\[,*+|\{{{_BONES})*+)")
MEMBERS_LEFT: Final = _compile(r"(?:,::?+)*+,?+")
_MODEL_BEFORE_COLON: Final = _compile(rf"{_MODEL}(?={_W}:)")

_NOT_STRUCTURE: Final = bytes(octet for octet in range(256) if octet not in b"[]{},:")
_OPENING: Final = bytes.maketrans(b"]}", b"[{")


def skeleton(mixed: bytes) -> bytes:
    """Return the brackets, commas and colons of the text of a MIXED; a key `model` has two colons."""
    if b"\\" in mixed:
        mixed = mixed.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    if b'model"' in mixed or b"\\u00" in mixed:
        mixed = _MODEL_BEFORE_COLON.sub(b":", mixed)
    return unquoted(mixed).translate(None, _NOT_STRUCTURE)


def unquoted(text: bytes) -> bytes:
    """Return a text without its strings, none of which may have an escaped quote."""
    return b"".join(text.split(b'"')[::2])


def reduced(bones: bytes) -> bytes:
    """Return a skeleton without the containers that are opened and closed in it, as far as REDUCTIONS go."""
    for _ in range(REDUCTIONS):
        size = len(bones)
        bones = _CLOSED.sub(b"", bones)
        if size - len(bones) < size >> 4:  # few but steep: by segments
            break
    return bones


def openings(segment: bytes) -> bytes:
    """Return the brackets that a segment's third part opens."""
    return segment.translate(None, b",:")


def closings(segment: bytes) -> bytes:
    """Return the brackets that a segment's first part closes, as opening brackets in the order of the stack."""
    return segment.translate(_OPENING, b",:")[::-1]
