import pytest

from deploy.render.structural import Structural, json_schema, python_pattern, with_defaults

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
BY_NAME = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {"type": "object", "properties": {"name": TEXT, "port": NUMBER}},
}
PORT_OR_NAME = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
ONE_OF_TWO = {
    "type": "object",
    "properties": {"a": TEXT, "b": TEXT},
    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
}


def obj(**properties):
    return {"type": "object", "properties": properties}


# Name: schema, values that it takes, values that it refuses.
CASES = {
    "fields that are named": (obj(a=TEXT), [{}, {"a": "x"}], [{"b": "x"}, {"a": 1}, {"a": None}, []]),
    "an object without fields": ({"type": "object"}, [{}], [{"a": 1}]),
    "any fields": ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, [{}, {"a": 1}], ["x"]),
    "fields of a kind": ({"type": "object", "additionalProperties": NUMBER}, [{"a": 1}], [{"a": "1"}]),
    "an object within": (
        {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": TEXT}},
        [{"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": "x"}],
        [{"status": {}}],
    ),
    "what is required": ({**obj(a=TEXT), "required": ["a"]}, [{"a": ""}], [{}]),
    "null": ({**TEXT, "nullable": True, "enum": ["x"]}, [None, "x"], ["y", 1]),
    "a number or a text": (PORT_OR_NAME, [1, "http"], [1.5, [], None, True]),
    "bounds": ({**NUMBER, "minimum": 1, "maximum": 3}, [1, 3], [0, 4]),
    "bounds left out": (
        {**NUMBER, "minimum": 1, "exclusiveMinimum": True, "maximum": 3, "exclusiveMaximum": True},
        [2],
        [1, 3],
    ),
    "int32": ({**NUMBER, "format": "int32"}, [2**31 - 1, -(2**31)], [2**31]),
    "lengths": ({**TEXT, "minLength": 1, "maxLength": 2}, ["a", "ab"], ["", "abc"]),
    "a pattern": ({**TEXT, "pattern": "^[a-z]+$"}, ["a"], ["A", "a\n", ""]),
    "a set": ({"type": "array", "x-kubernetes-list-type": "set", "items": TEXT}, [["a", "b"]], [["a", "a"]]),
    "a map": (
        BY_NAME,
        [[{"name": "a", "port": 1}, {"name": "b", "port": 1}]],
        [[{"name": "a", "port": 1}, {"name": "a", "port": 2}], ["a"], [{"name": "a", "more": 1}]],
    ),
    "one of two": (ONE_OF_TWO, [{"a": "x"}, {"b": "x"}], [{}, {"a": "x", "b": "x"}, {"a": "x", "c": "x"}]),
    "all and not": (
        {**TEXT, "allOf": [{"maxLength": 3}], "not": {"enum": ["no"]}},
        ["yes"],
        ["long", "no"],
    ),
    "a duration": ({**TEXT, "format": "duration"}, ["1h30m", "0", "-1.5s"], ["1", "1 s", "s", ""]),
    "a time": ({**TEXT, "format": "date-time"}, ["2026-01-02T03:04:05Z"], ["2026-01-02", "now"]),
    "base64": ({**TEXT, "format": "byte"}, ["YQ==", ""], ["a-b"]),
    "a URI": ({**TEXT, "format": "uri"}, ["https://a"], ["a"]),
    "addresses": (
        {"type": "object", "properties": {f: {**TEXT, "format": f} for f in ("ipv4", "ipv6", "cidr")}},
        [{"ipv4": "10.0.0.1"}, {"ipv6": "::1"}, {"cidr": "10.0.0.0/8"}],
        [{"ipv4": "::1"}, {"ipv6": "10.0.0.1"}, {"cidr": "10.0.0.1/8"}, {"cidr": "x"}],
    ),
    "a format that nobody knows": ({**TEXT, "format": "riddle"}, ["x"], [1]),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_taken_and_refused(case):
    schema, good, bad = CASES[case]
    structural = Structural(schema)
    assert [(value, list(structural.faults(value))) for value in good] == [(value, []) for value in good]
    assert [value for value in bad if not list(structural.faults(value))] == []


def test_a_fault_says_where():
    structural = Structural(obj(spec=obj(ports={"type": "array", "items": NUMBER})))
    assert list(structural.faults({"spec": {"ports": [1, "x"]}})) == ["spec.ports[1]: 'x' is not of type 'integer'"]


def test_alternatives_leave_other_fields_alone():
    """They state what is required of fields that stand outside of them, and know no others."""
    assert "additionalProperties" not in json_schema(ONE_OF_TWO)["oneOf"][0]
    assert json_schema(ONE_OF_TWO)["additionalProperties"] is False


@pytest.mark.parametrize(
    ("go", "python"),
    [
        ("^a$", r"^a\Z"),
        (r"a\$", r"a\$"),
        (r"^a\z", r"^a\Z"),
        ("^(?i)a$", r"(?i)^a\Z"),
        ("[[:alnum:]_]+[[:space:]]", r"[0-9A-Za-z_]+[\s]"),
    ],
)
def test_a_pattern_of_gos_is_one_of_pythons(go, python):
    assert python_pattern(go) == python


DEFAULTS = {
    "a field that is missing": (obj(a={**NUMBER, "default": 1}), {}, {"a": 1}),
    "a field that is there": (obj(a={**NUMBER, "default": 1}), {"a": 2}, {"a": 2}),
    "null has the default": (obj(a={**NUMBER, "default": 1}), {"a": None}, {"a": 1}),
    "null without one goes": (obj(a=NUMBER), {"a": None}, {}),
    "null that may be": (obj(a={**NUMBER, "nullable": True}), {"a": None}, {"a": None}),
    "a default has defaults": (
        obj(a={**obj(b={**NUMBER, "default": 1}), "default": {}}),
        {},
        {"a": {"b": 1}},
    ),
    "no default of what is not there": (obj(a=obj(b={**NUMBER, "default": 1})), {}, {}),
    "items": ({"type": "array", "items": obj(a={**NUMBER, "default": 1})}, [{}, {"a": 2}], [{"a": 1}, {"a": 2}]),
    "fields of a kind": (
        {"type": "object", "additionalProperties": obj(a={**NUMBER, "default": 1})},
        {"x": {}},
        {"x": {"a": 1}},
    ),
    "unknown fields stay": (obj(), {"x": 1}, {"x": 1}),
    "another type than was meant": (obj(a={**NUMBER, "default": 1}), "x", "x"),
}


@pytest.mark.parametrize("case", DEFAULTS)
def test_defaults(case):
    schema, value, filled = DEFAULTS[case]
    assert with_defaults(schema, value) == filled


def test_defaults_leave_the_value_alone():
    schema, value = obj(a={"type": "array", "items": TEXT, "default": []}), {}
    with_defaults(schema, value)["a"].append("x")
    assert value == {}
    assert with_defaults(schema, value) == {"a": []}
