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
        (b"model=%26%23x41%3B%26amp%3B%26%23%3B", "&#x41;&amp;&#;"),
        (b"model=caf%C3%A9", "café"),
        (b"models=a&xmodel=b&model2=c&model-x=d&model_id=e&modell=f&x[model]=g", None),
        ("model=a&x=größe&並=効&名model=b&model名=c".encode(), "a"),
        ('{"x":"如 model 並 model; 類model=1 &Größe"}'.encode(), None),
        (b"x=\xa6modex=b&\xed\xef=c&model=a", "a"),
        (b"&%20%20models\xff%zzx=b&messages%5B0%5D=c&%=d&m%=e&m%6fdels=f&model=a", "a"),
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
        (b"model&model=a", "model-duplicate"),
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
        (b"model=caf\xc3\xa9", "form-model"),
        (b"Model=a", "form-model"),
        (b"model=a&MODEL=b", "form-model"),
        (b"model=a&[model]=b", "form-model"),
        (b"[[model]=b", "form-model"),
        (b".model=b", "form-model"),
        (b"model.x=b", "form-model"),
        (b"model]=b", "form-model"),
        (b"%5Bmodel%5D=b", "form-model"),
        (b"%256dodel=b", "form-model"),
        (b"%25%36%64odel=b", "form-model"),
        (b"%u006dodel=b", "form-model"),
        (b"mo\\del=b", "form-model"),
        (b"%EF%BB%BFmodel=b", "form-model"),
        (b"mo%E2%80%8Bdel=b", "form-model"),
        (b"mo\xffdel=b", "form-model"),
        (b"mo%ffdel=b", "form-model"),
        (b"x=\xa6model=b", "form-model"),
        (b"x=\xa6[mo\xe4el]=b", "form-model"),
        (b"model=a&x=\xa6model\xbdb", "form-model"),
        (b"\xed\xef\xe4\xe5\xec=b", "form-model"),
        (b"&" + b" [" * 2000 + b"model=b", "form-model"),
        (b"&" + b"%20" * 2000 + b"model=b", "form-model"),
        (b"model=%26%2366%3B", "form-model"),
        (b"model=a%26%230066%3Bb", "form-model"),
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
    reader.feed(b"model=qwen&x=1")
    assert reader.model == "qwen"
    assert reader.passable_bytes == 13


@pytest.mark.parametrize("unit", [b"x", b" ", b"%61", b"&", b"m", b"\xe4\xb8\xa6", b"model"])
def test_little_is_kept(unit: bytes) -> None:
    reader = FormReader()
    body = b"x&" + unit * 1000
    at = 0
    while at < len(body):
        at = reader.feed(body, at)
        assert len(reader._keys.carry) <= 150


def test_keys_that_are_looked_at_are_counted() -> None:
    reader = FormReader()
    reader.feed(b"a=1&b=2&%_model=3&m%odel=4")
    assert reader.judged == 2
    reader.feed(b"&x\xff=5&%_model=6&")
    assert reader.judged == 4  # the last one both ways


@pytest.mark.parametrize(
    ("keys", "judged"),
    [
        (b"%=1&mo%=1&%6d=1&mo%64e=1&%ledom=1&", 0),  # not all letters, or not in their order
        (b"%6dxoxdxexlx=1&m\\_odel=1&mo%xde%6c=1&", 3),
        (b"%253%36%34odel_=1&", 1),  # the number of a number
        (b"m%" + b"x" * 200 + b"=1&", 1),  # it is judged by its beginning
    ],
)
def test_only_keys_with_the_letters_of_model_in_their_order_are_judged(keys: bytes, judged: int) -> None:
    reader = FormReader()
    assert reader.feed(keys) == len(keys)
    assert reader.judged == judged


def test_one_call_reads_no_more_than_it_may() -> None:
    body = b"&" * BYTES_PER_CALL + b"model=qwen"
    reader = FormReader()
    assert reader.feed(body) == BYTES_PER_CALL
    assert reader.feed(body, BYTES_PER_CALL) == len(body)
    assert reader.end() == "qwen"
