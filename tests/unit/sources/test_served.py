import json

import pytest

from bbr.sources import served
from bbr.sources.served import LONG_BYTES, MAX_MODELS, MAX_REFUSED, Served, UnusableError, claims
from bbr.system.worker_process import WorkerProcess
from tests.support import steps
from tests.support.loops import in_loop


def model(name, parent=None, root=None):
    return {"id": name, "object": "model", "created": 1, "owned_by": "vllm", "root": root, "parent": parent}


def answer(*models, **more):
    return json.dumps({"object": "list", "data": list(models), **more}).encode()


# What llm-d-inference-sim 0.10.2 answers.
SIM = answer(
    model("base/m", root="base/m"), model("alias-m", root="base/m"), model("sql-lora", parent="base/m", root="/p/sql")
)


def test_a_list_of_vllm_is_read():
    assert served.served(SIM) == Served({"base/m": "base/m", "alias-m": "base/m"}, {"sql-lora": "base/m"})
    assert claims(served.served(SIM), ["base/m"], 256).adapters == {"base/m": {"sql-lora"}}


def test_adapters_are_those_of_whatever_name_the_pool_serves():
    found = claims(served.served(SIM), ["alias-m", "other"], 256)
    assert (found.adapters, found.refused, found.names) == ({"alias-m": {"sql-lora"}}, (), 1)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"data": {}}',
        b'{"data": [1]}',
        b'{"data": [{"id": 1}]}',
        b'{"data": [{"id": "a", "parent": 1}]}',
        b'{"data": [{"id": "\\ud800"}]}',
        b'{"data": [{"id": "\xff"}]}',
        b'{"data": ' + b"[" * 100_000,
        SIM[:-1],
        SIM + b"x",
        b"<html>",
    ],
)
def test_what_is_no_list_is_refused(octets):
    with pytest.raises(UnusableError, match="its answer to GET /v1/models is not a list of models"):
        served.served(octets)


def test_a_list_of_too_many_is_refused_whole():
    octets = answer(*(model(str(number)) for number in range(MAX_MODELS)))
    assert len(served.served(octets).roots) == MAX_MODELS
    octets = answer(*(model(str(number)) for number in range(MAX_MODELS + 1)))
    with pytest.raises(UnusableError, match="it lists 1001 models; at most 1000 are taken from one server"):
        served.served(octets)


def test_a_server_speaks_only_for_base_models_that_it_lists():
    with pytest.raises(UnusableError, match=r"it does not list the base model of its pool \(phi\)"):
        claims(served.served(SIM), ["phi"], 256)
    with pytest.raises(UnusableError, match="does not list"):
        claims(Served({}, {"sql-lora": "phi"}), ["phi"], 256)


@pytest.mark.parametrize(
    ("name", "parent", "why"),
    [
        ("x", "phi", "x: it is an adapter of phi, which the pool does not serve"),
        ("x", "", "x: it is an adapter of , which the pool does not serve"),
        ("x", "other", "x: it is an adapter of other, which the pool does not serve"),
        ("sql-*", "qwen", "sql-*: it holds a *, which stands for other characters"),
        ("a\u200bb", "qwen", "a\\u200bb: it cannot be used as a model name: it holds U+200B, which can't be seen"),
        ("a\nb", "qwen", "a\\nb: it cannot be used as a model name: it holds a control character"),
        (" a", "qwen", " a: it cannot be used as a model name: it begins or ends with a blank"),
        ("é" * 9, "qwen", "é" * 9 + ": it is 18 bytes long in UTF-8; at most 16 are allowed"),
    ],
)
def test_adapters_that_cannot_be_used_are_told_and_hurt_no_other(name, parent, why):
    found = claims(Served({"qwen": "/r", "other": ""}, {name: parent, "good": "qwen"}), ["qwen"], 16)
    assert found == ({"qwen": {"good"}}, (why,))


def test_an_empty_name_and_long_ones_are_told_in_short():
    names = {"": "qwen", **{"x" * 300 + str(number): "qwen" for number in range(50)}}
    found = claims(Served({"qwen": ""}, names), ["qwen"], 256)
    assert found.adapters == {}
    assert len(found.refused) == MAX_REFUSED
    assert all(len(each) < 200 for each in found.refused)


def test_claims_take_no_longer_for_many_base_models():
    def of(count):
        bases = [f"b{number:04}" + "x" * 200 for number in range(count)]
        adapters = {f"a{number}": f"c{number:04}" + "x" * 200 for number in range(500)}
        found = Served(dict.fromkeys(bases, ""), adapters)
        return lambda: claims(found, bases, 256)

    assert len(of(500)().refused) == MAX_REFUSED
    # To compare each parent with each base model would take 50 times as long.
    assert steps.take_as_long(of(500), of(10), 8, least=0.0001)


def test_a_base_model_of_the_server_is_no_adapter():
    assert claims(Served({"qwen": "", "x": ""}, {"x": "qwen"}), ["qwen"], 256).adapters == {}


def test_models_without_a_root_are_not_one_model():
    found = claims(Served({"qwen": "", "other": ""}, {"x": "other"}), ["qwen"], 256)
    assert found.adapters == {}


@in_loop
async def test_long_answers_are_read_by_another_process():
    worker = WorkerProcess()
    try:
        octets = answer(model("qwen"), *(model(f"lora-{number}", "qwen") for number in range(900)))
        assert len(octets) > LONG_BYTES
        assert await served.read([octets[:1000], octets[1000:]], worker) == served.served(octets)
        with pytest.raises(UnusableError, match="not a list of models"):
            await served.read([b"x" * (LONG_BYTES + 1)], worker)
        assert await served.read([SIM[:5], SIM[5:]], worker) == served.served(SIM)
    finally:
        worker.close()
