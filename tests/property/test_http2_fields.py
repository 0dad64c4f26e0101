"""Field blocks and Huffman strings beside the hpack library: the same fields, or both refuse."""

import functools

import hpack
import hpack.huffman_table
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from bbr.http2 import huffman
from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder, encode
from tests.support import h2_scripts as scripts
from tests.support.examples import examples

EXAMPLES = 80

LIST_BYTES, FIELDS = 2_000, 20
Block = bytes
coder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

names = st.sampled_from([b"x", b"te", b"grpc-timeout", b"traceparent", b":path", b":method", b"content-length", b"Bad"])
traces = st.binary(min_size=16, max_size=24).map(lambda octets: b"00-" + octets.hex().encode() + b"-01")
values = st.sampled_from([b"", b"POST", b"/", b"trailers", b"12", b" x", b"1S"]) | traces | st.binary(max_size=40)


def integer(value: int, prefix: int, pattern: int) -> bytes:
    return bytes(hpack.hpack.encode_integer(value, prefix)[:1]).translate(
        bytes(octet | pattern for octet in range(256))
    ) + bytes(hpack.hpack.encode_integer(value, prefix)[1:])


def string(octets: bytes, coded: bool) -> bytes:
    return (
        integer(len(coder.encode(octets)), 7, 0x80) + coder.encode(octets)
        if coded
        else integer(len(octets), 7, 0) + octets
    )


@st.composite
def literals(draw: st.DrawFn) -> bytes:
    prefix, pattern = draw(st.sampled_from([(6, 0x40), (4, 0x00), (4, 0x10)]))
    index = draw(st.sampled_from([0, 0, 0, 4, 15, 58, 61, 62, 70]))
    name = b"" if index else string(draw(names), draw(st.booleans()))
    return integer(index, prefix, pattern) + name + string(draw(values), draw(st.booleans()))


pieces = st.one_of(
    literals(),
    literals(),
    st.sampled_from([2, 3, 4, 5, 6, 7, 8, 61, 62, 0]).map(lambda index: integer(index, 7, 0x80)),
)
updates = st.lists(st.sampled_from([0, 0, 0, 1, 4096]).map(lambda size: integer(size, 5, 0x20)), max_size=2).map(
    b"".join
)
blocks = st.builds(
    lambda update, fields: update + b"".join(fields), updates | st.just(b""), st.lists(pieces, max_size=25)
)
late_updates = st.builds(lambda first, rest: first + b"\x20" + rest, blocks, blocks)
spoilt = blocks.flatmap(scripts.mutated) | late_updates
conversations = st.lists(blocks | spoilt | st.sampled_from(scripts.BLOCKS), max_size=6)


class Library:
    """What bbr.http2.fields would be with nothing but the library."""

    def __init__(self) -> None:
        self.decoder = hpack.Decoder(max_header_list_size=2 * LIST_BYTES)

    def decode(self, block: Block) -> tuple[tuple[bytes, bytes], ...] | None:
        try:
            fields = tuple((bytes(name), bytes(value)) for name, value in self.decoder.decode(block, raw=True))
        except hpack.HPACKError:
            return None
        return None if len(fields) > 2 * FIELDS else fields


def check(ours: FieldDecoder, theirs: Library, block: Block) -> bool:
    """Compare one block; tell whether the connection goes on."""
    expected = theirs.decode(block)
    try:
        section = ours.decode(block)
    except ConnectionFault:
        assert expected is None
        return False
    assert expected is not None
    size = sum(len(name) + len(value) + 32 for name, value in expected)
    assert (section.fault == "field-section-too-large") == (size > LIST_BYTES or len(expected) > FIELDS)
    assert section.fields == (() if section.fault else expected)
    return True


@examples(EXAMPLES)
@given(before=conversations, after=conversations, table=st.sampled_from([0, 0, 0, 100, 4096]))
def test_blocks_mean_what_the_library_says(before: list[Block], after: list[Block], table: int) -> None:
    ours, theirs = FieldDecoder(table, LIST_BYTES, FIELDS), Library()
    for block in before:
        if not check(ours, theirs, block):
            return
    ours.settings_acknowledged()
    theirs.decoder.max_allowed_table_size = table
    # Twice: from the octets, then from the memo.
    for block in (*after[:1], integer(min(table, 64), 5, 0x20), *after, *after):
        if not check(ours, theirs, block):
            return


@examples(EXAMPLES)
@given(bodies=st.lists(blocks | spoilt, max_size=4))
def test_blocks_without_a_table_mean_what_a_fresh_decoder_says(bodies: list[Block]) -> None:
    ours = FieldDecoder(0, LIST_BYTES, FIELDS)
    ours.settings_acknowledged()
    assert ours.decode(b"\x20").fields == ()
    for block in bodies:
        fresh = Library()
        fresh.decoder.max_allowed_table_size = 0
        fresh.decoder.header_table_size = 0
        if not check(ours, fresh, block):
            ours = FieldDecoder(0, LIST_BYTES, FIELDS)
            ours.settings_acknowledged()
            ours.decode(b"\x20")


fresh_values = st.one_of(traces, values, st.just(b"same"))
alike = st.builds(
    lambda head, one, between, two, tail: (
        b"".join(head)
        + b"\x00" + string(b"traceparent", True) + string(one, True)
        + b"".join(between)
        + b"\x40" + string(b"x-request-id", True) + string(two, True)
        + tail
    ),
    st.sampled_from([[], [b"\x83\x86"]]),
    fresh_values,
    st.sampled_from([[], [b"\x82"], [b"\x00" + string(b"a", False) * 2]]),
    fresh_values, st.sampled_from([b"", b"", b"\x87"]),
)  # fmt: skip


@examples(EXAMPLES)
@given(bodies=st.lists(alike | alike.flatmap(scripts.mutated), min_size=3, max_size=8))
def test_blocks_that_are_nearly_alike_mean_what_a_fresh_decoder_says(bodies: list[Block]) -> None:
    ours = FieldDecoder(0, LIST_BYTES, FIELDS)
    ours.settings_acknowledged()
    ours.decode(b"\x20")
    for block in bodies:
        fresh = Library()
        fresh.decoder.max_allowed_table_size = 0
        fresh.decoder.header_table_size = 0
        if not check(ours, fresh, block):
            return


@functools.cache
def library_decodes(coded: bytes) -> bytes | None:
    try:
        return hpack.huffman_table.decode_huffman(coded)
    except hpack.HPACKDecodingError:
        return None


@examples(EXAMPLES)
@given(coded=st.one_of(st.binary(max_size=40), st.binary(max_size=60).map(coder.encode).flatmap(scripts.mutated)))
def test_huffman_strings_mean_what_the_library_says(coded: bytes) -> None:
    expected = library_decodes(coded)
    try:
        assert huffman.decode(coded) == expected
        assert huffman.is_field_value(coded) == (expected.strip(b" \t") == expected and not {0, 10, 13} & set(expected))
    except huffman.HuffmanError:
        assert expected is None


@examples(EXAMPLES)
@given(plain=st.binary(max_size=300))
def test_huffman_strings_come_back(plain: bytes) -> None:
    assert huffman.decode(coder.encode(plain)) == plain


@examples(EXAMPLES)
@given(fields=st.lists(st.tuples(st.sampled_from([b":status", b"grpc-status", b"date"]) | names, values)))
def test_what_we_encode_decodes_whatever_the_table(fields: scripts.Fields) -> None:
    for table in (0, 4096):
        decoder = hpack.Decoder()
        decoder.header_table_size = table
        assert list(decoder.decode(encode(fields), raw=True)) == fields
        assert not decoder.header_table.dynamic_entries
