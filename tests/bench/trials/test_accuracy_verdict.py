import hashlib

import pytest

from bench.trials.accuracy_verdict import NAMELESS, judge
from deploy.local.topology import POOLS
from deploy.local.traffic import Refused, Reply, Request, Routed

BODY = b'{"model": "sql-lora"}'
QWEN, PHI = POOLS


def reply(**changed):
    fields = {
        "x-pool": QWEN.name,
        "x-pod": QWEN.pods[0],
        "x-body-bytes": str(len(BODY)),
        "x-body-sha256": hashlib.sha256(BODY).hexdigest(),
        "x-seen-model-name": "sql-lora",
        "x-seen-base-model-name": QWEN.base_model,
    }
    return Reply(200, fields | {name.replace("_", "-"): value for name, value in changed.items()}, BODY)


REQUEST = Request("adapter", Routed(QWEN, "sql-lora"), body=BODY)
NAMELESS_REQUEST = Request("no model", NAMELESS, body=BODY)
TO_DEFAULT = {"x_pool": "default", "x_seen_model_name": "", "x_seen_base_model_name": ""}


@pytest.mark.parametrize(
    ("request_", "came", "fault"),
    [
        (REQUEST, reply(), ""),
        (REQUEST, reply(x_pool=PHI.name), "misroute"),
        (REQUEST, reply(x_pool="default"), "misroute"),
        (REQUEST, reply(x_seen_model_name="travel-lora"), "misroute"),
        (REQUEST, reply(x_seen_base_model_name=PHI.base_model), "misroute"),
        (REQUEST, reply(x_body_sha256="0"), "other"),
        (REQUEST, Reply(503, {}), "other"),
        (NAMELESS_REQUEST, reply(**TO_DEFAULT), ""),
        (NAMELESS_REQUEST, reply(**TO_DEFAULT | {"x_seen_model_name": "spoofed"}), "misroute"),
        (NAMELESS_REQUEST, reply(**TO_DEFAULT | {"x_body_sha256": "0"}), "other"),
        (NAMELESS_REQUEST, reply(), "misroute"),
        (NAMELESS_REQUEST, Reply(500, {}), "other"),
        (Request("unknown model", Refused(404, "model_not_found")), reply(), "misroute"),
        (Request("unknown model", Refused(404, "model_not_found")), Reply(404, {}), "other"),
    ],
)
def test_faults(request_, came, fault):
    kind, found = judge(request_, came, "default")
    assert kind == fault
    assert bool(found) == bool(fault)


def test_a_gateway_that_answers_itself():
    error = b'{"error": {"message": "", "type": "", "param": null, "code": "model_required"}}'
    said = Reply(404, {"content-type": "application/json"}, error)
    assert judge(NAMELESS_REQUEST, said) == ("", [])
    assert judge(NAMELESS_REQUEST, said, "default")[0] == "other"
