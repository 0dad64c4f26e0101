import pytest

from bbr.models.entries import Alias
from bbr.models.steps import finish
from bbr.sources import aliases
from bbr.sources.objects import SourceError
from bbr.yaml_tree import tree


def read(text):
    def name_of(node, what):
        if not isinstance(getattr(node, "text", None), str):
            raise SourceError(f"line {node.line}: {what} must be text")
        return node.text

    return list(aliases.read(finish(tree(text)), name_of))


def test_one_model_and_several():
    text = "gpt: sql\nchat: {qwen: 90, next: 10}\nlast:\n  qwen: 0\n  next: 1000000\n"
    assert read(text) == [
        (1, Alias("gpt", "sql")),
        (2, Alias("chat", "qwen", (("qwen", 90), ("next", 10)))),
        (3, Alias("last", "qwen", (("qwen", 0), ("next", 1_000_000)))),
    ]
    assert read("{}") == []


NOT_A_WEIGHT = "must be a whole number from 0 to 1000000"
WRONG = {
    "a list": ("- a", "line 1: aliases must be a mapping of names to models"),
    "a name twice": ("a: b\na: c", "line 2: a occurs twice in aliases"),
    "a list of models": ("a: [b, c]", "line 1: the model of alias a must be text"),
    "no models": ("a: {}", "line 1: alias a needs a model with a weight of more than 0"),
    "no weights": ("a: {b: 0, c: 0}", "line 1: alias a needs a model with a weight of more than 0"),
    "a model twice": ("a:\n  b: 1\n  b: 2", "line 3: b occurs twice in alias a"),
    "a weight below 0": ("a: {b: -1}", f"line 1: the weight of b in alias a {NOT_A_WEIGHT}"),
    "a weight that is none": ("a: {b: x}", f"line 1: the weight of b in alias a {NOT_A_WEIGHT}"),
    "a weight that is a list": ("a: {b: [1]}", f"line 1: the weight of b in alias a {NOT_A_WEIGHT}"),
    "a weight too large": ("a: {b: 1000001}", f"line 1: the weight of b in alias a {NOT_A_WEIGHT}"),
    "too many models": (
        "a: {" + ", ".join(f"m{number}: 1" for number in range(17)) + "}",
        "line 1: alias a has 17 models; at most 16 are allowed",
    ),
}


@pytest.mark.parametrize(("text", "why"), WRONG.values(), ids=WRONG)
def test_refused(text, why):
    with pytest.raises(SourceError) as refused:
        read(text)
    assert str(refused.value) == why
