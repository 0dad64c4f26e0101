"""Members of a JSON body, beside its `model`, whose values go into headers (--body-field).

Pure. They are read as strictly as the model is: what a header says is what every server reads from the body. So a body
that has one of these keys twice, or in a spelling that only some servers take for it, is refused.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from bbr import refusal
from bbr.reading.json_body import Raw, is_written, object_members
from bbr.reading.name import LONGEST_MODEL_BYTES, MAX_MODEL_BYTES, why_illegal
from bbr.reading.scan.grammar import MODEL, Keys
from bbr.reading.scan.scanner import Scanner
from bbr.refusal import Refusal

MAX_FIELDS: Final = 8

# Longer values are refused, unless an operator allows more; and the most that one may allow.
MAX_VALUE_BYTES: Final = MAX_MODEL_BYTES
LONGEST_VALUE_BYTES: Final = LONGEST_MODEL_BYTES

# Of the object that a field with a dot stands in, as it is written. OpenAI's `metadata` may have 9,216 characters.
MAX_OBJECT_BYTES: Final = 16 << 10

# A text that is as it is written, and could stand in a header: without escapes, and without blanks at an end.
_plain_text: Final = re.compile(rb'"([!#-\[\]-~](?:[ !#-\[\]-~]*+(?<! ))?+)"').fullmatch
_NOT_PLAIN: Final = (0, -1, False)
_fold: Final = str.casefold

_QUOTE: Final = ord('"')
_OBJECT: Final = ord("{")
_NULL: Final = ord("n")
_TYPES: Final = {
    ord("["): "an array",
    ord("{"): "an object",
    ord('"'): "a string",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
}


class BodyField(NamedTuple):
    """A field of the body, and the header that its value goes into.

    Attributes:
        name: of the field: of a member of the root, or with a dot of a member of an object there.
        header: its name, as it is written.
        hashed: the header gets the value's SHA-256, in hexadecimal digits.
        max_bytes: a longer value is refused.
        early: it is looked for at the beginning of a long body only; see BodyFields.
        logged: the access log has what the header gets.
    """

    name: str
    header: str
    hashed: bool = False
    max_bytes: int = MAX_VALUE_BYTES
    early: bool = False
    logged: bool = False


class BodyFields:
    """The fields that a server reads.

    Args:
        fields: at least one, at most MAX_FIELDS.
        early_bytes: those that are `early` are looked for in so many bytes from the body's start.
        inside: the fields are those of one object in the root, by the part of their names behind the dot.

    Attributes:
        fields, early_bytes: see above.
        keys: of the members to look for, and `model`.
        other_keys: `model` alone, or None where that is a key as others are.
        roots: the names of those members.
        folded: the same, without regard to letter case.
        is_folded: whether a name is one of these.
        of_root: the numbers of the fields that stand in a member.
        absent: what headers get if there are none.
        plain: number and longest text, in quotes, of a member that is one field, and whether that is hashed.
    """

    def __init__(self, fields: Sequence[BodyField], early_bytes: int, *, inside: bool = False) -> None:
        self.fields = tuple(fields)
        self.early_bytes = early_bytes
        names = [field.name.partition(".")[2 if inside else 0] for field in fields]
        self.of_root = {
            name: tuple(index for index, other in enumerate(names) if other == name) for name in dict.fromkeys(names)
        }
        self.roots = frozenset(names)
        self.folded = {name.casefold(): name for name in names}
        self.keys = Keys(tuple(self.of_root) if inside else ("model", *self.of_root))
        self.other_keys = None if inside else MODEL
        self.is_folded = self.folded.__contains__
        self.absent: list[bytes | None] = [None] * len(names)
        objects = frozenset(field.name.partition(".")[0] for field in fields if "." in field.name and not inside)
        self.plain = {
            name: (index, field.max_bytes + 2, field.hashed)
            for index, (name, field) in enumerate(zip(names, fields, strict=True))
            if names.count(name) == 1 and name not in objects
        }
        self._inner = {
            root: BodyFields([fields[index] for index in self.of_root[root]], 0, inside=True) for root in objects
        }

    def root_of(self, name: str) -> str | None:
        """Return the member that a key is for some parsers at least, or None."""
        return self.folded.get(name.partition("\0")[0].casefold())

    def inner(self, root: str) -> "BodyFields | None":
        """Return the fields that stand in a member that is an object; None for a member that is a field itself."""
        return self._inner.get(root)


class FieldValues:
    """What one body says in its fields.

    Args:
        config: the fields.

    Attributes:
        config: see above.
        values: what the header of each field gets; None: it is not there.
    """

    __slots__ = ("config", "values")

    def __init__(self, config: BodyFields) -> None:
        self.config = config
        self.values = config.absent[:]

    @property
    def late(self) -> Sequence[int]:
        """Numbers of fields that came too late for a header; see BodyField."""
        return ()

    @property
    def refusal(self) -> Refusal | None:
        """The first that one of them calls for."""
        return None

    @property
    def awaited(self) -> bool:
        """Whether a header is to wait for what follows in a body that is read in pieces."""
        return False

    def take_members(self, members: Mapping[str, Raw]) -> bool:
        """Take all members of an object that has each once; False if the scanner has to look at it."""
        config = self.config
        found = config.roots.intersection(members)
        # Keys that are one of these without regard to letter case are no more than those that are it.
        if sum(map(config.is_folded, map(_fold, members))) != len(found):
            return False
        for root in found:
            index, longest, hashed = config.plain.get(root, _NOT_PLAIN)
            text = _plain_text(members[root])
            if text is None or text.end() > longest:
                return self._take_closely(found, members)
            self.values[index] = sha256(text[1]).hexdigest().encode() if hashed else text[1]
        return True

    def _take_closely(self, found: Iterable[str], members: Mapping[str, Raw]) -> bool:
        """Take members that are not all plain text."""
        try:
            for root in found:
                for index, value in self._read(root, bytes(members[root]), 0):
                    self.values[index] = value
        except Refusal:
            return False
        return True

    def _read(self, root: str, raw: bytes, offset: int) -> Iterable[tuple[int, bytes | None]]:
        """Return the numbers and values of the fields in a member that begins at an offset of the body.

        Raises:
            Refusal: 400; one of them can't be used.
        """
        config = self.config
        inner = config.inner(root)
        if inner is not None:
            return zip(config.of_root[root], _in_object(inner, root, raw, offset), strict=True)
        return [(index, _value(config.fields[index], raw)) for index in config.of_root[root]]


class ScannedValues(FieldValues):
    """The same of a body, or of an object in it, that is scanned.

    Args:
        config: the fields.
        base: the offset in the body at which the object begins whose members they are.

    Attributes:
        scanned_bytes: how much of a body that is read in pieces has been read.
    """

    __slots__ = ("_base", "_done", "_late", "_refusal", "_seen", "scanned_bytes")

    def __init__(self, config: BodyFields, base: int = 0) -> None:
        super().__init__(config)
        self.scanned_bytes = 0
        self._base = base
        self._late: tuple[int, ...] = ()
        self._refusal: Refusal | None = None
        self._seen: set[str] = set()
        self._done: set[str] = set()

    @property
    def late(self) -> Sequence[int]:
        """See FieldValues."""
        return self._late

    @property
    def refusal(self) -> Refusal | None:
        """See FieldValues."""
        return self._refusal

    @property
    def keys(self) -> Keys:
        """The keys that are looked for."""
        return self.config.keys

    @property
    def other_keys(self) -> Keys | None:
        """Those that are looked for when its own no longer are."""
        return self.config.other_keys

    def root_of(self, name: str) -> str | None:
        """See BodyFields."""
        return self.config.root_of(name)

    @property
    def awaited(self) -> bool:
        """See FieldValues."""
        config = self.config
        early = self.scanned_bytes < config.early_bytes
        return any(
            root not in self._done and (early or not all(config.fields[index].early for index in indexes))
            for root, indexes in config.of_root.items()
        )

    def add_key(self, root: str, offset: int, *, exact: bool) -> bool:
        """Take note of a key, which is in its exact letters or not, and tell whether its value counts."""
        if root in self._seen:
            self._refuse(refusal.field_duplicate(self._named(root)), offset)
            return False
        self._seen.add(root)
        if not exact:
            self._refuse(refusal.field_spelling(self._named(root)), offset)
        return exact

    def open(self, root: str, first: int, offset: int) -> int:
        """Return how many bytes of a value to keep, which begins with a byte; 0 for none: it is refused."""
        config = self.config
        try:
            _check_type(self._named(root), first, is_object=config.inner(root) is not None)
        except Refusal as refused:
            self._refuse(refused, offset)
            return 0
        if first == _OBJECT:
            return MAX_OBJECT_BYTES
        return 6 * max(config.fields[index].max_bytes for index in config.of_root[root]) + 2

    def refuse_length(self, root: str, offset: int) -> None:
        """Refuse a value of which more came than is kept."""
        config = self.config
        limit = max(config.fields[index].max_bytes for index in config.of_root[root])
        if config.inner(root) is not None:
            limit = MAX_OBJECT_BYTES
        self._refuse(refusal.field_too_long(self._named(root), limit), offset)

    def take(self, root: str, raw: bytes, offset: int, end: int) -> None:
        """Take a value, as it is written from one offset to another."""
        config = self.config
        try:
            for index, value in self._read(root, raw, self._base + offset):
                if config.fields[index].early and end > config.early_bytes:
                    self._late = (*self._late, index)
                else:
                    self.values[index] = value
        except Refusal as refused:
            self._refuse(refused, offset)
        self._done.add(root)

    def _named(self, root: str) -> str:
        """Return what a member is called in an error."""
        config = self.config
        return root if config.inner(root) is not None else config.fields[config.of_root[root][0]].name

    def _refuse(self, refused: Refusal, offset: int) -> None:
        self.refuse(refused if refused.offset is not None else refused.at(self._base + offset))

    def refuse(self, refused: Refusal) -> None:
        """Take note of a refusal that one of the fields calls for."""
        if self._refusal is None:
            self._refusal = refused.kept()


def _check_type(name: str, first: int, *, is_object: bool) -> None:
    """Refuse a value by its first byte: of a field an array or an object, of what must be an object all others."""
    if is_object != (first == _OBJECT) and first != _NULL:
        raise refusal.field_type(name, _TYPES.get(first, "a number"), wanted_object=is_object)
    if first == ord("["):
        raise refusal.field_type(name, "an array", wanted_object=False)


def _value(field: BodyField, raw: bytes) -> bytes | None:
    """Return what a field's header gets; None if the value is null or an empty string.

    Raises:
        Refusal: 400; the value is too long, or could not stand in a header.
    """
    first = raw[0]
    if first == _QUOTE:
        text = orjson.loads(raw)
        octets: bytes = text.encode()
    elif first == _NULL:
        return None
    else:
        _check_type(field.name, first, is_object=False)
        octets, text = raw, raw.decode()
    if not octets:
        return None
    if len(octets) > field.max_bytes:
        raise refusal.field_too_long(field.name, field.max_bytes)
    if field.hashed:
        return sha256(octets).hexdigest().encode()
    why = why_illegal(text)
    if why:
        raise refusal.field_illegal(field.name, why)
    return octets


def _in_object(config: BodyFields, root: str, raw: bytes, base: int) -> Sequence[bytes | None]:
    """Return what fields say that stand in an object of the root, which begins at an offset of the body.

    Raises:
        Refusal: 400; one of them can't be used.
    """
    found = FieldValues(config)
    if raw[0] == _NULL:
        return found.values
    _check_type(root, raw[0], is_object=True)
    if len(raw) > MAX_OBJECT_BYTES:
        raise refusal.field_too_long(root, MAX_OBJECT_BYTES)
    members = object_members(raw)
    if members is not None and is_written(raw, members) and found.take_members(members):
        return found.values
    scanned = ScannedValues(config, base)
    scanner = Scanner(fields=scanned)
    at = 0
    while at < len(raw):
        at = scanner.scan(raw, at)
    scanner.finish()
    return scanned.values
