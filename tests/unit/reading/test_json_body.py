import sys
from collections.abc import Callable

import msgspec
import orjson
import pytest

from bbr.reading.json_body import (
    ABSENT,
    COLONS_FROM,
    COMMAS_FROM,
    MOST_BRACKETS,
    MOST_COLONS,
    MOST_COMMAS,
    MOST_MEMBERS,
    SHORT_BYTES,
    UNSETTLED,
    find_model,
    is_written,
    object_members,
    settled_by_two,
)
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES, MAX_TRAILING_BLANKS
from bbr.refusal import Refusal
from tests.support.whole import find, model_keys, read_model

DEEP = 300
Settle = Callable[[bytes], object]
# All parsers, and those that read what simdjson does not settle.
WAYS = pytest.mark.parametrize("settled", [find_model, settled_by_two])


@WAYS
@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b'{"model":null}', None),
        (b'{"model":{"model":"x"}}', {"model": "x"}),
        (b'{"tools":[{"model":"x"},{"model":"y"}],"model":"a"}', "a"),
        (b'{"model":"model","required":["model"]}', "model"),
        (b'{"text":"say \\"model\\" and \\\\","model":"a"}', "a"),
        (b'{"text":"\\"model","model":"a"}', "a"),
        (b'{"text":"\\u0022model","model":"a","x":"model"}', "a"),
        (b'{"text":"\\u00e9\\u006d","model":"a"}', "a"),
        (b'{ "a" :\t1 ,\n"model":\r"a" , "b":[ 1, 2 ] }\n', "a"),
        (b'{"x":{"mod\\u0065l":"b"},"model":"a"}', "a"),
        (b'{"x":"mod\\u0065l","model":"a"}', "a"),
        (b'{"x":{"model":1,"model":2},"model":"a"}', "a"),
        (b'{"a":{"b":"model"},"c":"d","model" \n: "a"}', "a"),
        (b'{"model":"a","x":%s"model"%s}' % (b"[" * DEEP, b"]" * DEEP), "a"),
        (b'{"x":{"model":"a"}}', ABSENT),
        (b'{"x":"model"}', ABSENT),
        (b'{"model ":"a"}', ABSENT),
        (b'{"":"model"}', ABSENT),
        (b'[{"model":"a"}]', ABSENT),
        (b'"model"', ABSENT),
        (b"null", ABSENT),
    ],
)
def test_found(settled: Settle, body: bytes, model: object) -> None:
    assert settled(body) == find(body) == model


@WAYS
@pytest.mark.parametrize(
    "value", [b"1e309", b"-1.5E400", b"9" * 400, b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'{"\xe2\x82":1}']
)
def test_what_msgspec_alone_would_take(settled: Settle, value: bytes) -> None:
    """Why two parsers read each body: once msgspec refuses these, one may do."""
    body = b'{"model":"a","x":%b}' % value
    assert list(msgspec.json.decode(body, type=dict[str, msgspec.Raw])) == ["model", "x"]
    assert settled(body) is UNSETTLED


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"mod\\u0065l":"a"}', "a"),
        (b'{"\\u006d\\u006fdel":"a"}', "a"),
        (b'{"x":1,"x":2345678901,"model":"a"}', "a"),
        (b'{"x":1,"x":{"model":2},"model":"a"}', "a"),
        (b'{"x":"\\u0000","\\u006dode":1}', None),
        (b'{"model":"a",%b}' % b",".join(b'"%d":0' % number for number in range(MOST_MEMBERS)), "a"),
    ],
)
def test_what_takes_a_closer_look_is_left_to_the_scanner(body: bytes, model: str | None) -> None:
    assert settled_by_two(body) is UNSETTLED
    assert read_model(body) == model
    assert find(body) == (ABSENT if model is None else model)


@WAYS
@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'{"model":"a","model":"b"}', 13),
        (b'{"model":"a","model":"a"}', 13),
        (b'{"model":"a", "mod\\u0065l" :"b"}', 14),
        (b'{"\\u006dodel":"a","model":"b"}', 18),
        (b'{"\\u006dodel":"a","\\u006Dodel":"b"}', 18),
        (b'{"model":"a","x":"\\u0022model","model":"b"}', 31),
        (b'{"model":"a","x":"\\u0022model\\u0022","model":"b"}', 37),
        (b'{"x":{"model":1},"model":"a","y":[{"model":2}],"model":"b"}', 47),
        (b'{"model":{"model":1},"model":"b"}', 21),
        (b'{"model":12,"x":0,"model":1}', 18),
        (b'{"model":1,"model":2}', 11),
        (b'{"model":1,"x":{},"model":1}', 18),
        (b'{"a":",\\"b\\":1,","model":1, "c":2, "model":1}', 35),
        (b'{"model":"a"   ,   "model":"a"   }', 19),
        ('{"é":"model","model":"a","model":"b"}'.encode(), 26),
        (b'{"model":"a","model":"b","model":"c"}', 13),
        (b'{"model":"a","x":%s"model"%s,"model":"b"}' % (b"[" * DEEP, b"]" * DEEP), 25 + 2 * DEEP),
    ],
)
def test_duplicates_are_refused(settled: Settle, body: bytes, offset: int) -> None:
    assert settled(body) is UNSETTLED
    for read in (read_model, find):
        with pytest.raises(Refusal, match=f"At byte {offset} of the body") as caught:
            read(body)
        assert (caught.value.status, caught.value.reason) == (400, "model-duplicate")


@WAYS
@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b"{", "invalid-json", 1),
        (b"", "invalid-json", 0),
        (b"  ", "invalid-json", 0),
        (b"{'model':'a'}", "invalid-json", 1),
        (b'{"a":1,}', "invalid-json", 7),
        (b'{"a":"\x01"}', "invalid-json", 6),
        ('{"é":nul}'.encode(), "invalid-json", 6),
        (b'{"model":"a"}x', "trailing-bytes", 13),
        (b'{"model":"a"} {"model":"b"}', "trailing-bytes", 14),
        (b'{"model":"a"}\x00', "trailing-bytes", 13),
        (b'{"a":"\xff"}', "invalid-utf8", 6),
        (b'{"a":"\xed\xa0\x80"}', "invalid-utf8", 6),
        (b'{"a":"\xc0\xaf"}', "invalid-utf8", 6),
        (b'\xef\xbb\xbf{"model":"a"}', "byte-order-mark", 0),
        ('{"model":"a"}'.encode("utf-16"), "invalid-utf8", 0),
        (b'{"a":NaN}', "non-finite-number", 5),
        (b'{"a":-NaN}', "non-finite-number", 6),
        (b'{"a":Infinity}', "non-finite-number", 5),
        (b'{"a":-Infinity}', "non-finite-number", 6),
        (b'{"a":1e999}', "non-finite-number", 5),
        (b'{"a":-1e999}', "non-finite-number", 5),
        (b'{"a":"\\ud800"}', "lone-surrogate", 6),
        (b'{"a":"\\udc00x"}', "lone-surrogate", 6),
        (b"[" * 2000, "too-deep", 900),
        (b"--boundary\r\n", "invalid-json", 1),
        (b"\x1f\x8b\x08\x00", "invalid-json", 0),
    ],
)
def test_what_is_not_json_is_refused_by_kind_and_place(settled: Settle, body: bytes, reason: str, offset: int) -> None:
    assert settled(body) is UNSETTLED
    if not body:
        return  # such a request names no model
    with pytest.raises(Refusal) as caught:
        read_model(body)
    assert (caught.value.status, caught.value.reason) == (400, reason)
    assert f"at byte {offset}." in caught.value.message, caught.value.message


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b'{"model":1}', [(1, True)]),
        (b'{"x":"model","mod\\u0065l":1}', [(13, True)]),
        (b'{"model":"model" , "MODEL":[{"model":1}]}', [(1, True), (19, False)]),
        (b'{"model\\u0000x":1,"models":2,"m\\u0000odel":3,"\\u006dode":4}', [(1, False)]),
        (b"{}", []),
    ],
)
def test_keys_are_told_from_values(body: bytes, keys: list[tuple[int, bool]]) -> None:
    assert model_keys(body) == keys


@WAYS
def test_everyday_documents_are_settled(settled: Settle) -> None:
    tools = b'{"tools":[{"properties":{"model":{"type":"string"}},"required":["model"]}],"model":"a"}'
    text = b'{"messages":[{"content":"caf\\u00e9 \\u2028 \\"model\\": \\"x\\""}],"model":"a"}'
    chat = {"messages": [{"role": "user", "content": "Hello, world. [1] {2} \n"}] * 500, "model": "a"}
    indented = orjson.dumps(chat, option=orjson.OPT_INDENT_2)
    long = b'{"messages":[{"role":"user","content":"%b"}],"model":"a"}' % (
        b"Well, what is it? A cat or a dog. " * 7_000
    )
    for body in (tools, text, orjson.dumps(chat), indented, long):
        assert settled(body) == "a"


@pytest.mark.parametrize("gap", [0, 3, 200])
@pytest.mark.parametrize(
    ("octet", "most", "start"),
    [
        (b"[", MOST_BRACKETS, SHORT_BYTES),
        (b"{", MOST_BRACKETS, SHORT_BYTES),
        (b":", MOST_COLONS, COLONS_FROM),
        (b",", MOST_COMMAS, COMMAS_FROM),
    ],
)
def test_what_takes_parsers_long_is_left_to_the_scanner(octet: bytes, most: int, start: int, gap: int) -> None:
    def body(count: int) -> bytes:
        # They stand in a string, where they cost nothing: that is not looked at.
        begin = b'{"model":"a","x":"'.ljust(start, b"x")
        return begin + (octet + b"x" * gap) * (count - (octet in b"[{")) + b'"}'

    assert settled_by_two(body(most - 1)) == "a"
    assert settled_by_two(body(most)) is UNSETTLED


@WAYS
@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        (b"[" * 600 + b"]" * 600, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
        (b'{"x":' * 500 + b"0" + b"}" * 500, b'{"x":' * (MAX_DEPTH + 1) + b"0" + b"}" * (MAX_DEPTH + 1)),
        (b"[%b[]]" % (b"[]," * 1_500), b'{"x":' * 450 + b"[" * 451 + b"]" * 451 + b"}" * 450),
        (b"[0.%b]" % (b"1" * (MAX_NUMBER_BYTES - 2)), b"[0.%b]" % (b"1" * (MAX_NUMBER_BYTES - 1))),
        (b"[1]" + b" " * MAX_TRAILING_BLANKS, b"[1]" + b" " * (MAX_TRAILING_BLANKS + 1)),
        (b'["%b"]' % (b"1" * 9_000), b'["%b",0.%b]' % (b"-" * 9_000, b"1" * MAX_NUMBER_BYTES)),
    ],
)
def test_the_scanners_limits_hold_for_all(settled: Settle, within: bytes, beyond: bytes) -> None:
    long = b" " * SHORT_BYTES
    assert read_model(long + within) is None
    assert settled(long + beyond) is UNSETTLED
    with pytest.raises(Refusal):
        read_model(long + beyond)
    # Short ones are settled whatever they hold, unless they are too deep.
    too_deep = beyond.count(b"[") + beyond.count(b"{") > MAX_DEPTH
    assert len(beyond) > SHORT_BYTES or settled(beyond) is (UNSETTLED if too_deep else ABSENT)


@WAYS
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_000, 1_020])
def test_how_deep_a_short_body_may_be_does_not_depend_on_python(settled: Settle, depth) -> None:
    """From Python 3.12 on, msgspec does not stop at Python's own limit; here it is raised, to the same effect."""
    body = b'{"x":%b%b,"model":"a"}' % (b"[" * depth, b"]" * depth)
    assert len(body) < SHORT_BYTES
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        assert settled(body) is UNSETTLED
        with pytest.raises(Refusal) as caught:
            read_model(body)
    finally:
        sys.setrecursionlimit(before)
    assert caught.value.reason == "too-deep"


@WAYS
def test_many_brackets_that_are_not_deep_are_settled(settled: Settle) -> None:
    assert settled(b'{"model":"a","x":[%b[]]}' % (b"[ ]       ," * (MOST_BRACKETS - 5))) == "a"
    assert settled(b'{"model":"a","x":%b%b}' % (b"[" * 253, b"]" * 253)) == "a"


@WAYS
def test_a_value_that_no_name_needs_is_left_to_the_scanner(settled: Settle) -> None:
    assert settled(b'{"model":"%b"}' % (b"x" * 40_000)) is UNSETTLED
    assert settled(b'{"model":"%b"}' % (b"x" * 30_000)) == "x" * 30_000


def test_the_members_of_an_object() -> None:
    members = object_members(b'{"a":[1],"b":2}')
    assert members is not None
    assert {key: bytes(value) for key, value in members.items()} == {"a": b"[1]", "b": b"2"}
    assert is_written(b'{"a":[1],"b":2}', members)
    twice = b'{"a":[1],"b":2,"b":2}'
    assert not is_written(twice, members)
    # Within a body no object is so deep. What msgspec makes of one depends on the version of Python.
    deep = object_members(b'{"a":%b%b}' % (b"[" * 20_000, b"]" * 20_000))
    assert deep is None or deep.keys() == {"a"}
