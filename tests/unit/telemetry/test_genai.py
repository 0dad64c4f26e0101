import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.routing import Rules, UnknownModel
from bbr.models.steps import finish
from bbr.telemetry import genai, observed
from bbr.telemetry.genai import OTHER, Api, GenAi, Requests
from bench.harness import messages

TABLE, _ = finish(merging([Declaration(Origin(), (BaseModel("qwen", ("sql-lora",)),), (Alias("gpt-4o", "sql-lora"),))]))


def exchange(body=b'{"model":"sql-lora"}', path="/v1/chat/completions", **policy):
    found = Exchange(Policy(Replies(), **policy), TABLE, observed.clock)
    fields = {**messages.JSON_POST, ":path": path}
    found.receive(messages.request_headers(fields, mode=BodyMode.FULL_DUPLEX_STREAMED))
    found.receive(messages.request_body(body, end_of_stream=True))
    return found


def counted(*exchanges, **options):
    found = GenAi(**options)
    for each in exchanges:
        found.ended(each)
    return found


@pytest.mark.parametrize(
    ("path", "operation", "provider"),
    [
        ("/v1/chat/completions", "chat", "openai"),
        ("/v1/chat/completions/?api-version=1", "chat", "openai"),
        ("/v1/completions", "text_completion", "openai"),
        ("/v1/responses", "chat", "openai"),
        ("/v1/embeddings", "embeddings", "openai"),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=1", "chat", "azure.ai.openai"),
        ("/v1/messages", "chat", "anthropic"),
        ("/v1beta/models/gemini:generateContent", "generate_content", "gcp.gemini"),
        ("/v1beta/models/gemini:streamGenerateContent?alt=sse", "generate_content", "gcp.gemini"),
        ("/v1beta/models/gemini:batchEmbedContents", "embeddings", "gcp.gemini"),
        ("/model/claude/converse-stream", "chat", "aws.bedrock"),
        ("/model/claude/invoke", OTHER, "aws.bedrock"),
        ("/v1/models", OTHER, OTHER),
        ("/metachat/completionsx", OTHER, OTHER),
        ("", OTHER, OTHER),
    ],
)
def test_a_path_tells_operation_and_provider(path, operation, provider):
    assert genai.api(path) == Api(operation, provider)


def test_a_span_tells_what_is_known():
    assert genai.attributes(exchange()) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "sql-lora",
    }
    assert genai.attributes(exchange(b"{}", "/generate")) == {}


def test_adapters_and_aliases_are_counted_by_the_name_that_the_client_gave():
    found = counted(exchange(), exchange(), exchange(b'{"model":"gpt-4o"}'), exchange(b"{}"))
    assert found.requests == {
        Requests("chat", "openai", "sql-lora", "sql-lora", "qwen", ""): 2,
        Requests("chat", "openai", "gpt-4o", "sql-lora", "qwen", ""): 1,
        Requests("chat", "openai", "", "", "", ""): 1,
    }
    assert found.first_token == {}


def test_names_that_fit_a_pattern_are_counted_as_that(monkeypatch):
    declared = Declaration(Origin(), (BaseModel("qwen", ("team-*",)),), (Alias("gpt-*", "qwen"),))
    table, _ = finish(merging([declared]))
    monkeypatch.setitem(globals(), "TABLE", table)
    found = counted(
        *(exchange(b'{"model":"%b-%d"}' % (name, number)) for name in (b"team", b"gpt") for number in (1, 2))
    )
    assert found.requests == {
        Requests("chat", "openai", "team-*", "team-*", "qwen", ""): 2,
        Requests("chat", "openai", "gpt-*", "qwen", "qwen", ""): 2,
    }


@pytest.mark.parametrize("rule", [UnknownModel.REJECT, UnknownModel.PASSTHROUGH])
def test_a_client_can_make_no_label(rule):
    found = counted(exchange(b'{"model":"made-up"}', rules=Rules(unknown_model=rule)))
    error = "model-not-found" if rule is UnknownModel.REJECT else ""
    assert found.requests == {Requests("chat", "openai", "", "", "", error): 1}


def test_a_request_that_ended_before_anything_came_of_it_is_not_counted():
    unfinished = Exchange(Policy(Replies()), TABLE, observed.clock)
    unfinished.receive(messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED))
    assert counted(unfinished).requests == {}


def test_beyond_the_most_series_requests_are_counted_without_a_model():
    found = counted(
        exchange(), exchange(b'{"model":"qwen"}'), exchange(b'{"model":"gpt-4o"}'), exchange(), max_series=1
    )
    assert found.requests == {
        Requests("chat", "openai", "sql-lora", "sql-lora", "qwen", ""): 2,
        Requests("chat", "openai", "", "", "", ""): 2,
    }


def test_the_first_token_is_timed_where_the_gateway_shows_the_response():
    shown = exchange()
    shown.times.responded = shown.times.began + 0.03
    refused = exchange(b"[")
    refused.times.responded = refused.times.began + 0.03
    found = counted(shown, refused)
    ((labels, histogram),) = found.first_token.items()
    assert labels.model == "sql-lora"
    assert histogram.count == 1
    assert histogram.quantile(1) == 0.04
