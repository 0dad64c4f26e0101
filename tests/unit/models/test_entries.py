import pytest

from bbr.models.entries import Conflict, Declaration, Entry, Kind, Origin, Share, described

FILE = Origin("file", "models.yaml", line=3)
MAP = Origin("ConfigMap", "qwen", "ns", 1.0)


@pytest.mark.parametrize(
    ("origin", "text"),
    [(FILE, "file models.yaml, line 3"), (MAP, "ConfigMap ns/qwen"), (Origin("file", "a"), "file a")],
)
def test_an_origin_for_people(origin, text):
    assert str(origin) == text


def test_files_come_before_objects_and_older_objects_before_others():
    assert FILE.precedence < MAP.precedence < MAP._replace(created=2.0).precedence


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (Entry("qwen", Kind.BASE_MODEL, FILE), "base model"),
        (Entry("qwen", Kind.ADAPTER, FILE, pattern="team-*"), "adapter pattern"),
        (Entry("qwen", Kind.ALIAS, FILE, "sql"), "alias of sql"),
        (
            Entry("qwen", Kind.ALIAS, FILE, "sql", (Share("sql", "qwen", 9), Share("b", "b", 1))),
            "alias of sql (9), b (1)",
        ),
    ],
)
def test_what_an_entry_is(entry, what):
    assert entry.what == what


def test_shares_for_people():
    assert described([Share("a", "a", 9), Share("b", "a", 0)]) == "a (9), b (0)"


@pytest.mark.parametrize(
    ("conflict", "text"),
    [
        (
            Conflict("x", None, Entry("q", Kind.ALIAS, FILE, "q")),
            "x can't be an alias of q (file models.yaml, line 3): q is neither a base model nor an adapter",
        ),
        (
            Conflict("x", Entry("x", Kind.BASE_MODEL, Origin("file", "m")), Entry("q", Kind.ADAPTER, MAP), scope="a"),
            "scope a: x can't be an adapter of q (ConfigMap ns/qwen): it is a base model itself (file m)",
        ),
        (
            Conflict("x", Entry("p", Kind.ADAPTER, MAP), Entry("q", Kind.ADAPTER, FILE)),
            "x can't be an adapter of q (file models.yaml, line 3): it is an adapter of p (ConfigMap ns/qwen)",
        ),
        (
            Conflict("x.test", None, Entry("a", Kind.HOST, FILE), "it is one of b"),
            "x.test can't be a host of a (file models.yaml, line 3): it is one of b",
        ),
    ],
)
def test_a_conflict_for_people(conflict, text):
    assert str(conflict) == text


def test_a_declaration_is_for_everywhere_unless_it_says_where():
    assert Declaration(FILE) == Declaration(FILE, (), (), (), "", (), ())
