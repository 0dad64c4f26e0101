"""Names of header fields that only the router may say, in every spelling that a server could take for them.

Pure. CGI and what came of it (WSGI, PHP, Rack, FastCGI) hand header fields on as variables in which letter case is gone
and `-` is `_`: HTTP_X_GATEWAY_MODEL_NAME. Some make `_` of any other character that is no letter or digit. So
`X_Gateway.Model-Name` is the same name there. An answer can remove names, not patterns: so the names that a request
has are compared. The same goes for prefixes of names.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final

from bbr import refusal
from bbr.pb.ext_proc_pb2 import HeaderValue

# How the encoding of a field begins: its key, field 1 of HeaderValue, the key's length, and three of its characters.
# Every protobuf encoder writes fields in the order of their numbers.
BEGINNING_BYTES: Final = 5
_CHARACTERS: Final = 3

# What a name may have beside letters and digits (RFC 9110, section 5.6.2).
_SEPARATORS: Final = "!#$%&'*+-.^_`|~"
_FOLD: Final = str.maketrans(dict.fromkeys(_SEPARATORS, "_"))

# Envoy answers 500 to an answer that removes more names than a request may have fields, 100 by default.
_MAX_REMOVED: Final = 100

# Of those, names that an answer to any request may remove; about 30 unless an operator has more. At most 6 more go with
# what they say of a body that is forwarded changed.
MAX_ALWAYS_REMOVED: Final = 84
_MAX_CHANGED: Final = 6

# And names that are removed because a request has them, if there is room for so many.
MAX_STRAYS: Final = 50


def beginning(key: str) -> bytes:
    """Return how the encoding of a field with a name begins."""
    return HeaderValue(key=key).SerializeToString()[:BEGINNING_BYTES]


def fold(name: str) -> str:
    """Return the spelling that all names have in common which some server takes for this one."""
    return name.lower().translate(_FOLD)


class GuardedNames:
    """Names that a client may not say. Those that a request has beside the names themselves are its strays.

    Args:
        names: in any letter case.
        prefixes: what begins like one of these is a stray.
        spared: names that no prefix covers.
        removed: how many names an answer removes whatever the request has.

    Attributes:
        max_strays: a request that has more is refused.
        beginnings: how the encodings of fields begin that could have one of these names, in whatever spelling.
        prefixes: folded.
    """

    def __init__(
        self, names: Iterable[str], prefixes: Iterable[str] = (), spared: Iterable[str] = (), removed: int = 0
    ) -> None:
        self.max_strays = min(MAX_STRAYS, _MAX_REMOVED - _MAX_CHANGED - removed)
        self._names = frozenset(name.lower() for name in names)
        self._folded = frozenset(map(fold, self._names))
        self._spared = frozenset(map(fold, spared))
        self.prefixes = tuple(map(fold, prefixes))
        self.beginnings = frozenset(beginning(spelling) for name in self._names for spelling in _spellings(name))

    def is_stray(self, key: str) -> bool:
        """Tell whether a field's name is one of the names for some servers only, or has one of the prefixes."""
        key = key.lower()
        if key in self._names:
            return False
        folded = key.translate(_FOLD)
        return folded in self._folded or (folded.startswith(self.prefixes) and folded not in self._spared)

    def strays(self, fields: Sequence[bytes]) -> tuple[str, ...]:
        """Return the names of a section's strays, each once; its fields are encoded HeaderValues.

        Raises:
            DecodeError: a field is no HeaderValue.
            Refusal: 431; they are too many to be removed.
        """
        # Most requests have nothing that begins like a guarded name. Of a prefix not even the length is known, so with
        # one all fields are decoded.
        suspects = fields if self.prefixes else [each for each in fields if each[:BEGINNING_BYTES] in self.beginnings]
        keys = (HeaderValue.FromString(field).key for field in suspects)
        return self.checked(tuple(dict.fromkeys(key for key in keys if self.is_stray(key))))

    def checked(self, strays: tuple[str, ...]) -> tuple[str, ...]:
        """Return strays as they are.

        Raises:
            Refusal: 431; they are too many to be removed.
        """
        if len(strays) > self.max_strays:
            raise refusal.headers_stray(self.max_strays)
        return strays


def _spellings(name: str) -> Iterable[str]:
    """Return a name with its first characters in each spelling."""
    choices = ([each] if each.isalnum() else _SEPARATORS for each in name[:_CHARACTERS])
    return ("".join(begun) + name[_CHARACTERS:] for begun in product(*choices))


NO_NAMES: Final = GuardedNames(())
