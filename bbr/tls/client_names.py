"""Which client certificates are accepted, by their names (subject alternative names)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# What the log tells of one certificate: a gateway's has a name or two.
_TOLD_NAMES: Final = 8
_TOLD_CHARACTERS: Final = 200

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

    def allows(self, name: SubjectName) -> bool:
        """Tell whether a certificate's name is one of those meant."""
        if _is_uri(self.text):
            if name.kind != _URI:
                return False
            stem = self.text.removesuffix("*")
            return name.text.startswith(stem) and len(name.text) > len(stem) if self._wild else name.text == self.text
        wanted, found = self.text.lower(), name.text.lower()
        if name.kind != _DNS:
            return False
        if wanted.startswith("*."):
            label, point, rest = found.partition(".")
            return _is_label(label) and point + rest == wanted[1:]
        return found == wanted

    @property
    def _wild(self) -> bool:
        return self.text.endswith("/*")


def refusal(names: Iterable[SubjectName], allowed: tuple[AllowedName, ...]) -> str:
    """Return why a verified certificate with these names is not let in; "" if it is.

    The text is fit for a log, whatever the names hold. No rule at all allows every name, and none.
    """
    names = tuple(names)
    if not allowed or any(rule.allows(name) for name in names for rule in allowed):
        return ""
    if not names:
        return "the client's certificate has no subject alternative name, and --tls-client-san requires one"
    return f"--tls-client-san allows none of the names in the client's certificate: {_told(names)}"


def _told(names: tuple[SubjectName, ...]) -> str:
    told = [f"{name.kind}:{ascii(name.text[:_TOLD_CHARACTERS])[1:-1]}" for name in names[:_TOLD_NAMES]]
    more = len(names) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


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
