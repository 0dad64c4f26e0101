import pytest
import yaml

from bbr import yaml_tree
from bbr.models.steps import finish
from bbr.yaml_tree import Mapping, Scalar, Sequence, YamlError, tree


def plain(node):
    """Return a node as lists and texts."""
    match node:
        case Scalar():
            return None if node.null else node.text
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {plain(key): plain(value) for key, value in node.pairs}
    return "nothing"


READ = {
    "nothing": ("", "nothing"),
    "a comment": ("# only", "nothing"),
    "an empty document": ("---\n...\n", None),
    "text": ("a", "a"),
    "a list": ("- a\n- b\n", ["a", "b"]),
    "a mapping": ("a: b\nc: {d: [e]}\n", {"a": "b", "c": {"d": ["e"]}}),
    "JSON": ('{"a": ["b", null, 1, true]}', {"a": ["b", None, "1", "true"]}),
    "as it is written": ("[1, 0x10, 1.50, no, 2026-01-01]", ["1", "0x10", "1.50", "no", "2026-01-01"]),
    "nulls": ("[~, null, Null, NULL, !!null x]", [None] * 5),
    "no nulls": ("['', 'null', \"~\", nUll, !!str null]", ["", "null", "~", "nUll", "null"]),
    "an empty value": ("a:\n", {"a": None}),
    "an anchor": ("- &a [x]\n- *a\n", [["x"], ["x"]]),
    "an anchor set anew": ("- &a x\n- &a y\n- *a\n", ["x", "y", "y"]),
    "an anchor of a key": ("&a k: *a\n", {"k": "k"}),
}


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_read(monkeypatch, loader, text, expected):
    monkeypatch.setattr(yaml_tree, "_Loader", loader)
    assert plain(finish(tree(text))) == expected


def test_every_node_knows_its_line():
    root = finish(tree("# first\na:\n  - b\n  - [c,\n     d]\n"))
    ((key, value),) = root.pairs
    assert (root.line, key.line, value.line) == (2, 2, 3)
    assert [item.line for item in value.items] == [3, 4]
    assert [item.line for item in value.items[1].items] == [4, 5]


def test_a_node_with_an_anchor_is_one_node():
    first, second = finish(tree("- &a [x]\n- *a\n")).items
    assert first is second


REFUSED = {
    "an open bracket": ("[\n", "line 2: not YAML: "),
    "an undefined alias": ("- a\n- *x\n", "line 2: not YAML: found undefined alias"),
    "two documents": ("a\n---\nb\n", "line 2: a second document begins; only one is allowed"),
    "a control character": ("a\n\x00", "line 2: not YAML: "),
    "deep lists": ("[" * 17, "line 1: lists and mappings are nested more than 16 deep"),
    "deep mappings": ("{a: " * 17, "line 1: lists and mappings are nested more than 16 deep"),
    "a directive": ("%YAML 1.1\n--- a\n", "line 1: begins with %: YAML directives are not read"),
    "a later directive": ("a\n...\n%TAG ! x\n--- b\n", "line 3: begins with %: YAML directives are not read"),
    "a directive after a byte order mark": ("\ufeff%TAG ! x\n", "line 1: begins with %: YAML directives are not read"),
    "a directive after any line's end": ("#\x85%TAG ! x\n--- a", "line 1: begins with %: YAML directives are not read"),
    "an alias within what it stands for": ("- &a [x,\n *a]\n", "line 2: an alias contains itself"),
    "an alias as a key of what it stands for": ("&a {*a : x}", "line 1: an alias contains itself"),
    "100,000 brackets": ("\n" + "[" * 100_000, "line 2: lists and mappings are nested more than 16 deep"),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_refused_with_its_line(monkeypatch, loader, text, sentence):
    monkeypatch.setattr(yaml_tree, "_Loader", loader)
    with pytest.raises(YamlError) as caught:
        finish(tree(text))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("text", ["a:\n\t- b\n", "\u00e9: b\nc:\n  - d: e\n\tf: g\n"])
def test_a_tab_is_named(text):
    """Most people do not see it in their editor."""
    with pytest.raises(YamlError, match=r"; YAML does not allow tabs for indentation$"):
        finish(tree(text))
    finish(tree("a:\tb\n"))


LARGEST = {
    "a list": "[" + "a," * 9 + "]",
    "a mapping": "{a: b, c: d, e: f, g: h, ? i}",
    "lists": "[[a], [b], [c], [d], {}]",
    "empty parts": "{a, b: , ? , d : c}\n" + "# and what is no part\n" * 3,
    "aliases": "[&a [x, y], *a, *a]",
    "aliases of aliases": "[&a [x], &b [*a, *a]]",
    "an alias of the last of a name": "[&a [x, y, z], &a b, *a, *a, *a]",
    "an alias of a key": "{&a a: &b [*a, x], *b : y, c: d}",
}
TOO_MANY = "line 1: the document has more than {} parts, where an alias counts as all that it stands for"


@pytest.mark.parametrize("text", LARGEST.values(), ids=LARGEST)
@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_parts_are_counted_with_what_aliases_repeat(monkeypatch, loader, text):
    monkeypatch.setattr(yaml_tree, "_Loader", loader)

    def count(node):
        match node:
            case Sequence():
                return 1 + sum(map(count, node.items))
            case Mapping():
                return 1 + sum(count(key) + count(value) for key, value in node.pairs)
        return 1

    parts = count(finish(tree(text)))
    assert finish(tree(text, parts))
    with pytest.raises(YamlError) as caught:
        finish(tree(text, parts - 1))
    assert str(caught.value) == TOO_MANY.format(parts - 1)


def test_what_aliases_expand_to_is_refused_before_it_is_built():
    bomb = "- &a0 x\n" + "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 100))
    with pytest.raises(YamlError, match=r"^line 8: the document has more than 1,000,000 parts"):
        finish(tree(bomb))


def test_sixteen_levels_are_read():
    assert finish(tree("[" * 16 + "]" * 16))


def test_reading_pauses_at_least_every_hundred_parts():
    assert sum(1 for _ in tree("[" + "a, " * 5000 + "]")) >= 50
