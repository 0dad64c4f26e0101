"""One log record for each finished request: its outcome, its duration, and the ids to find it elsewhere.

It never has a body, a prompt, a query, or a header other than x-request-id and traceparent, except for headers of
--body-field that have the option `log`. The lines per second are limited, and those left out are counted, so no client
can fill a disk with rejected requests.
"""

import logging
import random
import re
from collections.abc import Callable
from typing import Any, Final

from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Outcome
from bbr.telemetry import field_counts, logs, observed
from bbr.telemetry.allowance import Allowance

log = logging.getLogger(logs.ACCESS)

# Looked up once: most requests are only compared with these.
_REFUSED: Final = Outcome.REFUSED
_FAULT: Final = Outcome.FAULT

_MAX_PATH: Final = 256
_MAX_METHOD: Final = 32
_MAX_REQUEST_ID: Final = 128

# Where a path ends, or what a server may take for its end if it decodes once more: keys stand behind it.
_PATH_END: Final = re.compile("[?#;]|%(?:3f|3b|23)", re.IGNORECASE)
_TRACEPARENT: Final = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)

# Calls something after some seconds.
Later = Callable[[float, Callable[[], None]], object]


class AccessLog:
    """Writes the record of a request, if it is wanted.

    Refused requests and broken streams always are; of the others a share, picked at random.
    """

    def __init__(self, share: float, rate: int, max_model: int, later: Later) -> None:
        """Prepare.

        Args:
            share: of requests that are no errors, 0 to 1.
            rate: lines in a second, of errors and of others each; 0 for no bound.
            max_model: characters of a model's name.
            later: of the event loop.
        """
        self._share = share
        self._max_model = max_model
        self._later = later
        self._errors = Allowance(rate, 1.0) if rate else None
        self._others = Allowance(rate, 1.0) if rate else None
        self._report_due = False  # `close` will be called soon

    def ended(self, exchange: Exchange) -> None:
        """Write the record of an exchange that is over, if it is wanted."""
        outcome = exchange.verdict.outcome
        if outcome is _REFUSED or outcome is _FAULT:
            self._write(exchange, self._errors)
        elif self._share and (self._share == 1.0 or random.random() < self._share):  # noqa: S311 (a sample)
            self._write(exchange, self._others)

    def close(self) -> None:
        """Log how many records were left out since the last such line."""
        self._report_due = False
        for what, allowance in (("refused", self._errors), ("other", self._others)):
            if allowance is not None and (left_out := allowance.take_left_out()):
                words = "%d records of %s requests were left out: more than --access-log-rate in a second"
                log.warning(words, left_out, what, extra={"left_out": left_out})

    def _write(self, exchange: Exchange, allowance: Allowance | None) -> None:
        if allowance is not None and not allowance.take(observed.clock()):
            if not self._report_due:
                self._report_due = True
                self._later(1.0, self.close)
            return
        outcome = exchange.verdict.outcome
        level = logging.WARNING if outcome is _FAULT else logging.INFO
        log.log(level, "request %s", outcome.value, extra=record(exchange, self._max_model))


def record(exchange: Exchange, max_model: int) -> dict[str, Any]:
    """Return the fields of a request's record; unknown ones are left out."""
    verdict = exchange.verdict
    fields: dict[str, Any] = {"outcome": verdict.outcome.value}
    if verdict.reason:
        fields["reason"] = verdict.reason
    if verdict.scope:
        fields["scope"] = verdict.scope
    if verdict.model is not None:
        fields["model"] = verdict.model[:max_model]
    if verdict.base_model is not None:
        fields["base_model"] = verdict.base_model
    if verdict.fields is not None and (logged := field_counts.logged(exchange)):
        fields["fields"] = logged
    fields["method"] = exchange.request_field(":method")[:_MAX_METHOD]
    fields["path"] = shown_path(exchange.request_field(":path"))
    fields["body_bytes"] = verdict.body_bytes
    fields["early"] = verdict.early
    times = exchange.times
    if times.decided is not None:
        fields["duration_ms"] = round((times.decided - times.began) * 1e3, 3)
        fields["busy_us"] = round(times.busy_seconds * 1e6, 1)
    fields["request_id"] = exchange.request_field("x-request-id")[:_MAX_REQUEST_ID]
    fields["trace_id"] = trace_id(observed.traced(exchange)[0])
    return {name: value for name, value in fields.items() if value != ""}


def trace_id(traceparent: str) -> str:
    """Return the trace of a traceparent field; "" if the field is not as it must be.

    Source: W3C Trace Context, section 3.2. Later versions may have more behind a dash.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if not found or found[1] == "ff" or (found[1] == "00" and found[4]):
        return ""
    return "" if int(found[2], 16) == 0 or int(found[3], 16) == 0 else found[2]


def shown_path(path: str) -> str:
    """Return the part of a path that can hold no secret, at most _MAX_PATH characters of it."""
    # Of an absolute form, which gateways take apart, not even the beginning: it could hold a password.
    return _PATH_END.split(path, maxsplit=1)[0][:_MAX_PATH] if path.startswith("/") else ""
