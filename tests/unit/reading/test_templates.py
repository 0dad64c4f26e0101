import pytest

from bbr.reading.templates import MAX_TEMPLATES, VENDORS, Allowance, PathSegments, Template, parse_templates
from bbr.refusal import Refusal

AZURE, GEMINI, BEDROCK = "/openai/deployments/{model}/**", "/**/models/{model}:*", "/model/{model}/invoke"


def test_templates_compare_by_their_text() -> None:
    assert Template(AZURE) == Template(AZURE)
    assert Template(AZURE) != Template(GEMINI)
    assert Template(AZURE) != AZURE
    assert len({Template(AZURE), Template(AZURE), Template(GEMINI)}) == 2
    assert repr(Template(AZURE)) == f"Template({AZURE!r})"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("openai/{model}", "must begin with a slash, or be the name of a vendor"),
        ("/openai", "must have {model} exactly once"),
        ("/{model}/{model}", "must have {model} exactly once"),
        ("/{Model}", "must have {model} exactly once"),
        ("/a/**/b/{model}", "may have ** only as the first or the last segment"),
        ("/a**/{model}", "may have only one \\* in a segment"),
        ("/*{model}", "only one \\* in a segment, and none before {model}"),
        ("/a*b*/{model}", "may have only one \\* in a segment"),
        ("/a//{model}", "an empty segment"),
        ("/{model}/", "an empty segment"),
        ("/../{model}", "must not have an empty segment"),
        ("/a%20/{model}", "a character that a path pattern cannot have"),
        ("/a?/{model}", "a character that a path pattern cannot have"),
        ("/{name}/{model}", "a character that a path pattern cannot have"),
        ("/" + "x" * 600 + "/{model}", "must not be longer than 512 characters"),
        (" ".join(["/{model}"] * (MAX_TEMPLATES + 1)), "at most 32"),
    ],
)
def test_templates_that_are_wrong(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("{", "\\{").replace("**", "\\*\\*")) as caught:
        parse_templates(text)
    assert len(str(caught.value)) < 700


def test_of_several_templates_the_wrong_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"^has '/openai', which must have \{model\} exactly once$"):
        parse_templates(f"{AZURE}, /openai {GEMINI}")
    with pytest.raises(ValueError, match=r"^must have \{model\} exactly once$"):
        parse_templates("/openai")


def test_of_a_long_template_an_error_shows_the_beginning() -> None:
    with pytest.raises(ValueError, match=r"^has '/x{255}\.\.\.', which must not be longer than 512 characters$"):
        parse_templates(f"/{'x' * 100_000} {GEMINI}")


def test_what_a_template_says_is_kept() -> None:
    templates = parse_templates(f"{AZURE}, {GEMINI} {BEDROCK}")
    assert [template.text for template in templates] == [AZURE, GEMINI, BEDROCK]
    assert [template.head for template in templates] == ["/openai/deployments/", "/**/models/", "/model/"]


def test_a_vendor_stands_for_its_paths() -> None:
    assert parse_templates("gemini") == (Template(GEMINI),)
    all_of_them = parse_templates(",".join(VENDORS))
    assert [template.text for template in all_of_them] == [text for texts in VENDORS.values() for text in texts]


@pytest.mark.parametrize(
    ("text", "path", "models"),
    [
        ("/{model}", b"/a/b/", {b"a/b"}),
        ("/{model}", b"/", set()),
        ("/{model}", b"a", set()),
        ("/{model}*", b"/a/b", {b"a/b"}),
        ("/x/{model}/y/z", b"/x/a/b/y/z", {b"a/b"}),
        ("/x/{model}/y/z", b"/x/y/z", set()),
        ("/x/{model}/y/z", b"/y/z", set()),
        ("/x/{model}/y", b"/y", set()),
        ("/x/{model}/y*z", b"/x/a/y1z", {b"a"}),
        ("/x*/{model}/y", b"/x1/a/y", {b"a"}),
        ("/**/x*/{model}/y", b"/0/x1/x2/x3/a/y", {b"x2/x3/a", b"a"}),
        ("/**/a/b/{model}", b"/a/a/b/c", {b"c"}),
        ("/**/{model}", b"/a/b/c", {b"a/b/c", b"c"}),
        ("/x/m-{model}/y", b"/x/m-a/b/y", {b"a/b"}),
        ("/x/m-{model}/y", b"/x/a/m-b/y", set()),
        ("/x/m-{model}.v", b"/x/m-.v", {b""}),
        ("/x/ab{model}ab", b"/x/ab", set()),
        ("/x/ab{model}ab", b"/x/abab", {b""}),
        ("/x/ab{model}ab/**", b"/x/ab/y", set()),
        ("/x/{model}:*/**", b"/x/a:b:c/y", {b"a:b"}),
        ("/x/{model}:*/**", b"/x/a:%62/y", set()),
        ("/x/{model}:*/**", b"/x/a/y", set()),
    ],
)
def test_models(text: str, path: bytes, models: set[bytes]) -> None:
    assert Template(text).models(PathSegments(path, Allowance())) == models
    in_capitals = PathSegments(path.upper(), Allowance(), any_case=True)
    assert {name.lower() for name in Template(text).models(in_capitals)} == models


def test_what_is_compared_of_a_path_is_bounded() -> None:
    literal, patterned = Template("/**/a/{model}/**"), Template("/**/a*/b*/{model}/**")
    for path in (b"/a/x" * 100, b"/a" * 400):
        literal.models(PathSegments(path, Allowance(1_000)))
        with pytest.raises(Refusal, match="too many of its segments could stand before"):
            literal.models(PathSegments(path, Allowance(50)))
    with pytest.raises(Refusal, match="too many of its segments"):
        patterned.models(PathSegments(b"/a/x" * 100, Allowance(100)))
    # Nothing is compared for a literal that is not there.
    assert literal.models(PathSegments(b"/b/x" * 1_000, Allowance(0))) == set()


def test_templates_that_begin_alike_look_for_their_beginning_once() -> None:
    path = PathSegments(b"/a/b" * 20 + b"/c/y", Allowance(2 * 20 + 30))
    for end in ("x", "y", "z") * 10:  # each of the 20 places has two segments to compare, each end one
        Template(f"/**/a/b/{{model}}/{end}").models(path)
