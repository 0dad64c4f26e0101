"""Whatever a model file holds: it is read, or refused with a sentence; never another error, never half."""

import contextlib
import importlib.resources
import json

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bbr.models.entries import Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import file
from bbr.sources.objects import SourceError
from bbr.yaml_tree import Mapping, Scalar, Sequence, YamlError, tree
from tests.support.examples import examples

AT = Origin("file", "models.yaml")
SCHEMA_TEXT = importlib.resources.files("bbr.sources").joinpath("models.schema.json").read_text("utf-8")
SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_TEXT))

# Texts in which YAML's own marks are as frequent as anything else.
MARKS = [
    "models",
    "name",
    "adapters",
    "aliases",
    "a",
    "b",
    ": ",
    ":",
    "- ",
    "-",
    "\n",
    "\n  ",
    "  ",
    " ",
    "[",
    "]",
    "{",
    "}",
]
MARKS += [
    ",",
    "&a ",
    "*a",
    "!t ",
    "!!null ",
    "!!str ",
    "|\n",
    ">\n",
    "'",
    '"',
    "\\",
    "#",
    "%YAML 1.1\n",
    "---",
    "...",
    "?",
]
MARKS += ["~", "null", "<<", "\t", "\x00", "\x7f", "\ud7ff", "\ufeff", "é", "1", "true", "\r", "\u2028"]
TEXTS = st.lists(st.sampled_from(MARKS), max_size=25).map("".join) | st.text(max_size=40)

NAMES = st.sampled_from(["a", "b", "c", "d", " e ", "", "x" * 5000, "\x01", "é"]) | st.integers(0, 3) | st.booleans()
ENTRIES = st.fixed_dictionaries({"name": NAMES}, optional={"adapters": st.none() | st.lists(NAMES, max_size=3)})
TABLES = st.fixed_dictionaries(
    {}, optional={"models": st.lists(ENTRIES, max_size=3), "aliases": st.dictionaries(st.sampled_from("pqab"), NAMES)}
)


def parse(text):
    return finish(file.parse(text, AT))


@examples(500)
@given(TEXTS)
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(SourceError):
        declarations = parse(text)
        registry, conflicts = finish(merging(declarations))
        assert all(conflict.kept is None for conflict in conflicts)
        assert all(entry.origin.line >= 1 for _, entry in registry.items())


def plain(node):
    match node:
        case Scalar():
            return None if node.null else node.text
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return [(plain(key), plain(value)) for key, value in node.pairs]
    return node


class _AsWritten(yaml.CSafeLoader):
    """PyYAML, without its types."""


def _pairs(loader, node):
    return [(loader.construct_object(key, True), loader.construct_object(value, True)) for key, value in node.value]


_AsWritten.yaml_constructors = {
    None: lambda loader, node: _construct(loader, node),
}


def _construct(loader, node):
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    return loader.construct_sequence(node, True) if isinstance(node, yaml.SequenceNode) else _pairs(loader, node)


@examples(300)
@given(TEXTS)
def test_what_is_read_is_what_pyyaml_reads(text):
    try:
        expected = yaml.load(text, Loader=_AsWritten)  # noqa: S506 (it makes nothing but lists and texts)
    except yaml.constructor.ConstructorError:
        return  # a list that holds itself
    except yaml.composer.ComposerError as error:
        if "found duplicate anchor" in str(error):
            return  # which YAML allows: an alias stands for the last node of that name before it
        with pytest.raises(YamlError):
            finish(tree(text))
        return
    except (yaml.YAMLError, ValueError):
        with pytest.raises(YamlError):
            finish(tree(text))
        return
    try:
        found = plain(finish(tree(text)))
    except YamlError as error:
        limits = ("nested more than", "directives are not read", "within what it stands for")
        assert any(limit in str(error) for limit in limits)  # noqa: PT017
        return
    assert found == expected


@given(TABLES)
def test_the_schema_says_what_the_parser_says(table):
    text = json.dumps(table)
    try:
        parse(text)
    except SourceError as error:
        known_only_to_the_parser = ("can't be an", "bytes long", "occurs twice")
        assert not SCHEMA.is_valid(table) or any(part in str(error) for part in known_only_to_the_parser)  # noqa: PT017
    else:
        assert SCHEMA.is_valid(table)
