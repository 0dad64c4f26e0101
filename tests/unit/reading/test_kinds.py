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
PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


def head(kind: BodyKind, content_type: bytes, *encodings: bytes, method: bytes = b"POST") -> Head:
    return Head(kind, Dialect.OPENAI, method=method, content_types=[content_type], content_encodings=encodings)


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
        (BodyKind.OTHER, b"application/xml", [], "content-type-ambiguous"),
    ],
)
def test_what_headers_alone_refuse(kind: BodyKind, content_type: bytes, encodings: list[bytes], why: str) -> None:
    with pytest.raises(Refusal) as caught:
        open_reading(head(kind, content_type, *encodings), **LIMITS)
    assert caught.value.reason == why


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"DELETE", b"post", b""])
@pytest.mark.parametrize("value", [b"x;model=c", b"&model=c", b"&[model]=c"])
def test_multipart_of_no_post_is_no_urlencoded_form(method: bytes, value: bytes) -> None:
    of_parts = b"multipart/form-data; boundary=b"
    for body, refused in ((PART % (b"x", value), True), (PART % (b"x", b"model=c & more"), False)):
        whole = PART % (b"model", b"a") + body + b"--b--"
        reading = open_reading(head(BodyKind.MULTIPART, of_parts, method=method), **LIMITS)
        if refused:
            assert reason(reading, whole) == "content-type-ambiguous"
        else:
            assert read(reading, [whole]) == "a"
        assert read(open_reading(head(BodyKind.MULTIPART, of_parts), **LIMITS), [whole]) == "a"


@pytest.mark.parametrize("hidden", [b"&model=b&", b"\r\n--b\r\n"])
def test_encoded_multipart_of_no_post_is_nothing_else_before_it_is_decoded(hidden: bytes) -> None:
    member = gzip.compress(PART % (b"model", b"a") + b"--b--", mtime=0)
    commented = member[:3] + b"\x10" + member[4:10] + hidden + b"\0" + member[10:]
    for body, refused in ((commented, True), (member, False)):
        made = open_reading(
            head(BodyKind.MULTIPART, b"multipart/form-data; boundary=b", b"gzip", method=b"PUT"), **LIMITS
        )
        if refused:
            assert reason(made, body) == "encoding-ambiguous"
        else:
            assert read(made, [body]) == "a"


@pytest.mark.parametrize(
    ("kind", "content_type", "body"),
    [
        (BodyKind.OTHER, b"multipart/mixed", b"model=b"),
        (BodyKind.OTHER, b"multipart/related; x=y", b"x=1&model=b"),
        (BodyKind.OTHER, b"multipart/mixed", b'{"model":"a","x":"&model=b&y="}'),
        (BodyKind.UNSURE, b'multipart/form-data; x=", application/json"', b'{"model":"a","x":"&model=b&y="}'),
    ],
)
def test_multipart_without_a_boundary_could_be_a_form(kind: BodyKind, content_type: bytes, body: bytes) -> None:
    reading = open_reading(head(kind, content_type), **LIMITS)
    if body.startswith(b"{"):
        assert reason(reading, body) == "form-model"
    else:
        assert read(reading, [body]) == "b"


def test_encoded_multipart_that_is_no_form_is_watched_as_both() -> None:
    for hidden in (b"&model=b&", b'; name="model"'):
        member = gzip.compress(b"x", mtime=0)
        commented = member[:3] + b"\x10" + member[4:10] + hidden + b"\0" + member[10:]
        reading = open_reading(head(BodyKind.OTHER, b"multipart/mixed; boundary=b", b"gzip"), **LIMITS)
        assert reason(reading, commented) in ("encoding-ambiguous", "multipart-model")


UNSURE, OTHER = BodyKind.UNSURE, BodyKind.OTHER
BOTH = FORM + b", application/json"
ALL = b"multipart/form-data; x=json; y=urlencoded; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "body", "model"),
    [
        (BOTH, b'{"model":"a"}', "a"),
        (BOTH, b"model=a", "a"),
        (b"application/json; x=multipart", b'{"model":"a"}', "a"),
        (b"multipart/form-data; boundary=json", PART.replace(b"--b", b"--json") % (b"model", b"a") + b"--json--", "a"),
        (ALL, PART % (b"model", b"a") + b"--b--", "a"),
        (ALL, b'{"model":"a"}', "a"),
    ],
)
def test_a_body_that_is_the_same_as_each_type(content_type: bytes, body: bytes, model: str) -> None:
    assert read(open_reading(head(UNSURE, content_type), **LIMITS), [body]) == model


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        (BOTH, b'{"model":"a","x":"&model=b&y="}', "form-model"),
        (b"application/json; x=multipart", b'{"model":"a","x":"--b"}', "content-type-ambiguous"),
        (b"application/json; x=multipart", b"--b", "multipart-boundary"),
        (ALL, PART % (b"model", b"a") + PART % (b"x", b"&model=b&") + b"--b--", "content-type-ambiguous"),
        (ALL, b"model=a", "multipart-invalid"),
    ],
)
def test_a_body_that_is_not(content_type: bytes, body: bytes, why: str) -> None:
    try:
        reading = open_reading(head(UNSURE, content_type), **LIMITS)
        assert reason(reading, body) == why
    except Refusal as refused:
        assert refused.reason == why  # noqa: PT017


UNTYPED = Head(BodyKind.UNTYPED, Dialect.OPENAI)
NOTHING = Head(BodyKind.OTHER, Dialect.OPENAI, content_types=[b""])


@pytest.mark.parametrize("untyped", [UNTYPED, NOTHING], ids=["no type", "an empty type"])
def test_json_without_a_type_is_no_form_with_a_model(untyped: Head) -> None:
    # Rack takes a POST without a Content-Type for a form.
    harmless = '{"model":"a","messages":[{"content":"Größe: a & b; c = d"}]}'.encode()
    assert read(open_reading(untyped, **LIMITS), [harmless]) == "a"
    for body in (b'{"model":"a","x":"&model=b&y="}', b'{"model":"a","x":"&%6dodel=b"}', b'{"x":"&model=b&y="}'):
        assert reason(open_reading(untyped, **LIMITS), body) == "form-model"


def test_what_has_no_type_and_is_no_object_is_read_as_json_or_looked_at_as_a_form() -> None:
    assert reason(open_reading(UNTYPED, **LIMITS), b"model=a") == "invalid-json"
    for body in (b"[1]", b"7", b'"model"', b"null"):
        assert read(open_reading(UNTYPED, **LIMITS), [body]) is None
    assert read(open_reading(NOTHING, **LIMITS), [b"model=a"]) == "a"
    assert read(open_reading(NOTHING, **LIMITS), [b"RIFF"]) is None


def test_an_encoded_body_without_a_type() -> None:
    untyped = UNTYPED._replace(content_encodings=(b"gzip",))
    assert read(open_reading(untyped, **LIMITS), [gzip.compress(b'{"model":"a"}')]) == "a"
    members = gzip.compress(b'{"model":') + gzip.compress(b'"a"}')
    assert read(open_reading(untyped, **LIMITS), [members]) == "a"
    assert reason(open_reading(untyped, **LIMITS), hidden(b'{"model":"a"}', b"&model=b&")) == "encoding-ambiguous"


@pytest.mark.parametrize(
    ("kind", "content_type", "why"),
    [
        (UNSURE, b"application/json; charset=utf-7", "charset-unknown"),
        (UNSURE, b"application/json; x=" + b"y" * 1024, "content-type-too-long"),
        (OTHER, b"text/plain; x=" + b"y" * 1024, "content-type-too-long"),
    ],
)
def test_types_that_are_refused(kind: BodyKind, content_type: bytes, why: str) -> None:
    with pytest.raises(Refusal) as caught:
        open_reading(head(kind, content_type), **LIMITS)
    assert caught.value.reason == why


def test_an_encoded_body_of_several_types_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        open_reading(head(UNSURE, BOTH, b"gzip"), **LIMITS)
    assert caught.value.reason == "content-type-ambiguous"


def hidden(decoded: bytes, comment: bytes) -> bytes:
    """Return a gzip member of a body, with something to read in its header: what servers skip that decode it."""
    member = gzip.compress(decoded, mtime=0)
    return member[:3] + b"\x10" + member[4:10] + comment + b"\0" + member[10:]


def test_between_two_codings_nothing_can_hide() -> None:
    multipart = b"multipart/form-data; boundary=b"
    parts = [PART % (b"model", name) + b"--b--" for name in (b"a", b"b")]
    for kind, content_type, decoded, comment in (
        (BodyKind.FORM, FORM, b"model=a", b"&model=b&"),
        (BodyKind.MULTIPART, multipart, parts[0], b"\r\n" + parts[1]),
        (OTHER, b"x-urlencoded", b"x=y", b"&model=b&"),
        (OTHER, b"multipart/mixed; boundary=b", b"--b--", parts[1]),
    ):
        once = hidden(decoded, comment)
        assert gzip.decompress(once) == decoded
        # As it came, some server finds the comment; encoded once more, one does that undoes the last coding alone.
        watched = open_reading(head(kind, content_type, b"gzip"), **LIMITS)
        assert reason(watched, once) in ("encoding-ambiguous", "multipart-model")
        for encodings in ((b"gzip, gzip",), (b"gzip", b"x-gzip")):
            with pytest.raises(Refusal, match=r"encoded 2 times .* at most 1") as caught:
                open_reading(head(kind, content_type, *encodings), **LIMITS)
            assert caught.value.reason == "encoding-layers"
    twice = gzip.compress(gzip.compress(b'{"model":"a"}'))
    assert read(open_reading(head(BodyKind.JSON, b"application/json", b"gzip, gzip"), **LIMITS), [twice]) == "a"


def test_bodies_of_another_type_are_looked_at() -> None:
    for content_type, body, model in (
        (b"text/plain; charset=utf-16", b'{"model":"a"}', "a"),
        (b"text/plain", b"model=a", None),
        (b"text/x-urlencoded", b"model=a", "a"),
        (b"multipart/mixed; boundary=b", PART % (b"x", b"a") + b"--b--", None),
        (b"application/octet-stream", b"RIFF", None),
    ):
        reading = open_reading(head(OTHER, content_type), **LIMITS)
        assert read(reading, [body]) == model
        assert reading.settled == (content_type in (b"text/plain", b"application/octet-stream"))
    body = PART % (b"Model", b"a") + b"--b--"
    assert reason(open_reading(head(OTHER, b"multipart/mixed"), **LIMITS), body) == "multipart-model"
    encoded = open_reading(head(OTHER, b"text/plain", b"gzip"), **LIMITS)
    assert read(encoded, [gzip.compress(b'{"model":"m"}')]) == "m"
    encoded = open_reading(head(OTHER, b"text/plain", b"gzip"), **LIMITS)
    assert read(encoded, [gzip.compress(b"RIFF")]) is None
    assert encoded.settled


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
