import pytest

from bbr.reading.scan import fragment, scalars
from bbr.reading.scan.fault import Fault
from bbr.reading.scan.grammar import MAX_NUMBER_BYTES


def number_end(piece: bytes, start: int) -> int:
    return scalars.number_end(piece, start, False)


@pytest.mark.parametrize("number", [b"0", b"-0", b"12", b"-1.5", b"1e5", b"2E-999", b"0.5e+3", b"9" * MAX_NUMBER_BYTES])
def test_a_number_ends_at_what_follows_it(number: bytes) -> None:
    if len(number) < MAX_NUMBER_BYTES:
        assert number_end(b"[" + number + b",", 1) == 1 + len(number)
        assert scalars.number_end(number, 0, True) == len(number)
    assert number_end(number, 0) == 0  # a digit may follow


@pytest.mark.parametrize(
    ("piece", "place", "sentence"),
    [
        (b"01,", 0, "leading zero"),
        (b"-00,", 1, "leading zero"),
        (b"-x", 1, "after sign"),
        (b"1.x", 2, "decimal point"),
        (b"1ex", 2, "exponent"),
        (b"1e+x", 3, "exponent"),
        (b"1e999,", 0, "finite"),
        (b"1" * (MAX_NUMBER_BYTES + 1), 0, "more than 2048 bytes"),
    ],
)
def test_what_is_no_number(piece: bytes, place: int, sentence: str) -> None:
    with pytest.raises(Fault, match=sentence) as caught:
        number_end(piece, 0)
    assert caught.value.place == place


@pytest.mark.parametrize("piece", [b"-", b"1.", b"1e", b"1e-"])
def test_a_number_without_its_last_digit_needs_more(piece: bytes) -> None:
    assert scalars.number_end(piece, 0, True) == 0


def test_literals() -> None:
    for word in (b"true", b"false", b"null"):
        assert scalars.literal_end(b" " + word + b"]", 1) == 1 + len(word)
        for size in range(1, len(word)):
            assert scalars.literal_end(word[:size], 0) == 0
            with pytest.raises(Fault, match=f"expected '{word.decode()}'"):
                scalars.literal_end(word[:size] + b"x", 0)


def text_end(piece: bytes, position: int = 0) -> int:
    return scalars.text_end(piece, fragment.unescaped(piece), position)


@pytest.mark.parametrize("filling", [b"", b"x" * 1_000], ids=["short", "long"])
@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (b"abc", b'",1'),
        (b"a\\n\\u00e9\\\\", b'"'),
        (b'a\\"b', b'":1'),
        (b"abc", b""),
        (b"\\ud83e\\udd99", b""),
        (b"abc", b"\\"),
        (b"abc", b"\\u12"),
        (b"abc", b"\\ud83e"),
        (b"abc", b"\\ud83e\\udd9"),
        (b"abc", b"\x01"),
        (b"abc", b'\\x"'),
        (b"a\\u00e9", b'\\ud83ex"'),
    ],
)
def test_a_text_ends_at_its_quote_or_at_what_is_not_whole_or_not_right(
    filling: bytes, text: bytes, rest: bytes
) -> None:
    inside = filling + text
    assert text_end(inside + rest) == len(inside)
    assert text_end(b'"' + inside + rest, 1) == 1 + len(inside)


@pytest.mark.parametrize("escape", [b"\\", b"\\u", b"\\u00e", b"\\ud83e", b"\\ud83e\\", b"\\ud83e\\udd9"])
def test_an_escape_that_may_be_whole_later(escape: bytes) -> None:
    scalars.judge_escape(b"x" + escape, 1)


@pytest.mark.parametrize(
    ("escape", "reason"),
    [
        (b"\\x", "invalid-json"),
        (b"\\u00g0", "invalid-json"),
        (b"\\udd99", "lone-surrogate"),
        (b"\\ud83ex", "lone-surrogate"),
    ],
)
def test_an_escape_that_is_wrong(escape: bytes, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        scalars.judge_escape(b"x" + escape, 1)
    assert (caught.value.place, caught.value.reason) == (1, reason)


def test_nothing_before_the_place_is_looked_at() -> None:
    assert text_end(b'"\\1"', 2) == 3
    assert number_end(b"--1,", 1) == 3
