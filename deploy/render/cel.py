"""Rules in CEL that CRDs state for their objects (x-kubernetes-validations), by Google's own implementation of CEL.

An API server knows functions for URLs, addresses and quantities besides; those that the CRDs here use are in
`_functions`. Rules that compare an object with what it was before don't apply to one that is new.
Source: Kubernetes, "Common Expression Language in Kubernetes".
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_SUFFIXES: Final = {"": 1.0} | {
    **dict(zip("num", (1e-9, 1e-6, 1e-3), strict=True)),
    **{letter: 1e3 ** (place + 1) for place, letter in enumerate("kMGTPE")},
    **{f"{letter}i": 1024.0 ** (place + 1) for place, letter in enumerate("KMGTPE")},
}
_BEFORE: Final = re.compile(r"\boldSelf\b")


class RuleError(Exception):
    """A rule of a CRD can't be compiled here; names the rule and why."""


def quantity(text: str) -> float:
    """Return a quantity of Kubernetes ("1500m", "2Gi") as a number.

    Raises:
        ValueError: the text is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    suffix = found[2] or ""
    return float(found[1]) * (_SUFFIXES[suffix] if suffix in _SUFFIXES else 10.0 ** int(suffix[1:]))


def _is(read: Any) -> Any:
    """Return a function that tells whether `read` takes a text."""

    def holds(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return holds


def _functions() -> list[Any]:
    kinds = cel.Type
    text, number, truth, any_ = kinds.STRING, kinds.DOUBLE, kinds.BOOL, kinds.DYN

    def function(name: str, result: Any, parameters: list[Any], work: Any, *, member: bool = False) -> Any:
        overload = cel.Overload(
            id=f"{name}_{len(parameters)}", return_type=result, parameters=parameters, is_member=member, impl=work
        )
        return cel.FunctionDecl(name, [overload])

    def part(read: Any) -> Any:
        return lambda url: read(urlsplit(url["url"]))

    return [
        function("isURL", truth, [text], lambda url: bool(urlsplit(url).scheme or url.startswith("/"))),
        function("url", any_, [text], lambda url: {"url": url}),
        function("getScheme", text, [any_], part(lambda url: url.scheme), member=True),
        function("getHost", text, [any_], part(lambda url: url.netloc), member=True),
        function("getHostname", text, [any_], part(lambda url: url.hostname or ""), member=True),
        function("getPort", text, [any_], part(lambda url: str(url.port or "")), member=True),
        function("isQuantity", truth, [text], _is(quantity)),
        function("quantity", number, [text], quantity),
        function("isGreaterThan", truth, [number, number], lambda one, two: one > two, member=True),
        function("isLessThan", truth, [number, number], lambda one, two: one < two, member=True),
        function("isIP", truth, [text], _is(ipaddress.ip_address)),
        function("isCIDR", truth, [text], _is(lambda text: ipaddress.ip_network(text, strict=False))),
    ]


class Rules:
    """Compiles rules once, and asks them of objects."""

    def __init__(self) -> None:
        extensions = [ext_optional.ExtOptional(), ext_strings.ExtStrings(), cel.CelExtension("k8s", _functions())]
        kinds = {"self": cel.Type.DYN, "oldSelf": cel.Type.DYN}
        self._environment = cel.NewEnv(variables=kinds, extensions=extensions)
        self._programs: dict[str, Any] = {}

    def faults(self, schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
        """Yield what the rules of a structural schema say of a value, and of all inside, each with the path to it.

        Raises:
            RuleError: a rule can't be compiled.
        """
        if value is None:
            return
        for stated in schema.get("x-kubernetes-validations", []):
            if not _BEFORE.search(stated["rule"]) or stated.get("optionalOldSelf"):
                yield from self._broken(stated, value, path)
        if isinstance(value, dict):
            others = schema.get("additionalProperties")
            for name, each in value.items():
                inner = schema.get("properties", {}).get(name) or (others if isinstance(others, dict) else {})
                yield from self.faults(inner, each, f"{path}.{name}".removeprefix("."))
        elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
            for place, each in enumerate(value):
                yield from self.faults(items, each, f"{path}[{place}]")

    def _broken(self, stated: Mapping[str, Any], value: object, path: str) -> Iterator[str]:
        where = f"{path}{stated.get('fieldPath', '')}".removeprefix(".")
        said = stated.get("message") or f"it breaks the rule {stated['rule']}"
        try:
            if self._ask(stated["rule"], value) is True:
                return
        except ValueError as error:
            # A server refuses then as well: the rule reads a field that is not there, for one.
            said += f" (the rule has no result: {error})"
        if "messageExpression" in stated:
            with contextlib.suppress(ValueError):
                said = str(self._ask(stated["messageExpression"], value))
        yield f"{where}: {said}"

    def _ask(self, expression: str, value: object) -> object:
        """Return what an expression makes of a value.

        Raises:
            RuleError: it can't be compiled.
            ValueError: it comes to an error.
        """
        if expression not in self._programs:
            try:
                self._programs[expression] = self._environment.compile(expression)
            except Exception as error:  # the library has no class of its own for it
                raise RuleError(f"the rule {expression!r} can't be compiled: {error}") from error
        try:
            found = self._programs[expression].eval(data={"self": value})
        except Exception as error:  # nor for this
            raise ValueError(str(error)) from error
        if found.type() == cel.Type.ERROR:
            raise ValueError(str(found.plain_value()))
        return found.plain_value()
