"""Mistyped names: suggests what was meant, and finds environment variables that no setting reads."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from bbr.config import removed
from bbr.config import settings as config

# How alike two names must be, from 0 to 1, for one to be offered in place of the other (difflib's ratio).
_LIKENESS: Final = 0.75

# More names that have a word in them are no help.
_MOST_OFFERED: Final = 3

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
    """Return a remark that names what may be meant, to follow an unknown word; it begins with a blank.

    That is the one known name that is most like the word. If none is, it is the names that have it as a part, as
    --grpc-port has --port. Empty if there are none, or too many.
    """
    import difflib  # only mistakes need it

    if len(word) > _LONGEST:
        return ""
    names = list(known)
    found = difflib.get_close_matches(word, names, n=1, cutoff=_LIKENESS) or [
        name for name in names if word.strip("-") in name.strip("-").split("-")
    ]
    if not 0 < len(found) <= _MOST_OFFERED:
        return ""
    *others, last = found
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)"


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
