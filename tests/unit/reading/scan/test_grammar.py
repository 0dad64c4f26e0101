import pytest

from bbr.reading.scan import grammar


@pytest.mark.parametrize("letters", ["model", "\\u006d\\u006f\\u0064\\u0065\\u006c", "\\u006Do\\u0064e\\u006C"])
def test_model_key_however_it_is_spelled(letters: str) -> None:
    key = f'"{letters}"'.encode()
    assert grammar.MODEL.key.fullmatch(key)
    assert grammar.MODEL.before_colon.fullmatch(b'[%b :{"model"}' % key, 1, 1 + len(key)) is None
    assert grammar.MODEL.before_colon.findall(b'[%b \n:%b,"models":"model"]' % (key, key)) == [key]
    assert len(key) <= grammar.MODEL.longest


@pytest.mark.parametrize("key", ["models", "Modell", "mode", "\\\\u006dodel", "\\u006dode"])
def test_other_keys(key: str) -> None:
    assert grammar.MODEL.key.match(f'"{key}"'.encode()) is None
    assert grammar.MODEL.other_and_colon.fullmatch(f' "{key}"\t: '.encode())


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b'plain "', 6),
        (b"\\n\\u00e9\\ud83e\\udd99\\", 20),
        (b"\\ud83e", 0),
        (b"x\\udd99", 1),
        (b"\\\\\\x", 2),
        ("é\x7f".encode() + b"\x1f", 3),
    ],
)
def test_text_ends_before_what_is_no_text(text: bytes, end: int) -> None:
    assert grammar.TEXT.match(text, 0).end() == end


@pytest.mark.parametrize(
    ("text", "end"), [(b"-0.5e-3,", 7), (b"01", 1), (b"1.", 1), (b"1e", 1), (b"1E+30]", 5), (b"-", None), (b"+1", None)]
)
def test_numbers(text: bytes, end: int | None) -> None:
    found = grammar.NUMBER.match(text)
    assert (found and found.end()) == end


KEYS = grammar.Keys(("model", "user", "k-1_s"))


@pytest.mark.parametrize(
    "key",
    [b'"model"', b'"USER"', b'"u\\u017fer"', b'"u\xc5\xbfer"', b'"k-1_s"', b'"\\u212A\\u002d\\u0031\\u005F\xc5\xbf"'],
)
def test_keys_beside_the_model_are_found_in_any_letters(key: bytes) -> None:
    assert KEYS.key.fullmatch(key)
    assert KEYS.end.search(key + b" :")
    assert KEYS.before_colon.findall(b'[%b \n:%b,"users":"user"]' % (key, key)) == [key]
    assert KEYS.other_and_colon.match(key + b":") is None
    assert len(key) <= KEYS.longest
    assert KEYS.count == 3


def test_values_that_end_as_a_key_does_are_no_reason_to_look_for_keys() -> None:
    assert KEYS.end.search(b'{"role":"user","x":"y"}') is None
    assert KEYS.end.search(b'{"x":"\\u0075ser"}')
