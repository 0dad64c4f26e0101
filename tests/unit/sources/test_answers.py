import json

import pytest

from bbr.sources import answers
from bbr.sources.answers import LONG_BYTES, Answers, Metadata
from bbr.sources.kube_api import KubernetesError
from bbr.sources.kubernetes import ConfigMap
from bbr.sources.routes import MAX_HEADERS, HTTPRoute, wanted
from bbr.system.worker_process import WorkerProcess
from tests.support.loops import in_loop

METADATA = {
    "name": "a",
    "namespace": "ns",
    "uid": "u",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
}
PADDING = "x" * (LONG_BYTES + 1)
BOTH = pytest.mark.parametrize("other", ["", PADDING], ids=["short", "long"])


def object_(other="", **metadata):
    data = {"baseModel": "qwen", "adapters": "- x", "other": other}
    return {"metadata": METADATA | metadata, "data": data}


def in_pieces(document):
    octets = json.dumps(document).encode()
    return [octets[:50], octets[50:]]


async def read(method, document, kind=ConfigMap):
    worker = WorkerProcess()
    try:
        return await getattr(Answers(kind, worker), method)(in_pieces(document))
    finally:
        worker.close()


def event(type_, content):
    return {"type": type_, "object": content}


@BOTH
@in_loop
async def test_a_page(other):
    document = {"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [object_(other), object_(name="b")]}
    page = await read("page", document)
    assert (page.metadata.resource_version, page.metadata.continue_) == ("9", "more")
    assert [each.metadata.key for each in page.objects] == ["ns/a", "ns/b"]
    first = page.objects[0]
    assert (first.data.base_model, first.data.adapters) == ("qwen", "- x")
    assert first.metadata.creation_timestamp.isoformat() == "2026-01-01T00:00:00+00:00"


@BOTH
@in_loop
async def test_an_empty_page(other):
    page = await read("page", {"metadata": {}, "items": [], "other": other})
    assert (page.metadata.continue_, page.objects) == ("", [])


@BOTH
@pytest.mark.parametrize("type_", ["ADDED", "MODIFIED"])
@in_loop
async def test_an_event_with_its_object(type_, other):
    found = await read("event", event(type_, object_(other)))
    assert (found.type, found.metadata.key, found.metadata.resource_version) == (type_, "ns/a", "7")
    assert found.found.data.base_model == "qwen"


GONE = [
    ("DELETED", {}),
    ("ADDED", {"deletionTimestamp": "2026-01-02T00:00:00Z"}),
    ("MODIFIED", {"deletionTimestamp": "2026-01-02T00:00:00Z"}),
    ("BOOKMARK", {}),
]


@BOTH
@pytest.mark.parametrize(("type_", "metadata"), GONE)
@in_loop
async def test_an_event_without_an_object(type_, metadata, other):
    found = await read("event", event(type_, object_(other, **metadata)))
    assert (found.type, found.metadata.key, found.found) == (type_, "ns/a", None)


UNREADABLE = {
    "an error": (event("ERROR", {"message": "too old", "code": 410}), "410: too old", 410),
    "an unknown type": (event("T" * 50, object_()), f"an event of unknown type: {'T' * 40}", 0),
    "no object": (
        {"type": "ADDED"},
        "what the API server sent can't be read: Object missing required field `object`",
        0,
    ),
    "another type": (
        event("ADDED", {"metadata": METADATA, "data": {"baseModel": 1}}),
        "what the API server sent can't be read: Expected `str | null`, got `int` - at `$.data.baseModel`",
        0,
    ),
}


@BOTH
@pytest.mark.parametrize(("document", "why", "status"), UNREADABLE.values(), ids=UNREADABLE)
@in_loop
async def test_an_event_that_can_not_be_used(document, why, status, other):
    with pytest.raises(KubernetesError) as caught:
        await read("event", document | {"other": other})
    assert (str(caught.value), caught.value.status) == (why, status)


@BOTH
@in_loop
async def test_a_page_that_can_not_be_used(other):
    for document in ({"items": []}, {"metadata": {}, "items": [1]}):
        with pytest.raises(KubernetesError, match=r"^what the API server sent can't be read: "):
            await read("page", document | {"other": other})


@pytest.mark.parametrize("length", [100, LONG_BYTES], ids=["short", "long"])
@in_loop
async def test_what_is_nested_without_end_is_an_error_of_the_server(length):
    octets = b'{"type":"ADDED","object":' + b"[" * length
    worker = WorkerProcess()
    with pytest.raises(KubernetesError, match=r"^what the API server sent can't be read: "):
        await Answers(ConfigMap, worker).event([octets])
    worker.close()


@pytest.mark.parametrize("length", [10, LONG_BYTES], ids=["short", "long"])
@in_loop
async def test_what_is_no_utf_8_is_an_error_of_the_server(length):
    octets = b'{"type":"ADDED\xff","object":{"x":"' + b"x" * length + b'"}}'
    worker = WorkerProcess()
    with pytest.raises(KubernetesError, match=r"^what the API server sent can't be read: 'utf-8' codec"):
        await Answers(ConfigMap, worker).event([octets])
    worker.close()


@in_loop
async def test_of_a_long_route_comes_back_what_is_looked_at():
    headers = [{"name": "X-Gateway-Model-Name", "value": f"v{number}"} for number in range(3000)]
    headers[1]["type"] = "RegularExpression"
    others = [{"name": "accept", "value": PADDING}]
    spec = {"rules": [{"matches": [{"headers": others + headers}]}]}
    found = await read("event", event("ADDED", {"metadata": METADATA, "spec": spec}), HTTPRoute)
    asked = wanted(found.found)
    assert len(asked) == MAX_HEADERS
    assert {each.value for each in asked} == {f"v{number}" for number in range(MAX_HEADERS)}
    assert [each.value for each in asked if not each.exact] == ["v1"]


def test_nothing_else_of_an_object_comes_back():
    (failure, kind, metadata, found) = answers.event_frames(
        ConfigMap, json.dumps(event("ADDED", object_(PADDING))).encode()
    )
    assert len(failure + kind + metadata + found) < 400


def test_the_key_of_an_object():
    assert Metadata(name="a", namespace="ns").key == "ns/a"
