import pytest

from bbr.reading.json_body import UNSETTLED
from bbr.reading.name import BEGINNING_BYTES, MAX_MODEL_BYTES, check_model, model_at_once, serde_differs
from bbr.refusal import Refusal
from tests.support.whole import judge, read_model


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"qwen"}', "qwen"),
        (b'{"messages":[{"model":"inner"}],"model":"outer"}', "outer"),
        (b'{"tools":{"model":"inner"}}', None),
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
    assert model_at_once(body) == judge(body) == model


@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b'{"a":"model","model":1}', "model-not-string", 21),
        (b' {"x":{"model":"y"},"model" : null}', "model-not-string", 30),
        (b'{"model":""}', "model-empty", 9),
        (b'{"model":"a\\n"}', "model-illegal", 9),
        (b'{"mod\\u0065l" :\t" a"}', "model-illegal", 16),
        (b'{"model":"%s"}' % (b"x" * 257), "model-too-long", 9),
        (b'{"model":"a","model":"b"}', "model-duplicate", 13),
        (b'{"model":"a","Model":"b"}', "model-duplicate", 13),
        (b'{"MODEL":"a"}', "model-spelling", 1),
        ('{"model":"a\ufe0f"}'.encode(), "model-illegal", 9),
    ],
)
def test_refused_models_name_their_place(body: bytes, reason: str, offset: int) -> None:
    assert model_at_once(body) is UNSETTLED
    for read in (read_model, judge):
        with pytest.raises(Refusal, match=f"At byte {offset} of the body") as caught:
            read(body)
        assert caught.value.reason == reason


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


@pytest.mark.parametrize(
    "character",
    [
        "\xa0",
        "\x85",
        "\xad",
        "\u200b",
        "\u2060",
        "\u2800",
        "\ufffb",
        "\u202e",
        "\u3000",
        "\ufe0f",
        "\ufeff",
        "\U000e0041",
        "\uffff",
    ],
)
def test_characters_that_nobody_sees_are_refused_wherever_they_stand(character: str) -> None:
    for name in (f"a{character}b", f"{character}b", f"a{character}"):
        with pytest.raises(Refusal, match=f"holds U\\+{ord(character):04X}, which can't be seen") as caught:
            check_model(name)
        assert caught.value.reason == "model-illegal"


@pytest.mark.parametrize("name", [" a", "a ", " "])
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


def test_lists() -> None:
    assert serde_differs(b" \n[1]")
    assert not any(map(serde_differs, (b"", b" ", b'{"a":[]}', b"x[", b" " * BEGINNING_BYTES)))


def test_a_document_in_a_text() -> None:
    for key in (b"$serde_json::private::RawValue", b"\\u0024serde\\u005Fjson::private::Raw\\u0056alue"):
        assert serde_differs(b' { "%b":"{}"}' % key)
        assert not serde_differs(b'{"%bs":"{}"}' % key)
        assert not serde_differs(b'{"x":"%b"}' % key)
    # What begins with more blanks than are looked at could be anything.
    for before in (b"", b"{"):
        assert serde_differs(before.ljust(BEGINNING_BYTES + 1))
    assert not serde_differs(b'{"' + b"x" * BEGINNING_BYTES)
