"""Structural schemas of CustomResourceDefinitions as JSON Schema, and the defaults that an API server fills in.

A CRD's openAPIV3Schema is no JSON Schema: it has nullable, int-or-string, lists that are sets or maps, patterns in Go's
syntax, and fields that it does not name are dropped, or refused where the server is asked to be strict. What comes out
here is strict. Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

import copy
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft202012Validator, extend

Schema = dict[str, Any]

_KEPT: Final = frozenset(
    {
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "required",
        "uniqueItems",
    }
)
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
# What an embedded object has beside what its schema names.
_OBJECT_FIELDS: Final = ("apiVersion", "kind", "metadata")


def json_schema(structural: Mapping[str, Any], *, strict: bool = True) -> Schema:
    """Return the JSON Schema of a structural one.

    Args:
        structural: as it stands in a CRD.
        strict: refuse fields that the schema does not name. Not so within allOf, anyOf, oneOf and not, which only
            restrict values that are named outside of them.
    """
    found: Schema = {name: value for name, value in structural.items() if name in _KEPT}
    kind = structural.get("type")
    if structural.get("x-kubernetes-int-or-string"):
        kind = ["integer", "string"]
    if kind:
        found["type"] = kind
    if structural.get("nullable"):
        found["type"] = [kind, "null"] if isinstance(kind, str) else [*(kind or []), "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    if pattern := structural.get("pattern"):
        found["pattern"] = python_pattern(pattern)
    for bound in ("minimum", "maximum"):
        if bound in structural:
            exclusive = structural.get(f"exclusive{bound.capitalize()}")
            found[f"exclusive{bound.capitalize()}" if exclusive else bound] = structural[bound]
    if structural.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    if keys := structural.get(_LIST_KEYS):
        found[_LIST_KEYS] = keys
    if isinstance(items := structural.get("items"), dict):
        found["items"] = json_schema(items, strict=strict)
    for word in ("allOf", "anyOf", "oneOf"):
        if word in structural:
            found[word] = [json_schema(each, strict=False) for each in structural[word]]
    if "not" in structural:
        found["not"] = json_schema(structural["not"], strict=False)
    return found | _fields(structural, strict=strict)


def _fields(structural: Mapping[str, Any], *, strict: bool) -> Schema:
    """Return what a JSON Schema says of an object's fields."""
    found: Schema = {}
    named = structural.get("properties", {})
    if named:
        found["properties"] = {name: json_schema(each, strict=strict) for name, each in named.items()}
    others = structural.get("additionalProperties")
    if isinstance(others, dict):
        found["additionalProperties"] = json_schema(others, strict=strict)
    elif strict and others is None and not structural.get("x-kubernetes-preserve-unknown-fields"):
        if structural.get("type") == "object":
            found["additionalProperties"] = False
        if structural.get("x-kubernetes-embedded-resource"):
            found["properties"] = dict.fromkeys(_OBJECT_FIELDS, True) | found.get("properties", {})
    return found


def python_pattern(pattern: str) -> str:
    """Return a pattern of Go's (RE2) as one of Python's, as far as CRDs use what differs."""
    if flags := re.match(r"\^\(\?([ims]+)\)", pattern):
        pattern = f"(?{flags[1]})^{pattern[flags.end() :]}"
    for go, python in (
        (r"\z", r"\Z"),
        ("[:alnum:]", "0-9A-Za-z"),
        ("[:alpha:]", "A-Za-z"),
        ("[:digit:]", "0-9"),
        ("[:space:]", r"\s"),
    ):
        pattern = pattern.replace(go, python)
    # Python's $ also matches before a line end.
    return f"{pattern[:-1]}\\Z" if pattern.endswith("$") and not pattern.endswith(r"\$") else pattern


def with_defaults(structural: Mapping[str, Any], value: Any) -> Any:
    """Return a copy of a value with the schema's defaults, and without the nulls that a server drops."""
    if value is None:
        return copy.deepcopy(structural.get("default"))
    if isinstance(value, list) and isinstance(items := structural.get("items"), dict):
        return [with_defaults(items, each) for each in value]
    if not isinstance(value, dict):
        return copy.deepcopy(value)
    named = structural.get("properties", {})
    others = structural.get("additionalProperties")
    found = {}
    for name, each in value.items():
        schema = named.get(name) or (others if isinstance(others, dict) else {})
        if each is None and schema and not schema.get("nullable"):
            if "default" in schema:
                found[name] = copy.deepcopy(schema["default"])
            continue
        found[name] = None if each is None else with_defaults(schema, each)
    for name, schema in named.items():
        if name not in value and "default" in schema:
            # A default may be an object that lacks defaults of its own.
            found[name] = with_defaults(schema, schema["default"])
    return found


def _maps(_: object, keys: list[str], value: object, _schema: Schema) -> Iterator[ValidationError]:
    """Refuse two items of a list that agree in all of its keys."""
    if not isinstance(value, list):
        return
    seen = set()
    for item in value:
        key = json.dumps([item.get(each) for each in keys], sort_keys=True) if isinstance(item, dict) else ""
        if key and key in seen:
            yield ValidationError(f"two items have the same {', '.join(keys)}: {key}")
        seen.add(key)


_DURATION: Final = re.compile(r"[-+]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w))+|0")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_FORMATS: Final = FormatChecker(formats=())


def _integer(bits: int) -> Callable[[object], bool]:
    limit = 1 << (bits - 1)
    return lambda value: isinstance(value, bool) or not isinstance(value, int) or -limit <= value < limit


def _text(check: Callable[[str], object]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or bool(check(value))


for _name, _check in {
    "int32": _integer(32),
    "int64": _integer(64),
    "date-time": _text(_DATE_TIME.fullmatch),
    "duration": _text(_DURATION.fullmatch),
    "byte": _text(_BASE64.fullmatch),
    "uri": _text(lambda text: urlsplit(text).scheme),
}.items():
    _FORMATS.checks(_name)(_check)
for _name, _address in {
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "cidr": ipaddress.ip_network,
}.items():
    _FORMATS.checks(_name, raises=ValueError)(
        lambda value, read=_address: not isinstance(value, str) or bool(read(value))
    )

_Validator: Final = extend(Draft202012Validator, {_LIST_KEYS: _maps})


class Structural:
    """A structural schema, ready to be asked.

    Args:
        schema: the openAPIV3Schema of a version of a CRD.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _Validator(json_schema(schema), format_checker=_FORMATS)

    def faults(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, each with the path to it."""
        for error in sorted(self._validator.iter_errors(value), key=lambda error: error.json_path):
            yield f"{error.json_path.removeprefix('$.')}: {error.message}"
