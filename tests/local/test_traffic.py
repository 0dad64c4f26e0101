import hashlib
import json

import pytest

from deploy.local.topology import POOLS
from deploy.local.traffic import Listed, Refused, Reply, Request, Routed, faults

QWEN, PHI = POOLS
BODY = b'{"model": "sql-lora"}'
DIGEST = hashlib.sha256(BODY).hexdigest()

RIGHT = {
    "x-pool": "qwen-pool",
    "x-pod": "qwen-1",
    "x-body-sha256": DIGEST,
    "x-body-bytes": str(len(BODY)),
    "x-seen-model-name": "sql-lora",
    "x-seen-base-model-name": QWEN.base_model,
}
ANSWER = b'{"model": "sql-lora"}'
EVENTS = b'data: {"model": "sql-lora"}\n\n' * 2 + b"data: [DONE]\n\n"
ERROR = {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}


def routed(*, stream=False, **more):
    return Request("kind", Routed(QWEN, "sql-lora", stream=stream, **more), body=BODY)


REFUSED = Request("kind", Refused(404, "model_not_found"), body=BODY)
LISTED = Request("kind", Listed(frozenset({"a", "b"})), method="GET")
LIST = b'{"object": "list", "data": [{"id": "b"}, {"id": "a"}]}'


def refusal(**fields):
    return json.dumps({"error": {**ERROR, **fields}}).encode()


def test_right_replies_have_no_faults():
    assert faults(routed(), Reply(200, RIGHT, ANSWER)) == []
    assert faults(routed(stream=True), Reply(200, RIGHT, EVENTS)) == []
    spread = routed(stream=True, min_spread_seconds=0.3)
    assert faults(spread, Reply(200, RIGHT, EVENTS, first_seconds=0.1, last_seconds=0.5)) == []
    assert faults(REFUSED, Reply(404, {"content-type": "application/json"}, refusal())) == []
    assert faults(LISTED, Reply(200, {}, LIST)) == []


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"x-pool": "phi-pool"}, "pool is phi-pool, not qwen-pool"),
        ({"x-pod": "phi-1"}, "pod is phi-1, none of qwen-pool"),
        ({"x-body-sha256": "0"}, f"body is 0, not {DIGEST}"),
        ({"x-body-bytes": "0"}, f"bytes is 0, not {len(BODY)}"),
        ({"x-seen-model-name": ""}, "model header is , not sql-lora"),
        ({"x-seen-base-model-name": PHI.base_model}, f"base model header is {PHI.base_model}, not {QWEN.base_model}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize(("stream", "body"), [(False, ANSWER), (True, EVENTS)], ids=["whole", "streamed"])
def test_each_wrong_header_is_a_fault(headers, fault, stream, body):
    assert faults(routed(stream=stream), Reply(200, {**RIGHT, **headers}, body)) == [fault]


@pytest.mark.parametrize(
    ("request_", "reply", "fault"),
    [
        (routed(), Reply(404, RIGHT, ANSWER), "status is 404, not 200"),
        (routed(), Reply(200, RIGHT, b'{"model": "gpt-none"}'), "model is gpt-none, not sql-lora"),
        (routed(), Reply(200, RIGHT, b"<html>"), "model is None, not sql-lora"),
        (routed(stream=True), Reply(200, RIGHT, EVENTS[:-14]), "does not end with"),
        (routed(stream=True), Reply(200, RIGHT, EVENTS.replace(b"sql", b"sqk", 1)), "models is"),
        (
            routed(stream=True, min_spread_seconds=0.3),
            Reply(200, RIGHT, EVENTS, 0.5, 0.7),
            "events came within 0.200 s",
        ),
        (REFUSED, Reply(400, {"content-type": "application/json"}, refusal()), "status is 400, not 404"),
        (REFUSED, Reply(404, {"content-type": "text/plain"}, refusal()), "content type is text/plain"),
        (REFUSED, Reply(404, {"content-type": "application/json"}, refusal(code="none")), "code is none"),
        (REFUSED, Reply(404, {"content-type": "application/json"}, refusal(more=1)), "no OpenAI error"),
        (REFUSED, Reply(404, {"content-type": "application/json"}, b"Not Found"), "no OpenAI error"),
        (
            REFUSED,
            Reply(404, {"content-type": "application/json", "x-pod": "qwen-1"}, refusal()),
            "pod is qwen-1, not None",
        ),
        (LISTED, Reply(200, {}, b'{"data": [{"id": "a"}]}'), "models is ['a'], not ['a', 'b']"),
        (LISTED, Reply(404, {}, LIST), "status is 404, not 200"),
        (LISTED, Reply(200, {"x-pod": "qwen-1"}, LIST), "pod is qwen-1, not None"),
    ],
)
def test_wrong_replies(request_, reply, fault):
    (found,) = faults(request_, reply)
    assert fault in found
