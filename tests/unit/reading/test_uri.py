from collections.abc import Callable
from urllib.parse import unquote

import pytest

from bbr.reading.path_readings import MAX_ODD_PATH_BYTES, MAX_PATH_BYTES
from bbr.reading.templates import Template, parse_templates
from bbr.reading.uri import MAX_QUERY_BYTES, MAX_QUERY_KEYS, PathModel, model_in_path, model_in_query, model_in_query_of
from bbr.refusal import Refusal

AZURE, GEMINI, BEDROCK = "/openai/deployments/{model}/**", "/**/models/{model}:*", "/model/{model}/invoke"
ALL = parse_templates(f"{AZURE}, {GEMINI} {BEDROCK}")
VENDORS = parse_templates("azure-openai, gemini, bedrock")
ARN = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0"


def named(path: bytes, templates: tuple[Template, ...] = ALL) -> str | None:
    """Return the model's name in a path."""
    found = model_in_path(path, templates)
    return found and found.name


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
        (b"/?model#x=a", "model-empty"),
        (b"/?model=a&x#y", "form-model"),
        (b"/?x#y", None),
        (b"/?" + b"m%6fdelx=1&" * MAX_QUERY_KEYS + b"model=a", "form-model"),
        (b"/?" + b"n%6fdex=1&" * MAX_QUERY_KEYS + b"model=a", "a"),
        (b"/?" + b"\xedFD5C%=1&" * MAX_QUERY_KEYS * 2, "form-model"),
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
        (b"//x/model/a/invoke", "path-ambiguous"),
        (b"//x/models/a:b", "a"),
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
        (b"/model/invoke", None),
        (b"/models/:generateContent", "model-empty"),
        (b"/model/org/name/invoke", "org/name"),
        (b"/model/org%2Fname/invoke", "org/name"),
        (b"/model/a/b%2Fc/d/invoke/", "a/b/c/d"),
        (b"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x-v1%3A0/invoke", ARN),
        (f"/model/{ARN}/invoke".encode(), ARN),
        (b"/v1/models/org/name:generateContent", "org/name"),
        (b"/models/llama3:8b:generateContent", "llama3:8b"),
        (b"/models/llama3:8b%3AgenerateContent", "llama3:8b"),
        (b"/models/llama3%3A8b:generateContent", "llama3:8b"),
        (b"/models/llama3%3a8b%3agenerateContent", "llama3:8b"),
        (b"/models/org%2Fname%3AgenerateContent", "org/name"),
        (b"/models/a:b:c", "a:b"),
        (b"/models/a%3Ab", "a"),
        (b"/models/a%3Ab%2F..%2Fc", None),
        (b"/models/a:b%20c", "path-ambiguous"),
        (b"/openai/deployments/org%2Fname/chat/completions", "path-ambiguous"),
        (b"/openai/deployments/org/name/chat/completions", "org"),
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
    assert outcome(lambda: named(path)) == (model or "none")


@pytest.mark.parametrize(
    "path",
    [
        b"/model//invoke",
        b"/model//a/invoke",
        b"/model/a//invoke",
        b"/model/a%2F%2Fb/invoke",
        b"/model/a%2F../invoke",
        b"/model/a%2F..%2Fb/invoke",
        b"/model/a%252Fb/invoke",
        b"/model/a%5Cb/invoke",
        b"/models/a%253Ab",
        b"/models/x/models/y:z",
        b"/models/models/y:z",
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
    assert named(b"/x-a.v1.y", templates) == "a"
    assert named(b"/x-a.v.y", templates) == "a"
    for path in (b"/x-a.v", b"/x-a.y", b"/xa.v1.y", b"/x-a.v1.y/z"):
        assert model_in_path(path, templates) is None
    assert outcome(lambda: named(b"/x-.v1.y", templates)) == "model-empty"
    assert named(b"/x-a.v1.v2.y", templates) == "a.v1"
    assert named(b"/x-a/b.v1.y", templates) == "a/b"


def test_templates_that_disagree() -> None:
    both = parse_templates("/{model}/** /v1/{model}")
    with pytest.raises(Refusal):
        model_in_path(b"/v1/a", both)
    assert named(b"/v2/a", both) == "v2"


@pytest.mark.parametrize("model", ["gpt-4o", "org/name", "org%2Fname", "a/b%2fc", "llama3:8b", "llama3%3A8b"])
@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/{}/chat/completions",
        "/openai/deployments/{}/completions",
        "/openai/deployments/{}/audio/speech/",
        "/v1beta/models/{}:generateContent",
        "/v1beta/models/{}%3AgenerateContent",
        "/v1/projects/p/locations/l/publishers/google/models/{}:streamGenerateContent",
        "/model/{}/invoke",
        "/model/{}/converse-stream",
    ],
)
def test_vendors_clients(path: str, model: str) -> None:
    assert named(f"{path.format(model)}?x=1".encode(), VENDORS) == unquote(model)


def test_of_templates_that_begin_alike_the_longest_end_counts() -> None:
    templates = parse_templates("/d/{model}/completions /D/{model}/chat/completions /d/{model}/**")
    assert named(b"/d/a/b/completions", templates) == "a/b"
    assert named(b"/d/a%2Fb/completions", templates) == "a/b"
    assert named(b"/d/a/other", templates) == "a"
    assert outcome(lambda: named(b"/d/a/chat/completions", templates)) == "path-ambiguous"  # by its letters
    templates = parse_templates("/d/{model}/chat/completions /d/{model}/completions")
    assert named(b"/d/a/chat/completions", templates) == "a"
    assert outcome(lambda: named(b"/d/a%2Fchat/completions", templates)) == "path-ambiguous"


def test_what_stands_before_a_name() -> None:
    assert model_in_path(b"/v1/models/a%2Fb:x", VENDORS) == PathModel("a/b", ("models/a/b",))
    azure = ("deployments/a", "openai/deployments/a")
    assert model_in_path(b"/openai/deployments/a/embeddings", VENDORS) == PathModel("a", azure)
    engines = parse_templates("openai-engines")
    assert model_in_path(b"/v1/engines/a%2Fb/completions", engines) == PathModel("a/b", ("engines/a/b",))
    assert model_in_path(b"/engines/a/chat/completions", engines) == PathModel("a", ("engines/a",))
    assert model_in_path(b"/engines/a/other", engines) is None
    assert model_in_path(b"/x-a", parse_templates("/x-{model}")) == PathModel("a")


@pytest.mark.parametrize("name", ["a", "a" * 250])
def test_a_path_is_known_again(name: str) -> None:
    for _ in range(2):
        assert named(f"/model/{name}/invoke".encode(), VENDORS) == name


def test_segments_before_and_behind() -> None:
    (template,) = parse_templates("/**/models/{model}/**")
    assert named(b"/v1/models/a/b", (template,)) == "a"
    with pytest.raises(Refusal):  # the first one or the last?
        model_in_path(b"/models/a/models/b/c", [template])


def test_literals_are_literal() -> None:
    templates = parse_templates("/v1.0/m-{model}.x")
    assert named(b"/v1.0/m-a.x", templates) == "a"
    assert model_in_path(b"/v1a0/m-a.x", templates) is None
    assert outcome(lambda: named(b"/v1.0/m-.x", templates)) == "model-empty"
    assert model_in_path(b"/v1.0/m.x", templates) is None


def test_off_by_default() -> None:
    assert parse_templates("") == parse_templates(" , ") == ()
    assert model_in_path(b"/openai/deployments/a%2Fb/../chat", ()) is None


def test_long_paths() -> None:
    plain = b"/model/a/invoke"
    templates = parse_templates("/model/{model}/**")
    assert named(plain + b"/x" * MAX_ODD_PATH_BYTES, templates) == "a"
    assert outcome(lambda: named(plain + b"/x" * MAX_ODD_PATH_BYTES + b"//", templates)) == "path-ambiguous"


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


def test_an_empty_name_in_a_path_is_called_so() -> None:
    with pytest.raises(Refusal, match="The URL path has no name where the model's name should be"):
        model_in_path(b"/models/:generateContent", ALL)


def test_a_query_is_called_a_query() -> None:
    with pytest.raises(Refusal, match="in the query of the URL"):
        model_in_query(b"/?model=a&model=b")
