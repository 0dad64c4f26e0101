import collections
import json

import pytest

from bench.published import pattern2
from bench.published.pattern2 import PHI, QWEN, Outcome, calls, judge


def test_models_take_turns_with_others_among_them():
    sent = calls(100, 1)
    counts = collections.Counter(call.label for call in sent)
    assert counts == {QWEN: 100, PHI: 100, **dict.fromkeys(pattern2.OTHERS, 10)}
    assert [call.label for call in calls(2, 1) if call.label in (QWEN, PHI)] == [QWEN, PHI, QWEN, PHI]
    assert sum(2 * n for n, _ in pattern2.RUNS.values()) == 420


def test_headers_of_the_other_model():
    (call,) = [call for call in calls(1, 1) if call.label == "spoofed"]
    model = json.loads(call.body)["model"]
    assert {call.headers[pattern2.BASE_HEADER], model} == {QWEN, PHI}
    assert call.pool.base_model == model


@pytest.mark.parametrize(
    ("label", "status", "reached", "document", "verdict"),
    [
        (QWEN, 200, "qwen-pool", {"model": QWEN}, (True, True)),
        (QWEN, 200, "phi-pool", {"model": QWEN}, (True, False)),
        (QWEN, 200, "qwen-pool", {"model": PHI}, (True, False)),
        (QWEN, 404, "phi-pool", {"error": {}}, (False, False)),
        ("unknown", 404, None, {"error": {}}, (False, True)),
        ("unknown", 404, "phi-pool", {"error": {}}, (False, False)),
        ("missing", 200, "default", {}, (True, True)),
        ("missing", 200, "phi-pool", {}, (True, False)),
    ],
)
def test_verdicts(label, status, reached, document, verdict):
    call = next(call for call in calls(1, 1) if call.label == label)
    headers = {"x-pool": reached} if reached else {}
    assert judge(call, status, headers, json.dumps(document).encode()) == verdict


def test_metrics():
    found = pattern2.metrics(Outcome([0.001] * 99 + [0.1], ok=100, right=50), 2.0)
    assert found["p50"] == pytest.approx(1)
    assert found["p99"] == pytest.approx(1.99)
    assert (found["ok"], found["rps"], found["right"]) == (100, 50, 50)
    assert pattern2.metrics(Outcome([0.5]), 1.0)["p95"] == 500
