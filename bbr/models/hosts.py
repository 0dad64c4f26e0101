"""Which scope of a table a request is in, by the host that it asks for.

Pure. Hosts are compared as bytes, in small letters, without a port and without one dot at the end. A host of a scope
comes before wildcards, and of several wildcards that fit the longest counts. `*.example.com` is any host below
example.com, however deep, and not example.com itself, as in Gateway API; `*` is any host.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Of a host, in characters; RFC 1035, section 2.3.4, without the dot at the end.
MAX_HOST: Final = 253

# Of a table.
MAX_HOSTS: Final = 10_000

ANY: Final = "*"

# Of a label; RFC 1035, section 2.3.4.
_MAX_LABEL: Final = 63
_LABEL: Final = "[a-z0-9_]++(?:-++[a-z0-9_]++)*+"
_DECLARED: Final = re.compile(rf"\*|(?:\*\.)?+{_LABEL}(?:\.{_LABEL})*+")
# Names, and numeric addresses of version 6, which stand in brackets. An authority with user information is none.
_ASKED: Final = re.compile(rb"([a-z0-9._-]{1,254}+|\[[0-9a-f:.]{2,45}+\])(?::[0-9]{0,5}+)?+")


def declared(text: str) -> str | None:
    """Return a host of a scope as it is compared; None if it is none: a name, `*.` and a name, or `*`."""
    host = text.lower()
    # Some other letters become ASCII in small letters.
    if not text.isascii() or len(host) > MAX_HOST or not _DECLARED.fullmatch(host):
        return None
    return host if max(map(len, host.split("."))) <= _MAX_LABEL else None


def asked(authority: bytes) -> str | None:
    """Return the host of an `:authority` or Host field as it is compared; None if it is none."""
    found = _ASKED.fullmatch(authority.lower())
    if found is None:
        return None
    host = found[1].removesuffix(b".").decode()
    # No label is empty.
    return host if len(host) <= MAX_HOST and ".." not in f".{host}." else None


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of all scopes.

    Attributes:
        by_host: of each host, as `declared` returns it, its scope.
    """

    by_host: Mapping[str, str]

    def scope_of(self, authority: bytes) -> str:
        """Return the scope of a request for an `:authority` or Host field; "" if it is in none."""
        host = asked(authority)
        if host is None:
            return ""
        by_host = self.by_host
        found = by_host.get(host)
        at = host.find(".")
        # 126 look-ups at most.
        while found is None and at >= 0:
            found = by_host.get(f"*{host[at:]}")
            at = host.find(".", at + 1)
        return found or by_host.get(ANY, "")

    def by_scope(self) -> dict[str, list[str]]:
        """Return the hosts of each scope that has any, in no order to rely on."""
        found: dict[str, list[str]] = {}
        for host, scope in self.by_host.items():
            found.setdefault(scope, []).append(host)
        return found

    def scopes(self) -> set[str]:
        """Return the scopes that have hosts."""
        return set(self.by_host.values())


NO_HOSTS: Final = Hosts({})
