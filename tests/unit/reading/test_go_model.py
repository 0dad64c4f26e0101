import orjson
import pytest

from bbr.reading import go_model
from bbr.reading.base import read_through
from bbr.reading.coerced import CoercedReading
from bbr.reading.go_model import model_at_once, text_of
from bbr.reading.json_body import UNSETTLED
from bbr.refusal import Refusal

# What Go 1.26 prints: fmt.Sprintf("%v", v) of what encoding/json makes of each.
PRINTED = {
    "1": "1",
    "-1": "-1",
    "0": "0",
    "-0.0": "-0",
    "1.5": "1.5",
    "1.0": "1",
    "100000": "100000",
    "123456": "123456",
    "999999": "999999",
    "1000000": "1e+06",
    "1234567": "1.234567e+06",
    "-123456789": "-1.23456789e+08",
    "1e5": "100000",
    "1e20": "1e+20",
    "1e21": "1e+21",
    "1.25e100": "1.25e+100",
    "0.1": "0.1",
    "0.0001": "0.0001",
    "0.00001": "1e-05",
    "0.00012345": "0.00012345",
    "1e-7": "1e-07",
    "12345678901234567890": "1.2345678901234567e+19",
    "9007199254740993": "9.007199254740992e+15",
    "5e-324": "5e-324",
    "1.7976931348623157e308": "1.7976931348623157e+308",
    "true": "true",
    "false": "false",
    "null": "<nil>",
    '""': "",
    '" a "': " a ",
    "[]": "[]",
    "{}": "map[]",
    '["a",1,null,[true]]': "[a 1 <nil> [true]]",
    '{"b":1,"a":"x y","c":{"d":[]}}': "map[a:x y b:1 c:map[d:[]]]",
    '{"é":1,"z":2,"Z":3}': "map[Z:3 z:2 é:1]",
    "[-0.0,1e6]": "[-0 1e+06]",
}


@pytest.mark.parametrize(("value", "printed"), PRINTED.items(), ids=PRINTED)
def test_value(value: str, printed: str) -> None:
    assert text_of(orjson.loads(value)) == printed


@pytest.mark.parametrize(("value", "printed"), [("-0", "-0"), ("0", "0"), ("[-0]", "[-0]"), ("false", "false")])
def test_minus_nought_is_one_in_a_body(value: str, printed: str) -> None:
    body = b'{"model":%s}' % value.encode()
    assert read_through(CoercedReading(256), body) == printed
    assert model_at_once(body, 256) in (printed, UNSETTLED)


def test_what_no_json_value_is() -> None:
    with pytest.raises(TypeError, match="bytes is not a JSON value"):
        text_of(b"")


def test_nesting_has_an_end() -> None:
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(RecursionError):
        text_of(nested)


UNUSABLE = {
    "a control character": (b'"a\\n"', "model-illegal"),
    "a control character in an array": (b'["a\\n"]', "model-illegal"),
    "too long": (b'"%s"' % (b"x" * 10), "model-too-long"),
    "too long a number": (b"1234567891", "model-too-long"),
}


@pytest.mark.parametrize(("model", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_can_not_stand_in_a_header_is_refused(model, reason):
    body = b'{"model": %s}' % model
    assert model_at_once(body, 9) is UNSETTLED
    with pytest.raises(Refusal) as caught:
        read_through(CoercedReading(9), body)
    assert caught.value.reason == reason
    assert caught.value.message.endswith("(At byte 10 of the body.)")


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'{"model":{"a":1}}', b'{"model":[]}', b"{"])
def test_what_takes_a_closer_look_is_left_to_a_reading(body):
    assert model_at_once(body, 256) is UNSETTLED


@pytest.mark.interpreted("replaces a function")
def test_what_is_nested_too_deep_is_refused(monkeypatch):
    def too_deep(_value):
        raise RecursionError

    monkeypatch.setattr(go_model, "text_of", too_deep)
    with pytest.raises(Refusal, match="it is nested too deep"):
        read_through(CoercedReading(256), b'{"model":[[]]}')


@pytest.mark.parametrize(("model", "name"), [(b'" a "', " a "), (b"1e6", "1e+06"), (b"true", "true"), (b'""', "")])
def test_models_that_are_no_containers_are_told_at_once(model, name):
    assert model_at_once(b'{"model":%b}' % model, 256) == name


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null"])
def test_no_model(body):
    assert model_at_once(body, 256) is None
