"""Any text as a configuration of the payload processor: plugins, or one sentence that names its source and rule."""

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from bbr.config import go_config, go_plugins
from bbr.config.settings import ConfigError

SOURCE = "--config-file 'x.yaml'"
KEYS = st.sampled_from(
    [
        *("apiVersion", "kind", "plugins", "preProcessing", "profilePicker", "profiles", "postProcessing", "datalayer"),
        *("name", "type", "parameters", "pluginRef", "weight", "request", "response", "fieldName", "headername"),
        *("collectors", "x", "", "<<"),
    ]
)
WORDS = st.sampled_from(
    ["llm-d.ai/v1alpha1", "PayloadProcessorConfig", *go_config.TYPES, "guard", "model", "X-M", "", "1", "é", "a\nb"]
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
REFERENCE = st.fixed_dictionaries({"pluginRef": WORDS}, optional={"weight": VALUES})
PLUGIN = st.fixed_dictionaries({"type": WORDS}, optional={"name": WORDS, "parameters": VALUES})
WHOLE = st.fixed_dictionaries(
    {
        "apiVersion": st.just("llm-d.ai/v1alpha1"),
        "kind": st.just("PayloadProcessorConfig"),
        "plugins": st.lists(PLUGIN, max_size=4) | VALUES,
        "profiles": st.lists(
            st.fixed_dictionaries(
                {"name": WORDS, "plugins": st.fixed_dictionaries({"request": st.lists(REFERENCE, max_size=4)}) | VALUES}
            ),
            max_size=2,
        ),
    },
    optional={"profilePicker": REFERENCE, "preProcessing": VALUES, "datalayer": VALUES, "x": VALUES},
)
TEXTS = (
    st.text(max_size=60)
    | VALUES.map(json.dumps)
    | WHOLE.map(json.dumps)
    | WHOLE.map(lambda value: yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
)


@given(TEXTS)
def test_it_is_plugins_or_a_sentence(text: str) -> None:
    try:
        found = go_plugins.settings(go_config.plugins(text, SOURCE))
    except ConfigError as error:
        assert str(error).startswith(SOURCE)  # noqa: PT017
        assert len(str(error)) < 2000  # noqa: PT017
        return
    assert found.keys() == {"model_header", "base_model_header"}


@given(WHOLE)
def test_a_plugin_of_another_type_never_passes(value: dict[str, object]) -> None:
    guarded = value | {"plugins": [{"type": "base-model-to-header"}, {"type": "headers-guard"}]}
    for text in (json.dumps(guarded), yaml.safe_dump(guarded, allow_unicode=True)):
        try:
            go_config.plugins(text, SOURCE)
        except ConfigError:
            continue
        raise AssertionError("a guard was left out")
