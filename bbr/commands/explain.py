"""`bbr explain`: what would happen to one request, and why.

It gives the request to a real Exchange, with the policy and the table that `bbr serve` would have, and prints the
answer.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from bbr.commands import output
from bbr.commands.exits import EXIT_FAILED, EXIT_OK, CommandError
from bbr.config import options
from bbr.config import settings as config
from bbr.config.arguments import Arguments, add_settings
from bbr.config.options import Group
from bbr.config.settings import ConfigError, Settings
from bbr.exchange.asker import Asker
from bbr.exchange.exchange import Exchange
from bbr.exchange.verdict import Outcome, Verdict
from bbr.headers import listed
from bbr.models.entries import described
from bbr.pb.ext_proc_pb2 import (
    CommonResponse,
    HeaderMap,
    HeaderValue,
    HttpBody,
    HttpHeaders,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from bbr.router import Router
from bbr.sources import description
from bbr.sources.objects import SourceError
from bbr.text import dumps, encodable, printable, quoted

ARGUMENTS: Final = "[OPTION...] [JSON|FILE|-]"
DESCRIPTION: Final = """\
Tell what `bbr serve` would do with a request, with the same options and variables: which headers it would set and
remove, or what it would answer, by which rule, and which object declares the model. A body without a content-type
counts as JSON."""
EPILOG: Final = """\
Examples:
  bbr explain --models models.yaml '{"model": "sql-lora"}'
  bbr explain --models models.yaml --header 'content-type: application/json' request.json

Exit status: 0; 1 if the table can't be used; 2 if the body, an option or a variable is unusable."""

_BODY_FORMS: Final = "give JSON that begins with { or [, the name of a file, or - for stdin"
_BODY_HELP: Final = "the request's body: as JSON that begins with { or [, in a file, or - for stdin (default: none)"

# Groups of settings that do not matter to a single request.
_BESIDE: Final = (Group.PORTS, Group.LIFE, Group.LOGS, Group.RARE)

# A tab may stand in a value (RFC 9110, section 5.5).
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_PASSED: Final = {
    Outcome.NO_BODY: "it has no body, and nothing else that names a model",
    Outcome.NOT_READ: "its body is not read: by its method or content type, or by --include-path and --exclude-path",
    Outcome.NO_MODEL: "its body names no model",
    Outcome.OVER_LIMIT: "its body is over --max-body-bytes, and --over-limit lets it pass",
    Outcome.INVALID: "its body is not strict JSON, and --on-invalid-json lets it pass",
}


class SampleRequest(NamedTuple):
    """A request to explain.

    Attributes:
        method: as in `POST`.
        path: with its query.
        headers: names in any letter case, and values.
        body: the body, or None for a request without one.
        askers: names of whoever asks, as the gateway gives them.
        host: that it asks for.
        scope: that the gateway names; "" for none.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    askers: Sequence[str] = ()
    host: str = "localhost"
    scope: str = ""


class _Given(NamedTuple):
    """Names that a gateway gives with a request, and where it puts them."""

    where: Asker
    names: Sequence[str]


@dataclass(slots=True)
class Effect:
    """What a gateway makes of the answers.

    Attributes:
        verdict: the exchange's.
        set_headers: by the names as they are set.
        removed_headers: those that are removed and not set.
        answer: the response that the client gets from the router.
    """

    verdict: Verdict
    set_headers: dict[str, str] = field(default_factory=dict)
    removed_headers: list[str] = field(default_factory=list)
    answer: ImmediateResponse | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr explain`."""
    parser.add_argument("body", metavar="JSON|FILE|-", nargs="?", help=_BODY_HELP)
    parser.add_argument("--header", action="append", metavar="NAME:VALUE", help="a header; may be given several times")
    parser.add_argument(
        "--asked-by",
        metavar="NAME",
        help="the client's name, as the gateway would put it where --asker says; several names with commas",
    )
    parser.add_argument(
        "--host", metavar="HOST", default="localhost", help="host, with a port or without (default: localhost)"
    )
    parser.add_argument("--in-scope", metavar="NAME", help="the scope, as the gateway tells it where --scope says")
    parser.add_argument("--path", default="/v1/chat/completions", help="URL path (default: /v1/chat/completions)")
    parser.add_argument("--method", help="HTTP method (default: POST, or GET without a body)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, hidden=_BESIDE)


def run(arguments: Arguments) -> int:
    """Print what would happen to the request, and return the exit status.

    Raises:
        ConfigError: a setting, a header or the body is unusable.
        CommandError: the table is.
    """
    settings = arguments.settings()
    # One byte more than the limit shows what happens to all longer ones.
    request = _request(arguments, settings.max_body_bytes + 1)
    output.answer_only()
    try:
        output.write(explain(settings, request, as_json=arguments["json"]), as_json=arguments["json"])
    except SourceError as error:
        raise CommandError(EXIT_FAILED, error) from None
    return EXIT_OK


def _request(arguments: Arguments, most: int) -> SampleRequest:
    headers = []
    for text in arguments["header"] or ():
        name, colon, value = text.partition(":")
        if not colon or not options.is_header_name(name.strip()):
            raise ConfigError(f"--header: {quoted(text)} is not NAME:VALUE")
        headers.append((name.strip(), value.strip()))
        _check_text("header", value)
    for name in ("method", "path", "host", "asked_by", "in_scope"):
        _check_text(name, arguments[name] or "")
    body = _body(arguments["body"], most)
    if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    method = arguments["method"] or ("GET" if body is None else "POST")
    askers = [name.strip() for name in (arguments["asked_by"] or "").split(",") if name.strip()]
    host, scope = arguments["host"], arguments["in_scope"] or ""
    return SampleRequest(method, arguments["path"], headers, body, askers, host, scope)


def _check_text(name: str, text: str) -> None:
    """Refuse what no gateway sends in a header, or what metadata can't hold."""
    if _CONTROL.search(text):
        raise ConfigError(f"{config.flag_of(name)}: {quoted(text)} has a control character, which no header can have")
    if name in ("asked_by", "in_scope") and encodable(text) != text:
        raise ConfigError(f"{config.flag_of(name)}: {quoted(text)} is not UTF-8")


def _body(name: str | None, most: int) -> bytes | None:
    """Return the body that an argument gives, or its first bytes: so many at most."""
    if name is None:
        return None
    if name.lstrip().startswith(("{", "[")):
        return os.fsencode(name)
    if name == "-":
        return sys.stdin.buffer.read(most)
    if not name:
        raise ConfigError(f"the body is an empty argument: {_BODY_FORMS}")
    try:
        with Path(name).open("rb") as opened:
            return opened.read(most)
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: {error.strerror}: {_BODY_FORMS}") from None
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None


def explain(settings: Settings, request: SampleRequest, *, as_json: bool = False) -> str:
    """Return what would happen to a request, as text or as JSON.

    Raises:
        SourceError: the model table can't be read.
        ConfigError: the request says who asks, or its scope, and no setting says where a gateway puts it.
    """
    router = Router(settings)
    asker, scope = router.policy.asker, router.policy.scope
    given = []
    if asker is not None and request.askers:
        given.append(_Given(asker, request.askers))
    elif request.askers:
        raise ConfigError("--asked-by needs --asker, which says where a gateway tells who asks")
    if scope is not None and request.scope:
        given.append(_Given(scope, (request.scope,)))
    elif request.scope:
        raise ConfigError("--in-scope needs --scope, which says where a gateway tells the scope; --host tells the host")
    router.sources.load()  # as serve does it: a broken file is an error
    router.sources.read_all()
    effect = _effect(router.exchange(), request, given)
    if as_json:
        return dumps(_facts(effect), option=orjson.OPT_INDENT_2).decode() + "\n"
    return "".join(f"{printable(line)}\n" for line in _lines(effect))


def _effect(exchange: Exchange, request: SampleRequest, given: Sequence[_Given]) -> Effect:
    effect = Effect(exchange.verdict)
    removed: dict[str, None] = {}
    for message in _messages(request, given):
        for answer in map(ProcessingResponse.FromString, _answers(exchange, message)):
            if answer.HasField("immediate_response"):
                effect.answer = answer.immediate_response
                return effect
            mutation = _common(answer).header_mutation
            removed.update(dict.fromkeys(mutation.remove_headers))
            for option in mutation.set_headers:
                effect.set_headers[option.header.key] = option.header.raw_value.decode()
    names = {name.lower() for name in effect.set_headers}
    effect.removed_headers = [name for name in removed if name.lower() not in names]
    return effect


def _answers(exchange: Exchange, message: bytes) -> Iterator[bytes]:
    yield from exchange.receive(message)
    while exchange.pending:
        yield from exchange.work()


def _common(answer: ProcessingResponse) -> CommonResponse:
    kind = answer.request_headers if answer.HasField("request_headers") else answer.request_body
    return kind.response


def _messages(request: SampleRequest, given: Sequence[_Given]) -> Iterator[bytes]:
    """Give the request as a gateway sends it that does not name its body mode, which --assume-body-mode then does."""
    fields = [(":method", request.method), (":path", request.path), (":scheme", "https"), (":authority", request.host)]
    fields += [(name.lower(), value) for name, value in request.headers]
    fields += [(where.header, ",".join(names)) for where, names in given if where.header]
    # Words of a command line may be any bytes, and so may values.
    values = (HeaderValue(key=key, raw_value=os.fsencode(value)).SerializeToString() for key, value in fields)
    headers = HttpHeaders(headers=HeaderMap(headers=values), end_of_stream=request.body is None)
    first = ProcessingRequest(request_headers=headers)
    for where, names in given:
        where.put_into(first, names)
    yield first.SerializeToString()
    if request.body is not None:
        yield ProcessingRequest(request_body=HttpBody(body=request.body, end_of_stream=True)).SerializeToString()


def _lines(effect: Effect) -> Iterator[str]:
    verdict, route = effect.verdict, effect.verdict.route
    if verdict.scope:
        yield f"In scope {verdict.scope}."
    if effect.answer is not None:
        # With --compat the answer has no details.
        details = effect.answer.details or f"bbr:{verdict.reason}"
        yield f"The router answers itself: {effect.answer.status.code}, {details}."
        yield effect.answer.body.decode()
        return
    if route is not None:
        requested = "" if verdict.model is None else f" {verdict.model}"
        declared = f" ({route.origin})" if route.origin else ""
        if route.shares:
            declared += f": this request is for {route.model}, of {described(route.shares)}"
        yield f"Routed{requested}: {route.why}{declared}."
    else:
        yield f"Passed on without routing headers: {_PASSED[verdict.outcome]}{_reason(verdict)}."
    for name, value in effect.set_headers.items():
        yield f"  set     {name}: {value}"
    if verdict.rewritten and route is not None:
        yield f"  body    names {route.model} from here on (--alias-rewrite=body)"
    if verdict.decoded:
        yield "  body    goes on decoded (--forward-decoded)"
    for name in listed(effect.removed_headers):
        yield f"  remove  {name}"


def _reason(verdict: Verdict) -> str:
    return f" ({verdict.reason})" if verdict.reason else ""


def _facts(effect: Effect) -> dict[str, Any]:
    verdict, route = effect.verdict, effect.verdict.route
    found: dict[str, Any] = {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason or None,
        "scope": verdict.scope or None,
        "requested_model": verdict.model,
        "forward_decoded": verdict.decoded,
        "body_rewritten": verdict.rewritten,
        "rule": route.why if route else None,
        "pattern": route.pattern or None if route else None,
        "shares": description.shares(route.shares) if route else [],
        "declared_by": description.origin(route.origin) if route and route.origin else None,
        "set_headers": effect.set_headers,
        "removed_headers": effect.removed_headers,
        "answer": None,
    }
    if effect.answer is not None:
        found["answer"] = {
            "status": effect.answer.status.code,
            "details": effect.answer.details,
            "body": effect.answer.body.decode(),
        }
    return found
