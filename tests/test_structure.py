from graphlib import CycleError

import pytest

from tests import structure

TEXT = '''"""A docstring
of two lines."""

import bbr.http2.frames  # behind code

# A comment.
# Another.


class A:
    """One."""

    def method(self):
        # Within.
        return """no
# docstring"""


async def outer():
    def inner():
        pass
'''

# The limits that hold here. Tests may be longer: a module's stand in one file.
OURS = ("bbr", "bench", "deploy")
MOST_LINES = 600
MOST_OF_A_FUNCTION = 60
# In bbr. Of these three there is more: what each body, token and frame goes through stands in one object.
MOST_OF_A_CLASS = 300
LONG_CLASSES = {
    "bbr/exchange/body.py:Body",
    "bbr/http2/connection.py:Connection",
    "bbr/reading/scan/tokens.py:Tokens",
}


def test_a_text_is_counted():
    source = structure.read(TEXT, "x.py")
    assert source.size == (21, "x.py")
    assert (source.comments, source.code) == (3, 8)
    assert source.classes == [(7, "x.py:A")]
    assert sorted(source.functions) == [(2, "x.py:inner"), (3, "x.py:outer"), (4, "x.py:method")]


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_units_are_rooms_and_files_of_the_root_and_generated_code_is_none(tmp_path):
    root = tree(
        tmp_path,
        {
            "bbr/__init__.py": "",
            "bbr/cli.py": "from bbr import __version__\nfrom bbr.high import a\nimport os",
            "bbr/high/a.py": "def f():\n    from bbr.low.b import c\nfrom bbr.pb import x\nfrom bbr.high import b",
            "bbr/high/b.py": "",
            "bbr/low/b.py": "from bbr import text",
            "bbr/pb/x.py": "import bbr.cli",
            "bbr/text.py": "",
        },
    )
    found = structure.dependences(root)
    assert found == {"cli": {"high"}, "high": {"low"}, "low": {"text"}, "text": set()}
    assert structure.layers(found) == [["text"], ["low"], ["high"], ["cli"]]
    assert [size.size.name for size in structure.sources(root)["bbr/high"]] == ["bbr/high/a.py", "bbr/high/b.py"]


def test_a_circle_is_named():
    with pytest.raises(CycleError) as caught:
        structure.layers({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    assert set(caught.value.args[1]) == {"b", "c"}


@pytest.mark.parametrize("circle", [False, True])
def test_what_is_printed(tmp_path, monkeypatch, capsys, circle):
    root = tree(
        tmp_path,
        {
            "bbr/a/x.py": "from bbr.b import y" + "\n" * 9,
            "bbr/b/y.py": "from bbr.a import x" if circle else TEXT.replace("bbr.http2", "os"),
            "bench/x.py": "# One.\nx = 1\n",
        },
    )
    monkeypatch.setattr("sys.argv", ["structure", str(root)])
    structure.main()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"bbr: 2 units, {1 + circle} dependences between them"
    if circle:
        assert lines[1].startswith("a circle: ")
    else:
        assert lines[1:3] == ["layer 2: a", "layer 1: b"]
        assert "bbr/b 1 21 0.375 21 y.py 7 y.py:A 4 y.py:method" in lines
    assert "bench in all 1 2 1.000 2 bench/x.py - -" in lines


def test_no_file_class_or_function_is_too_long():
    found = structure.sources(tops=OURS)
    assert {folder.split("/")[0] for folder in found} == set(OURS)
    several = [each for folder in found.values() for each in folder]
    ours = [each for each in several if each.size.name.startswith("bbr/")]
    assert {size.name for each in ours for size in each.classes if size.lines > MOST_OF_A_CLASS} <= LONG_CLASSES
    assert [str(each.size) for each in several if each.size.lines > MOST_LINES] == []
    assert [str(size) for each in several for size in each.functions if size.lines > MOST_OF_A_FUNCTION] == []
