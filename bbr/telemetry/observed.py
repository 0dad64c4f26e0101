"""What telemetry needs of an exchange: a clock for it, and the trace that it belongs to."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bbr.exchange.exchange import CallFields, Exchange
from bbr.exchange.request import SHOWN_BYTES

# Not the event loop's: uvloop's counts in milliseconds.
clock: Final = time.perf_counter


def traced(exchange: Exchange) -> tuple[str, Callable[[str], str]]:
    """Return the traceparent that counts, "" without one, and what gives other fields from where it stands.

    The gateway's own span, named in its call, comes before whatever the request names.
    """
    if exchange.call is not None:
        field = partial(_call_field, exchange.call)
        if traceparent := field("traceparent"):
            return traceparent, field
    return exchange.request_field("traceparent"), exchange.request_field


def _call_field(call: CallFields, name: str) -> str:
    return (call.get(name.encode()) or b"")[:SHOWN_BYTES].decode("ascii", "backslashreplace")
