import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine

import pytest
from aiohttp.test_utils import TestClient, TestServer

from deploy.local.model_server import ModelServer, Pod, main

POD = Pod("qwen-1", "qwen-pool", "Qwen/Qwen2.5-3B-Instruct", ("sql-lora",))
BASE = POD.base_model

Test = Callable[[TestClient], Coroutine[None, None, None]]


def with_server(test: Test, pod: Pod = POD) -> None:
    async def run() -> None:
        async with TestClient(TestServer(ModelServer(pod).build_application())) as client:
            await test(client)

    asyncio.run(run())


@pytest.mark.parametrize("model", [BASE, "sql-lora"])
@pytest.mark.parametrize(
    ("path", "kind", "text_of"),
    [
        ("/v1/chat/completions", "chat.completion", lambda choice: choice["message"]["content"]),
        ("/v1/completions", "text_completion", lambda choice: choice["text"]),
    ],
)
def test_completion_shapes(path, kind, text_of, model):
    async def test(client):
        response = await client.post(path, json={"model": model})
        document = await response.json()
        assert (response.status, document["object"], document["model"]) == (200, kind, model)
        assert document["system_fingerprint"] == "stand-in:qwen-pool/qwen-1"
        assert "stand-in, not a model" in text_of(document["choices"][0])
        assert document["choices"][0]["finish_reason"] == "stop"
        assert document["usage"]["total_tokens"] > 0

    with_server(test)


@pytest.mark.parametrize(("given", "vectors"), [("one", 1), (["one", "two", "one"], 3)])
def test_embeddings_shape(given, vectors):
    async def test(client):
        response = await client.post("/v1/embeddings", json={"model": BASE, "input": given})
        document = await response.json()
        assert (document["object"], document["model"], len(document["data"])) == ("list", BASE, vectors)
        assert [item["index"] for item in document["data"]] == list(range(vectors))
        assert document["data"][0]["embedding"] == document["data"][-1]["embedding"]

    with_server(test)


def test_models_lists_adapters_below_their_base_model():
    async def test(client):
        document = await (await client.get("/v1/models")).json()
        assert [(card["id"], card["parent"]) for card in document["data"]] == [(BASE, None), ("sql-lora", BASE)]

    with_server(test)


@pytest.mark.parametrize(
    ("path", "text_of"),
    [
        ("/v1/chat/completions", lambda choice: choice["delta"].get("content", "")),
        ("/v1/completions", lambda choice: choice["text"]),
    ],
)
def test_streamed_answer(path, text_of):
    async def test(client):
        response = await client.post(path, json={"model": "sql-lora", "stream": True})
        assert response.headers["content-type"] == "text/event-stream"
        *events, done = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n")[:-1]]
        assert done == "[DONE]"
        chunks = [json.loads(event) for event in events]
        assert {chunk["model"] for chunk in chunks} == {"sql-lora"}
        assert "stand-in, not a model" in "".join(text_of(chunk["choices"][0]) for chunk in chunks)
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]

    with_server(test)


@pytest.mark.parametrize("model", [BASE, "sql-lora"])
def test_message_shape(model):
    async def test(client):
        response = await client.post("/v1/messages", json={"model": model})
        document = await response.json()
        assert (response.status, document["type"], document["role"]) == (200, "message", "assistant")
        assert (document["model"], document["stop_reason"]) == (model, "end_turn")
        (block,) = document["content"]
        assert block["type"] == "text"
        assert "stand-in, not a model" in block["text"]
        assert document["usage"] == {"input_tokens": 0, "output_tokens": len(block["text"].split())}

    with_server(test)


def test_streamed_message():
    async def test(client):
        response = await client.post("/v1/messages", json={"model": "sql-lora", "stream": True})
        assert response.headers["content-type"] == "text/event-stream"
        events = []
        for text in (await response.text()).split("\n\n")[:-1]:
            name, data = text.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
        start, block, *deltas, block_end, end, stop = events
        assert (start["type"], start["message"]["model"]) == ("message_start", "sql-lora")
        assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)
        assert (block["type"], block_end["type"]) == ("content_block_start", "content_block_stop")
        assert {event["type"] for event in deltas} == {"content_block_delta"}
        assert "stand-in, not a model" in "".join(event["delta"]["text"] for event in deltas)
        assert (end["delta"]["stop_reason"], end["usage"]["output_tokens"]) == ("end_turn", len(deltas))
        assert stop == {"type": "message_stop"}

    with_server(test)


@pytest.mark.parametrize(
    ("method", "body", "status", "kind", "said"),
    [
        ("POST", b'{"model": "gpt-none", "stream": true}', 404, "not_found_error", "`gpt-none` does not exist"),
        ("POST", b"{}", 400, "invalid_request_error", "string `model`"),
        ("GET", b"", 405, "invalid_request_error", "Method Not Allowed"),
    ],
)
def test_errors_of_messages_are_anthropic_errors(method, body, status, kind, said):
    async def test(client):
        response = await client.request(method, "/v1/messages", data=body or None)
        document = await response.json()
        assert (response.status, document["type"], document["error"]["type"]) == (status, "error", kind)
        assert said in document["error"]["message"]

    with_server(test)


def test_answer_reports_what_arrived():
    async def test(client):
        body = json.dumps({"model": BASE, "prompt": "x" * 2_000_000}).encode()
        headers = {"x-gateway-model-name": "sql-lora", "x-gateway-base-model-name": BASE}
        response = await client.post("/v1/completions", data=body, headers=headers)
        assert response.headers["x-body-sha256"] == hashlib.sha256(body).hexdigest()
        assert response.headers["x-body-bytes"] == str(len(body))
        assert (response.headers["x-pod"], response.headers["x-pool"]) == ("qwen-1", "qwen-pool")
        assert response.headers["x-seen-model-name"] == "sql-lora"
        assert response.headers["x-seen-base-model-name"] == BASE

    with pytest.warns(ResourceWarning, match="large body"):  # aiohttp's, of the client in this test
        with_server(test)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True], ids="stream={}".format)
def test_report_without_routing_headers_is_empty(path, stream):
    async def test(client):
        response = await client.post(path, json={"model": BASE, "stream": stream})
        assert (response.headers["x-seen-model-name"], response.headers["x-seen-base-model-name"]) == ("", "")
        assert response.headers["x-pod"] == "qwen-1"

    with_server(test)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/chat/completions", b'{"model": "gpt-none"}', 404, "`gpt-none` does not exist"),
        ("POST", "/v1/chat/completions", b'{"model": "gpt-none", "stream": true}', 404, "`gpt-none` does not exist"),
        ("POST", "/v1/embeddings", b'{"model": "gpt-none"}', 404, "`gpt-none` does not exist"),
        ("POST", "/v1/chat/completions", b"{}", 400, "string `model`"),
        ("POST", "/v1/chat/completions", b"[1]", 400, "string `model`"),
        ("POST", "/v1/chat/completions", b"{", 400, "not JSON"),
        ("POST", "/v1/audio", b"{}", 404, "Not Found"),
        ("DELETE", "/v1/models", b"", 405, "Method Not Allowed"),
    ],
)
def test_errors_are_openai_errors_and_name_the_pod(method, path, body, status, said):
    async def test(client):
        response = await client.request(method, path, data=body or None)
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, status)
        assert said in error["message"]
        assert response.headers["x-pod"] == "qwen-1"

    with_server(test)


def test_health():
    async def test(client):
        assert (await client.get("/health")).status == 200

    with_server(test)


@pytest.mark.parametrize(("path", "begins"), [("/v1/completions", b"data: "), ("/v1/messages", b"event: ")])
def test_events_are_sent_one_by_one(path, begins):
    async def test(client):
        response = await client.post(path, json={"model": BASE, "stream": True})
        # The server waits for a minute after each event, so what comes now came alone.
        assert (await response.content.readuntil(b"\n\n")).startswith(begins)
        response.close()

    with_server(test, Pod("qwen-1", "qwen-pool", BASE, event_seconds=60))


def test_help_says_that_it_is_a_stand_in(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    assert "stand-in for a model server" in capsys.readouterr().out


def test_adapters_are_loaded_and_unloaded_while_it_runs():
    async def test(client):
        async def post(path, status, **body):
            response = await client.post(path, json=body)
            assert response.status == status
            return await response.text()

        await post("/v1/completions", 404, model="new-lora")
        assert await post("/v1/load_lora_adapter", 200, lora_name="new-lora", lora_path="/x") == ""
        await post("/v1/completions", 200, model="new-lora")
        listed = await (await client.get("/v1/models")).json()
        assert [(each["id"], each["parent"]) for each in listed["data"]][-1] == ("new-lora", BASE)
        await post("/v1/unload_lora_adapter", 200, lora_name="new-lora")
        await post("/v1/completions", 404, model="new-lora")
        assert "is not loaded" in await post("/v1/unload_lora_adapter", 404, lora_name="new-lora")
        await post("/v1/load_lora_adapter", 400, lora_name=1)
        assert (await client.post("/v1/load_lora_adapter", data=b"[")).status == 400

    with_server(test)
