from collections.abc import Callable

import pytest

from bbr.reading.path_readings import MAX_ODD_PATH_BYTES, MAX_PATH_BYTES
from bbr.reading.uri import (
    MAX_QUERY_BYTES,
    MAX_TEMPLATES,
    Template,
    model_in_path,
    model_in_query,
    model_in_query_of,
    parse_templates,
)
from bbr.refusal import Refusal

AZURE, GEMINI, BEDROCK = "/openai/deployments/{model}/**", "/**/models/{model}:*", "/model/{model}/invoke"
ALL = parse_templates(f"{AZURE}, {GEMINI} {BEDROCK}")


def outcome(read: Callable[[], str | None]) -> str:
    """Return the model, "none" without one, or why it was refused."""
    try:
        return read() or "none"
    except Refusal as refused:
        return refused.reason


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/v1/realtime", None),
        (b"/v1/realtime?", None),
        (b"/v1/realtime?x=1", None),
        (b"/v1/realtime?model=gpt-realtime", "gpt-realtime"),
        (b"/v1/realtime?x=1&model=Qwen%2FQwen3&y=2", "Qwen/Qwen3"),
        (b"/v1/realtime?model=a?b", "a?b"),
        (b"/v1/realtime#?", None),
        (b"/?" + b"x" * (MAX_QUERY_BYTES - 8) + b"&model=a", "a"),
        (b"/?" + b"x" * (MAX_QUERY_BYTES - 7) + b"&model=a", "url-too-long"),
        (b"/?model", "model-empty"),
        (b"/?model=a&model=a", "model-duplicate"),
        (b"/?model=" + b"a" * 257, "model-too-long"),
        (b"/?model[]=a", "form-model"),
        (b"/?model=a#b", "form-model"),
        (b"/#?model=a", "form-model"),
    ],
)
def test_query(path: bytes, model: str | None) -> None:
    assert outcome(lambda: model_in_query(path)) == (model or "none")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/openai/deployments/gpt-4o/chat/completions?api-version=1", "gpt-4o"),
        (b"/openai/deployments/gpt-4o", "gpt-4o"),
        (b"/openai/deployments/gpt-4o/", "gpt-4o"),
        (b"/openai/deployments/gpt%2D4o/chat", "gpt-4o"),
        (b"/openai/deployments/gpt-4o//chat", "gpt-4o"),
        (b"/openai/deployments/gpt-4o/x/../chat", "gpt-4o"),
        (b"/openai/deployments/caf%C3%A9/chat", "café"),
        (b"/v1beta/models/gemini-2.0-flash:generateContent", "gemini-2.0-flash"),
        (b"/v1/projects/p/locations/l/publishers/google/models/gemini:streamGenerateContent?alt=sse", "gemini"),
        (b"/models/x:y", "x"),
        (b"/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke", "anthropic.claude-3-haiku-20240307-v1:0"),
        (b"/model/anthropic.claude-3-haiku-20240307-v1:0/invoke", "anthropic.claude-3-haiku-20240307-v1:0"),
        (b"/model/a%2525/invoke", "path-ambiguous"),
        (b"/model/aB/invoke", "aB"),
        (b"/model/a%3Fb/invoke", "a?b"),
        (b"/model/...a/invoke", "...a"),
        (b"/v1/chat/completions", None),
        (b"/openai/deployments/", None),
        (b"/openai/deployments", None),
        (b"/v1beta/models", None),
        (b"/v1/models/Qwen%2FQwen3", None),
        (b"/files//a%zz/../b\\c;d", None),
        (b"/MODELS/x/invoke", None),
        (b"/model//invoke", None),
        (b"*", None),
        (b"", None),
        (b"/" + b"x" * (MAX_PATH_BYTES - 1), None),
        (b"/" + b"x" * MAX_PATH_BYTES, "url-too-long"),
        (b"/model/" + b"x" * 3000 + b"/invoke", "model-too-long"),
        (b"/model/x%20/invoke", "model-illegal"),
        (b"/model/x%0A/invoke", "model-illegal"),
    ],
)
def test_path(path: bytes, model: str | None) -> None:
    assert outcome(lambda: model_in_path(path, ALL)) == (model or "none")


@pytest.mark.parametrize(
    "path",
    [
        b"//openai/deployments/a/chat",
        b"/openai//deployments/a/chat",
        b"/openai/deployments/a/../b/chat",
        b"/openai/deployments/a/%2e%2E/b/chat",
        b"/openai/deployments/a/..",
        b"/x/../openai/deployments/a/chat",
        b"/./openai/deployments/a/chat",
        b"/openai\\deployments\\a\\chat",
        b"/openai/deployments/a%2Fb/chat",
        b"/openai/deployments/a%5Cb/chat",
        b"/openai/%64eployments/a/chat",
        b"/openai/deployments/a;v=1/chat",
        b"/openai;x/deployments/a/chat",
        b"/openai/deployments/a%3Bv/chat",
        b"/openai/deployments/a#b/chat",
        b"/openai/deployments/%zz/chat",
        b"/openai/deployments/a%/chat",
        b"/openai/deployments/%FF/chat",
        b"/openai/deployments/a/%zz",
        b"/model/a%2541/invoke",
        b"/%256dodel/a/invoke",
        b"/MODEL/a/invoke",
        b"/model/a/Invoke",
        b"/OpenAI/Deployments/a/chat",
        b"/models/a:b:c",
        b"/models/a%3Ab",
        b"/models/gemini/models/a:b/%2e./x:y",
        b"/model/a/invoke/../../b/invoke",
        b"/." * 600,
        b"/model/a/invoke" + b"/." * 600,
    ],
)
def test_paths_that_can_be_read_in_several_ways(path: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        model_in_path(path, ALL)
    assert (caught.value.status, caught.value.reason) == (400, "path-ambiguous")


def test_a_star_behind_the_model() -> None:
    templates = parse_templates("/x-{model}.v*.y")
    assert model_in_path(b"/x-a.v1.y", templates) == "a"
    assert model_in_path(b"/x-a.v.y", templates) == "a"
    for path in (b"/x-.v1.y", b"/x-a.v", b"/x-a.y", b"/xa.v1.y", b"/x-a.v1.y/z"):
        assert model_in_path(path, templates) is None
    assert outcome(lambda: model_in_path(b"/x-a.v1.v2.y", templates)) == "path-ambiguous"


def test_templates_compare_by_their_text() -> None:
    assert Template(AZURE) == Template(AZURE)
    assert Template(AZURE) != Template(GEMINI)
    assert Template(AZURE) != AZURE
    assert len({Template(AZURE), Template(AZURE), Template(GEMINI)}) == 2
    assert repr(Template(AZURE)) == f"Template({AZURE!r})"


def test_templates_that_disagree() -> None:
    both = parse_templates("/{model}/** /v1/{model}")
    with pytest.raises(Refusal):
        model_in_path(b"/v1/a", both)
    assert model_in_path(b"/v2/a", both) == "v2"


def test_segments_before_and_behind() -> None:
    (template,) = parse_templates("/**/models/{model}/**")
    assert model_in_path(b"/v1/models/a/b", [template]) == "a"
    with pytest.raises(Refusal):  # the first one or the last?
        model_in_path(b"/models/a/models/b/c", [template])


def test_literals_are_literal() -> None:
    templates = parse_templates("/v1.0/m-{model}.x")
    assert model_in_path(b"/v1.0/m-a.x", templates) == "a"
    assert model_in_path(b"/v1a0/m-a.x", templates) is None
    assert model_in_path(b"/v1.0/m-.x", templates) is None


def test_off_by_default() -> None:
    assert parse_templates("") == parse_templates(" , ") == ()
    assert model_in_path(b"/openai/deployments/a%2Fb/../chat", ()) is None


def test_long_paths() -> None:
    plain = b"/model/a/invoke"
    templates = parse_templates("/model/{model}/**")
    assert model_in_path(plain + b"/x" * MAX_ODD_PATH_BYTES, templates) == "a"
    assert outcome(lambda: model_in_path(plain + b"/x" * MAX_ODD_PATH_BYTES + b"//", templates)) == "path-ambiguous"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("openai/{model}", "does not begin with a slash"),
        ("/openai", "does not hold {model} once"),
        ("/{model}/{model}", "does not hold {model} once"),
        ("/{Model}", "does not hold {model} once"),
        ("/a/**/b/{model}", "has ** between other segments"),
        ("/a**/{model}", "more than one \\*"),
        ("/*{model}", "more than one \\* in a segment, or one before"),
        ("/a*b*/{model}", "more than one \\*"),
        ("/a//{model}", "has an empty segment"),
        ("/{model}/", "has an empty segment"),
        ("/../{model}", "a dot segment"),
        ("/a%20/{model}", "a character that a path does not have"),
        ("/a?/{model}", "a character that a path does not have"),
        ("/{name}/{model}", "a character that a path does not have"),
        ("/" + "x" * 600 + "/{model}", "is longer than 512 characters"),
        (" ".join(["/{model}"] * (MAX_TEMPLATES + 1)), "at most 32"),
    ],
)
def test_templates_that_are_wrong(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("{", "\\{").replace("**", "\\*\\*")) as caught:
        parse_templates(text)
    assert len(str(caught.value)) < 700


def test_what_a_template_says_is_kept() -> None:
    assert [template.text for template in ALL] == [AZURE, GEMINI, BEDROCK]


PATHS = frozenset([b"/v1/realtime", b"/x/"])


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/v1/realtime?model=a", "a"),
        (b"/x/?model=a", "a"),
        (b"/v1/realtime", None),
        (b"/v1/realtime?x=1", None),
        (b"/v1/other?model=a&model=b", None),
        (b"/v1//other?model=a", None),
        (b"/V1/Realtime?model=a", "path-ambiguous"),
        (b"/v1/realtime/?model=a", "path-ambiguous"),
        (b"/v1//realtime?model=a", "path-ambiguous"),
        (b"/v1/%2572ealtime?model=a", "path-ambiguous"),
        (b"/V1/Realtime?MODEL=a", "form-model"),
        (b"/V1/Realtime?x=1", None),
        (b"/." * 600 + b"/v1/realtime?model=a", "path-ambiguous"),
        (b"/x" * 600 + b"?model=a", None),
    ],
)
def test_query_of_some_paths(path: bytes, model: str | None) -> None:
    assert outcome(lambda: model_in_query_of(path, PATHS)) == (model or "none")


def test_a_query_is_called_a_query() -> None:
    with pytest.raises(Refusal, match="in the query of the URL"):
        model_in_query(b"/?model=a&model=b")
