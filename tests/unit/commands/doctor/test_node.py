import pytest

from bbr.commands.doctor.node import Evidence, Node

VALUE = {"a": {"b-c": [1, {"d": True}]}, "n": "7", "t": "0.250s", "@type": "x/y.z.Kind", "s": {"password": "p"}}


@pytest.fixture
def node():
    return Node("config_dump", VALUE)


def test_paths_are_those_of_jq(node):
    first, second = node.each("a", "b-c")
    assert (first.path, first.number) == ('.a["b-c"][0]', 1)
    assert (second.get("d").path, second.get("d").is_true) == ('.a["b-c"][1].d', True)


def test_what_is_absent_has_a_path_and_no_value(node):
    found = node.get("a", "x", "y")
    assert (bool(found), found.path, found.text, found.number, found.seconds) == (False, ".a.x.y", "", None, None)
    assert list(node.each("a", "x")) == []


def test_a_value_of_another_type_is_as_absent(node):
    assert list(node.each("a")) == []
    assert node.get("n", "x").value is None
    assert node.get("a").text == ""
    assert Node("", True).number is None
    assert Node("", "true").is_true is False


@pytest.mark.parametrize(("value", "seconds"), [("5s", 5.0), ("0.250s", 0.25), ("5", None), ("-1s", None), (5, None)])
def test_seconds(value, seconds):
    assert Node("", value).seconds == seconds


def test_numbers_and_types(node):
    assert (node.get("n").number, node.get("t").number, node.type, node.get("a").type) == (7, None, "Kind", "")


def test_evidence_never_shows_a_message(node):
    assert node.get("s").evidence() == Evidence("config_dump", ".s", "{...}")
    assert node.get("a", "b-c").evidence().value == "[...]"


def test_evidence_is_not_endless():
    assert Node("", "x" * 1000).evidence().value == "x" * 300 + "..."


def test_evidence_for_people(node):
    assert str(node.get("t").evidence()) == "config_dump .t = 0.250s"
    assert str(node.get("x").evidence("SKIP")) == "config_dump .x = absent (SKIP)"
    assert str(Evidence("stats", "a.b", True)) == "stats a.b = true"


def test_children_have_their_places():
    found = Node("config_dump", {"a": [1, {"b": 2}], "c d": 3})
    assert [(each.path, each.value) for each in found.children()] == [('["c d"]', 3), (".a", [1, {"b": 2}])]
    assert [each.path for each in found.get("a").children()] == [".a[1]", ".a[0]"]
    assert Node("config_dump", "text").children() == []


def test_all_within_a_value_in_order():
    node = Node("d", {"a": [1, {"b": 2}], "c": None})
    assert [each.path for each in node.walk()] == ["", ".a", ".a[0]", ".a[1]", ".a[1].b", ".c"]
