import random
import sys

import hpack
import pytest

from bbr.http2.events import RequestReceived, StreamReset
from bbr.http2.fields import FieldDecoder, encode
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    COMPRESSION_ERROR,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    GET_BLOCK,
    HEADER_TABLE_SIZE,
    HEADERS,
    POST_BLOCK,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    REQUEST,
    SETTINGS_ACK,
    Peer,
    block,
    headers,
    literal,
    rst_stream,
    settings,
)
from tests.support.h2_cases import CHUNKS, Case, assert_alive, assert_failed, play, rows

# Before our SETTINGS are acknowledged the hpack library reads every block, after it our own reader most of them.
TABLES = {"table of 4,096": Settings(header_table_size=4096), "no table": Settings()}

HEAD = GET_BLOCK  # begins with an update to size 0
PLAIN = GET_BLOCK[1:]


def string(octets: bytes, *, huffman: bool = False) -> bytes:
    if huffman:
        coded = hpack.Encoder().huffman_coder.encode(octets)
        return bytes([0x80 | len(coded)]) + coded
    return bytes([len(octets)]) + octets


WRONG = {
    "F1 index 0": b"\x80",
    "F1 index above the static table": b"\xbe",
    "F1 index far above": b"\xff\x80\x01",
    "F1 literal name above the tables, indexed": b"\x7f\x20" + string(b"x"),
    "F1 literal name above the tables": b"\x0f\x70" + string(b"x"),
    "F2 padding of more than 7 bits": b"\x00\x01a\x82\x1f\xff",
    "F2 padding of zeros": b"\x00\x01a\x81\x18",
    "F2 padding is half zero": b"\x00\x01a\x81\x1e",
    "F2 EOS inside": b"\x00\x01a\x84\xff\xff\xff\xff",
    "F2 EOS inside, in the name": b"\x00\x84\xff\xff\xff\xff\x01a",
    "F3 size update after a field": b"\x82\x20",
    "F3 size update above ours": b"\x3f\xe2\x1f",
    "F4 integer that overflows": b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    "F4 integer that overflows 2^32": b"\xff\xff\xff\xff\xff\xff\x0f",
    "F4 integer cut off": b"\xff\x80",
    "F4 integer cut off at once": b"\x0f",
    "F4 length that overflows": b"\x00\x01a\x7f\xff\xff\xff\xff\xff\x0f",
    "F4 length cut off": b"\x00\x01a\x7f",
    "F4 no value": b"\x00\x01a",
    "F4 value longer than the block": b"\x00\x01a\x05abcd",
    "F4 name longer than the block": b"\x00\x05abcd",
    "F4 nothing after the pattern": b"\x00",
}
CASES = (
    [
        Case(
            f"{name}, {table}",
            (headers(1, HEAD + wrong if "size update above" not in name else wrong),),
            goaway=COMPRESSION_ERROR,
            limits=limits,
        )
        for table, limits in TABLES.items()
        for name, wrong in WRONG.items()
    ]
    + [
        # The second block is the first for our own reader.
        Case(f"{name}, second block", (headers(1, HEAD), headers(3, wrong)), goaway=COMPRESSION_ERROR)
        for name, wrong in WRONG.items()
    ]
    + [
        Case(
            f"F3 {count} size updates at the beginning, {table}",
            (headers(1, b"\x20" * count + PLAIN),) * 1,
            limits=limits,
        )
        for count in (1, 2)
        for table, limits in TABLES.items()
    ]
    + [
        Case("F7 no update after the acknowledgement", (headers(1, PLAIN),), goaway=COMPRESSION_ERROR),
        Case("F7 an update to 1", (headers(1, b"\x21" + PLAIN),), goaway=COMPRESSION_ERROR),
        Case(
            "F11 twice the limit in octets",
            (headers(1, PLAIN + literal(b"a", b"x" * 100) * 130),),
            goaway=ENHANCE_YOUR_CALM,
            limits=Settings(header_table_size=4096, max_fields=10_000),
        ),
        Case(
            "F11 the limit in octets",
            (headers(1, HEAD + literal(b"a", b"x" * 100) * 70),),
            resets=((1, PROTOCOL_ERROR),),
        ),
        Case("F11 the limit in fields", (headers(1, HEAD + b"\x90" * 126),), resets=((1, PROTOCOL_ERROR),)),
        Case("F11 as many fields as there may be", (headers(1, HEAD + b"\x90" * 125),)),
        Case("F11 twice the limit in fields", (headers(1, HEAD + b"\x90" * 254),), goaway=ENHANCE_YOUR_CALM),
    ]
)


@pytest.mark.parametrize(("case", "chunk"), rows(CASES))
def test_case(case, chunk):
    play(case, chunk)


def requests(peer: Peer) -> list[tuple[tuple[bytes, bytes], ...]]:
    return [each.section.fields for each in peer.found(RequestReceived)]


@pytest.mark.parametrize("limits", TABLES.values(), ids=TABLES)
def test_f2_every_octet_in_huffman_code(limits):
    decoder = FieldDecoder(limits.header_table_size, 1 << 16, 1000)
    decoder.settings_acknowledged()
    decoder.decode(b"\x20")
    for octet in set(range(256)) - {0, 9, 10, 13, 32}:
        value = bytes([octet]) * 3
        section = decoder.decode(b"\x00\x01x" + string(value, huffman=True))
        assert section.fields == ((b"x", value),)


LITERALS = {
    "with indexing": 0x40,
    "without indexing": 0x00,
    "never indexed": 0x10,
}


@pytest.mark.parametrize("limits", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("pattern", LITERALS.values(), ids=LITERALS)
@pytest.mark.parametrize("huffman", [False, True])
def test_f5_literals(limits, pattern, huffman):
    peer = Peer(limits)
    named = bytes([pattern]) + string(b"custom-key", huffman=huffman) + string(b"custom-value", huffman=huffman)
    static = bytes([pattern | 0x0F if pattern < 0x40 else 0x40 | 58])  # user-agent
    static += (b"\x2b" if pattern < 0x40 else b"") + string(b"me", huffman=huffman)
    for place in range(3):
        peer.send(headers(2 * place + 1, HEAD + named + named + static))
    want = (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b"custom-key", b"custom-value"),
        (b"custom-key", b"custom-value"),
        (b"user-agent", b"me"),
    )
    assert requests(peer) == [want] * 3
    assert_alive(peer)


# RFC 7541, appendix C.3 and C.4: three requests on one connection, without and with Huffman code.
VECTORS = {
    "C.3": (
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ),
    "C.4": (
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ),
}
EXAMPLE = (b":authority", b"www.example.com")
FIRST = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), EXAMPLE)
THIRD = ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), EXAMPLE)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("vector", VECTORS)
def test_f6_vectors_of_the_specification(vector, chunk):
    peer = Peer(Settings(header_table_size=4096), chunk=chunk)
    peer.send(*(headers(2 * place + 1, bytes.fromhex(each)) for place, each in enumerate(VECTORS[vector])))
    assert requests(peer) == [
        FIRST,
        (*FIRST, (b"cache-control", b"no-cache")),
        (*THIRD, (b"custom-key", b"custom-value")),
    ]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_f7_a_table_before_the_acknowledgement(chunk):
    peer = Peer(preface=False, chunk=chunk)
    encoder = hpack.Encoder()
    blocks = [encoder.encode([*REQUEST, ("x-id", "7")]) for _ in range(2)]
    assert len(blocks[1]) == len(REQUEST) + 1
    peer.send(PREFACE, settings(), headers(1, blocks[0]), headers(3, blocks[1]), SETTINGS_ACK)
    encoder.header_table_size = 0
    peer.send(*(headers(place, encoder.encode([*REQUEST, ("x-id", "7")])) for place in (5, 7, 9)))
    assert len(set(requests(peer))) == 1
    assert len(requests(peer)) == 5
    assert_alive(peer)


@pytest.mark.parametrize("size", [0, 64, 2**32 - 1])
def test_f8_what_we_send_needs_no_table(size):
    peer = Peer(own=((HEADER_TABLE_SIZE, size),))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    want = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"x-long", b"v" * 300),
        (b"grpc-status", b"0"),
    ]
    for stream_id in (1, 3):
        peer.send(headers(stream_id, POST_BLOCK))
        peer.connection.send_headers(stream_id, encode(want))
        (answer,) = peer.collect()
        assert (answer.kind, answer.flags) == (HEADERS, END_HEADERS)
        assert [(bytes(name), bytes(value)) for name, value in decoder.decode(answer.payload, raw=True)] == want


# An entry goes into the table with each of these requests; one that follows refers to it.
ENTRY = b"\x40\x07x-trace\x03abc"
REJECTED = {
    "malformed": headers(1, PLAIN + ENTRY + literal(b"Upper", b"x")),
    "without a path": headers(1, b"\x82\x86" + ENTRY),
    "too large": headers(1, PLAIN + ENTRY + literal(b"a", b"x" * 100) * 70),
    "trailers where there may be none": headers(1, PLAIN) + headers(1, ENTRY),
    "after the end": headers(1, PLAIN, end=True) + headers(1, ENTRY, end=True),
    "refused": headers(1, PLAIN) + headers(3, PLAIN + ENTRY) + rst_stream(1),
}


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", REJECTED)
def test_f9_a_rejected_block_counts(name, chunk):
    peer = Peer(Settings(header_table_size=4096, max_concurrent_streams=1), chunk=chunk)
    peer.send(REJECTED[name])
    codes = [each.code for each in peer.frames if each.kind == 3]
    assert len(codes) == 1
    assert (codes == [REFUSED_STREAM]) == (name == "refused")
    peer.send(headers(5, PLAIN + b"\xbe"))
    assert peer.found(RequestReceived)[-1].section.get(b"x-trace") == b"abc"


def test_f10_equal_blocks_are_decoded_once():
    decoder = FieldDecoder(0, 8192, 128)
    before = decoder.decode(POST_BLOCK)
    assert decoder.decode(POST_BLOCK) is not before
    decoder.settings_acknowledged()
    assert decoder.decode(POST_BLOCK) is not before  # the library's, to see the update
    after = decoder.decode(POST_BLOCK)
    assert after == before
    assert decoder.decode(POST_BLOCK) is after


def test_f10_with_a_table_nothing_is_remembered():
    decoder = FieldDecoder(4096, 8192, 128)
    decoder.settings_acknowledged()
    assert decoder.decode(POST_BLOCK) is not decoder.decode(POST_BLOCK)


def test_f10_a_block_from_before_the_acknowledgement_means_something_else_later():
    peer = Peer(preface=False)
    entry = b"\x82\x86\x84" + ENTRY
    peer.send(PREFACE, settings(), headers(1, entry), headers(3, PLAIN + b"\xbe"), SETTINGS_ACK, headers(5, HEAD))
    assert len(requests(peer)) == 3
    peer.send(headers(7, PLAIN + b"\xbe"))
    assert_failed(peer, COMPRESSION_ERROR)


def test_f10_the_memo_is_bounded():
    peer = Peer()
    for place in range(3000):
        value = b"%d" % place + b"x" * (place % 110)
        peer.send(headers(2 * place + 1, HEAD + literal(b"x-trace", value) * (place % 12)), rst_stream(2 * place + 1))
        peer.now += 1
    decoder = peer.connection._receiver._decoder
    assert len(decoder._blocks) <= 256
    assert len(decoder._literals) <= 1024
    held = sum(sys.getsizeof(key) for key in (*decoder._blocks, *decoder._literals))
    assert held < 1 << 20


@pytest.mark.parametrize("seed", range(20))
def test_f10_the_same_as_a_fresh_decoder(seed):
    source = random.Random(seed)
    decoder = FieldDecoder(0, 1 << 14, 1000)
    decoder.settings_acknowledged()
    decoder.decode(b"\x20")
    names = ["x-a", "x-b", "user-agent", "accept", "content-type"]
    blocks = []
    for _ in range(60):
        chosen = [
            (source.choice(names), source.choice(["", "a", "é" * 9, "v" * 200])) for _ in range(source.randrange(9))
        ]
        blocks.append(block(chosen, huffman=source.random() < 0.5))
    for each in source.choices(blocks, k=300):
        fresh = hpack.Decoder()
        fresh.max_allowed_table_size = 0
        want = tuple((bytes(name), bytes(value)) for name, value in fresh.decode(each, raw=True))
        assert decoder.decode(each).fields == want


def test_f11_what_a_field_counts():
    exact = 8192 - (7 + 3 + 32) - (7 + 4 + 32) - (5 + 1 + 32)
    value = b"x" * (exact - 32 - 1)
    length = bytes([0x7F, (len(value) - 127) & 0x7F | 0x80, (len(value) - 127) >> 7])
    peer = Peer()
    peer.send(headers(1, HEAD + b"\x00\x01a" + length + value))
    assert len(requests(peer)) == 1
    longer = bytes([0x7F, (len(value) - 126) & 0x7F | 0x80, (len(value) - 126) >> 7])
    peer.send(headers(3, HEAD + b"\x00\x01a" + longer + value + b"x"))
    assert peer.found(StreamReset) == [StreamReset(3, PROTOCOL_ERROR, "field-section-too-large")]
    assert_alive(peer)


def test_f11_decoding_stops():
    decoder = FieldDecoder(0, 8192, 128)
    decoder.settings_acknowledged()
    decoder.decode(b"\x20")
    assert len(decoder._read(b"\x82" * 16_000) or ()) == 257
