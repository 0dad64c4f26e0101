from bbr.reading.fields import BodyField, BodyFields, ScannedValues
from bbr.reading.scan.field_members import FIELD, MODEL, OTHER, FieldMembers
from bbr.refusal import Refusal

FIELDS = BodyFields([BodyField("user", "x-user", max_bytes=3), BodyField("metadata.id", "x-id")], 0)


def members() -> tuple[FieldMembers, ScannedValues]:
    values = ScannedValues(FIELDS)
    return FieldMembers(values), values


def reason(values: ScannedValues) -> str:
    assert isinstance(values.refusal, Refusal)
    return values.refusal.reason


def test_a_value_in_parts() -> None:
    of, values = members()
    assert of.keys is FIELDS.keys
    assert of.add_key(b'"user"', 1) == FIELD
    assert of.open(ord('"'), 8)
    assert all(of.keep(part) for part in (b'"', b"bo", b'b"'))
    of.close(13)
    assert (values.values, values.refusal) == ([b"bob", None], None)


def test_keys_of_the_model_are_somebody_else_s() -> None:
    of, values = members()
    assert of.add_key(b'"model"', 1) == of.add_key(b'"MODEL\\u0000', 9) == MODEL
    assert values.refusal is None


def test_a_key_that_does_not_count_has_no_value() -> None:
    of, values = members()
    assert of.add_key(b'"User\\u0000', 1) == OTHER
    assert reason(values) == "field-spelling"
    assert of.add_key(b'"user"', 20) == OTHER
    assert reason(values) == "field-spelling"


def test_a_value_that_is_too_long_is_kept_no_longer() -> None:
    of, values = members()
    of.add_key(b'"user"', 1)
    assert of.open(ord('"'), 8)
    assert of.keep(b'"' + b"x" * 10)
    assert not of.keep(b"x" * 10)
    of.close(40)
    assert (reason(values), values.values) == ("field-too-long", [None, None])


def test_a_value_of_another_type_is_not_kept() -> None:
    of, values = members()
    of.add_key(b'"metadata"', 1)
    assert not of.open(ord("["), 12)
    of.close(14)
    assert reason(values) == "field-type"
