"""What is wrong with this replica, its table or its requests: the sentences on top of the status page.

A problem names the section of the page that shows more, and the kind that the page of help explains.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bbr.admin.forms import BAD_SHARE, FORMS, level
from bbr.admin.reasons import Reason
from bbr.admin.vitals import Vitals
from bbr.text import encodable

# A base model's share of errors is a problem if at least so many requests of the last minute failed. And so many base
# models are shown.
_ERRORS: Final = 3
_MODELS: Final = 5

_HELD_SHARE: Final = 0.8
_CERTIFICATE_SECONDS: Final = 7 * 86_400

Row = dict[str, Any]

KINDS: Final[Mapping[str, Reason]] = {
    "not-ready": Reason(
        "This replica takes no requests.",
        "If it starts, wait until its table is complete. If it lasts, look at the sources: one of them fails.",
    ),
    "not-followed": Reason(
        "The router can't follow a source as it should. Requests are routed by what was known last.",
        "An API server that does not answer, a role that may not list and watch, or a volume that hangs. The log has "
        "the reason. See docs/troubleshooting.md, A change does not arrive.",
    ),
    "errors": Reason(
        "A share of the requests was rejected, or their gateway broke the protocol. "
        f"A share of {BAD_SHARE:.0%} or more is bad.",
        "Look at the reasons: each says who has to change what.",
    ),
    "broken": Reason(
        "The router can't use an object of the model table.",
        "Correct the object at the line that is named. Until then its last usable content stays in use.",
    ),
    "mismatches": Reason(
        "The model table and the HTTPRoutes do not fit.",
        "Add a route for the base model, or correct the header value of the route.",
    ),
    "conflicts": Reason(
        "Two objects claim the same name; the router ignores the later one.", "Remove the name from one of the objects."
    ),
    "unknown-models": Reason(
        "Clients have asked for models that the table does not hold.",
        "Add the model to the table, or tell the client the right name.",
    ),
    "buffer": Reason(
        "Bodies use nearly all of the memory that they may use, or were rejected because none was left.",
        "Add replicas, or raise --max-buffered-bytes and the memory limit. See docs/reference/running.md, Memory.",
    ),
    "turned-away": Reason(
        "The router turned connections away, because it had as many as it may have.",
        "Raise --max-connections, or add replicas. See docs/troubleshooting.md.",
    ),
    "certificate": Reason(
        "The certificate ends soon, or has ended.", "Renew it. The router takes a new file without a restart."
    ),
}


def problems(found: Mapping[str, Any], vitals: Vitals) -> list[Row]:
    """Return the problems, the bad ones first.

    Args:
        found: what the status page shows besides; see bbr.admin.status_facts.
        vitals: of the process.
    """
    rows = [
        *_of_process(found, vitals),
        *_of_requests(found),
        *_of_table(found),
    ]
    return sorted(rows, key=lambda row: row["level"] != "bad")


def _row(kind: str, severity: str, what: str, where: str) -> Row:
    return {"level": severity, "kind": kind, "what": what, "where": where}


def _of_process(found: Mapping[str, Any], vitals: Vitals) -> Iterator[Row]:
    if not found["ready"]:
        yield _row("not-ready", "bad", f"This replica takes no requests: {found['why_not_ready']}.", "sources")
    for trouble in vitals.troubles():
        yield _row("not-followed", "bad", f"{encodable(trouble)}.", "sources")
    if vitals.certificates is not None:
        left = vitals.certificates.credentials.not_after.timestamp() - time.time()
        if left < 0:
            yield _row("certificate", "bad", "The certificate has expired.", "now")
        elif left < _CERTIFICATE_SECONDS:
            yield _row("certificate", "warn", f"The certificate expires in {FORMS['duration'](left)}.", "now")
    buffered, away = found["buffered"], found["connections"]["turned_away"]
    if buffered["held_bytes"] >= _HELD_SHARE * buffered["limit_bytes"] > 0:
        yield _row("buffer", "bad", "Bodies use nearly all of the memory that they may use.", "now")
    if buffered["refusals"]:
        what = _several(buffered["refusals"], "body has", "bodies have")
        yield _row("buffer", "warn", f"{what} been rejected since the start because no memory was left.", "now")
    if away:
        what = _several(away, "connection was", "connections were")
        yield _row("turned-away", "warn", f"{what} turned away since the start.", "now")


def _of_requests(found: Mapping[str, Any]) -> Iterator[Row]:
    every = found["requests"]
    if (severity := level(every["error_share"])) in ("warn", "bad"):
        share = FORMS["share"](every["error_share"])
        yield _row("errors", severity, f"{share} of the requests of the last minute failed.", "reasons")
    shown = 0
    for row in found["models"]["rows"]:
        severity = level(row["error_share"])
        if row["base_model"] and severity in ("warn", "bad") and row["recent_errors"] >= _ERRORS and shown < _MODELS:
            share = FORMS["share"](row["error_share"])
            yield _row("errors", severity, f"{row['base_model']}: {share} of its requests failed.", "models")
            shown += 1
    if number := found["unknown_models"]["total"]:
        what = _several(number, "unknown model was", "unknown models were")
        yield _row("unknown-models", "warn", f"{what} asked for in the last hour.", "unknown")


def _of_table(found: Mapping[str, Any]) -> Iterator[Row]:
    if number := found["broken"]["total"]:
        yield _row("broken", "bad", f"{_several(number, 'object', 'objects')} can't be used.", "broken")
    if number := found["route_mismatches"]["total"]:
        what = _several(number, "model or HTTPRoute does", "models or HTTPRoutes do")
        yield _row("mismatches", "bad", f"{what} not fit.", "routes")
    if number := found["conflicts"]["total"]:
        what = _several(number, "claim", "claims")
        yield _row(
            "conflicts",
            "warn",
            f"{what} on names are ignored." if number > 1 else f"{what} on a name is ignored.",
            "conflicts",
        )


def _several(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
