import pytest

from bbr.reading.forms import FormReading, MultipartReading
from bbr.refusal import Refusal
from tests.support.readings import MOST_WORK, cuts, read, reason, work

MULTIPART = (
    b"--b\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    b"--b\r\n"
    b'Content-Disposition: form-data; name="model"\r\n\r\nqwen\r\n--b--\r\n'
)


def test_every_split_of_a_multipart_body_gives_the_same_model() -> None:
    for pieces in cuts(MULTIPART):
        passed: list[int] = []
        assert read(MultipartReading(b"b", 256), pieces, passed.append) == "qwen"
        assert max(passed) <= MULTIPART.rindex(b"--b--")


def test_a_model_before_a_file_is_known_before_the_file() -> None:
    reading = MultipartReading(b"b", 256)
    reading.feed(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nqwen\r\n--b\r\n')
    work(reading)
    assert reading.model == "qwen"
    reading.feed(b'Content-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + bytes(1 << 20))
    assert reading.unread_bytes > 1 << 20
    work(reading)
    assert reading.passable_bytes > 1 << 20
    assert (reading.unread_bytes, reading.memory_bytes) == (0, 0)


def test_faults_of_a_multipart_body() -> None:
    for pieces in cuts(MULTIPART[:-6]):
        assert reason(MultipartReading(b"b", 256), *pieces) == "multipart-cut-off"
    assert reason(MultipartReading(b"b", 256), b"no boundary") == "multipart-invalid"
    assert read(MultipartReading(b"b", 256), []) is None


def test_a_boundary_of_which_some_take_the_end() -> None:
    body = MULTIPART.replace(b"--b", b"--a=b")
    for pieces in cuts(body.replace(b"RIFF", b"--b\r\n--b-")):
        assert read(MultipartReading(b"a=b", 256), pieces) == "qwen"
    for pieces in cuts(body.replace(b"RIFF", b'RIFF\r\n--b"\r\n')):
        assert reason(MultipartReading(b"a=b", 256), *pieces) == "multipart-boundary"


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b"x=1&model=qwen&y=2", "qwen"),
        (b"model=sql%2Dlora", "sql-lora"),
        (b"x=1&y=2", None),
        (b"", None),
        (b" \r\n", None),
        (b' \n{"x":"=&","model":"qwen"}', "qwen"),
        (b'{"x":1}', None),
    ],
)
def test_every_split_of_a_form_gives_the_same_model(whole_bytes: int, body: bytes, model: str | None) -> None:
    for pieces in cuts(body):
        passed: list[int] = [0]
        assert read(FormReading(256, whole_bytes), pieces, passed.append) == model
        assert max(passed) < max(len(body), 1)
        if b"{" in body:
            assert max(passed) <= body.rindex(b"}")


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
def test_a_form_inside_of_a_document_is_refused(whole_bytes: int) -> None:
    for pieces in cuts(b'{"model":"a","x":"&model=b&"}'):
        assert reason(FormReading(256, whole_bytes), *pieces) == "form-model"
    for pieces in cuts(b'{"x":"&model=b'):
        assert reason(FormReading(256, whole_bytes), *pieces) == "form-model"


def test_a_document_in_which_a_form_goes_on_does_not_pass_from_its_closing_brace_on() -> None:
    body = b'{"model":"a"}&x=1&'
    passed: list[int] = []
    reading = FormReading(256, 0)
    reading.feed(body)

    def step_by_step() -> None:
        for _ in range(MOST_WORK):
            passed.append(reading.passable_bytes)
            reading.work()

    with pytest.raises(Refusal) as caught:
        step_by_step()
    assert caught.value.reason == "trailing-bytes"
    assert max(passed) <= body.index(b"}")


def test_a_form_with_two_models_and_a_document_with_a_fault() -> None:
    for pieces in cuts(b"model=a&model=a&"):
        assert reason(FormReading(256, 0), *pieces) == "model-duplicate"
    assert reason(FormReading(256, 0), b'{"model":"a"') == "invalid-json"


def test_what_a_form_holds_is_what_is_unread() -> None:
    reading = FormReading(256, 0)
    reading.feed(b"{" + bytes(100))
    assert (reading.unread_bytes, reading.memory_bytes) == (101, 0)


@pytest.mark.parametrize(
    ("body", "serde_differs"),
    [
        (b' ["a"]', True),
        (b' {"$serde_json::private::RawValue":"{}"}', True),
        (b'{"a":[]}', False),
        (b"model=a", False),
        (b"", False),
    ],
)
def test_lists_are_told(body: bytes, serde_differs: bool) -> None:
    for pieces in cuts(body):
        reading = FormReading(256, 100)
        for piece in pieces:
            reading.feed(piece)
        assert (reading.serde_differs, reading.memory_bytes) == (serde_differs, 0)


def test_a_list_in_which_a_form_is_hidden() -> None:
    for pieces in cuts(b'[{"x":"&model=b&y=","model":"a"}]'):
        assert reason(FormReading(256, 100), *pieces) == "form-model"


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])
def test_json_that_only_some_would_read(mark: bytes) -> None:
    for pieces in cuts(mark + b'{"model":"a"}'):
        assert reason(FormReading(256, 100), *pieces) in ("byte-order-mark", "invalid-utf8", "invalid-json")
