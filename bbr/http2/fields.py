"""Field blocks (HPACK, RFC 7541) to checked request heads (RFC 9113, section 8), and back.

With SETTINGS_HEADER_TABLE_SIZE 0 in force a block means the same every time, so equal blocks are decoded once. Other
blocks of static-table and literal fields are read here; all the rest, and everything before our SETTINGS are in force,
is the hpack library's. A Huffman-coded value that the protocol has no use for (a fresh traceparent on every stream) is
checked and left as it is until somebody asks for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

import hpack
from hpack.table import HeaderTable

from bbr.http2 import faults, huffman
from bbr.http2.faults import ConnectionFault
from bbr.http2.held import Held
from bbr.http2.record import Record

# What HPACK adds to a field's bytes to account for an entry (section 4.1).
_ENTRY_OVERHEAD: Final = 32
_STATIC: Final = ((b"", b""), *HeaderTable.STATIC_TABLE)

# What the memos of a connection may hold together, and what an entry takes beside its bytes: some 100 entries. A
# gateway without tracing sends a handful of distinct blocks, one with tracing never the same.
MEMO_BYTES: Final = 64 << 10
_MEMO_ENTRY_OVERHEAD: Final = 400
_MEMO_POINTER_BYTES: Final = 8
# Longer blocks and literals are decoded every time: a peer must not fill the memos with its 16 KiB ones.
_MEMO_ENTRY_BYTES: Final = 1024
# What the peer's first blocks may leave in the library's table, until its encoder knows that there is none: 4,096
# bytes as RFC 7541 counts them, in 120 entries.
_TABLE_BYTES: Final = 24 << 10

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# Eighteen digits fit any body. Python's int() of a very long text takes quadratic time.
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
# Section 8.2.1. CR, LF and NUL could end the field where somebody forwards it by HTTP/1.1 (section 10.3).
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
# HTTP/2 has frames for what these say; a forwarded one could smuggle a request (sections 8.2.2 and 10.3).
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)

# The fields whose values are read, here or by gRPC; others may stay Huffman-coded.
_READ: Final = frozenset(
    (*_PSEUDO, b"host", b"te", b"content-length", b"content-type", b"grpc-timeout", b"grpc-encoding")
)
# The fields that are looked at together with others.
_RELATED: Final = frozenset((*_PSEUDO, b"host", b"content-length"))
# No symbol has a shorter code: a coded byte stands for at most 8/5 of one.
_SHORTEST_CODE_BITS: Final = 5

Field = tuple[bytes, bytes]


class Coded(Record):
    """A field value that is still Huffman-coded; known to be a legal one."""

    __slots__ = ("octets",)
    __match_args__ = ("octets",)

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def __len__(self) -> int:
        """Return the most bytes that it can decode to."""
        return len(self.octets) * 8 // _SHORTEST_CODE_BITS

    def decode(self) -> bytes:
        """Return the value."""
        return huffman.decode(self.octets)


class Slot(Record):
    """Stands for the value at this place among a section's fresh ones."""

    __slots__ = ("place",)
    __match_args__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class Entry(Record):
    """A field of a block and what is known of it by itself: that much is found out once for equal literals.

    Attributes:
        name: in bytes.
        value: in bytes, or still coded, or elsewhere.
        size: name, value and 32 bytes; more than that if the value is coded.
        fault: why it is malformed; "" if it isn't.
    """

    __slots__ = ("fault", "name", "size", "value")
    __match_args__ = ("name", "value", "size", "fault")

    def __init__(self, name: bytes, value: bytes | Coded | Slot, size: int, fault: str) -> None:
        self.name = name
        self.value = value
        self.size = size
        self.fault = fault


def entry(name: bytes, value: bytes | Coded) -> Entry:
    """Return a field with what is known of it by itself (section 8.2)."""
    fault = ""
    if name[:1] == b":":
        # Those of responses and unknown ones are malformed too (section 8.3).
        fault = "" if name in _PSEUDO else "pseudo-field"  # section 8.3
    elif not _NAME.fullmatch(name):
        fault = "field-name"  # section 8.2.1; capitals are none, section 8.2
    elif name in _CONNECTION_SPECIFIC or (name == b"te" and _text(value).lower() != b"trailers"):
        fault = "connection-specific-field"  # section 8.2.2
    elif name == b"content-length" and not _LENGTH.fullmatch(_text(value)):
        fault = "content-length"  # RFC 9110, section 8.6
    # A coded value has been checked in its coded form; see huffman.is_field_value.
    if not fault and type(value) is bytes and _BAD_VALUE.search(value):
        fault = "field-value"  # section 8.2.1
    return Entry(name, value, len(name) + len(value) + _ENTRY_OVERHEAD, fault)


class FieldSection(Record):
    """A decoded field block.

    Attributes:
        entries: the fields, in order; empty if the section is malformed or too large.
        fault: why the request is malformed (section 8.1.1) or too large, as a stable name; "" if it is neither.
        content_length: as announced; None if it is not.
        trailers: whether it could be a trailer section: no pseudo-header fields.
        request_fault: why it can't begin a request, `fault` included; "" if it can.
        fresh: the values of the entries that are slots (see Pattern).
        size: of its entries, as SETTINGS_MAX_HEADER_LIST_SIZE counts them, if it may be the only one that holds them;
            else 0.
    """

    __slots__ = ("content_length", "entries", "fault", "fresh", "request_fault", "size", "trailers")
    __match_args__ = ("entries", "fault", "content_length", "trailers", "request_fault", "fresh", "size")

    def __init__(
        self,
        entries: Sequence[Entry],
        fault: str,
        content_length: int | None,
        trailers: bool,
        request_fault: str = "",
        fresh: Sequence[Coded] = (),
        size: int = 0,
    ) -> None:
        self.entries = entries
        self.fault = fault
        self.content_length = content_length
        self.trailers = trailers
        self.request_fault = request_fault
        self.fresh = fresh
        self.size = size

    @property
    def fields(self) -> tuple[Field, ...]:
        """Name and value of each field, in order."""
        return tuple((each.name, self._value(each)) for each in self.entries)

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first field called `name`."""
        for each in self.entries:
            if each.name == name:
                return self._value(each)
        return None

    def _value(self, each: Entry) -> bytes:
        value = each.value
        return _text(self.fresh[value.place] if isinstance(value, Slot) else value)


def _text(value: bytes | Coded | Slot) -> bytes:
    """Return a value that is there, coded or not."""
    return value.decode() if isinstance(value, Coded) else cast(bytes, value)


class Pattern:
    """Blocks that are alike but for a few values that nobody reads, as a tracing gateway's are.

    A block without a table is read from its first byte on by itself: if it is the same up to a value, and again behind
    it, it says the same. All sections of a pattern share one `entries`, by which they are known to be alike.

    Args:
        block: one of them.
        section: what it says.
        values: where these values begin, at their length, and end; and which entries they are. All of them coded, and
            short enough for a length of one byte.
        max_list_bytes: a larger section is left to be read in full.
    """

    def __init__(
        self, block: bytes, section: FieldSection, values: Sequence[tuple[int, int, int]], max_list_bytes: int
    ) -> None:
        entries = list(section.entries)
        starts = [0, *(end for _, end, _ in values)]
        self._constants = [block[start:at] for start, (at, _, _) in zip(starts, values, strict=False)]
        self._rest = block[starts[-1] :]
        for slot, (_, _, place) in enumerate(values):
            bare = entries[place]
            entries[place] = Entry(bare.name, Slot(slot), len(bare.name) + _ENTRY_OVERHEAD, bare.fault)
        self._section = section
        self._entries = entries
        self._room = max_list_bytes - sum(each.size for each in entries)
        # A value that comes twice in a row is no fresh one; the memo of literals serves it better.
        self._learnt_from: frozenset[bytes] | None = frozenset(block[at + 1 : end] for at, end, _ in values)

    def read(self, block: bytes) -> FieldSection | None:
        """Return what a block says, if it is one of these, and has no fault."""
        position = 0
        fresh = []
        room = self._room
        for constant in self._constants:
            value_at = position + len(constant) + 1
            if len(block) < value_at or not block.startswith(constant, position):
                return None
            # The top bit says Huffman-coded (RFC 7541, section 5.2); 0x7F says that more bytes of the length follow.
            length = block[value_at - 1] - 0x80
            if not 0 <= length < 0x7F:
                return None
            position = value_at + length
            value = Coded(block[value_at:position])
            room -= len(value)
            fresh.append(value)
        # A slice past the end is merely short in Python, so the end is checked by itself.
        if position > len(block) or block[position:] != self._rest or room < 0:
            return None
        try:
            for value in fresh:
                if not huffman.is_field_value(value.octets):
                    return None
        except huffman.HuffmanError:
            return None
        if self._learnt_from is not None:
            if any(value.octets in self._learnt_from for value in fresh):
                return None  # no fresh value, if the next block has it too
            self._learnt_from = None
        whole = self._section
        return FieldSection(self._entries, "", whole.content_length, whole.trailers, whole.request_fault, fresh)


class FieldDecoder:
    """The receiving end of a connection's compression context.

    Args:
        table_size: our SETTINGS_HEADER_TABLE_SIZE.
        max_list_bytes: a larger section is a fault of its request, one of more than twice the size of its connection.
        max_fields: the same for the number of fields, each cookie crumb counted.
        held: counts what the compression context and the memos take.
    """

    def __init__(self, table_size: int, max_list_bytes: int, max_fields: int, held: Held | None = None) -> None:
        self._held = held or Held()
        self._table_size = table_size
        self._max_list_bytes = max_list_bytes
        self._max_fields = max_fields
        # The library stops at twice our limit: HPACK bomb (CVE-2016-6581), where a few bytes name a long field often.
        self._hpack = hpack.Decoder(max_header_list_size=2 * max_list_bytes)
        self._acknowledged = False
        self._stateless = False
        self._has_table = False
        self._memo_bytes = 0
        self._blocks: dict[bytes, FieldSection] = {}
        self._literals: dict[bytes, Entry] = {}
        self._names: dict[bytes, Entry] = {}
        self._pattern: Pattern | None = None
        # Of the block that is being read: the values that would be slots of its pattern.
        self._values: list[tuple[int, int, int]] = []

    def settings_acknowledged(self) -> None:
        """Take our table size as in force: the peer's next block must shrink its table to it."""
        self._acknowledged = True
        # The library then demands the size update that section 4.3.1 asks for.
        self._hpack.max_allowed_table_size = self._table_size

    def decode(self, block: bytes) -> FieldSection:
        """Decode a whole field block.

        Raises:
            ConnectionFault: the block can't be decoded, or is far too large; the compression context is lost.
        """
        # Until a block has followed the ACK the table may hold entries, and equal blocks may differ in meaning.
        if not self._stateless:
            return self._decode_with_table(block)
        # Cheapest first: the same block, then one of the pattern, then a reading in full.
        section = self._blocks.get(block)
        if section is None and self._pattern is not None:
            section = self._pattern.read(block)
        if section is None:
            self._values.clear()
            entries = self._read(block)
            section = self._check(self._decode_by_library(block) if entries is None else entries)
            if len(block) <= _MEMO_ENTRY_BYTES:
                self._make_room(len(block) + _MEMO_POINTER_BYTES * len(section.entries))
                self._blocks[block] = section
                if self._values and not section.fault:
                    self._pattern = Pattern(block, section, self._values, self._max_list_bytes)
        return section

    def _decode_with_table(self, block: bytes) -> FieldSection:
        if not self._has_table:
            self._has_table = True
            self._held.octets += _TABLE_BYTES
        section = self._check(self._decode_by_library(block))
        if self._stateless:
            self._held.octets -= _TABLE_BYTES
        return section

    def _decode_by_library(self, block: bytes) -> list[Entry]:
        try:
            entries = [entry(bytes(name), bytes(value)) for name, value in self._hpack.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            # The library has stopped inside of the block, so the compression context is lost (section 10.5.1).
            raise ConnectionFault(faults.FIELD_SECTION_BOMB) from None
        except hpack.InvalidTableSizeError:
            raise ConnectionFault(faults.HPACK_TABLE_SIZE) from None
        except hpack.HPACKError:
            # A block that cannot be decoded is a connection error (section 4.3). `from None`: the library's text may
            # quote it.
            raise ConnectionFault(faults.HPACK) from None
        self._stateless = self._acknowledged and self._table_size == 0
        return entries

    def _read(self, block: bytes) -> list[Entry] | None:
        """Read a block of static-table and literal fields; None if it is anything else, or wrong in any way.

        Literals with incremental indexing are literals here: nothing enters a table of size 0. It is one function
        because it runs for every field: each call of a part of it costs as much as reading a short field.
        """
        entries: list[Entry] = []
        position, end = 0, len(block)
        enough = 2 * self._max_fields  # one more, and the rest does not matter
        try:
            while position < end and len(entries) <= enough:
                octet = block[position]
                # An indexed field (RFC 7541, section 6.1). Index 0 is an error, one above 61 needs the dynamic table.
                if octet & 0x80:
                    index = octet & 0x7F
                    if not 0 < index < len(_STATIC):
                        return None
                    entries.append(_STATIC_ENTRIES[index])
                    position += 1
                    continue
                # A dynamic table size update (RFC 7541, sections 4.2 and 6.3).
                if octet & 0xE0 == 0x20:
                    if octet != 0x20 or entries:  # only to 0, only at the beginning
                        return None
                    position += 1
                    continue
                # Lengths and indexes of one byte, as nearly all are, are read here: a call costs as much again.
                start, prefix = position, 0x3F if octet & 0x40 else 0x0F
                index = octet & prefix
                position += 1
                if index == prefix:
                    index, position = _integer(block, start, prefix)
                name_at = position
                if not index:
                    length = block[position] & 0x7F
                    position = position + 1 + length if length < 0x7F else _string_end(block, position)
                value_at = position
                length = block[position] & 0x7F
                position = position + 1 + length if length < 0x7F else _string_end(block, position)
                # The string runs past its block: the library names that error.
                if position > end:
                    return None
                literal = block[start:position]
                field = self._literals.get(literal)
                if field is None:
                    bare = _STATIC_BARE[index] if index else self._bare(block[name_at:value_at])
                    field = self._learn(literal, bare, block, (value_at, position, len(entries)))
                entries.append(field)
        except (IndexError, huffman.HuffmanError):
            return None
        return entries

    def _learn(self, literal: bytes, bare: Entry, block: bytes, place: tuple[int, int, int]) -> Entry:
        """Return a literal that is not known, and note where its value stands if that is coded and short."""
        value_at = place[0]
        field = self._remember(self._literals, literal, _literal(bare, block, value_at))
        if type(field.value) is Coded and block[value_at] & 0x7F < 0x7F:
            self._values.append(place)
        return field

    def _bare(self, coded_name: bytes) -> Entry:
        """Return a literal name's field without its value."""
        bare = self._names.get(coded_name)
        return bare or self._remember(self._names, coded_name, entry(_string(coded_name, 0), b""))

    def _remember(self, memo: dict[bytes, Entry], literal: bytes, field: Entry) -> Entry:
        if len(literal) <= _MEMO_ENTRY_BYTES:
            self._make_room(2 * len(literal))
            memo[literal] = field
        return field

    def _make_room(self, octets: int) -> None:
        """Count an entry of the memos; if there is no room for it, they begin anew."""
        size = _MEMO_ENTRY_OVERHEAD + octets
        if self._memo_bytes + size > MEMO_BYTES:
            # All at once, not the oldest: to keep an order costs each hit, and a gateway fills them up again in a few
            # calls.
            self._blocks.clear()
            self._literals.clear()
            self._names.clear()
            self._held.octets -= self._memo_bytes
            self._memo_bytes = 0
        self._memo_bytes += size
        self._held.octets += size

    def _check(self, entries: list[Entry]) -> FieldSection:
        size = sum([each.size for each in entries])
        if size > self._max_list_bytes:  # perhaps for the sake of what is still coded
            size = sum(len(each.name) + len(_text(each.value)) + _ENTRY_OVERHEAD for each in entries)
        # A little too large is one client's fault, and its stream's alone (section 10.5.1). Far too large is an attack:
        # decoding it costs us far more than sending it costs the peer.
        if size > 2 * self._max_list_bytes or len(entries) > 2 * self._max_fields:
            raise ConnectionFault(faults.FIELD_SECTION_BOMB)
        if size > self._max_list_bytes or len(entries) > self._max_fields:
            return FieldSection((), "field-section-too-large", None, False, "field-section-too-large")
        fault, related = _relate(entries)
        trailers = related.keys().isdisjoint(_PSEUDO)
        if fault:
            return FieldSection((), fault, None, trailers, fault)
        length = related.get(b"content-length")
        content_length = None if length is None else int(length)
        return FieldSection(entries, "", content_length, trailers, _request_fault(related), size=size)


def _relate(entries: list[Entry]) -> tuple[str, dict[bytes, bytes]]:
    """Return why a section is malformed ("" if it isn't), and the first value of each field in _RELATED."""
    related: dict[bytes, bytes] = {}
    regular = False
    for each in entries:
        name = each.name
        if name not in _RELATED:
            regular = True
        elif name in _PSEUDO:
            if regular or name in related:  # before all others, and each once (section 8.3)
                return "pseudo-field", related
            related[name] = _text(each.value)
        else:
            regular = True
            text = related.setdefault(name, _text(each.value))
            # Several that agree are one (RFC 9110, section 8.6).
            if name == b"content-length" and not each.fault and int(text) != int(_text(each.value)):
                return "content-length", related
        if each.fault:
            return each.fault, related
    return "", related


def _request_fault(related: Mapping[bytes, bytes]) -> str:
    """Return why a section can't begin a request (section 8.3.1)."""
    authority = related.get(b":authority")
    if related.get(b":method") == b"CONNECT":  # section 8.5: we are no proxy
        return "connect"
    # All three are mandatory, and :path must not be empty (section 8.3.1).
    if b":method" not in related or b":scheme" not in related or not related.get(b":path"):
        return "pseudo-field"
    # User information is not allowed in :authority, and a Host that differs lets two readers see two targets (section
    # 8.3.1).
    if authority is not None and (b"@" in authority or related.get(b"host", authority) != authority):
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
        # Without indexing (RFC 7541, section 6.2.2): a block with no state can be made once, cached and sent any time.
        block += _encode_integer(index, 0x0F, 0x00)
        if not index:
            block += _encode_integer(len(name), 0x7F, 0x00) + name
        block += _encode_integer(len(value), 0x7F, 0x00) + value
    return bytes(block)


_STATIC_ENTRIES: Final = tuple(entry(*field) for field in _STATIC)
_STATIC_BARE: Final = tuple(entry(name, b"") for name, _ in _STATIC)
_STATIC_FIELDS: Final = {field: index for index, field in reversed(list(enumerate(_STATIC))) if index}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed(list(enumerate(_STATIC))) if index}


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Return the integer (RFC 7541, section 5.1) at `position` and where it ends; IndexError if it is none of ours."""
    value = block[position] & prefix
    position += 1
    if value < prefix:
        return value, position
    # A bound, because zeros may follow without end (RFC 7541, section 5.1).
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


def _literal(bare: Entry, block: bytes, value_at: int) -> Entry:
    # Only values that nobody reads stay coded: to decode later costs the same.
    if bare.name in _READ or not block[value_at] & 0x80:
        return entry(bare.name, _string(block, value_at))
    length, start = _integer(block, value_at, 0x7F)
    value = Coded(block[start : start + length])
    fault = "" if huffman.is_field_value(value.octets) else "field-value"
    return Entry(bare.name, value, bare.size + len(value), bare.fault or fault)


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
