import pytest

from bbr.models.steps import finish
from bbr.sources.mappings import named
from bbr.sources.objects import SourceError
from bbr.yaml_tree import tree


def entries(text):
    found = named(finish(tree(text)), "things", "names to words", lambda key: key.text.strip())
    return [(each.line, each.name, each.value.text) for each in found]


def test_entries_are_in_their_order_with_their_lines():
    assert entries("b: x\n\na: y\n") == [(1, "b", "x"), (3, "a", "y")]
    assert entries("{}") == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- a", "line 1: things must be a mapping of names to words"),
        ("a", "line 1: things must be a mapping of names to words"),
        ('a: x\nb: y\n"a ": z\n', "line 3: a occurs twice in things"),
    ],
)
def test_other_things_are_refused(text, error):
    with pytest.raises(SourceError) as raised:
        entries(text)
    assert str(raised.value) == error


def test_what_is_no_name_is_refused_by_whoever_knows_names():
    def name_of(key):
        raise SourceError(f"line {key.line}: no name")

    with pytest.raises(SourceError, match="line 2: no name"):
        list(named(finish(tree("\na: b")), "things", "names to words", name_of))
