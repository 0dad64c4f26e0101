import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from bbr.http2 import huffman

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
TEXTS = [b"", b"a", b"www.example.com", b"no-cache", bytes(range(256)), bytes(range(255, -1, -1)) * 2, b"\x00" * 9]


@pytest.mark.parametrize("text", TEXTS)
def test_what_another_encoder_made(text):
    assert huffman.decode(ENCODER.encode(text)) == text


def test_every_symbol_after_every_length_of_rest():
    for symbol in range(256):
        for before in range(8):
            text = b"0" * before + bytes([symbol])
            assert huffman.decode(ENCODER.encode(text)) == text


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"\xff", id="8 bits of padding and nothing else"),
        pytest.param(b"\x1f\xff", id="more than 7 bits of padding"),
        pytest.param(b"\x18", id="padding of zeros"),
        pytest.param(b"\x1e", id="padding that ends in zero"),
        pytest.param(b"\xff\xff\xff\xff", id="EOS"),
        pytest.param(b"\x1f\xff\xff\xff\xff", id="EOS after a symbol"),
        pytest.param(b"\xfe", id="an unfinished code"),
    ],
)
def test_what_is_no_huffman_code(coded):
    for _ in range(2):  # when the steps are new, and when they are known
        for look in (huffman.decode, huffman.is_field_value):
            with pytest.raises(huffman.HuffmanError):
                look(coded)


def test_states_are_no_more_than_open_codes():
    for text in TEXTS:
        huffman.decode(ENCODER.encode(text))
        huffman.is_field_value(ENCODER.encode(text))
    assert len(huffman._states) <= 256
    assert len(huffman._checks) <= 4 * 256
