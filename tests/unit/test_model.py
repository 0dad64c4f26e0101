import pytest

from bbr.model import MAX_MODEL_BYTES, check_model, is_json, read_model
from bbr.refusal import Refusal


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"qwen"}', "qwen"),
        (b'{"messages":[{"model":"inner"}],"model":"outer"}', "outer"),
        (b'{"tools":{"model":"inner"}}', None),
        (b'{"MODEL":"qwen"}', None),
        (b' \t\r\n{ "model" : "qwen" } \n', "qwen"),
        (b'{"model":"Qwen\\/Qwen2.5-3B-Instruct"}', "Qwen/Qwen2.5-3B-Instruct"),
        ('{"model":"モデル"}'.encode(), "モデル"),
        (b'{"model":"a b"}', "a b"),
        (b"", None),
        (b"{}", None),
        (b"[]", None),
        (b"null", None),
        (b'"model"', None),
        (b"17", None),
    ],
)
def test_model_of_a_body(body: bytes, model: str | None) -> None:
    assert read_model(body) == model


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "at byte 1"),
        (b'{"model":"qwen"}x', "at byte 16"),
        (b'{"model":"qwen"}{}', "at byte 16"),
        ('{"é":nul}'.encode(), "at byte 6"),
        (b'{"a":"\xff"}', "invalid UTF-8 at byte 6"),
        (b"\xef\xbb\xbf{}", "(BOM)"),
        (b'{"a":NaN}', "at byte 5"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b"[" * 2000, "depth"),
        (b"--boundary", "at byte"),
        (b"   ", "empty"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, says: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_model(body)
    assert (caught.value.status, caught.value.reason) == (400, "invalid-json")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a number"), ([], "an array"), ({}, "an object")],
)
def test_model_must_be_a_string(value: object, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        check_model(value)
    assert (caught.value.status, caught.value.reason) == (400, "model-not-string")


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F])
def test_control_characters_are_refused_wherever_they_stand(octet: int) -> None:
    for name in (f"a{chr(octet)}b", f"{chr(octet)}b", f"a{chr(octet)}"):
        with pytest.raises(Refusal) as caught:
            check_model(name)
        assert caught.value.reason == "model-illegal"


@pytest.mark.parametrize("name", [" a", "a ", "\N{NO-BREAK SPACE}a", "a\N{EM SPACE}", " "])
def test_blanks_at_the_ends_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match="begins or ends with a blank"):
        check_model(name)


def test_length_counts_octets() -> None:
    assert check_model("é" * (MAX_MODEL_BYTES // 2)) == "é" * (MAX_MODEL_BYTES // 2)
    with pytest.raises(Refusal, match="257 bytes") as caught:
        check_model("é" * (MAX_MODEL_BYTES // 2) + "x")
    assert caught.value.reason == "model-too-long"
    with pytest.raises(Refusal, match="at most 4"):
        check_model("abcde", 4)


def test_empty_model_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        read_model(b'{"model":""}')
    assert caught.value.reason == "model-empty"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", True),
        (b"application/json;charset=utf-8", True),
        (b" Application/JSON ; x=y", True),
        (b"text/json", True),
        (b"application/problem+json", True),
        (b"application/jsonl", False),
        (b"application/x-ndjson", False),
        (b"text/plain; a=application/json", False),
        (b"multipart/form-data; boundary=+json", False),
        (b"", False),
    ],
)
def test_content_types_that_are_read(content_type: bytes, expected: bool) -> None:
    assert is_json(content_type) is expected
