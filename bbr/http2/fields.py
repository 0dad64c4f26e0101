"""Field blocks (HPACK, RFC 7541) to checked request heads (RFC 9113, section 8), and back.

With SETTINGS_HEADER_TABLE_SIZE 0 in force a block means the same every time, so equal blocks are decoded once. Other
blocks of static-table and literal fields are read here; all the rest, and everything before our SETTINGS are in force,
is the hpack library's.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import hpack
from hpack.table import HeaderTable

from bbr.http2 import huffman
from bbr.http2.faults import ConnectionFault
from bbr.http2.frames import ErrorCode

# What HPACK adds to a field's octets to account for an entry (section 4.1).
_ENTRY_OVERHEAD: Final = 32
_STATIC: Final = ((b"", b""), *HeaderTable.STATIC_TABLE)

# Entries of the memos. A gateway without tracing sends a handful of distinct blocks, one with tracing never the same.
_MEMO_BLOCKS: Final = 256
_MEMO_FIELDS: Final = 1024
# Longer blocks and literals are decoded every time: a peer must not fill the memos with its 16 KiB ones.
_MEMO_ENTRY_BYTES: Final = 1024

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)

Field = tuple[bytes, bytes]


class FieldSection(NamedTuple):
    """A decoded field block.

    Attributes:
        fields: name and value, in order; empty if the section is malformed or too large.
        fault: why the request is malformed (section 8.1.1) or too large, as a stable name; "" if it is neither.
        content_length: as announced; None if it is not.
        trailers: whether it could be a trailer section: no pseudo-header fields.
        request_fault: why it can't begin a request (see `request_fault`); "" if it can.
    """

    fields: tuple[Field, ...]
    fault: str
    content_length: int | None
    trailers: bool
    request_fault: str = ""

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first field called `name`."""
        for key, value in self.fields:
            if key == name:
                return value
        return None


class FieldDecoder:
    """The receiving end of a connection's compression context.

    Args:
        table_size: our SETTINGS_HEADER_TABLE_SIZE.
        max_list_bytes: a larger section is a fault of its request, one of more than twice the size of its connection.
        max_fields: the same for the number of fields, each cookie crumb counted.
    """

    def __init__(self, table_size: int, max_list_bytes: int, max_fields: int) -> None:
        self._table_size = table_size
        self._max_list_bytes = max_list_bytes
        self._max_fields = max_fields
        self._hpack = hpack.Decoder(max_header_list_size=2 * max_list_bytes)
        self._acknowledged = False
        self._stateless = False
        self._blocks: dict[bytes, FieldSection] = {}
        self._literals: dict[bytes, Field] = {}

    def settings_acknowledged(self) -> None:
        """Take our table size as in force: the peer's next block must shrink its table to it."""
        self._acknowledged = True
        self._hpack.max_allowed_table_size = self._table_size

    def decode(self, block: bytes) -> FieldSection:
        """Decode a whole field block.

        Raises:
            ConnectionFault: the block can't be decoded, or is far too large; the compression context is lost.
        """
        if not self._stateless:
            return self._check(self._decode_by_library(block))
        section = self._blocks.get(block)
        if section is None:
            fields = self._read(block)
            section = self._check(self._decode_by_library(block) if fields is None else fields)
            if len(block) <= _MEMO_ENTRY_BYTES:
                if len(self._blocks) >= _MEMO_BLOCKS:
                    self._blocks.clear()
                self._blocks[block] = section
        return section

    def _decode_by_library(self, block: bytes) -> list[Field]:
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._hpack.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "field-section-bomb") from None
        except hpack.InvalidTableSizeError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "hpack-table-size") from None
        except hpack.HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "hpack") from None
        self._stateless = self._acknowledged and self._table_size == 0
        return fields

    def _read(self, block: bytes) -> list[Field] | None:
        """Read a block of static-table and literal fields; None if it is anything else, or wrong in any way.

        Literals with incremental indexing are literals here: nothing enters a table of size 0.
        """
        fields: list[Field] = []
        position, end = 0, len(block)
        enough = 2 * self._max_fields  # one more, and the rest does not matter
        try:
            while position < end and len(fields) <= enough:
                octet = block[position]
                if octet & 0x80:
                    index = octet & 0x7F
                    if not 0 < index < len(_STATIC):
                        return None
                    fields.append(_STATIC[index])
                    position += 1
                    continue
                if octet & 0xE0 == 0x20:
                    if octet != 0x20 or fields:  # a size update: only to 0, only at the beginning
                        return None
                    position += 1
                    continue
                start = position
                prefix = 0x3F if octet & 0x40 else 0x0F
                index, position = _integer(block, position, prefix)
                name_at = position
                if not index:
                    position = _string_end(block, position)
                value_at = position
                position = _string_end(block, position)
                if position > end:
                    return None
                literal = block[start:position]
                field = self._literals.get(literal)
                if field is None:
                    name = _STATIC[index][0] if index else _string(block, name_at)
                    field = self._remember(literal, (name, _string(block, value_at)))
                fields.append(field)
        except (IndexError, huffman.HuffmanError):
            return None
        return fields

    def _remember(self, literal: bytes, field: Field) -> Field:
        if len(literal) <= _MEMO_ENTRY_BYTES:
            if len(self._literals) >= _MEMO_FIELDS:
                self._literals.clear()
            self._literals[literal] = field
        return field

    def _check(self, fields: list[Field]) -> FieldSection:
        size = sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in fields)
        if size > 2 * self._max_list_bytes or len(fields) > 2 * self._max_fields:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "field-section-bomb")
        if size > self._max_list_bytes or len(fields) > self._max_fields:
            return FieldSection((), "field-section-too-large", None, False, "field-section-too-large")
        fault, content_length, pseudo = _inspect(fields)
        if fault:
            return FieldSection((), fault, None, not pseudo, fault)
        section = FieldSection(tuple(fields), "", content_length, not pseudo)
        return section._replace(request_fault=request_fault(section))


def _inspect(fields: list[Field]) -> tuple[str, int | None, set[bytes]]:
    """Return why a section is malformed ("" if it isn't), its content-length, and its pseudo-header fields."""
    seen: set[bytes] = set()
    length: int | None = None
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in seen or name not in _PSEUDO:
                return "pseudo-field", None, seen | {name}
            seen.add(name)
        elif not _NAME.fullmatch(name):
            return "field-name", None, seen
        else:
            regular = True
            if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
                return "connection-specific-field", None, seen
            if name == b"content-length":
                if not value.isdigit() or len(value) > 18 or length not in (None, int(value)):
                    return "content-length", None, seen
                length = int(value)
        if _BAD_VALUE.search(value):
            return "field-value", None, seen
    return "", length, seen


def request_fault(section: FieldSection) -> str:
    """Return why a section can't begin a request, as a stable name; "" if it can (section 8.3.1).

    CONNECT is none that this server has a use for (section 8.5).
    """
    if section.fault:
        return section.fault
    authority, host = section.get(b":authority"), section.get(b"host")
    if section.get(b":method") == b"CONNECT":
        return "connect"
    if None in (section.get(b":method"), section.get(b":scheme")) or not section.get(b":path"):
        return "pseudo-field"
    if authority is not None and (b"@" in authority or host not in (None, authority)):
        return "authority"
    return ""


def encode(fields: Iterable[Field]) -> bytes:
    """Return a field block of static-table and literal fields: valid whatever table the peer keeps."""
    block = bytearray()
    for name, value in fields:
        if (name, value) in _STATIC_FIELDS:
            block.append(0x80 | _STATIC_FIELDS[name, value])
            continue
        index = _STATIC_NAMES.get(name, 0)
        block += _encode_integer(index, 0x0F, 0x00)
        if not index:
            block += _encode_integer(len(name), 0x7F, 0x00) + name
        block += _encode_integer(len(value), 0x7F, 0x00) + value
    return bytes(block)


_STATIC_FIELDS: Final = {field: index for index, field in reversed(list(enumerate(_STATIC))) if index}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed(list(enumerate(_STATIC))) if index}


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Return the integer (RFC 7541, section 5.1) at `position` and where it ends; IndexError if it is none of ours."""
    value = block[position] & prefix
    position += 1
    if value < prefix:
        return value, position
    for shift in (0, 7, 14, 21):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise IndexError  # beyond any length that a block can have; the library says what is wrong with it


def _string_end(block: bytes, position: int) -> int:
    length, position = _integer(block, position, 0x7F)
    return position + length


def _string(block: bytes, position: int) -> bytes:
    length, start = _integer(block, position, 0x7F)
    octets = block[start : start + length]
    return huffman.decode(octets) if block[position] & 0x80 else octets


def _encode_integer(value: int, prefix: int, pattern: int) -> bytes:
    if value < prefix:
        return bytes((pattern | value,))
    out = bytearray((pattern | prefix,))
    value -= prefix
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
