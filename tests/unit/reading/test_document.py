import contextlib

import pytest

from bbr.reading.document import DocumentReading
from bbr.refusal import Refusal
from tests.support.readings import cuts, read, reason, work

BODY = b' {"x":[1,{"model":"no"}],"model":"qwen","y":"z"} \n'


@pytest.mark.parametrize("whole_bytes", [0, 7, 1 << 20])
def test_every_split_gives_the_same_model(whole_bytes: int) -> None:
    for pieces in cuts(BODY):
        passed: list[int] = []
        assert read(DocumentReading(256, whole_bytes), pieces, passed.append) == "qwen"
        # Nothing from the closing brace on.
        assert max(passed) <= BODY.rindex(b"}")
        assert whole_bytes <= 7 or max(passed) == 0


def test_a_long_document_tells_its_model_before_its_end() -> None:
    reading = DocumentReading(256, 10)
    reading.feed(b'{"model":"qwen",')
    assert reading.pending
    work(reading)
    assert reading.model == "qwen"
    reading.feed(b'"model":"phi"')
    work(reading)
    assert isinstance(reading.model, Refusal)
    assert reading.model.reason == "model-duplicate"


def test_a_short_document_is_read_at_its_end() -> None:
    reading = DocumentReading(256, 100)
    reading.feed(b'{"model":"qwen"}')
    assert (reading.pending, reading.unread_bytes, reading.memory_bytes) == (False, 16, 0)
    reading.close()
    work(reading)
    assert (reading.result(), reading.unread_bytes) == ("qwen", 0)


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"model":"qwen"', "invalid-json"),
        (b'{"model":7}', "model-not-string"),
        (b'{"model":"a","model":"a"}', "model-duplicate"),
    ],
)
def test_refusals_are_the_same_for_short_and_long(whole_bytes: int, body: bytes, why: str) -> None:
    for pieces in cuts(body):
        assert reason(DocumentReading(256, whole_bytes), *pieces) == why


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"x":"model"}'])
@pytest.mark.parametrize("whole_bytes", [0, 100])
def test_no_model(whole_bytes: int, body: bytes) -> None:
    assert read(DocumentReading(256, whole_bytes), [body]) is None


def test_a_piece_of_megabytes_takes_several_calls() -> None:
    reading = DocumentReading(256, 0)
    reading.feed(b'{"x":[' + b"{}," * 1_000_000)
    reading.work()
    assert 0 < reading.passable_bytes < 1_000_000
    assert reading.pending


@pytest.mark.parametrize("whole_bytes", [0, 100])
@pytest.mark.parametrize(
    ("body", "serde_differs"),
    [
        (b' \n["a"]', True),
        (b' {"a":[]}', False),
        (b"", False),
        (b" ", False),
        (b' { \n"$serde_json::private::RawValue":"{}"}', True),
        (b'{"$serde_json::private::RawValues":"{}"}', False),
        (b'{"x":{"$serde_json::private::RawValue":"{}"}}', False),
        (b"{" + b" " * 300 + b'"\\u0024serde_json::private::RawValue":"{}"}', True),
    ],
)
def test_lists(whole_bytes: int, body: bytes, serde_differs: bool) -> None:
    for pieces in cuts(body):
        reading = DocumentReading(256, whole_bytes)
        for piece in pieces:
            reading.feed(piece)
        assert reading.serde_differs is serde_differs


@pytest.mark.parametrize(
    ("body", "serde_differs"),
    [
        (b" " * 300 + b'{"a":"' + b"x" * 20_000 + b'"}', False),
        (b" " * 20_000 + b'{"a":1}', True),
        (b" " * 16_300 + b'{"' + b"x" * 300 + b'":1}', True),
        (b"{" + b" " * 20_000 + b'"a":1}', True),
    ],
)
def test_what_begins_with_more_blanks_than_are_looked_at_could_be_anything(body: bytes, serde_differs: bool) -> None:
    for first in (0, 1, 299, 310, 16_383, 16_384, 16_385, 20_000):
        for second in (1, 100, 20_000):
            reading = DocumentReading(256, 0)
            for piece in (body[:first], body[first : first + second], body[first + second :]):
                reading.feed(piece)
            assert reading.serde_differs is serde_differs


@pytest.mark.parametrize(("end", "why"), [(b"}", ""), (b',"model":"b"}', "model-duplicate"), (b"", "invalid-json")])
def test_a_short_document_that_parsers_take_long_for_is_read_in_bits(end: bytes, why: str) -> None:
    body = b'{"x":0,"model":"qwen","x":[%b0]' % (b"{}," * 10_000) + end  # simdjson settles what has each key once
    reading = DocumentReading(256, 1 << 20)
    reading.feed(body)
    reading.close()
    bits = 0
    with pytest.raises(Refusal) if why else contextlib.nullcontext():
        while reading.pending:
            # Of one that is read whole nothing is told, and nothing goes on, before all of it is known.
            assert (reading.model, reading.passable_bytes) == (None, 0)
            reading.work()
            bits += 1
    assert bits > 2
    assert why or (reading.result(), reading.unread_bytes) == ("qwen", 0)
    assert not why or reason(DocumentReading(256, 1 << 20), body) == why


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
def test_views_read_as_bytes_do(whole_bytes: int) -> None:
    octets = b" " * 5_000 + b'{"x":"%b","model":"qwen"}' % (b"z" * 20_000)
    for step in (5_000, 12_000, 1 << 20):
        pieces = [memoryview(octets)[start : start + step] for start in range(0, len(octets), step)]
        reading = DocumentReading(256, whole_bytes)
        for piece in pieces:
            reading.feed(piece)
        reading.close()
        work(reading)
        assert (reading.result(), reading.serde_differs) == ("qwen", False)
