import gzip

import pytest

from bbr.reading.document import DocumentReading
from bbr.reading.forms import FormReading, MultipartReading
from bbr.reading.head import Dialect, Head
from bbr.reading.kinds import open_reading
from bbr.reading.name import BodyKind
from bbr.refusal import Refusal
from tests.support.readings import read, reason

LIMITS = {"max_model_bytes": 256, "whole_bytes": 1000, "max_decoded_bytes": 1000}
FORM = b"application/x-www-form-urlencoded"


def head(kind: BodyKind, content_type: bytes, *encodings: bytes) -> Head:
    return Head(kind, 0, Dialect.OPENAI, content_types=[content_type], content_encodings=encodings)


@pytest.mark.parametrize(
    ("kind", "content_type", "expected"),
    [
        (BodyKind.JSON, b"application/json", DocumentReading),
        (BodyKind.FORM, FORM, FormReading),
        (BodyKind.MULTIPART, b"multipart/form-data; boundary=b", MultipartReading),
    ],
)
def test_each_kind_has_its_reading(kind: BodyKind, content_type: bytes, expected: type) -> None:
    assert type(open_reading(head(kind, content_type), **LIMITS)) is expected


@pytest.mark.parametrize(
    ("kind", "content_type", "encodings", "why"),
    [
        (BodyKind.JSON, b"application/json", [b"compress"], "encoding-unknown"),
        (BodyKind.MULTIPART, b"multipart/form-data", [], "multipart-boundary"),
        (BodyKind.FORM, FORM + b"; charset=utf-16", [], "charset-unknown"),
    ],
)
def test_what_headers_alone_refuse(kind: BodyKind, content_type: bytes, encodings: list[bytes], why: str) -> None:
    with pytest.raises(Refusal) as caught:
        open_reading(head(kind, content_type, *encodings), **LIMITS)
    assert caught.value.reason == why


def test_encoded_bodies_are_bounded_and_watched() -> None:
    assert read(open_reading(head(BodyKind.JSON, b"", b"gzip"), **LIMITS), [gzip.compress(b'{"model":"m"}')]) == "m"
    large = gzip.compress(b'{"x":"' + bytes(range(35, 90)) * 30)
    assert reason(open_reading(head(BodyKind.JSON, b"", b"gzip"), **LIMITS), large) == "decoded-too-large"
    form = gzip.compress(b"&model=m&x=" + b"y" * 50, 0)
    assert reason(open_reading(head(BodyKind.FORM, FORM, b"gzip"), **LIMITS), form) == "encoding-ambiguous"
    members = gzip.compress(b"model=m&x=" + b"y" * 50) * 2
    assert reason(open_reading(head(BodyKind.FORM, FORM, b"gzip"), **LIMITS), members) == "encoding-members"
    multipart = gzip.compress(b"--bound\r\n", 0)
    content_type = b"multipart/form-data; boundary=bound"
    reading = open_reading(head(BodyKind.MULTIPART, content_type, b"gzip"), **LIMITS)
    assert reason(reading, multipart) == "encoding-ambiguous"
