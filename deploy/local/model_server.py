"""A stand-in for a model server: it speaks OpenAI's and Anthropic's API like vLLM does, but there is no model in it.

Every answer says so in its text. Each one also tells what arrived, so that a test can hold it against what was sent:

  x-pod, x-pool                   who answered
  x-body-bytes, x-body-sha256     the request body as it was received
  x-seen-model-name               the request's X-Gateway-Model-Name, empty if it had none
  x-seen-base-model-name          the request's X-Gateway-Base-Model-Name, empty if it had none
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Long prompts with images in base64 reach tens of megabytes; aiohttp's default of 1 MiB would refuse them.
MAX_BODY_BYTES: Final = 128 << 20

# Envoy drops a connection to a model server after an hour without requests. A server that hangs up first would turn
# the request that is on its way at that moment into a 503.
KEEPALIVE_SECONDS: Final = 3700

EMBEDDING_DIMENSIONS: Final = 8

MESSAGES_PATH: Final = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Pod:
    """Who this server pretends to be.

    Attributes:
        name: the pod's name, in every answer.
        pool: the InferencePool it belongs to.
        base_model: the model it serves.
        adapters: the adapters it serves on top of it when it starts.
        delay_seconds: time until an answer begins, in place of a prefill.
        event_seconds: time between the events of a streamed answer, in place of decoding.
    """

    name: str
    pool: str
    base_model: str
    adapters: tuple[str, ...] = ()
    delay_seconds: float = 0.0
    event_seconds: float = 0.0


class APIError(Exception):
    """A request that is answered with an error, in the shape of vLLM's."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    def body(self, path: str) -> dict[str, Any]:
        """Return the document to answer with: at /v1/messages Anthropic's, elsewhere OpenAI's."""
        if path == MESSAGES_PATH:
            kind = "not_found_error" if self.status == 404 else "invalid_request_error"
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


class ModelServer:
    """The handlers of one pod."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._adapters = dict.fromkeys(pod.adapters)
        self._ids = itertools.count(1)

    def build_application(self) -> web.Application:
        """Return the aiohttp application; every answer of it carries the headers of the module's docstring."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_json])
        app.on_response_prepare.append(self._add_report)
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.chat),
                web.post("/v1/completions", self.complete),
                web.post("/v1/embeddings", self.embed),
                web.post(MESSAGES_PATH, self.message),
                web.post("/v1/load_lora_adapter", self.load),
                web.post("/v1/unload_lora_adapter", self.unload),
            ]
        )
        return app

    async def health(self, _request: web.Request) -> web.Response:
        """Answer a readiness probe."""
        return web.Response()

    async def models(self, _request: web.Request) -> web.Response:
        """List the base model and the adapters; an adapter's `parent` is the base model, as in vLLM."""
        pod = self._pod
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "stand-in", "root": name, "parent": parent}
            for name, parent in [(pod.base_model, None), *((adapter, pod.base_model) for adapter in self._adapters)]
        ]
        return web.json_response({"object": "list", "data": cards})

    async def load(self, request: web.Request) -> web.Response:
        """Load an adapter, as vLLM does with VLLM_ALLOW_RUNTIME_LORA_UPDATING."""
        self._adapters[await _adapter(request)] = None
        return web.Response()

    async def unload(self, request: web.Request) -> web.Response:
        """Unload an adapter."""
        name = await _adapter(request)
        if name not in self._adapters:
            raise APIError(404, "NotFoundError", f"The adapter `{name}` is not loaded.", "lora_name")
        del self._adapters[name]
        return web.Response()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/chat/completions, streamed or whole."""
        document, model = await self._read(request)
        head = self._head("chatcmpl", model)
        if document.get("stream") is True:
            head["object"] = "chat.completion.chunk"
            deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
            deltas += [{"content": word} for word in self._words(model)]
            choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
            return await self._stream(request, _chunks(head, choices))
        message = {"role": "assistant", "content": self._text(model)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head["object"] = "chat.completion"
        return web.json_response({**head, "choices": [choice], "usage": self._usage(model)})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/completions, streamed or whole."""
        document, model = await self._read(request)
        head = {**self._head("cmpl", model), "object": "text_completion"}
        if document.get("stream") is True:
            choices = [{"index": 0, "text": word, "finish_reason": None} for word in self._words(model)]
            choices[-1]["finish_reason"] = "stop"
            return await self._stream(request, _chunks(head, choices))
        choice = {"index": 0, "text": self._text(model), "logprobs": None, "finish_reason": "stop"}
        return web.json_response({**head, "choices": [choice], "usage": self._usage(model)})

    async def embed(self, request: web.Request) -> web.Response:
        """Answer POST /v1/embeddings with one vector per input, derived from nothing but the input's text."""
        document, model = await self._read(request)
        given = document.get("input", "")
        inputs = given if isinstance(given, list) else [given]
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(json.dumps(item))}
            for index, item in enumerate(inputs)
        ]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        return web.json_response({"object": "list", "model": model, "data": data, "usage": usage})

    async def message(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/messages of Anthropic's API, streamed or whole."""
        document, model = await self._read(request)
        words = self._words(model)
        answer: dict[str, Any] = {
            "id": self._id("msg"),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        used = {"output_tokens": len(words)}
        if document.get("stream") is not True:
            content = [{"type": "text", "text": "".join(words)}]
            return web.json_response({**answer, **end, "content": content, "usage": {**answer["usage"], **used}})
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": answer},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ]
        deltas = ({"type": "text_delta", "text": word} for word in words)
        events += [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": 0})
        events.append({"type": "message_delta", "delta": end, "usage": used})
        events.append({"type": "message_stop"})
        return await self._stream(request, (f"event: {event['type']}\ndata: {json.dumps(event)}" for event in events))

    async def _read(self, request: web.Request) -> tuple[dict[str, Any], str]:
        try:
            document = json.loads(await request.read())
        except ValueError as error:
            raise APIError(400, "BadRequestError", f"The body is not JSON: {error}.") from None
        model = document.get("model") if isinstance(document, dict) else None
        if not isinstance(model, str):
            raise APIError(400, "BadRequestError", "The body must be an object with a string `model`.", "model")
        if model != self._pod.base_model and model not in self._adapters:
            raise APIError(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
        await asyncio.sleep(self._pod.delay_seconds)
        return document, model

    async def _stream(self, request: web.Request, events: Iterable[str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        for index, event in enumerate(events):
            if index:
                await asyncio.sleep(self._pod.event_seconds)
            await response.write(event.encode() + b"\n\n")
        await response.write_eof()
        return response

    async def _add_report(self, request: web.Request, response: web.StreamResponse) -> None:
        body = await request.read() if request.body_exists else b""
        response.headers["x-pod"] = self._pod.name
        response.headers["x-pool"] = self._pod.pool
        response.headers["x-body-bytes"] = str(len(body))
        response.headers["x-body-sha256"] = hashlib.sha256(body).hexdigest()
        for seen, header in _SEEN.items():
            response.headers[seen] = ", ".join(request.headers.getall(header, []))

    def _head(self, prefix: str, model: str) -> dict[str, Any]:
        pod = self._pod
        return {
            "id": self._id(prefix),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"stand-in:{pod.pool}/{pod.name}",
        }

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{self._pod.name}-{next(self._ids)}"

    def _text(self, model: str) -> str:
        pod = self._pod
        return f"I am a stand-in, not a model: {pod.name} of {pod.pool} answers for {model}."

    def _words(self, model: str) -> list[str]:
        first, *rest = self._text(model).split()
        return [first, *(f" {word}" for word in rest)]

    def _usage(self, model: str) -> dict[str, int]:
        words = len(self._words(model))
        return {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words}


_SEEN: Final = {
    "x-seen-model-name": "x-gateway-model-name",
    "x-seen-base-model-name": "x-gateway-base-model-name",
}


async def _adapter(request: web.Request) -> str:
    try:
        name = json.loads(await request.read())["lora_name"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise APIError(400, "BadRequestError", "The body must be an object with a string `lora_name`.", "lora_name")
    return name


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except APIError as error:
        failure = error
    except web.HTTPException as error:
        failure = APIError(error.status, "BadRequestError", f"{request.method} {request.path}: {error.reason}.")
    return web.json_response(failure.body(request.path), status=failure.status)


def _chunks(head: dict[str, Any], choices: Iterable[dict[str, Any]]) -> Iterator[str]:
    for choice in choices:
        yield f"data: {json.dumps({**head, 'choices': [choice]})}"
    yield "data: [DONE]"


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [octet / 255 for octet in digest[:EMBEDDING_DIMENSIONS]]


def main(arguments: list[str] | None = None) -> None:
    """Run one pod from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bind-address", default="127.0.0.1", metavar="IP")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pod", required=True, metavar="NAME", help="the pod's name, given in every answer")
    parser.add_argument("--pool", required=True, metavar="NAME", help="the pool it belongs to")
    parser.add_argument("--model", required=True, metavar="BASE", help="the base model it pretends to serve")
    parser.add_argument("--adapter", nargs="*", default=[], metavar="NAME", help="adapters on top of the base model")
    parser.add_argument("--delay-seconds", type=float, default=0.0, help="time until an answer begins")
    parser.add_argument("--event-seconds", type=float, default=0.0, help="time between events of a streamed answer")
    options = parser.parse_args(arguments)
    pod = Pod(
        name=options.pod,
        pool=options.pool,
        base_model=options.model,
        adapters=tuple(options.adapter),
        delay_seconds=options.delay_seconds,
        event_seconds=options.event_seconds,
    )
    web.run_app(
        ModelServer(pod).build_application(),
        host=options.bind_address,
        port=options.port,
        keepalive_timeout=KEEPALIVE_SECONDS,
        handler_cancellation=True,  # a client that goes away ends its answer, as in vLLM
        shutdown_timeout=1,
        print=lambda *_: print(f"stand-in model server {pod.name} of {pod.pool} on port {options.port}", flush=True),
        access_log=None,
    )


if __name__ == "__main__":
    main()
