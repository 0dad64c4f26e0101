import pytest

from bbr.reading.scan import grammar


@pytest.mark.parametrize("letters", ["model", "\\u006d\\u006f\\u0064\\u0065\\u006c", "\\u006Do\\u0064e\\u006C"])
def test_model_key_however_it_is_spelled(letters: str) -> None:
    key = f'"{letters}"'.encode()
    assert grammar.MODEL_KEY.fullmatch(key)
    assert grammar.MODEL_BEFORE_COLON.fullmatch(b'[%b :{"model"}' % key, 1, 1 + len(key)) is None
    assert grammar.MODEL_BEFORE_COLON.findall(b'[%b \n:%b,"models":"model"]' % (key, key)) == [key]
    assert len(key) <= grammar.LONGEST_MODEL_KEY


@pytest.mark.parametrize("key", ["models", "Modell", "mode", "\\\\u006dodel", "\\u006dode"])
def test_other_keys(key: str) -> None:
    assert grammar.MODEL_KEY.match(f'"{key}"'.encode()) is None
    assert grammar.OTHER_KEY_AND_COLON.fullmatch(f' "{key}"\t: '.encode())


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
