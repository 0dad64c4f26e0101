"""The openai package as a client, through the whole local stack: what its users get, errors as its typed exceptions."""

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

openai = late("openai")

pytestmark = needs_envoy

QWEN, PHI = (pool.base_model for pool in POOLS)
ASKED: list[Any] = [{"role": "user", "content": "Who are you?"}]
ROUTES = [(QWEN, "qwen-pool"), ("sql-lora", "qwen-pool"), (PHI, "phi-pool"), ("travel-lora", "phi-pool")]
SPOOFED = {"x-gateway-base-model-name": PHI, "X-Gateway-Model-Name": PHI}


@pytest.fixture(scope="module")
def stack(limited_stack: Stack) -> Stack:
    return limited_stack


def options(stack: Stack, headers: dict[str, str] | None = None) -> dict[str, Any]:
    key = "none-is-needed"
    return {"base_url": f"{stack.url}/v1", "api_key": key, "max_retries": 0, "timeout": 20, "default_headers": headers}


@contextmanager
def connected(stack: Stack, *, http2: bool = False, headers: dict[str, str] | None = None) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False, http1=not http2, http2=http2)
    with openai.OpenAI(http_client=http, **options(stack, headers)) as client:
        yield client


@asynccontextmanager
async def async_connected(stack: Stack, *, http2: bool = False):
    http = openai.DefaultAsyncHttpxClient(trust_env=False, http1=not http2, http2=http2)
    async with openai.AsyncOpenAI(http_client=http, **options(stack)) as client:
        yield client


@pytest.fixture(scope="module")
def clients(stack: Stack) -> Iterator[dict[str, openai.OpenAI]]:
    with connected(stack) as http1, connected(stack, http2=True) as http2:
        yield {"HTTP/1.1": http1, "HTTP/2": http2}


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, clients: dict[str, openai.OpenAI]) -> openai.OpenAI:
    return clients[request.param]


@pytest.mark.parametrize(("model", "pool"), ROUTES)
def test_chat(client: openai.OpenAI, model: str, pool: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ASKED)
    answer = raw.parse()
    assert (answer.model, raw.headers["x-pool"]) == (model, pool)
    assert "stand-in, not a model" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize(("model", "pool"), ROUTES)
def test_streamed_chat(client: openai.OpenAI, model: str, pool: str) -> None:
    with client.chat.completions.create(model=model, messages=ASKED, stream=True) as chunks:
        received = list(chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in received)
    assert f"of {pool} answers for {model}" in text
    assert received[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(("model", "pool"), ROUTES)
def test_completions_and_embeddings(client: openai.OpenAI, model: str, pool: str) -> None:
    completion = client.completions.create(model=model, prompt="Who are you?")
    assert f"of {pool} answers for {model}" in completion.choices[0].text
    with client.completions.create(model=model, prompt="Who are you?", stream=True) as chunks:
        text = "".join(chunk.choices[0].text for chunk in chunks)
    assert f"of {pool} answers for {model}" in text
    vectors = client.embeddings.with_raw_response.create(model=model, input=["one", "two"])
    assert vectors.headers["x-pool"] == pool
    assert len(vectors.parse().data) == 2


def test_prompt_of_many_pieces(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "long " * 150_000}]
    raw = client.chat.completions.with_raw_response.create(model="travel-lora", messages=asked)
    assert raw.headers["x-pool"] == "phi-pool"
    assert raw.headers["x-body-bytes"] == raw.http_request.headers["content-length"]


def test_clients_own_headers_do_not_route(stack: Stack) -> None:
    with connected(stack, headers=SPOOFED) as client:
        raw = client.chat.completions.with_raw_response.create(model="sql-lora", messages=ASKED)
        assert (raw.headers["x-pool"], raw.headers["x-seen-base-model-name"]) == ("qwen-pool", QWEN)
        with pytest.raises(openai.NotFoundError) as caught:
            client.files.list()
    assert caught.value.code == "model_required"


def test_models_are_listed_as_vllm_lists_them(client: openai.OpenAI) -> None:
    raw = client.models.with_raw_response.list()
    assert "x-pod" not in raw.headers
    found = {model.id: (model.root, model.parent) for model in raw.parse().data}
    assert found == {
        QWEN: (QWEN, None),
        "sql-lora": ("sql-lora", QWEN),
        "summarize-lora": ("summarize-lora", QWEN),
        PHI: (PHI, None),
        "travel-lora": ("travel-lora", PHI),
    }


@pytest.mark.parametrize(("model", "parent"), [(QWEN, None), ("travel-lora", PHI)], ids=["base model", "adapter"])
def test_one_model_is_retrieved(client: openai.OpenAI, model: str, parent: str | None) -> None:
    found = client.models.retrieve(model)
    assert (found.id, found.object, found.owned_by, found.parent) == (model, "model", "bbr", parent)


def test_a_model_that_is_not_served_is_not_retrieved(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-none")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True], ids="stream={}".format)
def test_unknown_model(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=ASKED, stream=stream)
    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert "The model `gpt-none` is not served here." in error.message
    assert "x-pod" not in error.response.headers


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        (7, "invalid_type", "`model` must be a JSON string, but it is a number."),
        ("", "invalid_value", "`model` is an empty string."),
        ("x" * 300, "string_above_max_length", "`model` is 300 bytes long"),
        ("sql-lora\n", "invalid_value", "control character"),
    ],
    ids=["a number", "empty", "too long", "line feed"],
)
def test_unusable_model(client: openai.OpenAI, model: object, code: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=PHI, messages=ASKED, extra_body={"model": model})
    assert (caught.value.code, caught.value.param) == (code, "model")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b'{"model": "sql-lora", "messages": [], "model": "gpt"}', "duplicate_key", "`model` occurs twice"),
        (b'{"model": "sql-lora", "messages": [}', "invalid_json", "at byte 35"),
        (b'{"model": "sql-lora", "temperature": NaN}', "invalid_json", "not finite"),
    ],
    ids=["two models", "broken", "NaN"],
)
def test_unreadable_body(client: openai.OpenAI, body: bytes, code: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", content=body, cast_to=object)
    assert caught.value.code == code
    assert said in caught.value.message


def test_body_too_large(stack: Stack) -> None:
    # Over HTTP/1.1: httpx loses an answer that comes in mid-upload over HTTP/2 (encode/httpcore#775).
    with connected(stack) as client, pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model="sql-lora", prompt="x" * (3 * MAX_BODY_BYTES))
    error = caught.value
    assert (error.status_code, error.code) == (413, "body_too_large")
    assert str(MAX_BODY_BYTES) in error.message


def test_request_that_names_no_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/chat/completions", body={"messages": ASKED}, cast_to=object)
    assert (caught.value.code, caught.value.param) == ("model_required", "model")


def test_upload_that_names_no_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.create(purpose="batch", file=("batch.jsonl", b"{}" * 1000))
    assert caught.value.code == "model_required"


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_async_client(stack: Stack, http2: bool) -> None:
    async def ask(client: openai.AsyncOpenAI, model: str) -> str:
        raw = await client.chat.completions.with_raw_response.create(model=model, messages=ASKED)
        assert raw.parse().model == model
        return raw.headers["x-pool"]

    async def test() -> None:
        async with async_connected(stack, http2=http2) as client:
            pools = await asyncio.gather(*(ask(client, model) for model, _ in ROUTES * 5))
            assert pools == [pool for _, pool in ROUTES * 5]

            async with await client.chat.completions.create(model=PHI, messages=ASKED, stream=True) as chunks:
                words = [chunk.choices[0].delta.content or "" async for chunk in chunks]
            assert "of phi-pool answers" in "".join(words)

            assert len((await client.embeddings.create(model="sql-lora", input="one")).data) == 1
            assert "qwen-pool" in (await client.completions.create(model="sql-lora", prompt="?")).choices[0].text

            with pytest.raises(openai.NotFoundError, match="`gpt-none` is not served here"):
                await client.chat.completions.create(model="gpt-none", messages=ASKED)
            with pytest.raises(openai.BadRequestError, match="`model` occurs twice"):
                await client.post("/completions", content=b'{"model": "a", "model": "b"}', cast_to=object)

    asyncio.run(test())
