from pathlib import Path

import pytest

from bbr.config import go_config
from bbr.config import go_plugins as plugins
from bbr.config.settings import ConfigError

BASE_NAME, MODEL_NAME = "X-Gateway-Base-Model-Name", "X-Gateway-Model-Name"
BOTH = {"model_header": MODEL_NAME, "base_model_header": BASE_NAME}
MODEL_ONLY = BOTH | {"base_model_header": "none"}

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: PayloadProcessorConfig\n"
FIELD = "- type: body-field-to-header\n  parameters: {fieldName: model, headerName: X-Gateway-Model-Name}\n"
PLUGINS = f"plugins:\n{FIELD}- type: base-model-to-header\n"
REQUEST = "profiles:\n- name: default\n  plugins:\n    request:\n"
REFERENCES = "    - pluginRef: body-field-to-header\n    - pluginRef: base-model-to-header\n"
WHOLE = f"{HEAD}{PLUGINS}{REQUEST}{REFERENCES}"
PICKER = "- type: single-profile-picker\n"

USABLE = {
    "nothing at all": ("", BOTH),
    "the two": (WHOLE, BOTH),
    "in the other order": (
        HEAD + PLUGINS + REQUEST + "    - pluginRef: base-model-to-header\n    - pluginRef: body-field-to-header\n",
        BOTH,
    ),
    "one of two": (HEAD + PLUGINS + REQUEST + "    - pluginRef: body-field-to-header\n", MODEL_ONLY),
    "the other of two": (
        HEAD + PLUGINS + REQUEST + "    - pluginRef: base-model-to-header\n",
        BOTH | {"model_header": "none"},
    ),
    "JSON": (
        (
            '{"apiVersion":"llm-d.ai/v1alpha1","kind":"PayloadProcessorConfig","plugins":[{"type":"base-model-to-header"}],'
            '"profiles":[{"name":"p","plugins":{"request":[{"pluginRef":"base-model-to-header"}],"response":null}}]}'
        ),
        BOTH | {"model_header": "none"},
    ),
    "the picker": (HEAD + PLUGINS + PICKER + REQUEST + REFERENCES, BOTH),
    "the picker by its name": (
        (
            f"{HEAD}{PLUGINS}- {{type: single-profile-picker, name: p}}\nprofilePicker: {{pluginRef: p}}\n"
            f"{REQUEST}{REFERENCES}"
        ),
        BOTH,
    ),
    "two pickers, one named": (
        (
            f"{HEAD}{PLUGINS}{PICKER}- {{type: single-profile-picker, name: p}}\nprofilePicker: {{pluginRef: p}}\n"
            f"{REQUEST}{REFERENCES}"
        ),
        BOTH,
    ),
    "an empty name of a picker": (f'{WHOLE}profilePicker: {{pluginRef: ""}}\n', BOTH),
    "names": (
        (
            f"{HEAD}plugins:\n"
            f"- {{type: body-field-to-header, name: a, parameters: {{fieldName: model, headerName: X-A}}}}\n"
            f"- {{type: body-field-to-header, name: b, parameters: {{FIELDNAME: model, headername: X-B}}}}\n"
            f"{REQUEST}    - pluginRef: b\n    - pluginRef: a\n      weight: 1.5\n"
        ),
        {"model_header": "X-B,X-A", "base_model_header": "none"},
    ),
    "before the profile": (
        (
            f"{HEAD}{PLUGINS}preProcessing:\n  plugins:\n  - pluginRef: base-model-to-header\n"
            f"{REQUEST}    - pluginRef: body-field-to-header\n"
        ),
        BOTH,
    ),
    "of two on one header the later": (
        (
            f"{HEAD}plugins:\n- type: base-model-to-header\n- type: body-field-to-header\n"
            f"  parameters: {{fieldName: model, headerName: {BASE_NAME}}}\n{REQUEST}{REFERENCES}"
        ),
        BOTH | {"model_header": "none"},
    ),
    "empty lists": (
        f"{WHOLE}postProcessing: {{plugins: []}}\npreProcessing:\ndatalayer: {{collectors: [], extractors: }}\n",
        BOTH,
    ),
    "parameters that nobody reads": (
        (
            f"{HEAD}plugins:\n- type: base-model-to-header\n  parameters: {{a: [1, {{b: c}}]}}\n"
            f"{REQUEST}    - pluginRef: base-model-to-header\n"
        ),
        BOTH | {"model_header": "none"},
    ),
    "a field that nobody refers to": (
        (
            f"{HEAD}{PLUGINS}"
            f"- {{type: body-field-to-header, name: x, parameters: {{fieldName: user, headerName: X-U}}}}\n"
            f"{REQUEST}{REFERENCES}"
        ),
        BOTH,
    ),
    "an anchor": (
        (
            f"{HEAD}plugins:\n- &a {{type: base-model-to-header}}\nprofiles: [{{name: x, plugins: {{request: "
            "[&r {pluginRef: base-model-to-header}, *r]}}]\n"
        ),
        BOTH | {"model_header": "none"},
    ),
}


def settings(text: str) -> dict[str, str]:
    return plugins.settings(go_config.plugins(text, "--config-text"))


@pytest.mark.parametrize(("text", "expected"), USABLE.values(), ids=USABLE)
def test_usable(text: str, expected: dict[str, str]) -> None:
    assert settings(text) == expected


KNOWN = "known: body-field-to-header, base-model-to-header, single-profile-picker"
UNUSABLE = {
    "no YAML": ("a: [\n", "line 2: not YAML: "),
    "blank": (" \n", "line 1: apiVersion is ''; it must be 'llm-d.ai/v1alpha1'"),
    "a comment": ("# nothing\n", "line 1: apiVersion is ''; it must be 'llm-d.ai/v1alpha1'"),
    "a list": ("- a\n", "line 1: the configuration must be a mapping"),
    "another version": (
        WHOLE.replace("v1alpha1", "v1"),
        "line 1: apiVersion is 'llm-d.ai/v1'; it must be 'llm-d.ai/v1alpha1'",
    ),
    "another kind": (
        WHOLE.replace("PayloadProcessorConfig", "EndpointPickerConfig"),
        "line 2: kind is 'EndpointPickerConfig'; it must be 'PayloadProcessorConfig'",
    ),
    "two documents": (f"{WHOLE}---\n{WHOLE}", "line 13: a second document begins; only one is allowed"),
    "a field": (f"{WHOLE}flags: 1\n", "line 13: the configuration has no field 'flags'; known: apiVersion, kind, plug"),
    "a field in other letters": (
        WHOLE.replace("plugins:\n- ", "Plugins:\n- "),
        "line 3: the configuration has no field 'Plugins'; known: apiVersion, kind, plugins, preProcessing, profileP",
    ),
    "a field of a plugin": (
        WHOLE.replace("- type: base", "- config: 1\n  type: base"),
        "line 6: an entry of plugins has no field 'config'; known: name, type, parameters",
    ),
    "a field of a reference": (
        f"{WHOLE}      name: x\n",
        "line 13: an entry of profile 'default' has no field 'name'; known: pluginRef, weight",
    ),
    "a field twice": (WHOLE + "kind: PayloadProcessorConfig\n", "line 13: 'kind' occurs twice"),
    "a field twice, deep": (
        f"{HEAD}plugins:\n- type: base-model-to-header\n  parameters:\n  - a: 1\n    a: 2\n",
        "line 7: 'a' occurs twice",
    ),
    "a key that is none": (f"{HEAD}? [a]\n: b\n", "line 3: a field's name must be text"),
    "a merge key": (f"{WHOLE}<<: {{}}\n", "line 13: the configuration has no field '<<'; known: "),
    "no plugin": (f"{HEAD}plugins: []\n", "line 3: plugins lists no plugin; at least one is needed"),
    "no list of plugins": (f"{HEAD}plugins: {{}}\n", "line 3: plugins must be a list"),
    "a plugin that is text": (f"{HEAD}plugins: [x]\n", "line 3: an entry of plugins must be a mapping"),
    "a plugin without a type": (f"{HEAD}plugins: [{{name: x}}]\n", "line 3: plugin 'x' has no type"),
    "a plugin that is nothing": (f"{HEAD}plugins: [null]\n", "line 3: plugin '' has no type"),
    "a type that is a list": (f"{HEAD}plugins: [{{type: [x]}}]\n", "line 3: type must be text"),
    "a plugin of another type": (
        WHOLE.replace("profiles:", "- type: headers-guard\nprofiles:"),
        f"line 7: plugin 'headers-guard' is of the type 'headers-guard', which this router does not have; {KNOWN}",
    ),
    "a plugin of another type with a name": (
        WHOLE.replace("profiles:", "- {type: model-selector, name: mine}\nprofiles:"),
        f"line 7: plugin 'mine' is of the type 'model-selector', which this router does not have; {KNOWN}",
    ),
    "a plugin with a long name": (
        f"{HEAD}plugins: [{{type: {'x' * 5000}}}]\n",
        f"line 3: plugin '{'x' * 100}",
    ),
    "two plugins of one name": (
        WHOLE.replace("profiles:", f"{FIELD}profiles:"),
        "line 7: two plugins are called 'body-field-to-header'",
    ),
    "no parameters": (
        f"{HEAD}plugins: [{{type: body-field-to-header}}]\n{REQUEST}    - pluginRef: body-field-to-header\n",
        "line 3: plugin 'body-field-to-header' needs the parameter fieldName: text that is not empty",
    ),
    "parameters that are null": (
        (
            f"{HEAD}plugins: [{{type: body-field-to-header, parameters: null}}]\n"
            f"{REQUEST}    - pluginRef: body-field-to-header\n"
        ),
        "line 3: plugin 'body-field-to-header' needs the parameter fieldName: text that is not empty",
    ),
    "a parameter that is a list": (
        WHOLE.replace("headerName: X-Gateway-Model-Name", "headerName: [X]"),
        "line 4: plugin 'body-field-to-header' needs the parameter headerName: text that is not empty",
    ),
    "a parameter that is null": (
        WHOLE.replace("headerName: X-Gateway-Model-Name", "headerName: null"),
        "line 4: plugin 'body-field-to-header' needs the parameter headerName: text that is not empty",
    ),
    "parameters that are a list": (
        f"{HEAD}plugins: [{{type: body-field-to-header, parameters: [a]}}]\n",
        "line 3: plugin 'body-field-to-header' has parameters that are not a mapping",
    ),
    "a parameter in two spellings": (
        WHOLE.replace("{fieldName: model", "{fieldname: user, fieldName: model"),
        "line 5: 'fieldName' occurs twice in parameters, in other letters",
    ),
    "a parameter missing of a plugin that nobody refers to": (
        WHOLE.replace("profiles:", "- {type: body-field-to-header, name: x}\nprofiles:"),
        "line 7: plugin 'x' needs the parameter fieldName: text that is not empty",
    ),
    "another field": (
        WHOLE.replace("fieldName: model", "fieldName: user"),
        "line 4: plugin 'body-field-to-header' has the field 'user' and the header 'X-Gateway-Model-Name': it sets x-",
    ),
    "a header that is none": (
        WHOLE.replace("headerName: X-Gateway-Model-Name", "headerName: x y"),
        "line 4: plugin 'body-field-to-header' has the headerName 'x y', which is not a header name, or several with",
    ),
    "a header that is too long": (
        WHOLE.replace("headerName: X-Gateway-Model-Name", f"headerName: {'x' * 5000}"),
        f"line 4: plugin 'body-field-to-header' has the headerName '{'x' * 100}",
    ),
    "a field that is too long": (
        WHOLE.replace("fieldName: model", f"fieldName: {'x' * 5000}"),
        f"line 4: plugin 'body-field-to-header' has the field '{'x' * 100}",
    ),
    "no profile": (f"{HEAD}{PLUGINS}", "line 1: profiles has 0 entries; single-profile-picker needs exactly one"),
    "two profiles": (
        f"{WHOLE}- {{name: other, plugins: {{request: [{{pluginRef: base-model-to-header}}]}}}}\n",
        "line 8: profiles has 2 entries; single-profile-picker needs exactly one",
    ),
    "a profile without a name": (WHOLE.replace("name: default", "name: ''"), "line 8: the profile has no name"),
    "a profile without plugins": (
        f"{HEAD}{PLUGINS}profiles: [{{name: default}}]\n",
        "line 7: profile 'default' refers to no plugin",
    ),
    "a reference to nothing": (
        WHOLE.replace("pluginRef: base-model-to-header", "pluginRef: base"),
        "line 12: there is no plugin called 'base'; known: 'body-field-to-header', 'base-model-to-header'",
    ),
    "an empty reference": (f"{WHOLE}    - {{}}\n", "line 13: there is no plugin called ''; known: "),
    "a weight that is no number": (f"{WHOLE}      weight: heavy\n", "line 13: weight must be a number"),
    "a picker that processes requests": (
        f"{HEAD}{PLUGINS}{PICKER}{REQUEST}    - pluginRef: single-profile-picker\n",
        "line 12: plugin 'single-profile-picker' of the type single-profile-picker can't process requests",
    ),
    "a picker before the profile": (
        (
            f"{HEAD}{PLUGINS}{PICKER}preProcessing: {{plugins: [{{pluginRef: single-profile-picker}}]}}\n"
            f"{REQUEST}{REFERENCES}"
        ),
        "line 8: plugin 'single-profile-picker' of the type single-profile-picker can't process requests",
    ),
    "a plugin that picks": (
        f"{WHOLE}profilePicker: {{pluginRef: base-model-to-header}}\n",
        "line 13: plugin 'base-model-to-header' of the type base-model-to-header can't pick profiles",
    ),
    "a picker that is not there": (
        f"{WHOLE}profilePicker: {{pluginRef: x}}\n",
        "line 13: there is no plugin called 'x'",
    ),
    "two pickers": (
        f"{HEAD}{PLUGINS}{PICKER}- {{type: single-profile-picker, name: p}}\n{REQUEST}{REFERENCES}",
        "line 8: 'single-profile-picker' and 'p' pick profiles: profilePicker must name one",
    ),
    "responses": (
        f"{WHOLE}    response: [{{pluginRef: body-field-to-header}}]\n",
        "line 13: plugin 'body-field-to-header' of the type body-field-to-header can't process responses",
    ),
    "behind the profile": (
        f"{WHOLE}postProcessing: {{plugins: [{{pluginRef: base-model-to-header}}]}}\n",
        "line 13: plugin 'base-model-to-header' of the type base-model-to-header can't process responses",
    ),
    "a data layer": (
        f"{WHOLE}datalayer: {{datasources: [{{pluginRef: base-model-to-header}}]}}\n",
        "line 13: plugin 'base-model-to-header' of the type base-model-to-header can't be one of datalayer.datasources",
    ),
    "a field of the data layer": (
        f"{WHOLE}datalayer: {{models: []}}\n",
        "line 13: datalayer has no field 'models'; known: collectors, extractors, datasources",
    ),
    "too deep": (f"{HEAD}plugins: {'[' * 20}{']' * 20}\n", "line 3: lists and mappings are nested more than 16 deep"),
    "too many parts": (f"{HEAD}plugins: [{'a, ' * 10_000}]\n", "line 3: the document has more than 10,000 parts"),
    "too long": (f"# {'x' * (1 << 20)}\n", "is larger than 1 MiB"),
    "no UTF-8": ("a: \udc80", "is not UTF-8"),
}


@pytest.mark.parametrize(("text", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    assert str(caught.value).startswith(f"--config-text: {why}")
    assert len(str(caught.value)) < 800


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(WHOLE, "utf-8")
    assert go_config.read_file(str(file)) == WHOLE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "can't be read: No such file or directory"),
        (b"a\xff", "is not UTF-8 at byte 1"),
        (bytes((1 << 20) + 1), "is larger than 1 MiB"),
    ],
    ids=["missing", "no UTF-8", "too large"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        go_config.read_file(str(file))
    assert str(caught.value) == f"--config-file: {str(file)!r} {why}"
