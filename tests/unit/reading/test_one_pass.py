import random
from decimal import Decimal, localcontext
from math import inf, nextafter

import orjson
import pytest

from bbr.reading.one_pass import (
    LONG_DIGITS,
    LONGEST_NAME,
    MOST_BYTES,
    MOST_LEVELS,
    MOST_MEMBERS,
    MOST_OPENINGS,
    has_long_number,
    name_in,
)
from bbr.reading.scan.grammar import MAX_TRAILING_BLANKS

simdjson = pytest.importorskip("simdjson", reason="there is no wheel of it for this version of Python")


def chat(**members: object) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": 'He said: "so\\"\n'}], **members})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (chat(model="qwen"), "qwen"),
        (b'{"mod\\u0065l":"\\u0061\\n\\ud83d\\ude00"}', "a\n😀"),
        ('{"é":{"model":"b","model":"c"},"model" : "ü"}'.encode(), "ü"),
        (b'{"x":"model","model":"a","y":["model"]}', "a"),
        (b'{"model":"%b"}' % (b"x" * LONGEST_NAME), "x" * LONGEST_NAME),
        (chat(), ""),
        (b"{}", ""),
        (b'[{"model":"a"}]', ""),
        (b'"model"', ""),
        (b" null\n", ""),
    ],
)
def test_what_is_settled(body: bytes, name: str) -> None:
    assert name_in(body) == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"model":"a"',
        b'{"model":"a"}x',
        b'{"model":"a"},{"model":"a"}',
        b'{"model":"a"}],[{"model":"a"}',
        b'\xef\xbb\xbf{"model":"a"}',
        b'{"model":"a","x":"\xff"}',
        b'{"model":"a","x":"\\udc00"}',
        b'{"model":"a","x":"\\ud800\\u0061"}',
        b'{"model":"a","x":1e309}',
        b'{"model":"a","x":NaN}',
        b'{"model":"a","x":01}',
        b'{"model":"a","x":123456789012345678901}',  # sound, but of more than 64 bits
        b'{"model":""}',
        b'{"model":1}',
        b'{"model":["a"]}',
        b'{"model":"%b"}' % (b"x" * (LONGEST_NAME + 1)),
        b'{"model":"a","model":"a"}',
        b'{"model":"a","\\u006dodel":"b"}',
        b'{"model":"a","x":1,"x":2}',
        b'{"model":"a","Model":"b"}',
        b'{"MODEL":"b"}',
        b'{"model\\u0000x":"b"}',
        b'{"model":"a",%b}' % b",".join(b'"%d":0' % number for number in range(MOST_MEMBERS)),
    ],
)
def test_what_is_not(body: bytes) -> None:
    assert name_in(body) is None


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"":', b"}")])
def test_levels(opening: bytes, closing: bytes) -> None:
    def body(levels: int, text: bytes = b"") -> bytes:
        return b'{"model":"a","x":"%b","y":%b[]%b}' % (text, opening * (levels - 2), closing * (levels - 2))

    brackets = b"[{" * MOST_LEVELS  # in a string, where they do not count
    for text in (b"", brackets):
        assert name_in(body(MOST_LEVELS, text)) == "a"
        assert name_in(body(MOST_LEVELS + 1, text)) is None
        assert name_in(body(2_000, text)) is None


def test_brackets_around_it_make_nothing_valid() -> None:
    wide = b"[%b0]" % (b"[]," * MOST_LEVELS)
    assert name_in(b'{"x":%b,"model":"a"}' % wide) == "a"
    assert name_in(b'{"x":%b,"model":"a"}],[{}' % wide) is None


def test_blanks_behind_it() -> None:
    assert name_in(b'{"model":"a"}' + b" " * MAX_TRAILING_BLANKS) == "a"
    assert name_in(b'{"model":"a"}' + b" " * (MAX_TRAILING_BLANKS + 1)) is None


def test_the_longest() -> None:
    begin, end = b'{"model":"a","x":"', b'"}'
    assert name_in(begin + b"x" * (MOST_BYTES - len(begin + end)) + end) == "a"
    assert name_in(begin + b"x" * (MOST_BYTES - len(begin + end) + 1) + end) is None


def test_the_most_brackets() -> None:
    begin, end = b'{"model":"a","x":[', b'""]}'

    def body(openings: int) -> bytes:
        dense = begin + b"[]," * (openings - 2)
        return dense + end[:1] + b"x" * (MOST_BYTES - len(dense + end)) + end[1:]

    assert len(body(MOST_OPENINGS)) == MOST_BYTES
    assert name_in(body(MOST_OPENINGS)) == "a"
    assert name_in(body(MOST_OPENINGS + 1)) is None


@pytest.mark.parametrize("before", range(25))
@pytest.mark.parametrize("number", ["1" * LONG_DIGITS, "0." + "1" * (LONG_DIGITS - 2), "12345678901234567.89e300"])
def test_a_long_number_at_any_place(before: int, number: str) -> None:
    text = number.encode()
    for body in (b"x" * before + text, b"x" * before + text + b"x" * 30, b"7 " * 100 + b"x" * before + text + b"x"):
        assert has_long_number(body)
        assert not has_long_number(body.replace(text, text[: LONG_DIGITS - 1]))


def test_a_body_with_a_long_number_is_left_to_others() -> None:
    body = b'{"x":"%b","y":0.%b,"model":"a"}'
    assert name_in(body % (b"x" * 3_000, b"1" * (LONG_DIGITS - 3))) == "a"
    assert name_in(body % (b"x" * 3_000, b"1" * LONG_DIGITS)) is None
    # So short a body may have one: it can't have many.
    assert name_in(body % (b"", b"1" * LONG_DIGITS)) == "a"


def test_many_digits() -> None:
    body = b'{"x":[%b1],"model":"a"}'
    short, long = body % (b"123456789," * 13_000), body % (b"123456789," * 13_200)
    assert len(short) < 128 << 10 < len(long)
    assert not has_long_number(short)
    assert has_long_number(short[:-50] + short[-50:].replace(b"9,1", b"91"))
    assert has_long_number(long)
    assert (name_in(short), name_in(long)) == ("a", None)


def test_numbers_that_lie_between_two_others_are_long() -> None:
    """What takes simdjson long: more digits than 64 bits hold, near the middle between two doubles."""
    numbers = random.Random(1)
    texts = []
    for _ in range(100):
        low = numbers.random() * 1e300
        with localcontext(prec=40):
            middle = (Decimal(low) + Decimal(nextafter(low, inf))) / 2
        texts.append(f"{middle:.{LONG_DIGITS}e}".replace("+", ""))
    body = b'{"x":[%b],"model":"a"}' % ",".join(texts).encode()
    assert simdjson.Parser().parse(body, True) == orjson.loads(body)
    assert name_in(body) is None


def test_a_document_that_is_held_elsewhere_does_not_matter() -> None:
    held = simdjson.Parser().parse(b'{"model":"b"}')
    assert [name_in(b'{"model":"a"}') for _ in range(3)] == ["a"] * 3
    assert held["model"] == "b"
