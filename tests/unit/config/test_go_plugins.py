import pytest

from bbr.config import go_plugins as plugins
from bbr.config.settings import ConfigError

MODEL = 'body-field-to-header:model:{"fieldName":"model","headerName":"X-Gateway-Model-Name"}'
OTHER = 'body-field-to-header:other:{"fieldName":"model","headerName":"X-Model"}'
BASE = "base-model-to-header:base"
BASE_NAME, MODEL_NAME = "X-Gateway-Base-Model-Name", "X-Gateway-Model-Name"

USABLE = {
    "none": ([], {}),
    "the default two": ([MODEL, BASE], {"model_header": MODEL_NAME, "base_model_header": BASE_NAME}),
    "in the other order": ([BASE, MODEL], {"model_header": MODEL_NAME, "base_model_header": BASE_NAME}),
    "the model alone": ([MODEL], {"model_header": MODEL_NAME, "base_model_header": "none"}),
    "the base model alone": ([BASE], {"model_header": "none", "base_model_header": BASE_NAME}),
    "parameters that are ignored": (
        ['base-model-to-header:base:{"headerName":"X-B"}'],
        {"model_header": "none", "base_model_header": BASE_NAME},
    ),
    "a header of one's own": ([OTHER], {"model_header": "X-Model", "base_model_header": "none"}),
    "many": (
        [OTHER, BASE, MODEL, BASE],
        {"model_header": "X-Model,X-Gateway-Model-Name", "base_model_header": BASE_NAME},
    ),
    "of two on one header the later": (
        [BASE, 'body-field-to-header:m:{"fieldName":"model","headerName":"x-gateway-base-model-name"}'],
        {"model_header": "x-gateway-base-model-name", "base_model_header": "none"},
    ),
    "names of parameters in other letters": (
        ['body-field-to-header:m:{"fieldname":"model","HEADERNAME":"X-M"}'],
        {"model_header": "X-M", "base_model_header": "none"},
    ),
    "null for parameters": (["base-model-to-header:b:null"], {"model_header": "none", "base_model_header": BASE_NAME}),
    "what the chart of v1.4 passes": (
        ['default-bbr:default-bbr:{"a":[1]}'],
        {"model_header": MODEL_NAME, "base_model_header": BASE_NAME},
    ),
}


@pytest.mark.parametrize(("texts", "settings"), USABLE.values(), ids=USABLE)
def test_usable(texts: list[str], settings: dict[str, str]) -> None:
    assert plugins.settings(map(plugins.parse, texts)) == settings


FIELD = "body-field-to-header:m"
UNUSABLE = {
    "": "has no type: it is written type:name[:json]",
    ":name": "has no type: it is written type:name[:json]",
    "base-model-to-header": "has no name: it is written type:name[:json]",
    "base-model-to-header::{}": "has no name: it is written type:name[:json]",
    "guardrail:mine:{}": "is of an unknown type; known: body-field-to-header, base-model-to-header",
    "base-model-to-header:b:{": "has parameters that are not JSON: unexpected end of data: line 1 column 2 (char 1)",
    "base-model-to-header:b:[]": "has parameters that are not a JSON object",
    FIELD: "needs the parameter fieldName: text that is not empty",
    f"{FIELD}:null": "needs the parameter fieldName: text that is not empty",
    f'{FIELD}:{{"fieldName":""}}': "needs the parameter fieldName: text that is not empty",
    f'{FIELD}:{{"fieldName":1}}': "needs the parameter fieldName: text that is not empty",
    f'{FIELD}:{{"fieldName":"model"}}': "needs the parameter headerName: text that is not empty",
    f'{FIELD}:{{"fieldName":"user","headerName":"X-User"}}': (
        "reads the field 'user'; only fieldName 'model' is supported here"
    ),
    f'{FIELD}:{{"fieldName":"model","headerName":"x y"}}': (
        "has the headerName 'x y', which is not a header name, or several with commas between"
    ),
    f'{FIELD}:{{"fieldName":"model","headerName":"Host"}}': (
        "has the headerName 'Host', which names host, which every request needs"
    ),
    f'{FIELD}:{{"fieldName":"model","headerName":"a,b"}}': (
        "has the headerName 'a,b', which is not the name of one header"
    ),
    f'{FIELD}:{{"fieldName":"model","headerName":"none"}}': (
        "has the headerName 'none', which is not the name of one header"
    ),
}


@pytest.mark.parametrize(("text", "why"), UNUSABLE.items(), ids=UNUSABLE)
def test_unusable_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.settings(map(plugins.parse, [MODEL, text]))
    assert str(caught.value) == f"--plugin: {text!r} {why}"
