"""The doctor's report, for people and for programs."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final

import orjson

from bbr.commands.doctor.finding import Finding, Severity
from bbr.commands.doctor.gateway import Gateway
from bbr.text import brief

_WIDTH: Final = 110
# Names of a gateway's objects may be of any length.
_MAX_LINE: Final = 2_000

_PLURALS: Final = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "remarks"}
_SINGULARS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "remark"}


def as_text(gateway: Gateway, findings: Sequence[Finding]) -> str:
    """Return the report for people."""
    lines = [*_heading(gateway), ""]
    for each in findings:
        lines += [f"{each.severity.upper()}  {each.id}  ({each.where})", *_wrapped(each.sentence)]
        lines += [f"  found  {evidence}" for evidence in each.evidence]
        first, *others = each.fix.split("\n")
        lines += [f"  fix    {first}", *(f"         {line}" for line in others), ""]
    # Names and values are the gateway's, and of its tenants.
    return "\n".join(brief(line, _MAX_LINE) for line in [*lines, _count(findings)]) + "\n"


def as_json(gateway: Gateway, findings: Sequence[Finding]) -> str:
    """Return the report as JSON."""
    found = {
        "envoy_version": gateway.version or None,
        "routers": [
            {
                "listener": manager.listener.get("name").text,
                "filter": router.name,
                "cluster": router.cluster.text or None,
            }
            for manager in gateway.managers
            if (router := manager.router)
        ],
        "findings": [
            {**each._asdict(), "evidence": [evidence._asdict() for evidence in each.evidence]} for each in findings
        ],
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n"


def _wrapped(sentence: str) -> list[str]:
    text = brief(sentence, _MAX_LINE)
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def _heading(gateway: Gateway) -> list[str]:
    version = f"Envoy {gateway.version}: " if gateway.version else ""
    routers = [
        f"{manager.label} calls cluster {manager.router.cluster.text or '(none)'} by filter {manager.router.name}"
        for manager in gateway.managers
        if manager.router
    ]
    return [version + ("; ".join(dict.fromkeys(routers)) or "no listener calls a router") + "."]


def _count(findings: Sequence[Finding]) -> str:
    counts = Counter(each.severity for each in findings)
    if not counts:
        return "Nothing found."
    words = [f"{counts[one]} {(_SINGULARS if counts[one] == 1 else _PLURALS)[one]}" for one in Severity if counts[one]]
    return ", ".join(words) + "."
