"""Requests through Envoy, the router and a real picker to simulators, which name model and pod in their answers."""

import collections
import itertools
import random

import httpx
import pytest

from deploy.lab import setting
from tests.lab.traffic import CHAT, JSON, POOLS, Chat, ask, outcome

pytestmark = [pytest.mark.core, pytest.mark.gateways]
# Bytes of a body -> how often each name, with the model first and last, streamed and not.
ROUNDS = {1 << 10: 5, 10 << 10: 5, 100 << 10: 3, 1 << 20: 1, 2 << 20: 1}
BOTH = (False, True)
SEED = 18


@pytest.mark.parametrize("size", ROUNDS)
def test_each_request_is_answered_by_its_model_from_its_pool(gateway, size):
    chats = [Chat(model, size, last, stream) for model, last, stream in itertools.product(POOLS, BOTH, BOTH)]
    chats *= ROUNDS[size]
    random.Random(SEED + size).shuffle(chats)
    pods, outcomes = set(), collections.Counter()
    with httpx.Client(base_url=f"http://{gateway}", timeout=60) as client:
        for chat in chats:
            answer = client.post(CHAT, content=chat.body(), headers=JSON)
            outcomes[outcome(answer, chat.model)] += 1
            if not chat.stream:  # all of the body has come
                assert answer.json()["usage"]["prompt_tokens"] >= chat.body().count(b"word")
            pods.add(answer.headers.get("x-inference-pod"))
    assert outcomes == {"right": len(chats)}
    assert len(pods) >= len(setting.MODELS)


@pytest.mark.parametrize("size", ROUNDS)
@pytest.mark.parametrize("last", BOTH)
def test_a_model_that_is_not_served_is_a_404_of_the_router(gateway, size, last):
    answer = ask(gateway, Chat("gpt-5", size, last))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_client_s_own_routing_header_moves_nothing(gateway):
    for name in POOLS:
        for header in ("x-gateway-base-model-name", "x-gateway-model-name"):
            answer = ask(gateway, Chat(name), **{header: setting.PHI if POOLS[name] == "qwen" else setting.QWEN})
            assert outcome(answer, name) == "right"


def test_the_list_of_models_is_the_table_s(gateway):
    listed = httpx.get(f"http://{gateway}/v1/models", timeout=60).json()["data"]
    assert {model["id"] for model in listed} == {*POOLS, *setting.ALIASES}


def test_the_picker_spreads_requests_over_the_servers_of_a_pool(gateway):
    asked = (Chat(setting.QWEN, word=f"word{number}") for number in range(40))
    pods = {ask(gateway, chat).headers["x-inference-pod"] for chat in asked}
    assert len(pods) == setting.SERVERS
