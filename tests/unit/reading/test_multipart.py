import gzip

import pytest

from bbr.reading.multipart import (
    MAX_BLANKS,
    MAX_PART_FIELDS,
    MAX_PART_HEADER_BYTES,
    MAX_PARTS,
    PARTS_PER_CALL,
    BoundaryWatch,
    MultipartReader,
    boundary,
)
from bbr.refusal import Refusal
from tests.support.bodies import pieces, read_multipart

SIZES = (1, 2, 9, 1 << 20)
B = b"XyZ"
END = b"--XyZ--\r\n"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n'
NAMED = b'Content-Disposition: form-data; name="model"\r\n'


def part(header: bytes = NAMED, content: bytes = b"whisper-1") -> bytes:
    return b"--XyZ\r\n" + header + b"\r\n" + content + b"\r\n"


def named(name: bytes, more: bytes = b"", content: bytes = b"whisper-1") -> bytes:
    return part(b"Content-Disposition: form-data; " + name + b"\r\n" + more, content)


def refused(body: bytes, size: int = 1 << 20) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_multipart(pieces(body, size), B)
    return caught.value


class TestBoundary:
    @pytest.mark.parametrize(
        ("content_type", "expected"),
        [
            (b"multipart/form-data; boundary=XyZ", B),
            (b'Multipart/Form-Data;charset=utf-8; BOUNDARY="XyZ";', B),
            (b'multipart/form-data; boundary="a b=(c)/:?"', b"a b=(c)/:?"),
            (
                b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
                b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
            ),
            (b"multipart/form-data; boundary=----geckoformboundary7M; x=y", b"----geckoformboundary7M"),
            (b"multipart/form-data; Boundary=----WebKitFormBoundary; x=y", b"----WebKitFormBoundary"),
            (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
            (b'multipart/form-data; x="; a=b"; boundary=XyZ', B),
        ],
    )
    def test_read(self, content_type: bytes, expected: bytes) -> None:
        assert boundary([content_type]) == expected

    @pytest.mark.parametrize(
        ("content_types", "why"),
        [
            ([], "there are 0 of it"),
            ([b"multipart/form-data; boundary=a"] * 2, "there are 2 of it"),
            ([b"multipart/form-data; boundary=a, multipart/form-data; boundary=b"], "not name=value"),
            ([b"multipart/mixed; boundary=a"], "is not multipart/form-data"),
            ([b"multipart/form-data"], "no parameter `boundary`"),
            ([b"multipart/form-data; boundary=a; Boundary=a"], "`boundary` occurs twice"),
            ([b"multipart/form-data; boundary=a; boundary*=utf-8''b"], "`boundary\\*`"),
            ([b"multipart/form-data; boundary*0=a"], "`boundary\\*`"),
            ([b'multipart/form-data; boundary=""'], "1 to 70"),
            ([b'multipart/form-data; boundary="a "'], "1 to 70"),
            ([b'multipart/form-data; boundary=" a"'], "1 to 70"),
            ([b'multipart/form-data; boundary="a\\b"'], "1 to 70"),
            ([b'multipart/form-data; boundary="a,b"'], "no comma"),
            ([b'multipart/form-data; boundary="a,"'], "no comma"),
            ([b'multipart/form-data; x="; boundary=a"; boundary=b'], "in other places"),
            ([b"multipart/form-data; x-Boundary=a; boundary=b"], "in other places"),
            ([b"multipart/form-data; boundaryx=a; boundary=b"], "in other places"),
            ([b"multipart/form-data; x=BOUNDARY; y=a; boundary=b"], "in other places"),
            ([b"multipart/form-data; boundary=b; x=boundary; y=a"], "in other places"),
            ([b"multipart/form-data; Boundary=a-boundary; y=b"], "in other places"),
            ([b'multipart/form-data; boundary="a boundary =b"'], "in other places"),
            ([b"multipart/form-data; boundary=a$b"], "1 to 70"),
            ([b"multipart/form-data; boundary=a/b"], "not name=value"),
            ([b'multipart/form-data; boundary="caf\xc3\xa9"'], "1 to 70"),
            ([b"multipart/form-data; boundary=" + b"x" * 71], "1 to 70"),
        ],
    )
    def test_refused(self, content_types: list[bytes], why: str) -> None:
        with pytest.raises(Refusal, match=why) as caught:
            boundary(content_types)
        assert (caught.value.status, caught.value.reason) == (400, "multipart-boundary")

    def test_length(self) -> None:
        with pytest.raises(Refusal) as caught:
            boundary([b"multipart/form-data; boundary=a; x=" + b"y" * 1024])
        assert caught.value.reason == "content-type-too-long"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b"", None),
        (END, None),
        (b"--XyZ--", None),
        (part() + END, "whisper-1"),
        (part() + b"--XyZ--", "whisper-1"),
        (b"\r\n\r\n" + part() + END + b" \r\n\t", "whisper-1"),
        (part(FILE, b"RIFF\r\n--X\r\n--XyRIFF") + part() + END, "whisper-1"),
        (part() + part(FILE, b"\r\n\r\n\r--Xy-") + END, "whisper-1"),
        (part(FILE, b"") + part(FILE, b"\r\n") + END, None),
        (part(content=b"caf\xc3\xa9") + END, "café"),
        (part(content=b"a%20b") + END, "a%20b"),
        (named(b"name=model") + END, "whisper-1"),
        (named(b'NAME="model"') + END, "whisper-1"),
        (named(b'filename="model.wav"; name="file"') + END, None),
        (named(b'name="file"; filename="a\\"b.wav"; filename*=utf-8\'\'a%22b.wav') + END, None),
        (named(b'name="file"; filename="my name is model.wav"') + END, None),
        (named(b'name="modell"') + named(b'name="models"') + named(b'name="my model"') + END, None),
        (named('name="größe"'.encode()) + named('name="model名"'.encode()) + named(b'name="m\xffdel"') + END, None),
        (named(b'name=""') + named(b'name="a[model]"') + named(b'name="timestamp_granularities[]"') + END, None),
        (part(b"content-disposition:form-data; name=model\r\nX-Y: z \r\n") + END, "whisper-1"),
        (part(NAMED + b"Content-Type: text/plain\r\n") + END, "whisper-1"),
        (part(NAMED + b"Content-Type: text/plain; charset=UTF-8\r\n", b"caf\xc3\xa9") + END, "café"),
        (part(NAMED + b"Content-Type: text/plain; charset=ISO-8859-1\r\n") + END, "whisper-1"),
        (part(NAMED + b"Content-Transfer-Encoding: Binary\r\nContent-Length: 9\r\n") + END, "whisper-1"),
        (part(FILE + b"Content-Transfer-Encoding: quoted-printable\r\n") + END, None),
        (part(FILE.replace(b"audio/wav", b'audio/wav; name="a model.wav"')) + END, None),
        (named(b'name="x=model"') + named(b'name="x;model"') + named(b'name="x=y;model"') + END, None),
        (named(b'name="file"; namex=model; xname=model; x_name=model') + END, None),
        (named(b'name="file"; filename="my content-type.wav"') + END, None),
        (part(content=b"m" * 256) + END, "m" * 256),
    ],
)
def test_model(body: bytes, model: str | None, size: int) -> None:
    assert read_multipart(pieces(body, size), B) == model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"preamble\r\n" + part() + END, "begin with its boundary"),
        (b"\n" + part() + END, "begin with its boundary"),
        (b"\r\r" + part() + END, "begin with its boundary"),
        (b"\r\n" * 33 + part() + END, "begin with its boundary"),
        (b'{"model":"a"}', "begin with its boundary"),
        (END + b"x", "something follows its closing boundary"),
        (END + part() + END, "something follows its closing boundary"),
        (END + b" " * MAX_BLANKS, "something follows its closing boundary"),
        (b"--XyZ \r\n", "followed by something else"),
        (b"--XyZ\n\n", "followed by something else"),
        (b"--XyZ-\r\n", "followed by something else"),
        (b"--XyZabc\r\n", "followed by something else"),
        (part(FILE, b"x\r\n--XyZabc\r\n") + END, "followed by something else"),
        (part(FILE, b"x\r\n--XyZ \r\n") + END, "followed by something else"),
        (part(FILE, b"x\n--XyZ\r\n") + END, "elsewhere than at the start of a line"),
        (part(FILE, b"x\r--XyZ\r\n") + END, "elsewhere than at the start of a line"),
        (part(FILE, b"mid --XyZ line") + END, "elsewhere than at the start of a line"),
        (part(FILE, b"--XyZ") + END, "elsewhere than at the start of a line"),
        (part(FILE, b"\n--XyZ") + END, "elsewhere than at the start of a line"),
        (part(content=b"a\n--XyZ\r\n") + END, "elsewhere than at the start of a line"),
        (part(content=b"--XyZ\r\n") + END, "elsewhere than at the start of a line"),
        (b"--XyZ\r\n\r\ncontent\r\n\r\n" + END, "is not `name: value`"),
        (part(NAMED + b" folded\r\n") + END, "is not `name: value`"),
        (part(NAMED + b"X : y\r\n") + END, "is not `name: value`"),
        (part(b"X: y\nContent-Disposition: form-data; name=model\r\n") + END, "is not `name: value`"),
        (part(b"X: y\rContent-Disposition: form-data; name=model\r\n") + END, "is not `name: value`"),
        (part(NAMED + b"X: \x00\r\n") + END, "is not `name: value`"),
        (part(b"Content-Type: text/plain\r\n") + END, "has no Content-Disposition"),
        (part(NAMED + NAMED) + END, "a header field twice"),
        (part(NAMED + b"X: y\r\nx: y\r\n") + END, "a header field twice"),
        (named(b"x=y") + END, "not `form-data` with a name"),
        (part(b"Content-Disposition: attachment; name=model\r\n") + END, "not `form-data` with a name"),
        (named(b"name=a; name=model") + END, "`name` occurs twice"),
        (named(b'name="model') + END, "cannot be read"),
        (named(b'name="model";') + END, "cannot be read"),
        (named(b'; name="model"') + END, "cannot be read"),
        (part(b"--XyZ: y\r\n" + NAMED) + END, "in a part's header section"),
        (part(NAMED + b"X: --XyZ--\r\n") + END, "in a part's header section"),
        (part(b"X: content-disposition: form-data; name=model\r\n" + FILE) + END, "holds the name of another"),
        (part(b"X-Content-Disposition: form-data\r\n" + FILE) + END, "holds the name of another"),
        (part(NAMED + b"X: Content-Type: text/plain; charset=utf-16\r\n") + END, "holds the name of another"),
        (part(FILE + b"X: Content-ID: model\r\n") + END, "holds the name of another"),
        (named(b'x-name=model; name="file"') + END, "ends as `name`"),
        (named(b'name="file"; x.Name=model') + END, "ends as `name`"),
        (named(b'x="-name=model"; name="file"') + END, "holds `name=`"),
        (named(b'name = "model"') + END, "cannot be read"),
        (named(b'name="file"; filename="a"b"') + END, "cannot be read"),
        (named(b"name*=utf-8''model") + END, "not `form-data` with a name"),
        (named(b"name=a; name*=utf-8''model") + END, "a parameter `name\\*`"),
        (named(b"name*0=mo; name*1=del; name=x") + END, "a parameter `name\\*`"),
        (named(b'name="file"; filename="\\"; name=\\"model"') + END, "holds `name=`"),
        (named(b'name="file"; filename="x; name*=model"') + END, "holds `name=`"),
        (named(b'name="file"; filename="name \t*0 = model"') + END, "holds `name=`"),
        (named(b'name="' + b"x" * 1025 + b'"') + END, "a part's name is longer than 1024 bytes"),
        (named(b'name="x"' + b"".join(b"; p%d=x" % number for number in range(16))) + END, "more than 16 parameters"),
        (
            part(FILE.replace(b"audio/wav", b"Multipart/Mixed; boundary=abc")) + END,
            "a multipart body or a message itself",
        ),
        (part(FILE.replace(b"audio/wav", b"Message/RFC822")) + END, "a multipart body or a message itself"),
        (named(b"name=_charset_", content=b"utf-16") + END, "called `_charset_`"),
    ],
)
def test_no_multipart(body: bytes, why: str, size: int) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        read_multipart(pieces(body, size), B)
    assert (caught.value.status, caught.value.reason) == (400, "multipart-invalid")
    assert "At byte " in caught.value.message


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("section", "why"),
    [
        (b'name=" model"', "only some servers read"),
        (b'name="model\t"', "only some servers read"),
        (b'name="mo\\del"', "only some servers read"),
        (b'name="\\model\\\\"', "only some servers read"),
        (b'name="%6Dodel"', "only some servers read"),
        (b'name="mo\\%64el"', "only some servers read"),
        (b'name="model[]"', "only some servers read"),
        (b'name=";model"', "only some servers read"),
        (b'name="model:"', "only some servers read"),
        (b'name="=, Model;"', "only some servers read"),
        (b'name="mo\\"del"', "only some servers read"),
        (b'name="x=model;y"', "only some servers read"),
        (b'name="x==Model;"', "only some servers read"),
        (b'name=""; filename="model"', "without a name could be called"),
        (b'name=""; filename="[Model]"', "without a name could be called"),
        (b'name=""\r\nContent-Type: model', "without a name could be called"),
        (b"name=x\r\nContent-Type: text/plain; name=model", "called `model` by its Content-Type"),
        (b'name=x\r\nContent-Type: text/plain; Name="model";x=y', "called `model` by its Content-Type"),
        (b"name=x\r\nContent-Type: text/plain; name=a; name=b", "called `model` by its Content-Type"),
        (b"name='model'", "only some servers read"),
        (b'name="model [0]"', "only some servers read"),
        (b'name="model%00x"', "only some servers read"),
        (b'name="=?utf-8?q?model?="', "only some servers read"),
        (b'name="model"; filename="x"', "a filename"),
        (b'name="model"; filename=""', "a filename"),
        (b"name=model; filename*=utf-8''x", "a filename"),
        (b'name=model; x*="y"', "a filename, or a parameter with a"),
        (b"name=model\r\nContent-Transfer-Encoding: quoted-printable", "Content-Transfer-Encoding"),
        (b"name=model\r\nContent-Transfer-Encoding: base64", "Content-Transfer-Encoding"),
        (b"name=model\r\nContent-Type: application/json", "not text/plain in UTF-8"),
        (b"name=model\r\nContent-Type: application/octet-stream", "not text/plain in UTF-8"),
        (b"name=model\r\nContent-Type: text/plain; charset=utf-16", "not text/plain in UTF-8"),
        (b"name=model\r\nContent-Type: text/plain; charset*=utf-16''", "not text/plain in UTF-8"),
        (b'name=model\r\nContent-Type: text/plain; x=";charset=utf-7;y="', "not text/plain in UTF-8"),
        (b'name=model\r\nContent-Type: text/plain; charset=utf-8; x="a; CHARSET=utf-7"', "not text/plain in UTF-8"),
        (b"name=model\r\nContent-Encoding: deflate", "has a Content-Encoding"),
        (b"name=model\r\nContent-Type: text/plain; charset*0=iso-8859; charset*1=-1", "not text/plain in UTF-8"),
        (b"name=model\r\nContent-Type: text plain", "cannot be read"),
        (b"name=model\r\nContent-Type: text/plain;", "cannot be read"),
    ],
)
def test_model_of_some(section: bytes, why: str, size: int) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        read_multipart(pieces(named(section) + END, size), B)
    assert (caught.value.status, caught.value.reason) == (400, "multipart-model")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("content", "charset", "reason"),
    [
        (b"", b"", "model-empty"),
        (b"a\n", b"", "model-illegal"),
        (b" a", b"", "model-illegal"),
        (b"m" * 257, b"", "model-too-long"),
        (b"m" * 5000, b"", "model-too-long"),
        (b"caf\xe9", b"", "multipart-model"),
        (b"caf\xc3\xa9", b"Content-Type: text/plain; charset=iso-8859-1\r\n", "multipart-model"),
    ],
)
def test_names_that_are_not_usable(content: bytes, charset: bytes, reason: str, size: int) -> None:
    assert refused(part(NAMED + charset, content) + END, size).reason == reason


@pytest.mark.parametrize("size", SIZES)
def test_two_models(size: int) -> None:
    body = part() + part(FILE) + named(b"name=model", content=b"whisper-1") + END
    assert refused(body, size).reason == "model-duplicate"


@pytest.mark.parametrize("size", SIZES)
def test_cut_off(size: int) -> None:
    body = part(FILE) + part() + b"--XyZ--"
    for length in range(1, len(body)):
        assert refused(body[:length], size).reason == "multipart-cut-off"


class TestLimits:
    def test_parts(self) -> None:
        assert read_multipart([part(FILE) * (MAX_PARTS - 1) + part() + END], B) == "whisper-1"
        error = refused(part(FILE) * (MAX_PARTS + 1) + END)
        assert (error.status, error.reason) == (400, "multipart-too-many")

    def test_one_call_begins_no_more_parts_than_it_may(self) -> None:
        body = part(FILE) * (2 * PARTS_PER_CALL) + part() + END
        reader = MultipartReader(B)
        first = reader.feed(body)
        assert first == len(part(FILE)) * (PARTS_PER_CALL - 1) + len(b"--XyZ\r\n")
        second = reader.feed(body, first)
        assert second == first + len(part(FILE)) * PARTS_PER_CALL
        assert reader.feed(body, second) == len(body)
        assert reader.end() == "whisper-1"

    def test_header_fields(self) -> None:
        fields = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_PART_FIELDS - 1))
        assert read_multipart([part(NAMED + fields) + END], B) == "whisper-1"
        assert refused(part(NAMED + fields + b"Y: z\r\n") + END).reason == "multipart-too-many"

    @pytest.mark.parametrize("size", [1, 1 << 20])
    def test_header_octets(self, size: int) -> None:
        room = MAX_PART_HEADER_BYTES - len(NAMED) - len(b"X: ")
        body = part(NAMED + b"X: " + b"x" * room + b"\r\n") + END
        assert read_multipart(pieces(body, size), B) == "whisper-1"
        error = refused(body.replace(b"X: ", b"X: x"), size)
        assert (error.reason, "longer than 4096" in error.message) == ("multipart-invalid", True)

    def test_a_file_is_not_kept(self) -> None:
        reader = MultipartReader(B)
        reader.feed(part() + b"--XyZ\r\n" + FILE + b"\r\n")
        for _ in range(50):
            reader.feed(b"\r\n--Xy" * 10_000)
            assert len(reader._buffer) <= len(B) + 5
        assert reader.model == "whisper-1"


def test_what_may_pass_before_the_end() -> None:
    reader = MultipartReader(B)
    reader.feed(b"--XyZ\r\n")
    assert reader.passable_bytes == 7
    begun = part() + b"--XyZ\r\n" + FILE + b"\r\n" + b"RIFF" * 100
    reader.feed(begun[7:])
    assert len(begun) - len(B) - 3 <= reader.passable_bytes <= len(begun)
    reader.feed(b"\r\n" + END)
    assert reader.passable_bytes == len(begun)
    assert reader.end() == "whisper-1"


class TestBoundaryWatch:
    @pytest.mark.parametrize("size", SIZES)
    def test_seen(self, size: int) -> None:
        body = gzip.compress(part() + END, 0)
        watch = BoundaryWatch(B)
        with pytest.raises(Refusal) as caught:
            list(map(watch.feed, pieces(body, size)))
        assert (caught.value.status, caught.value.reason) == (400, "encoding-ambiguous")

    @pytest.mark.parametrize("size", SIZES)
    def test_not_seen(self, size: int) -> None:
        watch = BoundaryWatch(B)
        for piece in pieces(gzip.compress(part(FILE, b"RIFF" * 100) + part() + END), size):
            watch.feed(piece)
            assert len(watch._tail) <= len(B) + 1
