import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.literal import MAX_WARNINGS, warnings
from bbr.models.steps import finish

ORIGIN = Origin("file", "models.yaml", line=3)


def sentences(*models: BaseModel, aliases: tuple[Alias, ...] = ()) -> list[str]:
    return finish(warnings(Declaration(ORIGIN, models, aliases)))


@pytest.mark.parametrize(
    "name",
    [
        *("Qwen/Qwen2.5-3B-Instruct", "llama3:8b", "gpt-4o@2024-08-06", "arn:aws:bedrock:us-east-1:1:x/us.a-v1:0"),
        *("a+b", "(x)", "re", "rest:x", "regular:x", "\u4e26", "name with blanks", "a~b"),
    ],
)
def test_names(name: str) -> None:
    assert sentences(BaseModel(name, (name,)), aliases=(Alias(name, name),)) == []


@pytest.mark.parametrize(
    "name",
    [
        "re:gpt.*",
        "regex:x",
        "regexp:x",
        "glob:x",
        "~gpt",
        "gpt-?",
        "gpt-[34]",
        "a|b",
        "^gpt",
        "gpt$",
        r"gpt\d",
        "{{ x }}",
        "a.*",
    ],
)
def test_names_that_look_like_patterns(name: str) -> None:
    (adapter,) = sentences(BaseModel("a", (name,)))
    assert adapter.startswith(f"the adapter {name} (file models.yaml, line 3) is taken literally, ")
    (alias,) = sentences(aliases=(Alias(name, "a"),))
    assert alias.startswith(f"the alias {name} (file models.yaml, line 3) is taken literally, ")


def test_stars() -> None:
    assert sentences(BaseModel("a", ("x-*",)), aliases=(Alias("y-*", "a"),)) == []
    (base,) = sentences(BaseModel("a*"))
    assert base == (
        "the base model a* (file models.yaml, line 3) is taken literally, its * too: adapters and aliases alone can be "
        "patterns"
    )
    (first,) = sentences(aliases=(Alias("y", "a*"),))
    assert first.startswith("the model of alias y, a* (file models.yaml, line 3) is taken literally, its * too")
    assert len(sentences(aliases=(Alias("y", "a*", (("a*", 1), ("b*", 1))),))) == 2


def test_a_long_list_is_told_in_part_and_in_steps() -> None:
    many = BaseModel("a", tuple(f"re:{number}" for number in range(1000)))
    assert len(sentences(many)) == MAX_WARNINGS
    steps = warnings(Declaration(ORIGIN, (BaseModel("a", tuple(map(str, range(1100)))),)))
    assert len([*steps]) == 2
