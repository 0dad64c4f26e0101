"""Bodies of every kind through the real picker to the simulator: what goes, and which neighbour refuses the rest.

The router routes all of these. The picker of the Gateway API Inference Extension has one parser for all requests: that
of OpenAI's API takes only JSON of the paths that it knows. With the passthrough-parser everything goes.
"""

import gzip
import json
import zlib

import brotli
import httpx
import pytest

from bbr.reading.zstd import zstd
from deploy.lab import lab as stand
from deploy.lab import releases, setting
from deploy.lab.cluster import Cluster
from tests.lab.traffic import CHAT, JSON

MODEL = "sql-lora"
MESSAGES = [{"role": "user", "content": "hello"}]
FILE = {"file": ("a.wav", b"RIFF", "audio/wav"), "model": (None, MODEL)}


def as_json(path, **fields):
    return {"url": path, "content": json.dumps({"model": MODEL, **fields}), "headers": JSON}


CHATTED = json.dumps({"model": MODEL, "messages": MESSAGES}).encode()
LONG = json.dumps({"messages": [{"role": "user", "content": "hi " * 100_000}], "model": MODEL}).encode()


def sent(content, path=CHAT, **headers):
    return {
        "url": path,
        "content": content,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }


def encoded(coding, content):
    return sent(content, content_type="application/json", content_encoding=coding)


# What -> a request, and the status with OpenAI's parser and with the passthrough-parser. 404 is the simulator's, which
# has no such path: the request has reached it.
REQUESTS = {
    "chat": (as_json(CHAT, messages=MESSAGES), 200, 200),
    "completion": (as_json("/v1/completions", prompt="hello"), 200, 200),
    "embeddings": (as_json("/v1/embeddings", input="hello"), 200, 200),
    "response": (as_json("/v1/responses", input="hello"), 200, 200),
    "Anthropic's messages": (as_json("/v1/messages", messages=MESSAGES, max_tokens=5), 400, 200),
    "tokenize": (as_json("/tokenize", prompt="hello"), 200, 200),
    # The chart has the router forward these decoded.
    "gzip": (encoded("gzip", gzip.compress(CHATTED)), 200, 200),
    "deflate": (encoded("deflate", zlib.compress(CHATTED)), 200, 200),
    "br": (encoded("br", brotli.compress(CHATTED)), 200, 200),
    "zstd": (encoded("zstd", zstd.compress(CHATTED)), 200, 200),
    "gzip in br": (encoded("gzip, br", brotli.compress(gzip.compress(CHATTED))), 200, 200),
    "gzip, long, the model last": (encoded("gzip", gzip.compress(LONG)), 200, 200),
    "no content type": (sent(CHATTED), 200, 200),
    "a charset": (sent(CHATTED, content_type="Application/JSON; charset=utf-8"), 200, 200),
    "JSON by curl -d": (sent(CHATTED, content_type="application/x-www-form-urlencoded"), 200, 200),
    "a key with escapes": (sent(CHATTED.replace(b"model", b"\\u006dodel", 1), **JSON), 200, 200),
    "a model in query and body": (as_json(f"/v1/completions?model={MODEL}", prompt="hello"), 200, 200),
    "a model in path and body": (as_json(f"/deployments/{MODEL}{CHAT}", messages=MESSAGES), 404, 404),
    "audio, the model in its path": (sent(b"RIFF", f"/deployments/{MODEL}/audio", content_type="audio/wav"), 400, 404),
    "multipart": ({"url": "/v1/audio/transcriptions", "files": FILE}, 400, 404),
    "form": ({"url": "/v1/audio/transcriptions", "data": {"model": MODEL}}, 400, 404),
}


def answer(gateway, request):
    return httpx.post(
        f"http://{gateway}{request['url']}", timeout=60, **{k: v for k, v in request.items() if k != "url"}
    )


@pytest.mark.parametrize("name", REQUESTS)
def test_with_the_parser_of_openai_s_api(gateway, name):
    request, status, _ = REQUESTS[name]
    found = answer(gateway, request)
    assert found.status_code == status, found.text[:300]
    # The picker's 400, and the simulator's 404; the router's are JSON.
    assert {400: "inference error: BadRequest", 404: "Not Found"}.get(status, "") in found.text
    assert "bbr:" not in found.text


@pytest.fixture(scope="module")
def passing(lab: Cluster):
    """The pickers with the passthrough-parser; afterwards as before."""
    config = {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [{"type": "queue-scorer"}, {"type": "passthrough-parser"}],
        "parser": {"pluginRef": "passthrough-parser"},
        "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "queue-scorer", "weight": 1}]}],
    }
    values = setting.values()
    releases.install(lab, "helm", setting.RELEASE, values | {"epp": values["epp"] | {"config": json.dumps(config)}})
    lab.wait("an answer for each model", lambda: stand.answers(lab))
    yield
    releases.call(lab, "helm", "rollback", setting.RELEASE, *releases.WAIT)
    lab.until_drained(setting.NAMESPACE)
    lab.wait("an answer for each model", lambda: stand.answers(lab))


@pytest.mark.parametrize("name", REQUESTS)
def test_with_the_parser_that_lets_everything_pass(passing, gateway, name):
    request, _, status = REQUESTS[name]
    found = answer(gateway, request)
    assert found.status_code == status, found.text[:300]
    # The picker's 400, and the simulator's 404; the router's are JSON.
    assert {400: "inference error: BadRequest", 404: "Not Found"}.get(status, "") in found.text
    assert "bbr:" not in found.text
