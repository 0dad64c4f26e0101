import pytest

from bbr.reading.content_type import MAX_BYTES, body_kind, has_fields, is_text, is_too_long, kinds
from bbr.reading.name import BodyKind

JSON, FORM, MULTIPART = BodyKind.JSON, BodyKind.FORM, BodyKind.MULTIPART
OTHER, UNSURE = BodyKind.OTHER, BodyKind.UNSURE


@pytest.mark.parametrize(
    ("content_types", "kind"),
    [
        ([], BodyKind.UNTYPED),
        ([b"application/json"], JSON),
        ([b"application/json;charset=utf-8"], JSON),
        ([b" Application/JSON ; x=y"], JSON),
        ([b"application/json; charset"], JSON),
        ([b"application/json; x=y; X=z"], JSON),
        ([b"text/json"], JSON),
        ([b"application/problem+json"], JSON),
        ([b"text/plain", b"application/json"], JSON),
        ([b"text/plain, application/json"], JSON),
        ([b"application/json, application/json"], JSON),
        ([b"application/x-www-form-urlencoded"], FORM),
        ([b"Application/X-WWW-Form-URLEncoded; charset=utf-8"], FORM),
        ([b"text/plain", b"application/x-www-form-urlencoded"], FORM),
        ([b"multipart/form-data; boundary=x"], MULTIPART),
        ([b"multipart/form-data; boundary"], MULTIPART),
        ([b"multipart/mixed; boundary=x"], OTHER),
        ([b"application/grpc+json"], OTHER),
        ([b"application/grpc-web+json"], OTHER),
        ([b"application/connect+json"], OTHER),
        ([b"application/jsonl"], OTHER),
        ([b"application/x-ndjson"], OTHER),
        ([b"text/plain; a=application/json"], OTHER),
        ([b"text/plain, text/html"], OTHER),
        ([b""], OTHER),
        # For several, or to be refused.
        ([b"application/x-www-form-urlencoded", b"application/json"], UNSURE),
        ([b"application/x-www-form-urlencoded; x=a,application/json"], UNSURE),
        ([b'application/x-www-form-urlencoded; x="a,application/json"'], UNSURE),
        ([b"application/json; x=multipart"], UNSURE),
        ([b"multipart/form-data; boundary=+json"], UNSURE),
        ([b"application/json; charset=utf-7"], UNSURE),
        ([b"application/json; charset*=utf-8''utf-8"], UNSURE),
        ([b"application/x-www-form-urlencoded; charset=utf-16"], UNSURE),
        ([b"application/json; x=" + b"y" * MAX_BYTES], UNSURE),
    ],
)
def test_kinds_of_bodies(content_types: list[bytes], kind: BodyKind) -> None:
    assert body_kind(content_types) is kind


def test_every_word_in_any_field_is_a_kind() -> None:
    assert kinds([b"text/plain"]) == set()
    assert kinds([b"text/plain; x=URLEncoded", b"Multipart/mixed"]) == {FORM, MULTIPART}


def test_all_fields_together_have_a_limit() -> None:
    assert not is_too_long([b"x" * (MAX_BYTES - 1)])
    assert is_too_long([b"x" * MAX_BYTES])
    assert is_too_long([b""] * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("content_types", "expected"),
    [
        ([b"text/plain"], True),
        ([b"Text/Plain;charset=UTF-8"], True),
        ([b"text/plain; charset=utf-16"], False),
        ([b"text/plain; x=multipart"], False),
        ([b"text/plain, text/html"], False),
        ([b"text/plain; " + b"x" * MAX_BYTES], False),
        ([b"text/plain", b"text/plain"], False),
        ([b"text/html"], False),
        ([], False),
    ],
)
def test_text(content_types: list[bytes], expected: bool) -> None:
    assert is_text(content_types) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/xml", True),
        (b"application/x-protobuf", True),
        (b"application/proto", True),
        (b"application/vnd.apache.thrift.binary", True),
        (b"avro/binary", True),
        (b"application/ion", True),
        (b"application/ubjson", True),
        (b"application/version", False),
        (b"application/prototype", False),
        (b"Text/XML; charset=utf-8", True),
        (b"application/atom+xml", True),
        (b"application/x-yaml", True),
        (b"application/vnd.msgpack", True),
        (b"text/plain; x=toml", True),
        (b"application/vnd.openxmlformats-officedocument.wordprocessingml.document", False),
        (b"application/octet-stream", False),
        (b"text/plain", False),
        (b"audio/wav", False),
    ],
)
def test_formats_with_fields(content_type: bytes, expected: bool) -> None:
    assert has_fields([b"x", content_type]) is expected
    assert not has_fields([])
