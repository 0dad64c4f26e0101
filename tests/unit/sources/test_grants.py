import pytest

from bbr.models.entries import BaseModel, Declaration, Grant, Origin
from bbr.models.steps import finish
from bbr.sources import configmap, documents, file, grants
from bbr.sources.objects import SourceError
from bbr.yaml_tree import Scalar, tree

ORIGIN = Origin("file", "models.yaml")
MODELS = "models: [{name: qwen, adapters: [sql]}]\n"


def name_of(node, what):
    assert isinstance(node, Scalar)
    return node.text


def read(text):
    return {grant.name: set(grant.askers) for _, grant in grants.read(finish(tree(text)), name_of)}


def why(text, parse=None):
    with pytest.raises(SourceError) as caught:
        parse(text) if parse else read(text)
    return str(caught.value)


def in_file(text):
    return {grant.name: set(grant.askers) for each in finish(file.parse(text, ORIGIN)) for grant in each.grants}


def in_config_map(**data):
    (declaration,) = finish(configmap.parse(data, ORIGIN))
    return {grant.name: set(grant.askers) for grant in declaration.grants}


def test_lists_by_model():
    assert read('sql: [team-a, " team-b "]\nqwen: []\ngpt: ["*", 7]') == {
        "sql": {"team-a", "team-b"},
        "qwen": set(),
        "gpt": {"*", "7"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a]", "line 1: allow must be a mapping of models to lists of who may use them"),
        ("sql: team-a", "line 1: who may use sql must be a list of names ([] for nobody)"),
        ("sql: null", "line 1: who may use sql must be a list of names ([] for nobody)"),
        ("sql: [a]\nsql: [b]", "line 2: sql occurs twice in allow"),
        *(
            (
                f"sql: [{item}]",
                "line 1: who may use sql must be names of 1 to 256 characters without commas and control characters",
            )
            for item in ('""', "null", "[a]", '"a,b"', '"a\\tb"', "x" * 257)
        ),
        (f"sql: [{', '.join(['a'] * 1001)}]", "line 1: who may use sql are 1001 names; at most 1000 are allowed"),
    ],
)
def test_what_is_refused(text, expected):
    assert why(text) == expected


def test_a_file_has_lists_in_its_models_and_below_allow():
    text = "models:\n- {name: qwen, adapters: [sql], allow: [a]}\n- name: phi\nallow: {sql: [b], somebody-else-s: []}\n"
    assert in_file(text) == {"qwen": {"a"}, "sql": {"b"}, "somebody-else-s": set()}
    assert in_file(MODELS) == in_file(MODELS + "allow:\n") == in_file(MODELS + "allow: {}\n") == {}
    assert why(MODELS + "allow: [a]", in_file).startswith("line 2: allow must be a mapping")
    assert why(MODELS + 'allow: {"": [a]}', in_file) == "line 2: the model is empty"


def test_a_file_of_nothing_but_lists():
    assert in_file("allow: {sql: [a]}") == {"sql": {"a"}}


def test_a_config_map_has_lists_for_its_own_names():
    own = {"baseModel": "qwen", "adapters": "[sql]", "aliases": "gpt: sql"}
    assert in_config_map(**own, allow="{qwen: [a], sql: [b], gpt: [c]}") == {"qwen": {"a"}, "sql": {"b"}, "gpt": {"c"}}
    assert in_config_map(**own, allow=" ") == in_config_map(**own) == {}
    assert in_config_map(aliases="gpt: sql", allow="gpt: [a]") == {"gpt": {"a"}}


@pytest.mark.parametrize("data", [{"baseModel": "qwen"}, {"aliases": "gpt: qwen"}])
def test_a_config_map_can_t_close_the_models_of_others(data):
    with pytest.raises(SourceError, match=r"^data\.allow: line 1: phi is no model, adapter or alias of this object$"):
        in_config_map(**data, allow="phi: [a]")


@pytest.mark.parametrize("text", ["[", "sql", "{[a]: [b]}", "{null: [b]}"])
def test_a_config_map_whose_lists_are_none_is_refused_whole(text):
    with pytest.raises(SourceError, match=r"^data\.allow: "):
        in_config_map(baseModel="sql", allow=text)


def test_many_lists_are_read_in_steps():
    lists = "".join(f"model-{number}: [a]\n" for number in range(450))
    names = "".join(f"- model-{number}\n" for number in range(450))
    plain = sum(1 for _ in file.parse("models: [{name: qwen}]\nallow: {}\n", ORIGIN))
    assert sum(1 for _ in file.parse(f"models: [{{name: qwen}}]\nallow:\n{_indented(lists)}", ORIGIN)) > plain + 1
    parsed = finish(configmap.parse({"baseModel": "qwen", "adapters": names, "allow": lists}, ORIGIN))
    assert len(parsed[0].grants) == 450


def _indented(text):
    return "".join(f"  {line}\n" for line in text.splitlines())


def test_lists_survive_the_other_process():
    text = MODELS + "allow: {sql: [b]}\n"
    received = documents.Received(ORIGIN)
    for frame in documents.declared(lambda octets: file.parse(octets.decode(), ORIGIN), text.encode()):
        received.take(frame)
    assert finish(received.parse()) == (
        Declaration(ORIGIN._replace(line=1), (BaseModel("qwen", ("sql",)),)),
        Declaration(ORIGIN._replace(line=2), (), (), (Grant("sql", frozenset("b")),)),
    )
