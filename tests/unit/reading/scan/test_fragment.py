import random

import msgspec
import orjson
import pytest

from bbr.reading.scan import fragment, grammar
from bbr.reading.scan.fragment import Fragment
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES
from tests.support.steps import lines

IN_ARRAY, IN_OBJECT = b"[1,", b'{"":'


def read(text: bytes, stack: bytes, begun: bytes, most: int = 1 << 20, *, until_model: bool = True) -> Fragment:
    return fragment.read(
        text, fragment.unescaped(text), most, bytearray(stack), begun, until=grammar.MODEL if until_model else None
    )


# A text with a bar where its fragment ends, the stack before it, what its place is like, and the stack behind it.
TAKEN = [
    (b"1,2,|3", b"{[", IN_ARRAY, b"{["),
    (b"1,[2],| tr", b"{[", IN_ARRAY, b"{["),
    (b'1,[{|"a":1', b"{[", IN_ARRAY, b"{[[{"),
    (b"[]],[|", b"{[[", IN_ARRAY, b"{[["),
    (b'1}],"a":[|', b"{[{", IN_OBJECT, b"{["),
    (b'"]",|"[,', b"{[", IN_ARRAY, b"{["),
    (b'"\\"],",|"\\\\', b"{[", IN_ARRAY, b"{["),
    (b'"a","b"]| "x":"y" ', b"{[", IN_ARRAY, b"{"),
    (b'{"a":{"model":1}}|', b"{[", IN_ARRAY, b"{["),
    (b'{"model":1},|"model":2,"x":3', b"{", IN_OBJECT, b"{"),
    (b'{"model":1},|"\\u006dodel" : 2,"x":3', b"{", IN_OBJECT, b"{"),
    (b'1,"x":2,"models":3,"x\\"model":4,"y":"model",|', b"{", IN_OBJECT, b"{"),
    (b'{"a":1}|}', b"{", IN_OBJECT, b"{"),
    (b"[1]|]", b"[", IN_ARRAY, b"["),
    (b"[" * 512 + b"|[[[[[[[[[[" + b"]" * 522, b"{[", IN_ARRAY, b"{[" + b"[" * 512),  # too steep
    (b"1e300,-1E+30,123,|", b"{[", IN_ARRAY, b"{["),
    (b"0.%b,true,|" % (b"1" * (MAX_NUMBER_BYTES - 2)), b"{[", IN_ARRAY, b"{["),
    (b"[[1]],|", b"[" * (MAX_DEPTH - 2), IN_ARRAY, b"[" * (MAX_DEPTH - 2)),
]

NOT_TAKEN = [
    (b"", b"{[", IN_ARRAY),
    (b" 12345 ", b"{[", IN_ARRAY),
    (b'"an end is missing, [', b"{[", IN_ARRAY),
    (b"],", b"{[", IN_ARRAY),  # after a comma
    (b"1},", b"{[", IN_ARRAY),
    (b"1]],", b"{[", IN_ARRAY),
    (b"1]]", b"{[{", IN_OBJECT),
    (b"[1}", b"{[", IN_ARRAY),
    (b"1]},", b"{[", IN_ARRAY),  # something behind the root
    (b"1]}]", b"{[", IN_ARRAY),
    (b"1]},[", b"{[", IN_ARRAY),
    (b"01,", b"{[", IN_ARRAY),
    (b'"\x01",', b"{[", IN_ARRAY),
    (b'"\\x",', b"{[", IN_ARRAY),
    (b'"\\ud83e",', b"{[", IN_ARRAY),
    (b"tru,", b"{[", IN_ARRAY),
    (b"! ,", b"{[", IN_ARRAY),
    (b"1 ! ", b"{[", IN_ARRAY),
    (b'"a":1,', b"{", IN_OBJECT),
    (b'model":x"a":x"model":\\u006d"model"}', b"{", IN_OBJECT),  # no key is where one seems to be
    (b"1,2,", b"{", IN_OBJECT),
    (b"1e309,", b"{[", IN_ARRAY),
    (b"9" * 400 + b",", b"{[", IN_ARRAY),
    (b"0.%b," % (b"1" * (MAX_NUMBER_BYTES - 1)), b"{[", IN_ARRAY),
    (b"[[[1]]],", b"[" * (MAX_DEPTH - 2), IN_ARRAY),
    (b'"x"model":1,', b"{", IN_OBJECT),
    (b"1,[[]],", b"[" * (MAX_DEPTH - 1), IN_ARRAY),
]


@pytest.mark.parametrize(("marked", "stack", "begun", "behind"), TAKEN, ids=lambda each: str(each)[:40])
def test_taken(marked: bytes, stack: bytes, begun: bytes, behind: bytes) -> None:
    taken = read(marked.replace(b"|", b""), stack, begun)
    assert taken.size == marked.index(b"|")
    assert taken.stack == behind
    assert taken.last == marked[taken.size - 1]


@pytest.mark.parametrize(("text", "stack", "begun"), NOT_TAKEN, ids=lambda each: str(each)[:40])
def test_not_taken(text: bytes, stack: bytes, begun: bytes) -> None:
    taken = read(text, stack, begun)
    assert (taken.size, taken.stack, taken.more) == (0, stack, 0)


def test_more_is_told_when_a_text_was_too_much_at_once() -> None:
    assert read(b"1,2,3", b"{[", IN_ARRAY).more == 0
    assert read(b"1,2,3", b"{[", IN_ARRAY, most=4) == read(b"1,2,", b"{[", IN_ARRAY)._replace(more=4)
    steep = read((b"[" * 800 + b"]" * 800 + b",") * 4, b"{[", IN_ARRAY)
    assert 0 < steep.size <= steep.more < 1600
    assert read(b'1,"model":2,"x":3', b"{", IN_OBJECT).more > 0


def test_keys_model_do_not_count_when_they_are_not_looked_for() -> None:
    assert read(b'1,"model":2,', b"{", IN_OBJECT, until_model=False).size == 12


def test_cost_grows_with_what_is_to_be_done() -> None:
    costs = [
        read(text, b"{[", IN_ARRAY).cost for text in (b" " * 400 + b"1,", b'"",' * 134, b"[]," * 134, b"1e300,[]," * 45)
    ]
    assert costs[0] < min(costs[1:])


@pytest.mark.parametrize(
    ("text", "expected"), [(b"plain \xc3\xa9 \\n\\ud83e\\udd99", True), (b"\n", False), (b"\\", False), (b'"', False)]
)
def test_texts(text: bytes, *, expected: bool) -> None:
    assert fragment.is_text(text) == expected


def test_unescaped_keeps_every_octet_s_place() -> None:
    assert fragment.unescaped(b'\\\\"\\"\\\\\\"\\n') == b'__"______\\n'
    assert fragment.unescaped(b'"x"') == b'"x"'


def test_msgspec_passes_over_just_what_orjson_reads() -> None:
    # All of this rests on it. What is infinite or no UTF-8 is looked at elsewhere.
    dice = random.Random(8259)
    structure = [
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"1",
        b"-",
        b".",
        b"e",
        b"0",
        b"+",
        b"true",
        b"nul",
        b"\t",
        b"\x0b",
    ]
    texts = [b'"', b"\\", b"\\u", b"\\ud83e", b"\\udd99", b"\\u12", b"x", b"\\n", b"\x00", b"\x1f", b"\x7f", b'"a":1']
    for _ in range(20_000):
        parts = dice.choice((structure, texts, structure + texts))
        text = dice.choice((b"[%b]", b'["%b"]', b"%b")) % b"".join(dice.choices(parts, k=dice.randrange(7)))
        assert is_read(msgspec.json.Decoder(msgspec.Raw).decode, text) == is_read(orjson.loads, text), text


def is_read(reader: object, text: bytes) -> bool:
    assert callable(reader)
    try:
        reader(text)
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        return False
    return True


@pytest.mark.parametrize("text", [b'1,"k":{' + b'""' * 4_000, b'1,"a":"b""c"', b'"a""b""c"'])
def test_strings_without_anything_between_are_left_to_the_scanner_without_a_walk_over_all_of_them(text):
    # As many lines for 4,000 strings as for three: a text of quotes alone would otherwise take a millisecond.
    assert lines(lambda: read(text, b"[", IN_ARRAY)) < 150
    assert read(text, b"[", IN_ARRAY).size == 0
