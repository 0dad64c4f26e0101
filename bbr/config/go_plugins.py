"""The Go routers' plugins, as settings of ours: those of `--plugin type:name[:json]`, and of a configuration file.

Theirs are a pipeline of objects; what the two types do is to set headers, which is what --model-header,
--base-model-header and --body-field say.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from bbr.config import options
from bbr.config.settings import ConfigError
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.refusal import MAX_ECHO_CHARACTERS
from bbr.text import quoted

BODY_FIELD: Final = "body-field-to-header"
BASE_MODEL: Final = "base-model-to-header"
# Not a type of the routers' own any more: what the chart of v1.4 passes, for the two default plugins.
DEFAULT: Final = "default-bbr"

# Of body-field-to-header; both are needed.
PARAMETERS: Final = ("fieldName", "headerName")

_FIELD: Final = "model"


class Plugin(NamedTuple):
    """One plugin.

    Attributes:
        where: where it was given, as the beginning of an error.
        type: what it does.
        parameters: {} if there are none; their names in small letters.
    """

    where: str
    type: str
    parameters: Mapping[str, Any]


# What the Go routers have if they are given none.
DEFAULTS: Final = (
    Plugin("the default", BODY_FIELD, {"fieldname": _FIELD, "headername": MODEL_HEADER}),
    Plugin("the default", BASE_MODEL, {}),
)


def settings(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Return what plugins set, as texts of --model-header, --base-model-header and --body-field.

    A header that two of them set is that of the later one, as in the Go routers. With no plugin at all there is nothing
    to set, and the defaults stand.

    Raises:
        ConfigError: one can't be used; the message names it.
    """
    headers: dict[str, tuple[str, str]] = {}  # in small letters -> the setting, and its text for the header
    found = list(plugins)
    for plugin in found:
        for setting, header, text in _headers(plugin):
            headers[header.lower()] = setting, text
    if not found:
        return {}
    texts = {
        wanted: ",".join(header for setting, header in headers.values() if setting == wanted)
        for wanted in ("model_header", "base_model_header", "body_field")
    }
    if texts["body_field"]:
        _check_fields(texts["body_field"])
    else:
        del texts["body_field"]
    return {wanted: text or "none" for wanted, text in texts.items()}


def parse(text: str) -> Plugin:
    """Return a plugin by the text of its --plugin.

    Raises:
        ConfigError: it has no type or no name, its type is not known, or its JSON is none.
    """
    where = f"--plugin: {quoted(text)}"
    kind, _, rest = text.partition(":")
    name, _, parameters = rest.partition(":")
    if not kind or not name:
        raise _wrong(where, f"has no {'name' if kind else 'type'}: it is written type:name[:json]")
    if kind not in (BODY_FIELD, BASE_MODEL, DEFAULT):
        raise _wrong(where, f"is of an unknown type; known: {BODY_FIELD}, {BASE_MODEL}")
    try:
        decoded = orjson.loads(parameters) if parameters else {}
    except orjson.JSONDecodeError as error:
        raise _wrong(where, f"has parameters that are not JSON: {error}") from None
    if decoded is not None and type(decoded) is not dict:
        raise _wrong(where, "has parameters that are not a JSON object")
    # Go matches the names of fields in any letter case.
    return Plugin(where, kind, {key.lower(): value for key, value in (decoded or {}).items()})


def _check_fields(text: str) -> None:
    try:
        options.body_fields(text)
    except ValueError as error:
        raise ConfigError(f"{BODY_FIELD}: {quoted(text)} {error}") from None


def _headers(plugin: Plugin) -> list[tuple[str, str, str]]:
    """Return the headers that a plugin sets: the setting, the header, and the setting's text for it."""
    model = ("model_header", MODEL_HEADER, MODEL_HEADER)
    base_model = ("base_model_header", BASE_MODEL_HEADER, BASE_MODEL_HEADER)
    if plugin.type == BASE_MODEL:
        return [base_model]
    if plugin.type == DEFAULT:
        return [model, base_model]
    field, header = (parameter(plugin, name) for name in PARAMETERS)
    if field != _FIELD:
        return [("body_field", header, _other_field(plugin, field, header))]
    try:
        options.routing_headers(header)
    except ValueError as error:
        raise _wrong(plugin.where, f"has the headerName {shown(header)}, which {error}") from None
    if "," in header or header == "none":
        raise _wrong(plugin.where, f"has the headerName {shown(header)}, which is not the name of one header")
    return [("model_header", header, header)]


def _other_field(plugin: Plugin, field: str, header: str) -> str:
    """Return the text of --body-field for a field and its header."""
    text = f"{field}={header}"
    # A name with a dot is that of one member there, and of two here.
    if "." in field or ":" in header or "," in text:
        raise _wrong(
            plugin.where, f"has the field {shown(field)} and the header {shown(header)}, of which one has . , or :"
        )
    try:
        options.body_fields(text)
    except ValueError as error:
        raise _wrong(plugin.where, f"has the field {shown(field)} and the header {shown(header)}: it {error}") from None
    return text


def parameter(plugin: Plugin, name: str) -> str:
    """Return a parameter that is text.

    Raises:
        ConfigError: it is missing, empty, or no text.
    """
    value = plugin.parameters.get(name.lower())
    if type(value) is not str or not value:
        raise _wrong(plugin.where, f"needs the parameter {name}: text that is not empty")
    return value


def shown(text: str) -> str:
    """Return a text as an error has it: in quotes, and not all of a long one."""
    return quoted(text, MAX_ECHO_CHARACTERS)


def _wrong(where: str, why: str) -> ConfigError:
    return ConfigError(f"{where} {why}")
