"""What is read of the cluster's HTTPRoutes (gateway.networking.k8s.io/v1), whoever looks at them."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bbr.sources.answers import Metadata

# Types of a header match: the value as it stands, or a regular expression in some gateway's dialect.
EXACT: Final = "Exact"
REGULAR_EXPRESSION: Final = "RegularExpression"


class Header(msgspec.Struct):
    """A match of one header."""

    name: str
    value: str
    type: str = EXACT


class Match(msgspec.Struct):
    """What a request must have, all of it."""

    headers: list[Header] | None = None


class Backend(msgspec.Struct):
    """Where a rule sends requests.

    Attributes:
        namespace: None: the route's own.
        weight: None: 1.
    """

    name: str = ""
    kind: str = "Service"
    group: str = ""
    namespace: str | None = None
    weight: int | None = None


class Rule(msgspec.Struct, rename="camel"):
    """Requests that fit one of the matches go to the backends."""

    matches: list[Match] | None = None
    backend_refs: list[Backend] | None = None

    def headers(self) -> Iterator[Header]:
        """Give the header matches of all its matches."""
        for match in self.matches or ():
            yield from match.headers or ()


class RouteSpec(msgspec.Struct):
    """What a route says."""

    rules: list[Rule] | None = None


class Route(msgspec.Struct):
    """An HTTPRoute. Its subclasses say to what they reduce one that another process has decoded."""

    metadata: Metadata
    spec: RouteSpec | None = None

    @property
    def rules(self) -> Sequence[Rule]:
        """Its rules; none if it has no spec."""
        return (self.spec.rules if self.spec else None) or ()
