import pytest

from bbr.reading.scan.member import ModelMember
from bbr.refusal import Refusal


def give(member: ModelMember, *parts: bytes) -> None:
    """Give the inside of its string in parts."""
    member.open_text()
    for part in parts:
        if member.text is not None:
            member.keep(member.text, part)
    if member.text is not None:
        member.close_text(member.text)


def told(member: ModelMember) -> tuple[str, str]:
    assert isinstance(member.known, Refusal)
    return member.known.reason, member.known.message


@pytest.mark.parametrize("key", [b'"model"', b'"\\u006dode\\u006C"'])
def test_the_first_key_in_its_exact_letters_has_the_value(key: bytes) -> None:
    member = ModelMember(256)
    assert member.add_key(key, 1)
    assert (member.keys, member.known) == (1, None)
    give(member, b"a\\u0", b"0e9")
    assert (member.known, member.text) == ("aé", None)


@pytest.mark.parametrize("key", [b'"Model"', b'"\\u004dodel"', b'"model\\u0000'])
def test_a_key_that_is_the_model_for_some_parsers_only(key: bytes) -> None:
    member = ModelMember(256)
    assert not member.add_key(key, 17)
    reason, message = told(member)
    assert reason == "model-spelling"
    assert "byte 17" in message


def test_a_second_key_refuses_the_first_one_s_value_and_a_third_changes_nothing() -> None:
    member = ModelMember(256)
    member.add_key(b'"model"', 1)
    give(member, b"a")
    assert not member.add_key(b'"model"', 13)
    second = told(member)
    assert second[0] == "model-duplicate"
    assert "byte 13" in second[1]
    assert not member.add_key(b'"MODEL"', 25)
    assert (told(member), member.keys) == (second, 3)


def test_a_name_that_is_none_to_use_is_refused_where_its_value_begins() -> None:
    member = ModelMember(256)
    member.add_key(b'"model"', 1)
    member.value_offset = 9
    give(member, b"a\\n")
    reason, message = told(member)
    assert reason == "model-illegal"
    assert "byte 9" in message


def test_what_is_far_too_long_is_not_kept() -> None:
    member = ModelMember(10)
    give(member, b"x" * 60)
    assert told(member)[0] == "model-too-long"
    member = ModelMember(10)
    member.value_offset = 9
    give(member, b"x" * 60, b"x", b"x" * 60)
    assert member.text is None
    reason, message = told(member)
    assert reason == "model-too-long"
    assert "byte 9" in message


@pytest.mark.parametrize(
    ("first", "sentence"),
    [("[", "an array"), ("{", "an object"), ("t", "a boolean"), ("f", "a boolean"), ("n", "null"), ("-", "a number")],
)
def test_a_value_of_another_type(first: str, sentence: str) -> None:
    member = ModelMember(256)
    member.refuse_type(ord(first))
    reason, message = told(member)
    assert reason == "model-not-string"
    assert sentence in message
