"""How the status page writes values: as HTML in which all text is escaped.

Invisible characters are spelled out: with them one name can look like another. Each text is in a <bdi>, so that its
writing direction cannot change the text around it.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from bbr.text import escape, printable

# Shares of requests that failed, from which on a share is a warning, and bad.
WARN_SHARE: Final = 0.01
BAD_SHARE: Final = 0.05

# Characters of a name, or of a sentence about an object, that the page shows; its tooltip has more of a name.
SHOWN: Final = 600

NONE: Final = "–"  # noqa: RUF001 (no hyphen: it stands for a number)


def value(form: str, given: Any) -> str:
    """Return a value in its form, which is the class of its element."""
    text = escape(FORMS[form](given))
    return f'<bdi class="{form}" data-is="{text}">{text}</bdi>'


def cell(form: str, given: Any) -> str:
    """Return a value in its form, for a cell of a table."""
    html = escape(FORMS[form](given))
    return f"<bdi>{breakable(html) if form == 'name' else html}</bdi>"


def breakable(name: str) -> str:
    """Return a name, escaped, that a narrow column breaks behind a slash or a hyphen if it can, and not anywhere."""
    return name.replace("/", "/<wbr/>").replace("-", "-<wbr/>")


def level(share: float | None) -> str:
    """Return what a share of failed requests is: "" without requests, ok, warn or bad."""
    if share is None:
        return ""
    return "bad" if share >= BAD_SHARE else "warn" if share >= WARN_SHARE else "ok"


def cut(text: str, limit: int = SHOWN) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shown(given: str) -> str:
    return cut(printable(given[: SHOWN + 1]))


def _text(given: str) -> str:
    return _shown(given) or NONE


def _named(given: str) -> str:
    return _shown(given) or "(none)"


def _count(given: int | None) -> str:
    return NONE if given is None else f"{given:,}"


def _rate(given: float | None) -> str:
    if given is None:
        return NONE
    if 0 < given < 0.1:
        return "< 0.1"
    return _count(_rounded(given)) if given >= 100 else _tenths(given)


def _share(given: float | None) -> str:
    if given is None:
        return NONE
    percent = given * 100
    if 0 < percent < 0.1:
        return "< 0.1%"
    return f"{_tenths(percent)}%"


def _bytes(given: float) -> str:
    if given < 1024:
        return f"{given} B"
    for unit in ("KiB", "MiB"):
        given /= 1024
        if given < 1024:
            return f"{_tenths(given)} {unit}"
    return f"{_tenths(given / 1024)} GiB"


def _duration(given: float) -> str:
    seconds = math.floor(given)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds // 60 % 60} min"
    return f"{seconds // 86_400} d {seconds // 3600 % 24} h"


def _ago(given: float) -> str:
    return f"{_duration(given)} ago"


def _bound(given: Mapping[str, float] | None) -> str:
    if given is None:
        return NONE
    ((sort, seconds),) = given.items()
    sign = "≤" if sort == "at_most_seconds" else ">"
    return f"{sign} {seconds:g} s" if seconds >= 1 else f"{sign} {_rounded(seconds * 1e6) / 1e3:g} ms"


def _clock(given: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(given))


def _state(given: bool) -> str:
    return "ready" if given else "not ready"


def _whether(given: bool) -> str:
    return "yes" if given else "no"


def _rounded(given: float) -> int:
    return math.floor(given + 0.5)  # round() would go to the even one


def _tenths(given: float) -> str:
    return f"{_rounded(given * 10) / 10:g}"


FORMS: Final[Mapping[str, Callable[[Any], str]]] = {
    "text": _text,
    "name": _named,
    "count": _count,
    "rate": _rate,
    "share": _share,
    "bytes": _bytes,
    "duration": _duration,
    "ago": _ago,
    "bound": _bound,
    "clock": _clock,
    "state": _state,
    "whether": _whether,
}
