import pytest

from bbr.reading import json_body
from bbr.reading.json_body import ABSENT, find_model, model_keys, model_value_offset
from bbr.refusal import Refusal

DEEP = 300


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
        (b'{"mod\\u0065l":"a"}', "a"),
        (b'{"\\u006d\\u006fdel":"a"}', "a"),
        (b'{ "a" :\t1 ,\n"model":\r"a" , "b":[ 1, 2 ] }\n', "a"),
        (b'{"x":1,"x":2345678901,"model":"a"}', "a"),
        (b'{"x":{"mod\\u0065l":"b"},"model":"a"}', "a"),
        (b'{"x":"mod\\u0065l","model":"a"}', "a"),
        (b'{"x":{"model":1,"model":2},"model":"a"}', "a"),
        (b'{"x":1,"x":{"model":2},"model":"a"}', "a"),
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
def test_found(body: bytes, model: object) -> None:
    assert find_model(body) == model


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
def test_duplicates_are_refused(body: bytes, offset: int) -> None:
    with pytest.raises(Refusal, match=f"At byte {offset} of the body") as caught:
        find_model(body)
    assert (caught.value.status, caught.value.reason) == (400, "model-duplicate")


@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b"{", "invalid-json", 1),
        (b"", "invalid-json", 0),
        (b"  ", "invalid-json", 0),
        (b"{'model':'a'}", "invalid-json", 1),
        (b'{"a":1,}', "invalid-json", 6),
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
        (b"[" * 2000, "too-deep", 1025),
        (b"--boundary\r\n", "invalid-json", 1),
        (b"\x1f\x8b\x08\x00", "invalid-utf8", 1),
    ],
)
def test_what_is_not_json_is_refused_by_kind_and_place(body: bytes, reason: str, offset: int) -> None:
    with pytest.raises(Refusal) as caught:
        find_model(body)
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


def test_value_offset_skips_blanks() -> None:
    assert model_value_offset(b'{"a":1, "model" \r\n\t:  "x"}') == 22


def test_everyday_documents_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(body: bytes) -> list[int]:
        raise AssertionError("the slow path")

    monkeypatch.setattr(json_body, "model_keys", walk)
    tools = b'{"tools":[{"properties":{"model":{"type":"string"}},"required":["model"]}],"model":"a"}'
    text = b'{"messages":[{"content":"caf\\u00e9 \\u2028 \\"model\\": \\"x\\""}],"model":"a"}'
    assert find_model(tools) == "a"
    assert find_model(text) == "a"
