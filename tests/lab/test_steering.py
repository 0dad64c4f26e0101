"""What a real picker would do at a client's wish, and what it does at the router's: rewrite the body's model."""

import collections
import itertools
import math

import httpx
import pytest

from deploy.lab import setting
from tests.lab.traffic import CHAT, JSON, POOLS, Chat, answered_model, ask, outcome

# Headers by which pickers and pods' sidecars are steered.
STEERING = (
    "x-gateway-model-name-rewrite",
    "X-Gateway-Model-Name-Rewrite",
    "x-llm-d-model-name-rewrite",
    "x-gateway-destination-endpoint",
    "x-gateway-base-model-name",
    "x-gateway-model-name",
)
SPOOFED = 400
SHARED = 400


def test_no_header_of_a_client_s_changes_which_model_answers(gateway):
    outcomes = collections.Counter()
    cases = itertools.cycle((model, header, other) for model in POOLS for header in STEERING for other in POOLS)
    with httpx.Client(base_url=f"http://{gateway}", timeout=60) as client:
        for model, header, other in itertools.islice(cases, SPOOFED):
            value = "10.100.0.1:1" if header.endswith("endpoint") else other
            answer = client.post(CHAT, content=Chat(model).body(), headers=JSON | {header: value})
            outcomes[outcome(answer, model)] += 1
    assert outcomes == {"right": SPOOFED}


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("alias", [name for name, meant in setting.ALIASES.items() if isinstance(meant, str)])
def test_an_alias_is_answered_by_the_model_that_it_stands_for(gateway, alias, stream, size):
    """The simulator serves no alias: the picker has put the model into the body, because the router told it to."""
    meant = setting.ALIASES[alias]
    answer = ask(gateway, Chat(alias, size, stream=stream))
    assert answer.status_code == 200, answer.text[:300]
    assert answer.headers["x-inference-pod"].startswith(f"{POOLS[meant]}-server-")
    # The picker puts the name that was asked for into answers that it sees; this gateway shows it none.
    assert answered_model(answer) == meant


def test_an_alias_of_several_models_is_shared_out_by_their_weights(gateway):
    weights = setting.ALIASES["canary"]
    pods = collections.Counter()
    with httpx.Client(base_url=f"http://{gateway}", timeout=60) as client:
        for number in range(SHARED):
            answer = client.post(CHAT, content=Chat("canary", 200, word=f"w{number}").body(), headers=JSON)
            assert answer.status_code == 200, answer.text[:300]
            model = answered_model(answer)
            assert answer.headers["x-inference-pod"].startswith(f"{POOLS[model]}-server-")
            pods[model] += 1
    assert set(pods) == set(weights)
    share = weights[setting.PHI] / sum(weights.values())
    # Five standard deviations of a binomial distribution.
    assert abs(pods[setting.PHI] - SHARED * share) < 5 * math.sqrt(SHARED * share * (1 - share))
