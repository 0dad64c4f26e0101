"""Mistyped names: suggests what was meant, and finds environment variables that no setting reads."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from bbr.config import removed
from bbr.config import settings as config

# How alike two names must be, from 0 to 1, for one to be offered in place of the other (difflib's ratio).
_LIKENESS: Final = 0.75

# Longer words are no typing errors; to compare takes time by the product of two lengths.
_LONGEST: Final = 64

# What Kubernetes sets for each Service whose name begins with bbr: service links, in the form of Docker's.
_SERVICE_LINK: Final = re.compile(
    r"BBR(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT: Final = re.compile(r"BBR(_[A-Z0-9_]+)?_PORT")
_SERVICE_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")

# Variables that are read elsewhere: by the build, and by tests.
_OTHERS: Final = ("BBR_COMPILE", "BBR_HISTORY_STEPS")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a remark for behind a word that is unknown, with a blank before it; empty if no known one is like it."""
    import difflib  # only mistakes need it

    found = difflib.get_close_matches(word, known, n=1, cutoff=_LIKENESS) if len(word) <= _LONGEST else []
    return f" (did you mean {found[0]}?)" if found else ""


def unread_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence, without its full stop, for each variable that begins with BBR_ and that nothing reads.

    Kubernetes' service links are none. Their values are left out: they may be secrets.
    """
    known = [config.variable_of(name) for name in config.OPTIONS]
    read = {*known, *_OTHERS, *map(config.variable_of, removed.REPLACEMENTS)}
    return [
        f"{name} is not a variable of bbr{suggestion(name, known)}; it has no effect"
        for name, value in sorted(environment.items())
        if name.startswith("BBR_") and name not in read and not _is_service_link(name, value)
    ]


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name) and _SERVICE_VALUE.match(value))
