import pytest

from bbr.models.entries import Conflict, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import configmap, documents, file, scopes
from bbr.sources.objects import SourceError
from bbr.yaml_tree import tree
from tests.support.model_tables import base_model_of

ORIGIN = Origin("file", "models.yaml")
RULE = "1 to 63 letters, digits, dots, - and _, with a letter or a digit at both ends"

FILE = """
models: [{name: qwen, adapters: [sql]}]
scopes:
  a:
    hosts: [A.example.com, "*.a.example.com"]
    models: [{name: phi, adapters: [sql], allow: [team-a]}]
    aliases: {gpt: sql}
    allow: {sql: [team-a]}
  b: {hosts: ["*"]}
  c: {aliases: {gpt: qwen}}
"""


def parsed(text):
    return finish(file.parse(text, ORIGIN))


def why(text):
    with pytest.raises(SourceError) as caught:
        parsed(text)
    return str(caught.value)


def test_scopes_of_a_file():
    declared = parsed(FILE)
    registry, conflicts = finish(merging(declared))
    assert conflicts == []
    assert registry.hosts.by_host == {"a.example.com": "a", "*.a.example.com": "a", "*": "b"}
    assert [*registry.scopes] == ["a", "b", "c"]
    a = registry.within("a")
    assert [base_model_of(layer, "sql") for layer in registry.layers()] == ["qwen", "phi", "qwen", "qwen"]
    assert a.find("gpt").base_model == "phi"
    assert a.find("gpt").origin.line == 7
    assert sorted(a.grants) == ["phi", "sql"]
    assert registry.grants == {}


def test_the_other_process_gives_the_same():
    each = documents.source_object("a", b"1", ORIGIN, lambda octets: file.parse(octets.decode(), ORIGIN), FILE.encode())
    received = documents.Received(ORIGIN)
    for frame in documents.declared(each.parse.func, FILE.encode()):
        received.take(frame)
    assert finish(merging(finish(received.parse()))) == finish(merging(parsed(FILE)))


WRONG = {
    "a list": ("scopes: []", "line 1: scopes must be a mapping of names to what exists in them"),
    "twice": ("scopes:\n  a: {hosts: []}\n  a: {hosts: []}", "line 3: a occurs twice in scopes"),
    "nothing in it": (
        "scopes: {a: }",
        "line 1: the scope a must be a mapping; its keys can be aliases, allow, hosts and models",
    ),
    "an unknown field": (
        "scopes: {a: {host: x}}",
        "line 1: the scope a has the unknown key host; known: aliases, allow, hosts, models",
    ),
    "scopes in scopes": (
        "scopes: {a: {scopes: {}}}",
        "line 1: the scope a has the unknown key scopes; known: aliases, allow, hosts, models",
    ),
    "hosts as text": ("scopes: {a: {hosts: x}}", "line 1: hosts must be a list"),
    "hosts as null": ("scopes: {a: {hosts: }}", "line 1: hosts must be a list"),
    "one host twice": (
        "scopes:\n  a: {hosts: [x]}\n  b: {hosts: [X]}",
        "line 3: x can't be a host of b: it is one of a (file models.yaml, line 2)",
    ),
    "an adapter twice": (
        "scopes:\n a:\n  models: [{name: x, adapters: [s]},\n   {name: y, adapters: [s]}]",
        "line 4: s can't be an adapter of y: it is an adapter of x already",
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_files(text, expected):
    assert why(text) == expected


@pytest.mark.parametrize("host", ["a.example:80", "b\u00fccher.example", "a..b", "[a]", "~", '"*.*"', "https://a"])
def test_what_is_no_host(host):
    rule = "a name of at most 253 characters without a port, *. and a name, or *"
    expected = f"line 1: a host must be {rule}; other letters than a to z in punycode (xn--)"
    assert why(f"scopes: {{a: {{hosts: [{host}]}}}}") == expected


@pytest.mark.parametrize("name", ["-a", "a-", "a b", "b\u00fc", "a/b", "x" * 64, "~", "[a]"])
def test_what_is_no_name(name):
    assert why(f"scopes:\n  ? {name}\n  : {{}}").endswith(f"the name of a scope must be {RULE}")


@pytest.mark.parametrize("name", ["a", "7", "Team_A.b-c", "x" * 63])
def test_what_is_a_name(name):
    assert scopes.name_of(name, "") == name


def test_no_scopes():
    assert [each.scope for each in parsed("models: [{name: a}]\nscopes: ~")] == [""]
    assert parsed("scopes: {}") == ()


def test_how_many_there_may_be(monkeypatch):
    monkeypatch.setattr(scopes, "MAX_SCOPES", 2)
    monkeypatch.setattr(scopes, "MAX_LISTED", 3)
    assert why("scopes: {a: {}, b: {}, c: {}}") == "line 1: scopes has 3 names; at most 2 are allowed"
    assert why("scopes: {a: {hosts: [a, b, c, d]}}") == "line 1: hosts has 4 entries; at most 3 are allowed"
    assert [host for _, host in scopes.hosts(finish(tree("[a, b, c]")))] == ["a", "b", "c"]


def test_an_alias_of_a_scope_may_stand_for_a_model_of_another_file():
    _, conflicts = finish(merging(parsed("scopes: {a: {aliases: {x: elsewhere}}}")))
    assert [type(conflict) for conflict in conflicts] == [Conflict]


def in_config_map(scope, **data):
    return finish(configmap.parse(data, ORIGIN, scope=scope))


def test_the_scope_of_a_config_map():
    (found,) = in_config_map("a", baseModel="qwen", hosts="- x.example\n- '*.y.example'", aliases="gpt: qwen")
    assert (found.scope, found.hosts, len(found.models), len(found.aliases)) == (
        "a",
        ("x.example", "*.y.example"),
        1,
        1,
    )
    (found,) = in_config_map("a", hosts="[x]")
    assert (found.scope, found.hosts, found.models) == ("a", ("x",), ())
    (found,) = in_config_map("a", aliases="gpt: qwen", hosts="# none")
    assert (found.scope, found.hosts) == ("a", ())
    (found,) = in_config_map(None, baseModel="qwen", hosts=" ")
    assert (found.scope, found.hosts) == ("", ())


@pytest.mark.parametrize(
    ("scope", "data", "expected"),
    [
        (
            None,
            {"baseModel": "qwen", "hosts": "[x]"},
            "data.hosts are those of a scope, which the label inference.networking.k8s.io/bbr-scope has to name",
        ),
        ("a", {}, "data.baseModel is missing"),
        ("a", {"hosts": "x"}, "data.hosts: line 1: hosts must be a list"),
        (
            "",
            {"baseModel": "qwen"},
            f"the label {scopes.SCOPE_LABEL}: the name of a scope must be {RULE}",
        ),
    ],
)
def test_wrong_config_maps(scope, data, expected):
    with pytest.raises(SourceError) as caught:
        in_config_map(scope, **data)
    assert str(caught.value) == expected
