"""Which client certificates are accepted, by their names (subject alternative names)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# What the log shows of one certificate: a gateway's has a name or two.
_SHOWN_NAMES: Final = 8
_SHOWN_CHARACTERS: Final = 200

_DNS: Final = "DNS"
_URI: Final = "URI"
_LABEL: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True, slots=True)
class SubjectName:
    """A name that a certificate is issued for.

    Attributes:
        kind: `DNS`, `URI`, or another kind, which no rule can allow.
        text: as the certificate has it.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class AllowedName:
    """A rule: a DNS name or a URI, whole or with its one wildcard.

    `gateway.example` is compared without regard to case; `*.example` stands for names with exactly one label more.
    `spiffe://cluster.local/ns/gateways/sa/envoy` is compared exactly; with `/*` at its end it stands for every URI that
    is longer than what is before the star. A certificate's own wildcards and its common name count for nothing.

    Raises:
        ValueError: the text is neither; the message completes a sentence that begins with it.
    """

    text: str

    def __post_init__(self) -> None:
        if not (_is_uri(self.text) or _is_dns(self.text)):
            raise ValueError(
                "is neither a DNS name, perhaps with *. at its beginning, nor a URI (scheme://...), perhaps with /* at "
                "its end"
            )


class _Rules:
    """All rules together, so that a name is compared with all of them at once.

    A certificate of 15 KB holds 2,000 names: compared with each of 40 rules one by one they took 60 ms.
    """

    def __init__(self, allowed: tuple[AllowedName, ...]) -> None:
        uris = [rule.text for rule in allowed if _is_uri(rule.text)]
        self._uris = frozenset(uris)
        self._stems = tuple(uri[:-1] for uri in uris if uri.endswith("/*"))
        dns = {rule.text.lower() for rule in allowed if not _is_uri(rule.text)}
        self._domains = frozenset(text[1:] for text in dns if text.startswith("*."))
        self._names = frozenset(text for text in dns if not text.startswith("*."))

    def allow(self, name: SubjectName) -> bool:
        """Tell whether a rule allows a certificate's name."""
        text = name.text
        if name.kind == _URI:
            # Longer than what is before the star: so it begins with that even without its last character.
            return text in self._uris or text[:-1].startswith(self._stems)
        if name.kind != _DNS:
            return False
        text = text.lower()
        label, point, rest = text.partition(".")
        return text in self._names or (point + rest in self._domains and _is_label(label))


_rules = lru_cache(4)(_Rules)  # the tables of the two ports, and of those before a reload


def refusal(names: Iterable[SubjectName], allowed: tuple[AllowedName, ...]) -> str:
    """Return why a verified certificate with these names is not let in; "" if it is.

    The text is fit for a log, whatever the names hold. No rule at all allows every name, and none.
    """
    names = tuple(names)
    if not allowed or any(map(_rules(allowed).allow, names)):
        return ""
    if not names:
        return "the client's certificate has no subject alternative name, and --tls-client-san requires one"
    return f"--tls-client-san allows none of the names in the client's certificate: {_shown(names)}"


def _shown(names: tuple[SubjectName, ...]) -> str:
    shown = [f"{name.kind}:{ascii(name.text[:_SHOWN_CHARACTERS])[1:-1]}" for name in names[:_SHOWN_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _is_uri(text: str) -> bool:
    scheme, colon, rest = text.partition("://")
    stem = rest.removesuffix("/*")
    return bool(
        colon and scheme[:1].isalpha() and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum() and stem
    ) and all("!" <= character <= "~" and character not in "*," for character in scheme + stem)


def _is_dns(text: str) -> bool:
    labels = text.lower().removeprefix("*.").split(".")
    if labels[-1].isdigit():  # an IP address, which is another kind of name
        return False
    return len(text) <= 253 and all(_is_label(label) for label in labels)


def _is_label(text: str) -> bool:
    return 1 <= len(text) <= 63 and _LABEL.issuperset(text)
