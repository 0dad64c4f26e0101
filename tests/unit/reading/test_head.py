import pytest
from google.protobuf.message import DecodeError

from bbr.pb.ext_proc_pb2 import HeaderMap, HeaderValue
from bbr.reading import head as reading_head
from bbr.reading.head import Dialect, Head
from bbr.reading.name import BodyKind
from bench.harness.messages import header_map

JSON, FORM, OTHER, UNTYPED = BodyKind.JSON, BodyKind.FORM, BodyKind.OTHER, BodyKind.UNTYPED


def read_head(headers: HeaderMap) -> Head:
    return reading_head.read_head(headers.headers)[0]


def kind(*fields: tuple[str, str]) -> BodyKind:
    return read_head(header_map(fields)).kind


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], UNTYPED),
        ([("content-type", "application/json; charset=utf-8")], JSON),
        ([("content-type", "text/plain"), ("content-type", "application/json")], JSON),
        ([("content-type", "application/x-www-form-urlencoded")], FORM),
        ([("content-type", "text/plain")], OTHER),
        ([("content-type", "")], OTHER),
        ([("upgrade", "websocket"), ("connection", "Upgrade")], OTHER),
        ([("content-type", "application/json"), ("upgrade", "h2c")], OTHER),
        ([(":method", "CONNECT")], OTHER),
        ([(":method", "CONNECTED")], UNTYPED),
    ],
)
def test_kind(fields: list[tuple[str, str]], expected: BodyKind) -> None:
    assert kind(*fields) is expected


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ("0", 0),
        ("64", 64),
        ("999999999999999999", 10**18 - 1),
        ("9" * 19, 1 << 63),
        ("9" * 5000, 1 << 63),
        ("-1", 0),
        ("+1", 0),
        ("1_0", 0),
        ("\N{ARABIC-INDIC DIGIT NINE}" * 3, 0),
        ("x", 0),
        ("", 0),
    ],
)
def test_content_length(value: str, length: int) -> None:
    assert reading_head.read_head(header_map([("content-length", value)]).headers)[1] == length


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages?beta=true", Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/anthropic/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages2", Dialect.OPENAI),
        ("/v1/chat/completions", Dialect.OPENAI),
        ("/v1/chat/completions?x=/v1/messages", Dialect.OPENAI),
        ("/x#/v1/messages", Dialect.OPENAI),
        ("*", Dialect.OPENAI),
        ("", Dialect.OPENAI),
    ],
)
def test_dialect(path: str, dialect: Dialect) -> None:
    assert read_head(header_map([(":path", path)])).dialect is dialect


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (HeaderValue(key="content-type", value="text/plain"), OTHER),
        (HeaderValue(key="content-type", value="text/plain", raw_value=b"text/json"), JSON),
    ],
)
def test_raw_value_wins_over_value(header: HeaderValue, expected: BodyKind) -> None:
    assert read_head(HeaderMap(headers=[header.SerializeToString()])).kind is expected


@pytest.mark.parametrize("size", [100, 1000])
def test_a_field_is_read_whether_it_is_kept_or_not(size: int) -> None:
    value = "text/plain; x=" + "x" * size
    assert [kind(("content-type", value)) for _ in range(2)] == [OTHER, OTHER]
    assert kind(("content-type", "application/json; x=" + "x" * size)) is JSON


def test_names_that_begin_alike_are_told_apart() -> None:
    assert read_head(header_map([("content-typo", "text/plain"), (":methyl", "CONNECT"), ("upgraded", "x")])) == Head(
        UNTYPED, Dialect.OPENAI
    )


def test_a_field_that_is_none() -> None:
    encoded = HeaderValue(key="content-type", value="x").SerializeToString()[:-1]
    with pytest.raises(DecodeError):
        read_head(HeaderMap(headers=[encoded]))


def test_no_headers_at_all() -> None:
    assert read_head(HeaderMap()) == Head(UNTYPED, Dialect.OPENAI)


def test_what_tells_how_a_body_is_read() -> None:
    fields = [
        (":path", "/v1/audio/transcriptions?x=1"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-encoding", "gzip"),
        ("content-encoding", "br, zstd"),
    ]
    head = read_head(header_map(fields))
    assert (head.kind, head.path) == (BodyKind.MULTIPART, b"/v1/audio/transcriptions?x=1")
    assert head.content_types == (b"multipart/form-data; boundary=x",)
    assert head.content_encodings == (b"gzip", b"br, zstd")


def test_one_that_is_known_again_has_its_own_length() -> None:
    fields = [(":path", "/x"), ("content-type", "text/plain")]
    read = [reading_head.read_head(header_map([*fields, ("content-length", str(size))]).headers) for size in (1, 2, 3)]
    assert [length for _, length in read] == [1, 2, 3]
    assert {head for head, _ in read} == {Head(OTHER, Dialect.OPENAI, b"/x", b"", (b"text/plain",), text=True)}


def test_more_fields_than_are_kept() -> None:
    fields = [("content-encoding", "gzip")] * 9
    assert read_head(header_map(fields)).content_encodings == (b"gzip",) * 9
