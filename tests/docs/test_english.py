"""Texts that people read are plain English: phrases that readers stumbled over are gone, and stay gone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / f"{name}.md" for name in ("README", "DESIGN", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
        *(ROOT / name for name in ("Makefile", "deploy/chart/templates/NOTES.txt", "deploy/chart/values.yaml")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy/dashboards").glob("*.yaml"),
    ]
)
MODULES = sorted(path for path in (ROOT / "bbr").rglob("*.py") if "pb" not in path.parts)

# Each with what to write instead.
PHRASES = {
    r"\b(?:is|are) let (?:finish|in|out)\b": "may finish, is accepted",
    r"\bthat there (?:is|are) not\b": "an unknown ...",
    r"\b(?:was|were|is) (?:not )?to be had\b": "was not available",
    r"\bto be had where\b": "was not available",
    r"\bin this order, which is\b": "in the order of ...",
    r"\bwhat is worse\b": "more severe",
    r"\bwhose form names\b": "whose form has a field",
    r"\bnobody's hand\b": "nobody writes it by hand",
    r"\bnever pulled\b": "nobody has pulled",
    r"\bcan't be told to\b": "cannot be configured to",
    r"\bwhen it was told to\b": "if asked",
    r"\bto (?:its|their) gates\b": "fails if",
    r"\bamounts? to what\b": "is what",
    r"\b(?:is|are) under way\b": "in progress",
    r"\bstands? twice\b": "occurs twice",
    r"\bis no (?:JSON|URL|pod|flag|number|list|mapping|object|name|header)\b": "is not a ...",
    r"\bcan not\b": "cannot",
    r"\boctets?\b": "bytes",
    r"\bTo see:": "What you should see:",
    r"'s say\b|, say[,.)]": "such as, for example",
    r"\b(?:becomes|became) of\b": "happens to",
    r"\bh[eo]ld(?:s|ing)? [^.|]{0,50}\bagainst\b": "compare with, check",
    r"\btold of\b": "gets, is reported",
    r"\bwhat there is\b": "what exists",
    r"\banew\b": "again",
    r"\bbe it\b": "whether it is",
    r"\b(?:is|are) taken for\b": "the router assumes that ... is",
    r"\bheld (?:to|against) (?:it|that|what|them)\b": "compared with, checked",
    r"\bthat begin so\b": "that begin with ...",
    r"\bis what limits\b": "limits",
    r"\bno business\b": "does not need",
    r"\bhave (?:them|it) (?:kept|forwarded)\b": "mark as kept, make ... forward",
}
# Names of recorded cases, the words of HTTP/2's own specification and of what others' programs say.
EXEMPT = re.compile(r"^\| I\d+ |RFC \d+|`[^`]*octet[^`]*`|octet-stream", re.IGNORECASE)


def found(text: str) -> Iterator[str]:
    """Give each phrase that stands in a text, with the line that it is in; a phrase may span two lines."""
    for phrase, better in PHRASES.items():
        for match in re.finditer(phrase.replace(" ", r"\s+"), text):
            start = text.rfind("\n", 0, match.start()) + 1
            line = text[start : text.find("\n", match.end())]
            if not EXEMPT.search(line):
                yield f"{line.strip()!r}: rather {better!r}"


def messages(path: Path) -> Iterator[str]:
    """Give the texts of a module that people may see: its strings of several words, without docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
        if is_text and node.value.count(" ") > 1:
            yield node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_is_plain_english(page):
    assert list(found(page.read_text("utf-8"))) == []


def test_messages_are_plain_english():
    texts = [(path.name, said) for path in MODULES for text in messages(path) for said in found(text)]
    assert texts == []


def test_a_phrase_is_found_across_lines_and_exempt_words_are_not():
    assert list(found("bodies on their way are let\nfinish, it is said")) != []
    assert list(found("the body is 3 octets long")) != []
    assert list(found("| I5 CONTINUATION of 1 octet | KiB | 9 |")) == []
    assert list(found("RFC 9113 counts octets")) == []
