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
    "other fields": (
        [
            MODEL,
            BASE,
            'body-field-to-header:u:{"fieldName":"user","headerName":"X-User"}',
            'body-field-to-header:t:{"fieldName":"service_tier","headerName":"X-Tier"}',
        ],
        {
            "model_header": MODEL_NAME,
            "base_model_header": BASE_NAME,
            "body_field": "user=X-User,service_tier=X-Tier",
        },
    ),
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
    f'{FIELD}:{{"fieldName":"a.b","headerName":"X-User"}}': (
        "has the field 'a.b' and the header 'X-User', of which one has . , or :"
    ),
    f'{FIELD}:{{"fieldName":"user","headerName":"X-User:sha256"}}': (
        "has the field 'user' and the header 'X-User:sha256', of which one has . , or :"
    ),
    f'{FIELD}:{{"fieldName":"user","headerName":"Host"}}': (
        "has the field 'user' and the header 'Host': it names host, which every request needs"
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


def test_fields_that_can_t_be_read_together_are_refused() -> None:
    texts = [f'body-field-to-header:{name}:{{"fieldName":"{name}","headerName":"X-{name}-1"}}' for name in ("a", "A")]
    with pytest.raises(ConfigError, match="body-field-to-header: 'a=X-a-1,A=X-B' has two spellings"):
        plugins.settings(map(plugins.parse, [texts[0], texts[1].replace("X-A-1", "X-B")]))
