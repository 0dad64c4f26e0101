"""Counts what happened to the body's fields whose values go into headers (--body-field).

Nothing comes here if a server reads no fields. No client can make the counts grow: their keys are an operator's fields.
"""

from collections.abc import Mapping
from typing import Final

from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Outcome
from bbr.reading.fields import BodyFields, FieldValues

FOUND: Final = "found"  # the header was set
ABSENT: Final = "absent"  # the body has no such field, or it is null or ""
LATE: Final = "late"  # the body has it, but behind the bytes in which an `early` field is looked for
REFUSED: Final = "refused"  # the request was, for what is wrong with the field
RESULTS: Final = (FOUND, ABSENT, LATE, REFUSED)


class FieldCounts:
    """Counts requests whose body was read, by field and result.

    Attributes:
        config: the fields.
        requests: (number of the field, result) -> requests.
    """

    def __init__(self, config: BodyFields) -> None:
        self.config = config
        self.requests: dict[tuple[int, str], int] = {
            (index, result): 0 for index in range(len(config.fields)) for result in RESULTS
        }

    def ended(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        found = exchange.verdict.fields
        if found is None:
            return
        for index, result in _results(found).items():
            self.requests[index, result] += 1


def _results(found: FieldValues) -> Mapping[int, str]:
    """Return what happened to each field; if the request was refused for a field, only that one."""
    if found.refusal is not None:
        at_fault = found.refusal.param or ""
        return {
            index: REFUSED
            for index, field in enumerate(found.config.fields)
            if field.name == at_fault or field.name.startswith(f"{at_fault}.")
        }
    return {
        index: FOUND if value is not None else LATE if index in found.late else ABSENT
        for index, value in enumerate(found.values)
    }


def logged(exchange: Exchange) -> dict[str, str]:
    """Return what the headers of a request got that the access log may show, by the headers' names."""
    found = exchange.verdict.fields
    if found is None or exchange.verdict.outcome is Outcome.REFUSED:
        return {}
    return {
        field.header.lower(): value.decode()
        for field, value in zip(found.config.fields, found.values, strict=True)
        if field.logged and value is not None
    }
