"""What a reply says of the routing: right, misrouted, or wrong in another way. Pure."""

import hashlib
from typing import Final, Literal

from deploy.local.traffic import Refused, Reply, Request, Routed, faults

Fault = Literal["", "misroute", "other"]

NAMELESS: Final = Refused(404, "model_required")


def judge(request: Request, reply: Reply, default: str = "") -> tuple[Fault, list[str]]:
    """Return the kind of fault ("" for none) and every fault in words.

    A misroute reached a pool that it must not reach, or the right one with routing headers that are not its model's.
    Whatever else is wrong, a status or a body that changed on its way, is another fault.

    Args:
        request: with its expectation; NAMELESS for one that names no model.
        reply: what came.
        default: the pool that answers those, "" if the gateway answers them itself as NAMELESS says.
    """
    if default and request.expected is NAMELESS:
        found = _default_faults(request, reply, default)
        wanted, headers = default, ("", "")
    else:
        found = faults(request, reply)
        wanted, headers = "", ("", "")
        if isinstance(request.expected, Routed):
            expected = request.expected
            wanted, headers = expected.pool.name, (expected.model, expected.pool.base_model)
    reached = reply.headers.get("x-pool", "")
    if not reached:
        return ("other" if found else ""), found
    seen = (reply.headers.get("x-seen-model-name", ""), reply.headers.get("x-seen-base-model-name", ""))
    if reached != wanted or seen != headers:
        return "misroute", [f"reached {reached} as {seen}, must reach {wanted or 'no pool'} as {headers}", *found]
    return ("other" if found else ""), found


def _default_faults(request: Request, reply: Reply, default: str) -> list[str]:
    pairs = {
        "status": (200, reply.status),
        "pool": (default, reply.headers.get("x-pool")),
        "body": (hashlib.sha256(request.body).hexdigest(), reply.headers.get("x-body-sha256")),
    }
    return [f"{name} is {came}, not {wanted}" for name, (wanted, came) in pairs.items() if came != wanted]
