import pytest

from bbr.reading import go_model
from bbr.reading.coerced import CoercedReading
from bbr.refusal import Refusal
from tests.support.readings import cuts, read, reason

NAMES = [
    (b'"qwen"', "qwen"),
    (b'" qwen "', " qwen "),
    (b'""', ""),
    (b"1", "1"),
    (b"1234567", "1.234567e+06"),
    (b"-1.50", "-1.5"),
    (b"true", "true"),
    (b"null", "<nil>"),
    (b'["\xc3\xa9\\u00e9", {"b":1,"a":[]}]', "[éé map[a:[] b:1]]"),
]


@pytest.mark.parametrize(("model", "name"), NAMES)
def test_every_split_gives_the_same_text(model: bytes, name: str) -> None:
    for pieces in cuts(b'{"x":{"model":1},"model": %s ,"y":"z"}' % model):
        assert read(CoercedReading(64), pieces) == name


def test_no_model() -> None:
    assert read(CoercedReading(64), [b'{"x":', b"1}"]) is None


UNUSABLE = [
    (b'{"model":1', "invalid-json"),
    (b'{"model":1}x', "trailing-bytes"),
    (b'{"model":1,"model":1}', "model-duplicate"),
    (b'{"model":"a","model":1}', "model-duplicate"),
    (b'{"model":"\\n"}', "model-illegal"),
    (b'{"model":"%s"}' % (b"x" * 65), "model-too-long"),
    (b'{"model":[%s1]}' % (b"1," * 100), "model-too-long"),
    (b'{"model":["' + "é".encode() * 40_000 + b'"]}', "model-too-long"),
    (b'{"model":["' + b"x" * 200_000 + b'"]}', "model-too-long"),
    (b'{"model":%s%s}' % (b"[" * 100, b"]" * 100), "model-too-long"),
]


@pytest.mark.parametrize(("body", "why"), UNUSABLE)
def test_unusable(body: bytes, why: str) -> None:
    assert reason(CoercedReading(64), body[:15], body[15:]) == why
    assert reason(CoercedReading(64), *(body[start : start + 9_000] for start in range(0, len(body), 9_000))) == why


@pytest.mark.interpreted("replaces a constant")
def test_nesting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deep:
        def raw_decode(self, _text: str) -> None:
            raise RecursionError

    monkeypatch.setattr(go_model, "_DECODER", Deep())
    assert reason(CoercedReading(64), b'{"model":[[]]}') == "model-illegal"


def test_everything_is_kept_and_tiny_pieces_are_joined() -> None:
    reading = CoercedReading(64)
    for _ in range(10_000):
        reading.feed(b" ")
    reading.feed(b" " * 5000)
    assert reading.unread_bytes == 15_000
    assert len(reading._kept) == 4


def test_a_refusal_is_told_with_its_place() -> None:
    with pytest.raises(Refusal, match=r"\(At byte 10 of the body\.\)$"):
        read(CoercedReading(3), [b'{"model": [1,2]}'])
