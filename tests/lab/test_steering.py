"""What a real picker would do at a client's wish, and what it does at the router's: rewrite the body's model."""

import collections
import itertools
import json
import math
import random

import httpx
import pytest

from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, REWRITE_HEADERS, STEERING_HEADERS
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
SPOOFED_AT_ONCE = 100
# A name that no server has: a picker that obeyed would end in the server's 404.
STOLEN = "stolen-model"
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


def spoofed(rng, servers):
    """Return many headers at once by which a client would like to steer, some in other spellings."""
    headers = {}
    for name in rng.sample([DESTINATION_HEADER, *STEERING_HEADERS, *PRIORITY_HEADERS], 8):
        value = STOLEN if name in REWRITE_HEADERS else rng.choice([*servers, "127.0.0.1:1", "-1", "decode"])
        headers[rng.choice([name, name.title(), name.replace("-", "_")])] = value
    return headers | {name: rng.choice([STOLEN, *POOLS]) for name in REWRITE_HEADERS}


def served(lab):
    """Return requested and served models, as the pickers have logged them."""
    found = collections.Counter()
    for pool, _ in setting.MODELS.values():
        log = lab.kubectl("logs", f"deployment/{pool}-epp", f"--namespace={setting.NAMESPACE}", "--tail=-1")
        entries = (json.loads(line) for line in log.splitlines() if line.startswith("{") and "targetModelName" in line)
        found.update((entry["modelName"], entry["targetModelName"]) for entry in entries if "modelName" in entry)
    return found


def test_nor_do_all_that_pickers_and_sidecars_read_at_once(lab, gateway):
    pods = lab.get("pods", f"--namespace={setting.NAMESPACE}")["items"]
    servers = [f"{pod['status']['podIP']}:8000" for pod in pods if "-server-" in pod["metadata"]["name"]]
    rng, outcomes, before = random.Random(18), collections.Counter(), served(lab)
    for _ in range(SPOOFED_AT_ONCE):
        chat = Chat(rng.choice([*POOLS]), rng.choice([1 << 10, 100 << 10]), rng.random() < 0.5, rng.random() < 0.5)
        outcomes[outcome(ask(gateway, chat, **spoofed(rng, servers)), chat.model)] += 1
    assert outcomes == {"right": SPOOFED_AT_ONCE}
    # The pickers' own word, besides the simulators'.
    seen = served(lab) - before
    assert seen.total() == SPOOFED_AT_ONCE
    assert all(asked == model for asked, model in seen)


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
