import html
import json
import sys
import unicodedata

import orjson
import pytest

from bbr.text import (
    MAX_BRIEF_CHARACTERS,
    MAX_QUOTED_CHARACTERS,
    brief,
    dumps,
    encodable,
    escape,
    is_visible,
    printable,
    printable_json,
    printable_lines,
    quoted,
)


@pytest.mark.parametrize(("text", "found"), [("é\n", "é\n"), ("a\udcffb", "a\\udcffb"), ("", "")])
def test_a_text(text, found):
    assert encodable(text) == found


def test_markup_is_escaped_as_the_standard_library_does():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert escape(everything) == html.escape(everything)


def test_an_error_quotes_the_beginning_of_a_text():
    whole = "a" * MAX_QUOTED_CHARACTERS
    assert [quoted(whole), quoted(whole + "b")] == [f"'{whole}'", f"'{whole}...'"]
    assert [quoted("a'b\n"), quoted("abc", 2)] == [repr("a'b\n"), "'ab...'"]


def test_the_beginning_of_somebody_else_s_text():
    assert brief("a\x1b\n\u202e") == r"a\x1b\n\u202e"
    whole = "\n" * MAX_BRIEF_CHARACTERS
    assert brief(whole) == r"\n" * MAX_BRIEF_CHARACTERS
    assert brief(whole + "\n") == r"\n" * MAX_BRIEF_CHARACTERS + "..."
    assert brief("abc", 2) == "ab..."


def test_lines_end_at_line_feeds_alone():
    assert printable_lines("a\r\nb\u2028c\x85\n\nd") == "a\\r\nb\\u2028c\\x85\n\nd"


# Every character that is not to be seen, by Unicode's categories and its property Default_Ignorable_Code_Point
# (DerivedCoreProperties.txt of 15.0, of which these are the assigned ones that are neither Cf nor Cn).
INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
IGNORABLE = [
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0),
    *range(0xE0100, 0xE01F0),
]

SEEN = ["", "é x", "模型", "модель", "😀", "a\u0301", "नमस्ते", "\\u200b"]


@pytest.mark.parametrize("text", SEEN)
def test_a_text_that_can_be_seen_stays(text):
    assert is_visible(text)
    assert printable(text) == text
    assert json.loads(printable_json(json.dumps(text))) == text


UNSEEN = {
    "\n": "\\n",
    "\x1b[31m\u202e\udcff": "\\x1b[31m\\u202e\\udcff",
    "a\u200bb": "a\\u200bb",
    "\ufeffa": "\\ufeffa",
    "a\u2060\u00ad": "a\\u2060\\xad",
    "a\u2028b\u2029": "a\\u2028b\\u2029",
    "a\u200e\u061c": "a\\u200e\\u061c",
    "a\u00a0b\u3000": "a\\xa0b\\u3000",
    "❤\ufe0f": "❤\\ufe0f",
    "a\u3164": "a\\u3164",
    "a\U000e0041\U000e0100": "a\\U000e0041\\U000e0100",
    "é\u2800": "é\\u2800",
}


@pytest.mark.parametrize(("text", "found"), UNSEEN.items(), ids=map(ascii, UNSEEN))
def test_what_can_not_be_seen_is_spelled_out(text, found):
    assert not is_visible(text)
    assert printable(text) == found
    assert is_visible(found)
    escaped = printable_json(json.dumps(text, ensure_ascii=False))
    assert is_visible(escaped)
    assert json.loads(escaped) == text


@pytest.mark.parametrize("text", UNSEEN, ids=map(ascii, UNSEEN))
def test_json_that_is_served_has_what_can_not_be_seen_as_escapes(text):
    if "\udcff" in text:
        return  # spelled out: it is no text
    data = dumps({text: [text]}, option=orjson.OPT_INDENT_2)
    assert json.loads(data) == {text: [text]}
    assert all(map(is_visible, data.decode().split("\n")))


def test_json_that_can_be_seen_stays():
    for value in ({"a": "x"}, ["模型 😀"]):
        assert dumps(value, option=orjson.OPT_INDENT_2) == orjson.dumps(value, option=orjson.OPT_INDENT_2)
    assert dumps("\x7f") == b'"\\u007f"'


def test_no_character_that_can_not_be_seen_is_left_out():
    unseen = {code for code in range(0x110000) if unicodedata.category(chr(code)) in INVISIBLE_CATEGORIES}
    unseen = (unseen | {*IGNORABLE, 0x2800}) - {0x20}
    assert {code for code in range(0x110000) if not is_visible(chr(code))} == unseen
    # Those that Python would not spell out by itself, each between letters.
    for code in (*IGNORABLE, 0x2800):
        assert printable(f"é{chr(code)}é") == f"é{ascii(chr(code))[1:-1]}é"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": ["x\udcff", ("y", 1, None)]}, {"a": ["x\\udcff", ["y", 1, None]]}),
        ({"\udcff": 1 << 70, 3: True}, {"\\udcff": str(1 << 70), "3": True}),
        ([1, "é"], [1, "é"]),
    ],
)
def test_json(value, found):
    assert json.loads(dumps(value)) == json.loads(dumps(value, option=orjson.OPT_INDENT_2)) == found


def test_what_is_no_json_is_an_error_or_the_callers_business():
    with pytest.raises(TypeError):
        dumps({"x": object(), "y": "\udcff"})
    found = json.loads(dumps({"x": object(), "y": "\udcff"}, default=lambda _: "other"))
    assert found == {
        "x": "other",
        "y": "\\udcff",
    }
