"""Names of header fields that only the router may say, in every spelling that a server could take for them.

Pure. CGI and what came of it (WSGI, PHP, Rack, FastCGI) hand header fields on as variables in which letter case is gone
and `-` is `_`: HTTP_X_GATEWAY_MODEL_NAME. Some make `_` of any other character that is no letter or digit. So
`X_Gateway.Model-Name` is the same name there. A gateway can't be told patterns, only names: so the names that a request
has are compared.
"""

from collections.abc import Iterable
from itertools import product
from typing import Final

from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue

# How the encoding of a field begins: its key, field 1 of HeaderValue, the key's length, and three of its characters.
# Every protobuf encoder writes fields in the order of their numbers.
BEGINNING_BYTES: Final = 5
_CHARACTERS: Final = 3

# What a name may have beside letters and digits (RFC 9110, section 5.6.2).
_SEPARATORS: Final = "!#$%&'*+-.^_`|~"
_FOLD: Final = str.maketrans(dict.fromkeys(_SEPARATORS, "_"))


def beginning(key: str) -> bytes:
    """Return how the encoding of a field with a name begins."""
    return HeaderValue(key=key).SerializeToString()[:BEGINNING_BYTES]


class GuardedNames:
    """Names that a client may not say.

    Args:
        names: in any letter case.

    Attributes:
        beginnings: how the encodings of fields begin that could have one of these names, in whatever spelling.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._folded = frozenset(name.translate(_FOLD) for name in self._names)
        self.beginnings = frozenset(beginning(spelling) for name in self._names for spelling in _spellings(name))

    def is_other_spelling(self, key: str) -> bool:
        """Tell whether a field's name is one of the names for some servers only."""
        key = key.lower()
        return key not in self._names and key.translate(_FOLD) in self._folded

    def other_spellings(self, headers: HeaderMap) -> tuple[str, ...]:
        """Return the names of fields that are one of the guarded names for some servers only.

        Raises:
            DecodeError: a field is no HeaderValue.
        """
        keys = (
            HeaderValue.FromString(field).key for field in headers.headers if field[:BEGINNING_BYTES] in self.beginnings
        )
        return tuple(dict.fromkeys(key for key in keys if self.is_other_spelling(key)))


def _spellings(name: str) -> Iterable[str]:
    """Return a name with its first characters in each spelling."""
    choices = ([each] if each.isalnum() else _SEPARATORS for each in name[:_CHARACTERS])
    return ("".join(begun) + name[_CHARACTERS:] for begun in product(*choices))


NO_NAMES: Final = GuardedNames(())
