import datetime

import msgspec
import pytest

from bbr.models.entries import Alias, BaseModel, Declaration
from bbr.models.steps import finish
from bbr.sources import configmap
from bbr.sources.objects import SourceError

ORIGIN = configmap.origin("default", "qwen", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))


def declared(max_model_bytes=256, **data):
    """Return base model and adapters of a ConfigMap."""
    (declaration,) = finish(configmap.parse(data, ORIGIN, max_model_bytes))
    assert declaration.origin is ORIGIN
    (model,) = declaration.models
    assert declaration == Declaration(ORIGIN, (BaseModel(*model),))
    return model


def adapters(text, **options):
    return list(declared(baseModel="qwen", adapters=text, **options).adapters)


def refusal(**data):
    with pytest.raises(SourceError) as caught:
        declared(**data)
    return str(caught.value)


def test_origin():
    assert str(ORIGIN) == "ConfigMap default/qwen"
    assert ORIGIN.created == 1767225600.0
    assert configmap.origin("default", "qwen", None).created == 0.0


def test_the_fixture_of_the_go_routers():
    assert declared(baseModel="qwen", adapters="- sql-lora-sheddable\n- foo\n- 1\n") == BaseModel(
        "qwen", ("sql-lora-sheddable", "foo", "1")
    )


@pytest.mark.parametrize(
    "text",
    ["", "  \n\n", "# none yet\n", "\n# none\n  # at all", "---\n", "null", "~", "[]", "''", "' '"],
)
def test_no_adapters(text):
    assert adapters(text) == []


def test_adapters_have_a_limit(monkeypatch):
    monkeypatch.setattr(configmap, "MAX_ADAPTERS", 3)
    assert adapters("[a, b, c]") == ["a", "b", "c"]
    why = "the document has more than 4 parts, where an alias counts as all that it stands for"
    assert refusal(baseModel="qwen", adapters="- a\n- b\n- c\n- d\n") == f"data.adapters: line 4: {why}"
    assert refusal(baseModel="qwen", adapters="- a\n- [b, c, d]\n") == f"data.adapters: line 2: {why}"


def test_data_may_come_in_msgpack():
    octets = msgspec.msgpack.encode({"baseModel": "qwen", "adapters": "- a\n"})
    (declaration,) = finish(configmap.parse_bytes(ORIGIN, 256, None, octets))
    assert declaration.models == (BaseModel("qwen", ("a",)),)


def test_adapters_may_be_absent():
    assert declared(baseModel="qwen") == BaseModel("qwen")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("- 1\n- 007\n- 1.50\n- true\n- no\n- 2026-01-01\n", ["1", "007", "1.50", "true", "no", "2026-01-01"]),
        ("- ' a1 '\n-   a2  \n-\n- ''\n- '  '\n- ~\n- null\n- 'null'\n", ["a1", "a2", "null"]),
        ("[a1, a2,]", ["a1", "a2"]),
        ("- a1\n# between\n- a2 # behind\n", ["a1", "a2"]),
        ("- Qwen/Qwen2.5-3B\n- 'a: b'\n- größe\n", ["Qwen/Qwen2.5-3B", "a: b", "größe"]),
        ("- a1\n- a1\n", ["a1", "a1"]),
    ],
    ids=["no texts", "blanks", "flow", "comments", "odd names", "twice"],
)
def test_adapters(text, names):
    assert adapters(text) == names


def test_the_base_model_is_trimmed_and_other_keys_are_left_alone():
    assert declared(baseModel=" qwen\n", README="[") == BaseModel("qwen")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "data.baseModel is missing"),
        ({"basemodel": "qwen"}, "data.baseModel is missing"),
        ({"baseModel": " \n"}, "data.baseModel is blank"),
        ({"baseModel": "a\tb"}, "data.baseModel cannot be used as a model name: it holds a control character"),
        ({"baseModel": "m" * 257}, "data.baseModel is 257 bytes long in UTF-8; at most 256 are allowed"),
        ({"adapters": "["}, "data.adapters: line 2: not YAML: while parsing a flow node"),
        ({"adapters": "- a\n- [b]"}, "data.adapters: line 2: an adapter must be a name, not a list or a mapping"),
        ({"adapters": "- a\n- b: c"}, "data.adapters: line 2: an adapter must be a name, not a list or a mapping"),
        ({"adapters": "a"}, "data.adapters: line 1: must be a YAML list of names"),
        ({"adapters": "\na: b"}, "data.adapters: line 2: must be a YAML list of names"),
        ({"adapters": "- a\n- " + "m" * 257}, "data.adapters: line 2: the adapter is 257 bytes long in UTF-8; at most"),
        ({"adapters": '- "a\\nb"'}, "data.adapters: line 1: the adapter cannot be used as a model name: it holds a"),
        ({"adapters": "[" * 100_000}, "data.adapters: line 1: lists and mappings are nested more than 16 deep"),
        ({"adapters": "- a\n- b**"}, "data.adapters: line 2: the adapter b** has more than one *"),
        ({"adapters": "- a\n---\n- b"}, "data.adapters: line 2: a second document begins"),
    ],
)
def test_refusals_name_the_key_the_line_and_the_rule(data, why):
    if "adapters" in data:
        data = {"baseModel": "qwen", **data}
    assert refusal(**data).startswith(why)


def test_a_long_list_is_read_in_steps():
    steps = configmap.parse({"baseModel": "qwen", "adapters": "\n".join(f"- a{i}" for i in range(1000))}, ORIGIN)
    assert sum(1 for _ in steps) >= 15


def test_aliases_beside_a_base_model():
    (found,) = finish(configmap.parse({"baseModel": "qwen", "aliases": "gpt: qwen\nchat: {qwen: 9, 1: 1}"}, ORIGIN))
    assert found.models == (BaseModel("qwen"),)
    assert found.aliases == (Alias("gpt", "qwen"), Alias("chat", "qwen", (("qwen", 9), ("1", 1))))


def test_aliases_need_no_base_model():
    (found,) = finish(configmap.parse({"aliases": "gpt: qwen"}, ORIGIN))
    assert found == Declaration(ORIGIN, (), (Alias("gpt", "qwen"),))
    steps = configmap.parse({"aliases": "".join(f"a{number}: qwen\n" for number in range(1_000))}, ORIGIN)
    assert sum(1 for _ in steps) >= 5


ALIASES = {
    "blank": ("# none\n", "data.baseModel is missing"),
    "a list": ("[a]", "data.aliases: line 1: aliases must be a mapping of names to models"),
    "no name": ("a:\n  ' '", "data.aliases: line 2: the model of alias a must be a name"),
    "a name that nobody could say": ("a: 'x\u200by'", "data.aliases: line 1: "),
    "two stars": ("a: b\n'*a*': b", "data.aliases: line 2: the alias *a* has more than one *"),
    "no YAML": ("{", "data.aliases: line 2: not YAML"),
}


@pytest.mark.parametrize(("text", "why"), ALIASES.values(), ids=ALIASES)
def test_aliases_that_are_refused(text, why):
    with pytest.raises(SourceError) as caught:
        finish(configmap.parse({"aliases": text}, ORIGIN))
    assert str(caught.value).startswith(why)


def test_adapters_need_a_base_model_even_beside_aliases():
    with pytest.raises(SourceError, match=r"data\.baseModel is missing, of which data.adapters are adapters"):
        finish(configmap.parse({"aliases": "a: b", "adapters": "- x"}, ORIGIN))
