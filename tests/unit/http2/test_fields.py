import gc
import tracemalloc

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import MEMO_BYTES, Coded, FieldDecoder, FieldSection, encode
from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bench.harness.h2_frames import GET, GET_BLOCK, POST_BLOCK, block, literal


@pytest.fixture
def decoder() -> FieldDecoder:
    """A decoder whose table size of 0 is in force."""
    made = FieldDecoder(0, 8192, 128)
    made.settings_acknowledged()
    made.decode(b"\x20")
    return made


def read(decoder: FieldDecoder, octets: bytes) -> list[tuple[bytes, bytes]] | None:
    """Return what our own reader makes of a block."""
    entries = decoder._read(octets)
    return None if entries is None else list(FieldSection(entries, "", None, False).fields)


def section(*fields: tuple[str, str]) -> FieldSection:
    return FieldDecoder(4096, 8192, 128).decode(block(fields))


ENCODED = [
    [],
    [(b":status", b"200"), (b"content-type", b"application/grpc")],
    [(b":status", b"415"), (b"grpc-status", b"0"), (b"grpc-message", b"")],
    [(b"x" * 126, b"v" * 127), (b"y" * 127, b"v" * 128), (b"z" * 400, b"v" * 20_000)],
    [(b":path", b"/"), (b":path", b"/other"), (b"www-authenticate", b"x")],
    [(b"content-length", bytes(range(256)))],
]


@pytest.mark.parametrize("fields", ENCODED)
def test_what_is_encoded_another_decoder_reads(fields):
    made = hpack.Decoder(max_header_list_size=1 << 20)
    made.max_allowed_table_size = 0
    made.header_table_size = 0
    assert [(bytes(name), bytes(value)) for name, value in made.decode(encode(fields), raw=True)] == fields


@pytest.mark.parametrize("fields", [each for each in ENCODED if each and len(each[0][1]) < 99])
def test_what_is_encoded_our_decoder_reads(fields, decoder):
    assert read(decoder, encode(fields)) == fields


def test_a_static_field_is_an_octet():
    assert encode([(b":status", b"200")]) == b"\x88"
    assert encode([(b":status", b"415")]) == b"\x08\x03415"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x82",
        b"\x20\x82\x84",
        b"\x20\x20\x82",
        literal(b"name", b"value"),
        b"\x50\x0d12, gzip/br/x",
        b"\x7a\x02me",  # user-agent with indexing
        b"\x0f\x2b\x02me",  # without indexing: an index of two octets
        b"\x1f\x2b\x82\x1c\x64",
    ],
)
def test_blocks_that_are_read_without_the_library(decoder, octets):
    made = hpack.Decoder()
    want = [(bytes(name), bytes(value)) for name, value in made.decode(octets, raw=True)]
    assert read(decoder, octets) == want


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b"\x80", id="index 0"),
        pytest.param(b"\xbe", id="index of a table"),
        pytest.param(b"\xff\x00", id="index of two octets"),
        pytest.param(b"\x21", id="update to 1"),
        pytest.param(b"\x82\x20", id="update after a field"),
        pytest.param(b"\x7f\x20\x01x", id="name of a table"),
        pytest.param(b"\x00", id="no name"),
        pytest.param(b"\x00\x01a", id="no value"),
        pytest.param(b"\x00\x01a\x02b", id="value longer than the block"),
        pytest.param(b"\x00\x09a\x01b", id="name longer than the block"),
        pytest.param(b"\x0f", id="index cut off"),
        pytest.param(b"\x00\x01a\x7f\x80\x80\x80\x80\x00", id="length of too many octets"),
        pytest.param(b"\x00\x01a\x81\x18", id="no Huffman code"),
    ],
)
def test_blocks_that_are_left_to_the_library(decoder, other):
    assert read(decoder, other) is None


def test_a_length_in_more_octets_than_it_needs_is_the_librarys(decoder):
    assert decoder.decode(b"\x00\x7f\x80\x80\x80\x80\x00" + b"n" * 127 + b"\x01v").fields == ((b"n" * 127, b"v"),)


@pytest.mark.parametrize(
    ("bad", "code", "reason"),
    [
        (b"\x80", ErrorCode.COMPRESSION_ERROR, "hpack"),
        (b"\x3f\xe2\x1f", ErrorCode.COMPRESSION_ERROR, "hpack-table-size"),
        (literal(b"a", b"x" * 100) * 130, ErrorCode.ENHANCE_YOUR_CALM, "field-section-bomb"),
        (b"\x82" * 300, ErrorCode.ENHANCE_YOUR_CALM, "field-section-bomb"),
    ],
)
def test_what_ends_the_connection(decoder, bad, code, reason):
    for each in (decoder, FieldDecoder(4096, 8192, 128)):
        with pytest.raises(ConnectionFault) as caught:
            each.decode(bad)
        assert (caught.value.fault.code, caught.value.fault.reason) == (code, reason)


def test_the_table_must_be_given_up_after_the_acknowledgement():
    made = FieldDecoder(0, 8192, 128)
    assert made.decode(b"\x82").fields == ((b":method", b"GET"),)
    made.settings_acknowledged()
    with pytest.raises(ConnectionFault, match="hpack-table-size"):
        made.decode(b"\x82")


def test_equal_blocks_are_decoded_once(decoder):
    first = decoder.decode(POST_BLOCK)
    assert decoder.decode(POST_BLOCK) is first
    assert decoder.decode(GET_BLOCK) is not first


def test_equal_literals_are_decoded_once(decoder):
    one = decoder.decode(b"\x82" + literal(b"x-a", b"b"))
    two = decoder.decode(b"\x83" + literal(b"x-a", b"b"))
    assert one.entries[1] is two.entries[1]


def test_the_table_counts_until_it_is_given_up():
    held = Held()
    made = FieldDecoder(0, 8192, 128, held)
    for _ in range(2):
        made.decode(b"\x82")
        assert held.octets > 4096
    made.settings_acknowledged()
    made.decode(b"\x20\x82")
    assert held.octets == 0


@pytest.mark.parametrize(
    "block",
    [
        lambda place: literal(b"x-%d" % place, b"%d" % place),
        lambda place: literal(b"a", b"") * 100 + literal(b"x", b"%d" % place),
        lambda place: b"\x82" + b"\x90" * 120 + literal(b"x", b"%d" % place),
        lambda place: b"".join(literal(b"%d" % each, b"%d" % place) for each in range(100)),
    ],
    ids=["short", "many literals", "indexed", "all fresh"],
)
def test_memos_take_no_more_memory_than_they_count(decoder, block):
    blocks = [block(place) for place in range(400)]
    gc.collect()
    tracemalloc.start()
    try:
        for each in blocks:
            decoder.decode(each)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert decoder._held.octets <= MEMO_BYTES
    # Dicts that were emptied keep their tables.
    assert taken <= decoder._held.octets + (20 << 10)


def test_memos_are_bounded(decoder):
    for place in range(1200):
        decoder.decode(literal(b"x-a", b"%d" % place))
        assert decoder._held.octets <= MEMO_BYTES
        assert sum(map(len, (*decoder._blocks, *decoder._literals))) <= MEMO_BYTES // 2
    assert 0 < len(decoder._literals) < 200
    long = b"\x00\x01a\x7f\xff\x0f" + b"v" * (127 + 127 + (15 << 7))
    assert len(decoder.decode(long).fields[0][1]) == 2174
    assert long not in decoder._blocks
    assert long not in decoder._literals


@pytest.mark.parametrize(
    ("max_fields", "fault"), [(4, ""), (3, "field-section-too-large"), (2, "field-section-too-large")]
)
def test_the_number_of_fields(max_fields, fault):
    made = FieldDecoder(4096, 8192, max_fields).decode(b"\x82" * 1 + b"\x90" * 3)
    assert made.fault == fault
    assert len(made.fields) == (0 if fault else 4)


@pytest.mark.parametrize(("size", "fault"), [(37, ""), (36, "field-section-too-large")])
def test_the_size_of_a_section(size, fault):
    assert FieldDecoder(4096, size, 128).decode(literal(b"na", b"val")).fault == fault


FAULTS = {
    "pseudo-field": [(":path", "/"), (":path", "/")],
    "field-name": [("Name", "x")],
    "field-value": [("name", "x\n")],
    "connection-specific-field": [("te", "gzip")],
    "content-length": [("content-length", "x")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_sections_name_their_fault_and_hold_no_fields(fault):
    made = section(*FAULTS[fault])
    assert (made.fault, made.fields, made.content_length) == (fault, (), None)
    assert made.request_fault == fault


def test_a_section():
    made = section(*GET, ("content-length", "12"), ("a", "1"), ("a", "2"))
    assert made.get(b"a") == b"1"
    assert made.get(b"b") is None
    assert (made.content_length, made.trailers, made.fault) == (12, False, "")
    assert section(("a", "1")).trailers


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (GET, ""),
        (GET[1:], "pseudo-field"),
        ([*GET[:1], *GET[2:]], "pseudo-field"),
        (GET[:2], "pseudo-field"),
        ([*GET[:2], (":path", "")], "pseudo-field"),
        ([(":method", "CONNECT"), (":authority", "a")], "connect"),
        ([*GET, (":authority", "a"), ("host", "a")], ""),
        ([*GET, (":authority", "a"), ("host", "b")], "authority"),
        ([*GET, (":authority", "u@a")], "authority"),
        ([*GET, ("host", "b")], ""),
    ],
)
def test_requests(fields, fault):
    assert section(*fields).request_fault == fault


CODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def coded(name: bytes, value: bytes) -> bytes:
    octets = CODER.encode(value)
    return b"\x00" + bytes((len(name),)) + name + bytes((0x80 | len(octets),)) + octets


def test_a_value_that_nobody_reads_stays_coded_until_it_is_read(decoder):
    made = decoder.decode(POST_BLOCK + coded(b"traceparent", TRACE) + coded(b"grpc-timeout", b"10S"))
    assert [type(each.value) for each in made.entries[-2:]] == [Coded, bytes]
    assert made.get(b"traceparent") == TRACE
    assert made.fields[-2:] == ((b"traceparent", TRACE), (b"grpc-timeout", b"10S"))
    assert not made.fault


@pytest.mark.parametrize(
    "bad", [b" a", b"a ", b"\ta", b"a\t", b" ", b"a\0b", b"a\rb", b"a\nb", b"\n", b"a\0b c", b"\0 "]
)
@pytest.mark.parametrize("name", [b"x-other", b"grpc-timeout"])
def test_an_illegal_value_is_found_whether_it_is_read_or_not(decoder, name, bad):
    assert decoder.decode(POST_BLOCK + coded(name, bad)).fault == "field-value"


def test_a_value_that_is_no_huffman_code_is_found_if_nobody_reads_it(decoder):
    with pytest.raises(ConnectionFault):
        decoder.decode(POST_BLOCK + b"\x00\x03x-o\x81\x18")


@pytest.mark.parametrize(("size", "fault"), [(36 + 99, ""), (36 + 98, "field-section-too-large")])
def test_the_size_of_a_section_with_coded_values(size, fault):
    made = FieldDecoder(0, size, 128)
    made.settings_acknowledged()
    made.decode(b"\x20")
    assert made.decode(coded(b"nam1", b"0" * 99)).fault == fault


def test_a_bad_name_is_the_fault_before_its_coded_value(decoder):
    assert decoder.decode(POST_BLOCK + coded(b"X", b" x")).fault == "field-name"
    assert decoder.decode(POST_BLOCK + coded(b"upgrade", b"h2c")).fault == "connection-specific-field"


def traced(trace: bytes, request: bytes = b"x", after: bytes = b"") -> bytes:
    return POST_BLOCK[1:] + coded(b"traceparent", trace) + b"\x00\x01a\x01b" + coded(b"x-id", request) + after


def taught(**limits: int) -> FieldDecoder:
    """Return a decoder that knows the pattern of `traced` blocks."""
    made = FieldDecoder(0, limits.get("max_list_bytes", 8192), 128)
    made.settings_acknowledged()
    made.decode(b"\x20")
    for number in range(3):
        assert not made.decode(traced(b"%054d" % number, b"%036d" % number)).fault
    return made


@pytest.mark.interpreted("replaces a method of a decoder")
def test_blocks_that_differ_in_what_nobody_reads_are_known_to_be_alike(monkeypatch):
    decoder = taught()
    monkeypatch.setattr(decoder, "_read", None)
    one, two = decoder.decode(traced(TRACE, b"one")), decoder.decode(traced(TRACE[::-1], b"two"))
    assert one.entries is two.entries
    assert [each.get(b"traceparent") for each in (one, two)] == [TRACE, TRACE[::-1]]
    assert two.fields[-3:] == ((b"traceparent", TRACE[::-1]), (b"a", b"b"), (b"x-id", b"two"))
    assert (two.get(b":path"), two.request_fault, two.get(b"b")) == (b"/service/Method", "", None)


def test_a_value_that_stays_the_same_is_none_of_the_fresh_ones():
    decoder = FieldDecoder(0, 8192, 128)
    decoder.settings_acknowledged()
    decoder.decode(b"\x20")
    sections = [decoder.decode(traced(b"%054d" % number, b"same")) for number in range(4)]
    assert sections[2].entries is sections[3].entries
    assert [len(each.fresh) for each in sections] == [0, 0, 1, 1]
    assert {each.get(b"x-id") for each in sections} == {b"same"}


@pytest.mark.parametrize(
    ("block", "last", "fault"),
    [
        (traced(TRACE, b"x", b"\x00\x01c\x01d"), b"d", ""),
        (traced(TRACE)[:-2] + b"\xff\x00" + CODER.encode(b"x" * 145), b"x" * 145, ""),
        (traced(TRACE, b"x y"), b"x y", ""),
        (traced(TRACE)[:-2] + b"\x03raw", b"raw", ""),
        (POST_BLOCK[1:], b"trailers", ""),
        (b"", None, "pseudo-field"),
        (traced(TRACE, b" x"), None, "field-value"),
        (traced(TRACE + b"\n"), None, "field-value"),
    ],
)
def test_blocks_that_are_alike_only_at_first_sight(block, last, fault):
    made = taught().decode(block)
    assert made.request_fault == fault
    if last is not None:
        assert made.fields[-1][1] == last
        assert made.fields == FieldDecoder(4096, 8192, 128).decode(block).fields


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_block_that_is_cut_off_is_not_alike(cut):
    with pytest.raises(ConnectionFault):
        taught().decode(traced(TRACE, b"0123456")[:-cut])


def test_a_fresh_value_that_is_no_huffman_code_ends_the_connection():
    block = bytearray(traced(TRACE))
    block[-1] = 0x18
    with pytest.raises(ConnectionFault, match="hpack"):
        taught().decode(bytes(block))


def test_the_size_of_a_section_counts_fresh_values():
    exact = sum(len(name) + len(value) + 32 for name, value in taught().decode(traced(TRACE, b"0" * 70)).fields)
    assert not taught(max_list_bytes=exact).decode(traced(TRACE, b"0" * 70)).fault
    assert taught(max_list_bytes=exact - 1).decode(traced(TRACE, b"0" * 70)).fault == "field-section-too-large"
