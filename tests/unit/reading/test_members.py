import json

import msgspec
import pytest

from bbr.reading.json_body import find_model, settled_by_two
from bbr.reading.members import places, without_plain_text

DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
LONG = "x" * 40_000


def values(body: bytes) -> dict[str, bytes] | None:
    found = places(body)
    return None if found is None else {key: body[start:end] for key, (start, end) in found.items()}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b" \t\r\n{ } ",
        b'{"model":"a"}',
        b'{"a":1,"b":-2.5e3,"c":true,"d":false,"e":null}',
        b'{ "a" : 1 , "b" : [ 1 , { "c" : [ ] } ] , "d" : { } }',
        b'{"a":"\\"","b":"\\\\","c":"\\\\\\"}{,","d":"x\\\\"}',
        b'{"a":["}","]",{"b":"\\"}"}],"":{"c":[[]]}}',
        '{"é":"ü","messages":[{"role":"user","content":"hello"}]}'.encode(),
        json.dumps({"messages": [{"content": LONG}], "model": "a", "n": 1}, indent=4).encode(),
    ],
)
def test_the_members_that_a_parser_finds(body: bytes) -> None:
    found = values(body)
    assert found is not None
    assert {key: value.rstrip() for key, value in found.items()} == {
        key: bytes(value).rstrip() for key, value in DECODER.decode(body).items()
    }
    assert list(found) == list(DECODER.decode(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"mod\\u0065l":"a"}',
        b'{"a\\"":1}',
        b"{" + b" " * 200 + b'"a":1}',
        b'{"a"' + b" " * 200 + b":1}",
        b'{"a":' + b" " * 200 + b"1}",
        b'{"a":"b"' + b" " * 200 + b"}",
        b'{"a":"' + b"\\\\" * 100 + b'"}',
        b'{"a":["' + b"\\\\" * 100 + b'"]}',
        b'{"a":' + b"1" * 400 + b"}",
        b'{"a":[' + b"1," * 400 + b"1]}",
        b'{"a":[' + b'"",' * 20 + b'""]}',
        b'{"a":"' + b'\\"' * 20 + b'"}',
        b"{" + b",".join(b'"%d":""' % number for number in range(20)) + b"}",
    ],
)
def test_what_is_left_to_a_parser(body: bytes) -> None:
    DECODER.decode(body)
    assert places(body) is None


def test_a_longer_document_may_have_more_strings() -> None:
    document = {"a": [""] * 20, "b": LONG}
    assert places(json.dumps(document).encode()) is not None


@pytest.mark.parametrize(
    ("document", "model"),
    [
        ('{"messages":"%s","model":"a"}', "a"),
        ('{"model":{"b":[1]},"messages":"%s"}', {"b": [1]}),
        ('{"model":null,"messages":"%s"}', None),
        ('{"model":2 ,"messages":"%s"}', 2),
        ('{"model":"","messages":"%s"}', ""),
        ('{"model":"a","messages":["%s","","",{"":"é\\n"}]}', "a"),
        ('{"model":"a","%s":1,"":2}', "a"),
        ('{"model":"a","messages":["%s","%s"]}', "a"),
        ('{"model":"a","messages":"\\"%s\\\\"}', "a"),
        ('{"messages":"%s \\u0000","model":"a"}', "a"),
    ],
)
def test_a_long_document_s_model(document: str, model: object) -> None:
    body = document.replace("%s", LONG).encode()
    assert find_model(body) == settled_by_two(body) == model


@pytest.mark.parametrize(
    "document",
    [
        '{"messages":"%s","Model":"a"}',
        '{"messages":"%s","model":"a","model":"a"}',
        '{"messages":"%s","model":"a","mod\\u0065l":"a"}',
        '{"model":"%s"}',
        '{"model":["%s"]}',
        '{"messages":"%s\n"}',
        '{"messages":"%s"',
        '{"messages":"%s}',
    ],
)
def test_a_long_document_that_is_not_settled_at_once(document: str) -> None:
    body = (document % LONG).encode()
    assert str(find_model(body)) == str(settled_by_two(body)) == "Unsettled.UNSETTLED"


@pytest.mark.parametrize(
    ("document", "rest"),
    [
        ('{"a":"%s"}', '{"a":""}'),
        ('{"a":"%s","b":["%s",1]}', '{"a":"","b":["",1]}'),
        ('{"%s":1}', '{"":1}'),
        ('{"a":"\\"","b":"%s"}', '{"a":"\\"","b":""}'),
        ('{"a":"\\\\","b":"%s"}', '{"a":"\\\\","b":""}'),
        ('{"a":"%s\\n","b":"%s","c":"%s"}', None),  # too much is left
        ('{"a":"%s\\n"}', None),
        ('{"a":"\\n%s"}', None),
        ('{"a":"%s\x1f"}', None),
        ('{"a":"%sé"}', None),
        ('{"a":"%s', None),
        ('"b"%s"', None),
        ("%s", None),
        ('{"a":"%s","b":[' + '"",' * 200 + "0]}", None),  # too many steps
        ('{"a":"%s","b":"' + "\\" * 200 + '"}', None),
    ],
)
def test_a_document_without_its_plain_text(document: str, rest: str | None) -> None:
    found = without_plain_text(document.replace("%s", LONG).encode())
    assert found == (None if rest is None else rest.encode())


def test_short_text_stays() -> None:
    assert (
        without_plain_text(json.dumps({"a": LONG, "b": "x" * 1000}).encode())
        == b'{"a": "", "b": "' + b"x" * 1000 + b'"}'
    )


def test_a_long_document_without_a_model() -> None:
    body = json.dumps({"messages": LONG}).encode()
    assert find_model(body) is settled_by_two(body) is find_model(b"[]")
    assert str(settled_by_two(body[:-2] + b'\\u0000"}')) == "Unsettled.UNSETTLED"
