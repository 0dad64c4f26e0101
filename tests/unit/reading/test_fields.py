import json
from hashlib import sha256

import pytest

from bbr.reading.document import DocumentReading
from bbr.reading.fields import MAX_OBJECT_BYTES, BodyField, BodyFields, FieldValues
from bbr.reading.json_body import Raw
from bbr.refusal import Refusal
from tests.support.readings import cuts, read, work

USER = BodyField("user", "x-user")
HASHED = BodyField("user", "x-user-hash", hashed=True, max_bytes=20)
SESSION = BodyField("metadata.session_id", "x-session")
TENANT = BodyField("metadata.tenant", "x-tenant", max_bytes=4)
FIELDS = BodyFields([USER, SESSION, TENANT], 1 << 20)
# What a body is read by: the parsers, or the scanner.
WHOLE_BYTES = (1 << 20, 0)


def values(body: bytes, fields: BodyFields = FIELDS) -> list[str | None]:
    """Return what headers get, which is the same in each split and by each reader."""
    found = []
    for whole_bytes in WHOLE_BYTES:
        for pieces in [[body]] if len(body) > 300 else cuts(body):
            reading = DocumentReading(256, whole_bytes, fields)
            read(reading, pieces)
            assert reading.fields is not None
            found.append([None if value is None else value.decode() for value in reading.fields.values])
    assert all(each == found[0] for each in found)
    return found[0]


def refused(body: bytes, fields: BodyFields = FIELDS) -> Refusal:
    """Return why a body is refused, which is the same in each split and by each reader."""
    found = []
    for whole_bytes in WHOLE_BYTES:
        for pieces in [[body]] if len(body) > 300 else cuts(body):
            with pytest.raises(Refusal) as raised:
                read(DocumentReading(256, whole_bytes, fields), pieces)
            found.append(raised.value)
    assert {(each.reason, each.message, each.param) for each in found} == {
        (found[0].reason, found[0].message, found[0].param)
    }
    return found[0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m","user":"bob"}', ["bob", None, None]),
        (b'{"user":"bob"}', ["bob", None, None]),
        (b'{ "user" : "b\\u00f6b" , "model" : "m" }', ["böb", None, None]),
        (b'{"us\\u0065r":"bob"}', ["bob", None, None]),
        (b'{"user":17,"model":"m"}', ["17", None, None]),
        (b'{"user":-1.50E+2}', ["-1.50E+2", None, None]),
        (b'{"user":true}', ["true", None, None]),
        (b'{"user":false}', ["false", None, None]),
        (b'{"user":null,"metadata":null}', [None, None, None]),
        (b'{"user":"","metadata":{}}', [None, None, None]),
        (b'{"metadata":{"session_id":"s","x":["session_id",{"tenant":"no"}],"tenant":"t"}}', [None, "s", "t"]),
        (b'{"metadata":{"session_id":"s\\u0020t","tenant":null}}', [None, "s t", None]),
        (b'{"metadata":{"s\\u0065ssion_id":"s","model":7,"tenant":"t"}}', [None, "s", "t"]),
        (b'{"session_id":"no","x":{"user":"no","metadata":{"tenant":"no"}}}', [None, None, None]),
        (b'{"username":"no","use":"no","metadata.session_id":"no"}', [None, None, None]),
        (b'{"x":"\\"user\\":\\"no\\"","y":"user","user":"yes"}', ["yes", None, None]),
        (b'["user","bob"]', [None, None, None]),
        (b'"user"', [None, None, None]),
        (b"", [None, None, None]),
    ],
)
def test_values(body: bytes, expected: list[str | None]) -> None:
    assert values(body) == expected


@pytest.mark.parametrize(
    ("body", "reason", "param", "place"),
    [
        (b'{"user":"a","user":"a"}', "field-duplicate", "user", 12),
        (b'{"user":null,"us\\u0065r":"a"}', "field-duplicate", "user", 13),
        (b'{"user":"a","USER":"a"}', "field-duplicate", "user", 12),
        (b'{"metadata":{},"metadata":{}}', "field-duplicate", "metadata", 15),
        (b'{"metadata":{"tenant":"a","tenant":"b"}}', "field-duplicate", "metadata.tenant", 26),
        (b'{"User":"a"}', "field-spelling", "user", 1),
        (b'{"u\xc5\xbfer":"a"}', "field-spelling", "user", 1),
        (b'{"u\\u017fer":"a"}', "field-spelling", "user", 1),
        (b'{"user\\u0000x":"a"}', "field-spelling", "user", 1),
        (b'{"metadata":{"Tenant":"a"}}', "field-spelling", "metadata.tenant", 13),
        (b'{"user":[]}', "field-type", "user", 8),
        (b'{"user":{"a":1}}', "field-type", "user", 8),
        (b'{"metadata":"a"}', "field-type", "metadata", 12),
        (b'{"metadata":[1]}', "field-type", "metadata", 12),
        (b'{"metadata":7 }', "field-type", "metadata", 12),
        (b'{"metadata":{"tenant":{}}}', "field-type", "metadata.tenant", 22),
        (b'{"user":"a\\n"}', "field-illegal", "user", 8),
        (b'{"user":" a"}', "field-illegal", "user", 8),
        (b'{"user":"a\\u200b"}', "field-illegal", "user", 8),
        (b'{"metadata":{"tenant":"12345"}}', "field-too-long", "metadata.tenant", 22),
        (b'{"user":"%b"}' % (b"a" * 257), "field-too-long", "user", 8),
        (b'{"user":"%b"}' % (b"a" * 5000), "field-too-long", "user", 8),
        (b'{"user":1%b}' % (b"0" * 300), "field-too-long", "user", 8),
        (b'{"metadata":{"x":"%b"}}' % (b"a" * MAX_OBJECT_BYTES), "field-too-long", "metadata", 12),
    ],
)
def test_refused(body: bytes, reason: str, param: str, place: int) -> None:
    refusal = refused(body)
    assert (refusal.status, refusal.reason, refusal.param) == (400, reason, param)
    assert f"`{param}`" in refusal.message
    assert refusal.message.endswith(f"(At byte {place} of the body.)")


def test_a_fault_of_the_document_goes_before_one_of_a_field_and_a_model_s_does_too() -> None:
    assert refused(b'{"user":[],"x":}').reason == "invalid-json"
    assert refused(b'{"user":[],"model":7}').reason == "model-not-string"
    assert refused(b'{"user":[],"model":null}').reason == "field-type"
    assert refused(b'{"user":[],"metadata":1}').param == "user"


def test_a_digest_takes_any_string_that_is_not_too_long() -> None:
    fields = BodyFields([USER, HASHED], 0)
    assert values(b'{"user":"b\\u00f6b"}', fields) == ["böb", sha256("böb".encode()).hexdigest()]
    only = BodyFields([HASHED], 0)
    assert values(b'{"user":" a\\n"}', only) == [sha256(b" a\n").hexdigest()]
    assert values(b'{"user":""}', only) == [None]
    assert refused(b'{"user":"%b"}' % (b"a" * 21), only).reason == "field-too-long"


def test_a_value_of_the_longest_in_escapes() -> None:
    body = b'{"metadata":{"tenant":"\\u0061\\u0062\\u0063\\u0064"},"user":"%b"}' % (b"\\u0061" * 256)
    assert values(body) == ["a" * 256, None, "abcd"]


def test_an_object_that_the_parser_finds_too_deep_is_scanned() -> None:
    body = b'{"metadata":{"x":%b%b,"tenant":"t"}}' % (b"[" * 700, b"]" * 700)
    assert values(body) == [None, None, "t"]


def test_a_spelling_that_only_unicode_s_full_folding_has_is_another_key() -> None:
    fields = BodyFields([BodyField("fields", "x")], 0)
    assert values('{"ﬁelds":"no"}'.encode(), fields) == [None]
    assert values('{"ﬁelds":"no","fields":"yes"}'.encode(), fields) == ["yes"]


def test_keys_with_dashes_digits_and_underscores() -> None:
    fields = BodyFields([BodyField("a-1_k", "x"), BodyField("k.s", "y")], 0)
    assert values(b'{"\\u0061\\u002d\\u0031\\u005f\\u006b":"1","k":{"s":"2"}}', fields) == ["1", "2"]
    assert refused(b'{"a-1_\xe2\x84\xaa":"1"}', fields).reason == "field-spelling"
    assert refused(b'{"k":{"\\u017f":"1"}}', fields).reason == "field-spelling"


EARLY = BodyFields([USER._replace(early=True), SESSION], 100)


def pieces_until(body: bytes, at: int) -> FieldValues:
    reading = DocumentReading(256, 0, EARLY)
    reading.feed(body[:at])
    work(reading)
    assert reading.fields is not None
    return reading.fields


def test_what_is_awaited() -> None:
    body = b'{"metadata":{},"model":"m","x":"%b","user":"bob"}' % (b"x" * 200)
    assert pieces_until(body, 13).awaited
    assert pieces_until(body, 40).awaited
    assert not pieces_until(body, 150).awaited  # nothing but what is early
    late = b'{"model":"m","user":"bob","x":"%b","metadata":{}}' % (b"x" * 200)
    assert pieces_until(late, 40).awaited
    assert pieces_until(late, 200).awaited
    assert not pieces_until(late, len(late)).awaited


@pytest.mark.parametrize(("end", "value", "late"), [(25, b"bob", ()), (100, b"bob", ()), (101, None, (0,))])
def test_early_is_what_ends_within_the_first_bytes(end: int, value: bytes | None, late: tuple[int, ...]) -> None:
    body = b'{"model":"m",' + b" " * (end - 25) + b'"user":"bob"}'
    assert body.index(b"}") == end
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        reading = DocumentReading(256, 0, EARLY)
        read(reading, pieces)
        assert reading.fields is not None
        assert reading.fields.values[0] == value
        assert tuple(reading.fields.late) == late


def test_members_that_are_to_be_scanned_are_not_taken() -> None:
    def raw(document: str) -> dict[str, Raw]:
        return {key: memoryview(json.dumps(value).encode()) for key, value in json.loads(document).items()}

    assert FieldValues(FIELDS).take_members(raw('{"user":"a"}'))
    assert not FieldValues(FIELDS).take_members(raw('{"User":"a"}'))
    assert not FieldValues(FIELDS).take_members(raw('{"user":[]}'))
    assert not FieldValues(FIELDS).take_members(raw('{"metadata":{"tenant":[]}}'))
    assert not FieldValues(FIELDS).awaited


@pytest.mark.parametrize("user", ['"bob"', "[]", '"a","user":"b"'])
def test_a_body_whose_members_are_found_by_their_quotes(user: str) -> None:
    body = b'{"messages":"%b","user":%b,"model":"m"}' % (b"x" * (40 << 10), user.encode())
    if user == '"bob"':
        assert values(body) == ["bob", None, None]
        assert values(body.replace(b',"model":"m"', b"")) == ["bob", None, None]
    else:
        assert refused(body).reason in ("field-type", "field-duplicate")
