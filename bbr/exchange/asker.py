"""Who sends a request: the names that a gateway's authentication gives it. Its scope is read in the same ways. Sans-IO.

A client can send any header. So the gateway has to set that header, or to remove it, before the router sees the
request. No client can write what a gateway says in metadata and attributes.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from bbr.models.access import NOBODY
from bbr.pb.ext_proc_pb2 import AttributesEntry, HeaderMap, Metadata, ProcessingRequest, Struct, Value
from bbr.reading.head import find_fields

# More names are no caller's. With more, or with longer ones, nobody is known to ask.
MAX_NAMES: Final = 64
MAX_BYTES: Final = 4 << 10

# Of metadata or attributes in which they stand; to decode so much takes 2 ms at worst. Envoy sends one entry of
# attributes. With more, nobody is known to ask.
MAX_CONTEXT_BYTES: Final = 32 << 10
MAX_ENTRIES: Final = 64


class Asker(NamedTuple):
    """Where a gateway names the client; one of the three.

    Attributes:
        header: the name of a field, in small letters, whose value is one name, or several with commas; "" for none.
        metadata: a namespace of the dynamic metadata and the keys below it, from the outside in; () for none.
        attribute: the name of an attribute; "" for none.
    """

    header: str = ""
    metadata: tuple[str, ...] = ()
    attribute: str = ""

    def named(self, headers: HeaderMap | None) -> frozenset[str]:
        """Return the names in a header section; none if the field stands there twice, since one could be a client's."""
        try:
            values = find_fields(headers, self.header) if self.header and headers is not None else []
        except DecodeError:
            return NOBODY
        if len(values) != 1 or len(values[0]) > MAX_BYTES:
            return NOBODY
        return _names(values[0].decode("utf-8", "replace").split(","))

    def in_context(self, message: ProcessingRequest) -> frozenset[str] | None:
        """Return the names in the metadata or attributes of a stream's first message; None if they stand in a header.

        Raises:
            DecodeError: the message's metadata or attributes are none.
        """
        if self.metadata:
            return _names(_texts(_found(message.metadata_context, self.metadata)))
        if self.attribute:
            return _names(_texts(_attribute(message.attributes, self.attribute)))
        return None

    def put_into(self, message: ProcessingRequest, names: Sequence[str]) -> None:
        """Put names into the metadata or attributes of a stream's first message, as a gateway does."""
        listed = Value()
        for name in names:
            listed.list_value.values.add().string_value = name
        if self.metadata:
            noted = Metadata.FromString(message.metadata_context)
            struct = noted.filter_metadata[self.metadata[0]]
            for key in self.metadata[1:-1]:
                struct = struct.fields[key].struct_value
            struct.fields[self.metadata[-1]].CopyFrom(listed)
            message.metadata_context = noted.SerializeToString()
        if self.attribute:
            entry = AttributesEntry(key="envoy.filters.http.ext_proc")
            entry.value.fields[self.attribute].CopyFrom(listed)
            message.attributes.append(entry.SerializeToString())


def _found(encoded: bytes, path: tuple[str, ...]) -> Value | None:
    """Return what stands in the metadata below a namespace and its keys."""
    if len(encoded) > MAX_CONTEXT_BYTES:
        return None
    namespaces = Metadata.FromString(encoded).filter_metadata
    if path[0] not in namespaces:
        return None
    found: Struct = namespaces[path[0]]
    for key in path[1:-1]:
        if key not in found.fields:
            return None
        found = found.fields[key].struct_value
    # `get` would give an empty value for a key that is missing, and the checker does not know of it.
    last = path[-1]
    return found.fields[last] if last in found.fields else None  # noqa: SIM401


def _attribute(entries: Sequence[bytes], name: str) -> Value | None:
    """Return an attribute's value; Envoy has them below the name of its filter."""
    if len(entries) > MAX_ENTRIES or sum(map(len, entries)) > MAX_CONTEXT_BYTES:
        return None
    for encoded in entries:
        fields = AttributesEntry.FromString(encoded).value.fields
        if name in fields:
            return fields[name]
    return None


def _texts(value: Value | None) -> list[str]:
    if value is None:
        return []
    if value.WhichOneof("kind") == "list_value":
        return [each.string_value for each in value.list_value.values[: MAX_NAMES + 1]]
    return [value.string_value]


def _names(texts: list[str]) -> frozenset[str]:
    names = frozenset(text.strip() for text in texts) - {""}
    too_many = len(names) > MAX_NAMES or sum(map(len, names)) > MAX_BYTES
    # "*" is no name: in a list it means everyone.
    return NOBODY if too_many else names - {"*"}
