"""The anthropic package as a client, through the whole local stack: answers and errors in the shape that it expects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from deploy.local.stack import Stack
from deploy.local.topology import POOLS
from tests.integration.conftest import MAX_BODY_BYTES
from tests.support.late import late
from tests.support.tools import needs_envoy

anthropic = late("anthropic")

pytestmark = needs_envoy

QWEN, PHI = (pool.base_model for pool in POOLS)
ROUTES = [(QWEN, "qwen-pool"), ("sql-lora", "qwen-pool"), (PHI, "phi-pool"), ("travel-lora", "phi-pool")]
SPOOFED = {"x-gateway-base-model-name": PHI, "X-Gateway-Model-Name": PHI}

ASKED: Any = {"max_tokens": 64, "messages": [{"role": "user", "content": "Who are you?"}]}


@pytest.fixture(scope="module")
def stack(limited_stack: Stack) -> Stack:
    return limited_stack


def options(stack: Stack, headers: dict[str, str] | None = None) -> dict[str, Any]:
    key = "none-is-needed"
    return {"base_url": stack.url, "api_key": key, "max_retries": 0, "timeout": 20, "default_headers": headers}


@contextmanager
def connected(
    stack: Stack, *, http2: bool = False, headers: dict[str, str] | None = None
) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(trust_env=False, http1=not http2, http2=http2)
    with anthropic.Anthropic(http_client=http, **options(stack, headers)) as client:
        yield client


@asynccontextmanager
async def async_connected(stack: Stack, *, http2: bool = False):
    http = anthropic.DefaultAsyncHttpxClient(trust_env=False, http1=not http2, http2=http2)
    async with anthropic.AsyncAnthropic(http_client=http, **options(stack)) as client:
        yield client


@pytest.fixture(scope="module")
def clients(stack: Stack) -> Iterator[dict[str, anthropic.Anthropic]]:
    with connected(stack) as http1, connected(stack, http2=True) as http2:
        yield {"HTTP/1.1": http1, "HTTP/2": http2}


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, clients: dict[str, anthropic.Anthropic]) -> anthropic.Anthropic:
    return clients[request.param]


@pytest.mark.parametrize(("model", "pool"), ROUTES)
def test_message(client: anthropic.Anthropic, model: str, pool: str) -> None:
    raw = client.messages.with_raw_response.create(model=model, **ASKED)
    message = raw.parse()
    assert (message.model, message.stop_reason, raw.headers["x-pool"]) == (model, "end_turn", pool)
    assert f"of {pool} answers for {model}" in message.content[0].text
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize(("model", "pool"), ROUTES)
def test_streamed_message(client: anthropic.Anthropic, model: str, pool: str) -> None:
    with client.messages.stream(model=model, **ASKED) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert f"of {pool} answers for {model}" in text
    assert (message.content[0].text, message.model, message.stop_reason) == (text, model, "end_turn")
    assert message.usage.output_tokens > 0


def test_clients_own_headers_do_not_route(stack: Stack) -> None:
    with connected(stack, headers=SPOOFED) as client:
        raw = client.messages.with_raw_response.create(model="sql-lora", **ASKED)
    assert (raw.headers["x-pool"], raw.headers["x-seen-base-model-name"]) == ("qwen-pool", QWEN)


@pytest.mark.parametrize("stream", [False, True], ids="stream={}".format)
def test_unknown_model(client: anthropic.Anthropic, stream: bool) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claude-none", stream=stream, **ASKED)
    error = caught.value
    assert error.type == "not_found_error"
    assert error.api_message.startswith("The model `claude-none` is not served here.")
    assert error.body["type"] == "error"
    assert "x-pod" not in error.response.headers


def test_unknown_model_of_a_token_count(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.count_tokens(model="claude-none", messages=ASKED["messages"])
    assert caught.value.type == "not_found_error"


def test_unusable_model(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=PHI, extra_body={"model": ["sql-lora"]}, **ASKED)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.api_message.startswith("`model` must be a JSON string, but it is an array.")


def test_two_models(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", content=b'{"model": "sql-lora", "model": "claude"}', cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.api_message.startswith("`model` occurs twice")


def test_body_too_large(stack: Stack) -> None:
    # Over HTTP/1.1: httpx loses an answer that comes in mid-upload over HTTP/2 (encode/httpcore#775).
    long = [{"role": "user", "content": "x" * (3 * MAX_BODY_BYTES)}]
    with connected(stack) as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="sql-lora", max_tokens=1, messages=long)
    error = caught.value
    assert (error.status_code, error.type) == (413, "request_too_large")
    assert str(MAX_BODY_BYTES) in error.api_message


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_async_client(stack: Stack, http2: bool) -> None:
    async def ask(client: anthropic.AsyncAnthropic, model: str) -> str:
        return (await client.messages.create(model=model, **ASKED)).content[0].text

    async def test() -> None:
        async with async_connected(stack, http2=http2) as client:
            texts = await asyncio.gather(*(ask(client, model) for model, _ in ROUTES * 5))
            for text, (model, pool) in zip(texts, ROUTES * 5, strict=True):
                assert f"of {pool} answers for {model}" in text

            async with client.messages.stream(model=PHI, **ASKED) as stream:
                assert "of phi-pool answers" in "".join([text async for text in stream.text_stream])

            with pytest.raises(anthropic.NotFoundError, match="`claude-none` is not served here"):
                await client.messages.create(model="claude-none", **ASKED)
            with pytest.raises(anthropic.BadRequestError, match="`model` must be a JSON string"):
                await client.messages.create(model=PHI, extra_body={"model": 7}, **ASKED)

    asyncio.run(test())
