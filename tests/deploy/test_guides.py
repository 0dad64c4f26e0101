"""The guides' commands are commands: shells take them, their files are there, and what they install can be rendered."""

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest

from bbr import cli
from deploy.render import helm
from tests.support.tools import needs

GUIDES = {path.stem: path.read_text("utf-8") for path in sorted((helm.ROOT / "docs").glob("*.md"))}
GUIDES["README"] = (helm.ROOT / "README.md").read_text("utf-8")
GATEWAYS = ("gke", "istio", "envoy-gateway", "kgateway", "kind")
# What a command begins with; other lines of blocks are outputs.
STARTS = ("kubectl ", "helm ", "bbr ", "kind ", "istioctl ", "docker ", "curl ", "sed ", "echo ")
KUBECTL = {"apply", "create", "delete", "describe", "get", "kustomize", "logs", "port-forward", "wait", "rollout"}
KUBECTL |= {"version", "config", "label", "edit", "annotate", "scale", "diff", "replace"}
HELM = {
    "upgrade",
    "install",
    "test",
    "uninstall",
    "get",
    "rollback",
    "history",
    "version",
    "template",
    "status",
    "show",
}


def commands(text: str) -> Iterator[list[str]]:
    """Give the words of each command in a text's blocks without a language; a pipe or a semicolon ends one."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if language:
            continue
        block = re.sub(r"<<EOF\n.*?^EOF$", "", block, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
        for line in re.sub(r"\$\(.*?\)", "x", block).splitlines():
            line = line.removeprefix("$ ").strip()
            if line.startswith(STARTS):
                lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                yield from split(list(lexer))


def split(words: list[str]) -> Iterator[list[str]]:
    """Give the commands of a line, without comments."""
    one: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("|;&()<>"):
            if one:
                yield one
            one = []
        else:
            one.append(word)


def of(program: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a program in all guides, each with its guide."""
    return [(guide, words[1:]) for guide, text in GUIDES.items() for words in commands(text) if words[0] == program]


def test_each_subcommand_of_kubectl_and_helm_is_one():
    found = of("kubectl")
    assert len(found) > 40
    assert {verb(words) for _, words in found} <= KUBECTL
    assert {verb(words) for _, words in of("helm")} <= HELM


def verb(words: list[str]) -> str:
    """Return the first word that is neither a flag nor the value of -n."""
    return next(word for before, word in itertools.pairwise(["", *words]) if word[0] != "-" and before != "-n")


def test_files_that_commands_name_are_there():
    for guide, words in [*of("kubectl"), *of("helm")]:
        for flag, value in itertools.pairwise(words):
            if flag in ("-f", "-k", "--values") and value.startswith("deploy/"):
                assert (helm.ROOT / value).exists(), (guide, value)


@pytest.mark.parametrize("guide", GATEWAYS)
def test_a_guide_waits_and_tells_what_to_expect_and_how_to_clean_up(guide):
    found = [words for words in commands(GUIDES[guide]) if words[0] in ("kubectl", "helm", "kind", "istioctl")]
    verbs = [verb(words[1:]) for words in found]
    assert "wait" in verbs
    assert "test" in verbs
    assert {"uninstall", "delete"} & set(verbs)


def test_options_of_our_commands_are_theirs():
    found = [(guide, words) for guide, words in of("bbr") if words and words[0] in cli.COMMANDS]
    assert len(found) > 5
    for guide, words in found:
        known = {option for action in cli.parser([words[0]])._subparsers._group_actions for option in options(action)}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= known, guide


def options(action) -> set[str]:
    """Return all options of a parser's commands."""
    return {option for parser in action.choices.values() for each in parser._actions for option in each.option_strings}


@needs("helm")
@pytest.mark.parametrize("guide", GATEWAYS)
def test_what_a_guide_installs_can_be_rendered(guide):
    exported = dict(re.findall(r"(?:^export | )([A-Z]+)=([\w./-]+)(?= |$)", GUIDES[guide], re.MULTILINE))
    exported |= {"REGISTRY": "registry.example.com/llm"}
    (install,) = (words for words in commands(GUIDES[guide]) if words[:2] == ["helm", "upgrade"])
    words = [re.sub(r"\$([A-Z]+)", lambda match: exported[match[1]], word) for word in install]
    words = [word for word in words[3:] if not word.startswith(("--wait", "--timeout"))]
    rendered = helm.documents(helm.run("helm", "template", *words))
    kinds = {each["kind"] for each in rendered}
    assert {"Deployment", "HTTPRoute"} <= kinds
