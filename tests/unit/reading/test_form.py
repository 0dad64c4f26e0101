import pytest

from bbr.reading.form import BYTES_PER_CALL, FormReader
from bbr.refusal import Refusal
from tests.support.bodies import pieces, read_form

SIZES = (1, 2, 9, 1 << 20)
LONG = b"x" * 3000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("form", "model"),
    [
        (b"", None),
        (b"model=qwen", "qwen"),
        (b"prompt=hello+world&model=Qwen%2FQwen2.5-3B&n=1", "Qwen/Qwen2.5-3B"),
        (b"model=qwen&", "qwen"),
        (b"&&model=qwen&&", "qwen"),
        (b"%6dodel=a", "a"),
        (b"%6D%6F%64%65%6C=a", "a"),
        (b"m%6fde%6c=a+b%2Bc", "a b+c"),
        (b"model=a=b", "a=b"),
        (b"model=caf%C3%A9", "café"),
        (b"model=caf\xc3\xa9", "café"),
        (b"Model=a&MODEL=b", None),
        (b"models=a&xmodel=b&model2=c&model.x=d&model_id=e", None),
        (b"model%3Da", None),
        (b"prompt=model=a", None),
        (b"prompt=%26model=a", None),
        (b"a;b=c&model=a", "a"),
        (b'{"model":"a"}', None),
        (LONG + b"&model=qwen&x=" + LONG, "qwen"),
        (b"x=" + LONG + b"&mode", None),
        (b"%zz=1&x=%&model=a", "a"),
    ],
)
def test_model(form: bytes, model: str | None, size: int) -> None:
    assert read_form(pieces(form, size)) == model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (b"model=a&model=b", "model-duplicate"),
        (b"model=a&x=1&%6dodel=a", "model-duplicate"),
        (b"model&model=a", "model-empty"),
        (b"model", "model-empty"),
        (b"model=", "model-empty"),
        (b"model=&x=1", "model-empty"),
        (b"model=+a", "model-illegal"),
        (b"model=a%0Ab", "model-illegal"),
        (b"model=a%00", "model-illegal"),
        (b"model=" + b"a" * 257, "model-too-long"),
        (b"model=" + b"%61" * 257, "model-too-long"),
        (b"model=" + b"a" * 5000, "model-too-long"),
        (b"model=%C3%A9%C3", "form-model"),
        (b"model=\xff", "form-model"),
        (b"model=100%", "form-model"),
        (b"model=%6g", "form-model"),
        (b"model=a;b", "form-model"),
        (b"model;x=1", "form-model"),
        (b"x=1;model=a", "form-model"),
        (b"x=1;%6dodel=a", "form-model"),
        (b"model[]=a", "form-model"),
        (b"model%5b0%5D=a", "form-model"),
        (b"model%00x=a", "form-model"),
        (b"+model=a", "form-model"),
        (b"?model=a", "form-model"),
        (b"\xef\xbb\xbfmodel=a", "form-model"),
        (b"\xef\xbb\xbf?model=a", "form-model"),
        (b"x=1&?+%6dodel", "form-model"),
        (b"x=1&%20%09model=a", "form-model"),
        (b"model+=a", "form-model"),
        (b"model\n=a", "form-model"),
        (b'{"x":"&model=b"}', None),
    ],
)
def test_refused(form: bytes, reason: str | None, size: int) -> None:
    if reason is None:
        assert read_form(pieces(form, size)) == 'b"}'
        return
    with pytest.raises(Refusal) as caught:
        read_form(pieces(form, size))
    assert (caught.value.status, caught.value.reason) == (400, reason)


def test_longest_name() -> None:
    assert read_form([b"model=" + b"%61" * 256]) == "a" * 256


def test_known_before_the_end() -> None:
    reader = FormReader()
    reader.feed(b"model=qwen&" + LONG)
    assert reader.model == "qwen"
    assert reader.passable_bytes == 10 + len(LONG)
    assert len(reader._carry) < 100


def test_one_call_reads_no_more_than_it_may() -> None:
    body = b"&" * BYTES_PER_CALL + b"model=qwen"
    reader = FormReader()
    assert reader.feed(body) == BYTES_PER_CALL
    assert reader.feed(body, BYTES_PER_CALL) == len(body)
    assert reader.end() == "qwen"
