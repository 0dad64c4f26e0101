import pytest

from bbr.reading.base import Reading
from bbr.reading.document import DocumentReading
from bbr.reading.forms import FormReading
from bbr.reading.several import ByBeginning, DashWatch, NameWatch, Together, Unread, WatchReading
from bbr.refusal import Refusal
from tests.support.readings import cuts, read, reason, work


def document() -> Reading:
    return DocumentReading(256, 0)


def form() -> Reading:
    return FormReading(256, 0)


def by_beginning() -> ByBeginning:
    return ByBeginning(document, Unread)


class TestByBeginning:
    @pytest.mark.parametrize("body", [b'{"model":"a"}', b' \r\n\t{"model":"a"}', b" " * 100 + b'{"x":1,"model":"a"} '])
    def test_an_object_is_read(self, body: bytes) -> None:
        for pieces in cuts(body):
            assert read(by_beginning(), pieces) == "a"

    @pytest.mark.parametrize(
        "body", [b"", b" ", b"\n" * 50, b"RIFF", b'  ["model"]', b"\xef\xbb", b"\xef\xbc\xbf{", b"\xff{", b"\0"]
    )
    def test_anything_else_is_not(self, body: bytes) -> None:
        for pieces in cuts(body):
            assert read(by_beginning(), pieces) is None

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b'\xef\xbb\xbf{"model":"a"}', "byte-order-mark"),
            ('{"model":"a"}'.encode("utf-16"), "invalid-utf8"),
            ('{"model":"a"}'.encode("utf-16-be"), "invalid-json"),
            (b'{"model":7}', "model-not-string"),
        ],
    )
    def test_what_only_some_could_read_is_refused(self, body: bytes, why: str) -> None:
        for pieces in cuts(body):
            assert reason(by_beginning(), *pieces) == why

    def test_what_is_known_before_the_end(self) -> None:
        reading = by_beginning()
        assert (reading.pending, reading.settled, reading.model, reading.passable_bytes) == (False, False, None, 0)
        reading.feed(b" ")
        assert (reading.pending, reading.unread_bytes, reading.memory_bytes, reading.passable_bytes) == (False, 1, 0, 0)
        reading.work()
        assert reading.result() is None
        reading.feed(b'{"model":"a","x":')
        work(reading)
        assert (reading.model, reading.settled, reading.memory_bytes) == ("a", False, 0)
        assert reading.passable_bytes == 18

    def test_what_needs_not_be_read_is_told(self) -> None:
        reading = by_beginning()
        reading.feed(b"RIFF")
        assert reading.pending
        assert reading.settled
        assert not reading.serde_differs
        work(reading)
        assert (reading.passable_bytes, reading.unread_bytes) == (4, 0)


class TestTogether:
    def test_all_have_to_agree(self) -> None:
        body = b'{"model":"a","x":"y"}'
        for pieces in cuts(body):
            assert read(Together((document(), form())), pieces) == "a"
            assert read(Together((document(), WatchReading(DashWatch()))), pieces) == "a"

    def test_what_one_refuses_is_refused(self) -> None:
        assert reason(Together((document(), form())), b'{"model":"a","x":"&model=b"}') == "form-model"
        assert reason(Together((form(), document())), b"model=a") == "invalid-json"

    def test_a_list_is_told(self) -> None:
        for reading in (by_beginning(), Together((document(), WatchReading(DashWatch())))):
            assert not reading.serde_differs
            reading.feed(b"[1,")
            assert reading.serde_differs

    @pytest.mark.interpreted("inherits a reading")
    def test_two_names_are_refused(self) -> None:
        class Named(Unread):
            def result(self) -> str:  # type: ignore[override]
                return "b"

        assert reason(Together((document(), Named())), b'{"model":"a"}') == "content-type-ambiguous"

    @pytest.mark.interpreted("inherits a reading")
    def test_one_that_names_none_beside_one_that_names_one(self) -> None:
        class Named(Unread):
            def result(self) -> str:  # type: ignore[override]
                return "b"

        for readings in ((document(), Named()), (Named(), document())):
            assert reason(Together(readings), b'{"model":null}') == "content-type-ambiguous"
        assert reason(Together((document(), form())), b'{"model":null}') == "model-not-string"

    def test_none_is_known_before_the_end(self) -> None:
        reading = Together((document(), WatchReading(DashWatch())))
        reading.feed(b'{"model":"a",')
        assert reading.unread_bytes == 13
        work(reading)
        assert (reading.model, reading.settled, reading.memory_bytes, reading.unread_bytes) == (None, False, 0, 0)
        assert reading.passable_bytes == 13


class TestWatches:
    def test_dashes(self) -> None:
        for pieces in cuts(b'{"a":"x--b"}'):
            assert reason(WatchReading(DashWatch()), *pieces) == "content-type-ambiguous"
        for pieces in cuts(b'{"a":"-x-"}'):
            assert read(WatchReading(DashWatch()), pieces) is None

    @pytest.mark.parametrize(
        "text",
        [b'name="model"', b"NAME=model;", b'name = "Model" ', b"name*=utf-8''model", b"name*0=model", b'name="%6dodel'],
    )
    def test_names(self, text: bytes) -> None:
        for pieces in cuts(b'--b\r\nContent-Disposition: attachment; filename="x"; ' + text + b"\r\n\r\nx"):
            assert reason(WatchReading(NameWatch()), *pieces) == "multipart-model"

    @pytest.mark.parametrize("text", [b'name="models"', b'filename="x"', b"name: model", b"names=model"])
    def test_other_names(self, text: bytes) -> None:
        for pieces in cuts(text + b"\r\n\r\nmodel"):
            assert read(WatchReading(NameWatch()), pieces) is None

    def test_a_refusal_is_the_watchs_own(self) -> None:
        with pytest.raises(Refusal):
            DashWatch().feed(b"--")
