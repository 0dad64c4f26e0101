import gzip
import json
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.reading.base import Reading
from bbr.reading.decoding import DecodingReading
from bbr.reading.document import DocumentReading
from bbr.reading.encoded import EncodedReading
from bbr.reading.encodings import Limits
from bbr.reading.forms import FormReading
from bbr.reading.json_body import model_value_offset
from bbr.reading.replacing import replace, replace_in
from tests.support.readings import cuts, work

CASES = {
    "alone": (b'{"model":"a"}', b'{"model":"%s"}'),
    "blanks": (b' { "x":"a" , "model"\n:\t"a" }\n', b' { "x":"a" , "model"\n:\t"%s" }\n'),
    "nested": (
        b'{"x":{"model":"a"},"model":"a","y":["model","a"]}',
        b'{"x":{"model":"a"},"model":"%s","y":["model","a"]}',
    ),
    "escaped": (b'{"\\u006dodel":"\\u0061"}', b'{"\\u006dodel":"%s"}'),
    "twice another": (b'{"x":1,"x":"2345678","model":"a"}', b'{"x":1,"x":"2345678","model":"%s"}'),
    "twice the same": (b'{"x":"a","x":"a","model":"a"}', b'{"x":"a","x":"a","model":"%s"}'),
    "twice another of one length": (b'{"x":1,"x":2,"model":"a"}', b'{"x":1,"x":2,"model":"%s"}'),
    "another with escapes": (b'{"\\n":1,"model":"a"}', b'{"\\n":1,"model":"%s"}'),
    "behind another with a model inside": (
        b'{"x":1,"x":{"model":"no"},"model":"a"}',
        b'{"x":1,"x":{"model":"no"},"model":"%s"}',
    ),
    "in a string": (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"%s"}'),
}
MODELS = ["b", "Qwen/Qwen2.5-3B-Instruct", "模型", 'with "quotes" and \\']


def written(model: str) -> bytes:
    return json.dumps(model, ensure_ascii=False).encode()[1:-1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_the_model_alone_is_replaced(body: bytes, expected: bytes, model: str) -> None:
    assert replace(body, model) == expected.replace(b"%s", written(model))


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20], ids=["scanned", "read whole"])
@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_in_every_split(body: bytes, expected: bytes, whole_bytes: int) -> None:
    for pieces in cuts(body):
        reading = DocumentReading(256, whole_bytes)
        for piece in pieces:
            reading.feed(piece)
        reading.close()
        work(reading)
        replaced = replace_in(deque(piece for piece in pieces if piece), reading, "model-b")
        assert replaced is not None
        wanted = expected.replace(b"%s", b"model-b")
        assert b"".join(replaced.pieces) == wanted
        assert replaced.longer_bytes == len(wanted) - len(body)


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=5), st.integers(1, 60))
def test_before_the_end_has_come(noise: list[bytes], cut: int) -> None:
    body = b'{"x":%s,"model":"a","y":"' % json.dumps([each.hex() for each in noise]).encode() + b"z" * 100
    pieces = deque(body[start : start + cut] for start in range(0, len(body), cut))
    reading = DocumentReading(256, 0)
    for piece in pieces:
        reading.feed(piece)
    work(reading)
    assert reading.model == "a"
    replaced = replace_in(pieces, reading, "bb")
    assert replaced is not None
    assert b"".join(replaced.pieces) == body.replace(b'"model":"a"', b'"model":"bb"')


def test_of_a_decoded_document() -> None:
    body = b'{"x":1,"model":"a"}'
    for whole_bytes in (0, 100):
        reading = DecodingReading(("gzip",), Limits(), DocumentReading(256, whole_bytes))
        reading.feed(gzip.compress(body))
        reading.close()
        work(reading)
        replaced = replace_in(deque(reading.taken()), reading, "b")
        assert replaced is not None
        assert b"".join(replaced.pieces) == b'{"x":1,"model":"b"}'


@pytest.mark.parametrize(
    "reading",
    [FormReading(256, 0), EncodedReading(("gzip",), Limits(), DocumentReading(256, 0))],
    ids=["a form", "encoded octets"],
)
def test_not_of_what_is_no_json(reading: Reading) -> None:
    assert replace_in(deque([b"model=a"]), reading, "b") is None


def test_without_a_model_there_is_no_place() -> None:
    assert model_value_offset(b'{"x":1}') is None
