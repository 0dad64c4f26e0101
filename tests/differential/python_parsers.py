"""Reads cases on standard input and tells on standard output which model each parser of PyPI's reads; see differ.py."""

import asyncio
import email.message
import email.parser
import io
import json
import struct
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, BinaryIO, NamedTuple
from unittest import mock
from urllib.parse import parse_qs, parse_qsl, unquote

import msgspec
import orjson
import pydantic
from aiohttp import streams
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from aiohttp.web_urldispatcher import UrlDispatcher
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from starlette.requests import Request as StarletteRequest
from starlette.routing import Match, Route
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as WerkzeugRequest

from tests.differential.protocol import read_field

settings.configure(DEFAULT_CHARSET="utf-8", DATA_UPLOAD_MAX_MEMORY_SIZE=None)


class Case(NamedTuple):
    """One request."""

    method_octets: bytes
    content_type: bytes | None
    path: bytes
    body: bytes

    @property
    def method(self) -> str:
        """Its method as a str."""
        return self.method_octets.decode("latin-1")

    @property
    def type(self) -> str:
        """Its Content-Type as a str, empty if there is none."""
        return (self.content_type or b"").decode("latin-1")

    @property
    def query(self) -> bytes:
        """Of its URL."""
        return self.path.partition(b"?")[2].partition(b"#")[0]

    @property
    def is_form(self) -> bool:
        """Whether it is called a form: what reads any text as one is asked only then."""
        return "urlencoded" in self.type.lower()


Read = Callable[[Case], object]


def said(value: object) -> object:
    """Return a model as it is reported: a str, None, or something else that is no name."""
    return value if value is None or isinstance(value, str) else {"other": repr(value)[:200]}


def of_object(value: object) -> object:
    """Return the model of a decoded JSON document."""
    return value.get("model") if isinstance(value, dict) else None


# Starlette, as FastAPI uses it.


def starlette(case: Case) -> StarletteRequest:
    headers = [] if case.content_type is None else [(b"content-type", case.content_type)]
    scope = {"type": "http", "method": case.method, "path": "/", "query_string": case.query, "headers": headers}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": case.body, "more_body": False}

    return StarletteRequest(scope, receive)


async def starlette_form(case: Case) -> object:
    form = await starlette(case).form()
    found = form.getlist("model")
    return found[0] if len(found) == 1 else found or None


async def starlette_last(case: Case) -> object:
    return (await starlette(case).form()).get("model")


async def starlette_json(case: Case) -> object:
    return of_object(await starlette(case).json())


async def fastapi_json(case: Case) -> object:
    """Read a body as FastAPI does: JSON if its type says so, or is absent."""
    message = email.message.Message()
    if case.content_type is not None:
        message["content-type"] = case.type
        if message.get_content_maintype() != "application":
            return None
        subtype = message.get_content_subtype()
        if subtype != "json" and not subtype.endswith("+json"):
            return None
    return of_object(await starlette(case).json())


# aiohttp.


def aiohttp_request(case: Case) -> Any:
    headers = {} if case.content_type is None else {"Content-Type": case.type}
    payload = streams.StreamReader(mock.Mock(spec=BaseProtocol), limit=1 << 16, loop=asyncio.get_running_loop())
    payload.feed_data(case.body)
    payload.feed_eof()
    return make_mocked_request(case.method, "/?" + case.query.decode("latin-1"), headers=headers, payload=payload)


async def aiohttp_post(case: Case) -> object:
    found = (await aiohttp_request(case).post()).getall("model", [])
    return found[0] if len(found) == 1 else found or None


async def aiohttp_json(case: Case) -> object:
    return of_object(await aiohttp_request(case).json())


# Django and Werkzeug (Flask).


def environ(case: Case) -> dict[str, Any]:
    made = {
        "REQUEST_METHOD": case.method,
        "PATH_INFO": "/",
        "QUERY_STRING": case.query.decode("latin-1"),
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(case.body),
        "CONTENT_LENGTH": str(len(case.body)),
    }
    if case.content_type is not None:
        made["CONTENT_TYPE"] = case.type
    return made


def django_post(case: Case) -> object:
    found = WSGIRequest(environ(case)).POST.getlist("model")
    return found[0] if len(found) == 1 else found or None


def django_json(case: Case) -> object:
    return of_object(json.loads(WSGIRequest(environ(case)).body))


def werkzeug_form(case: Case) -> object:
    found = WerkzeugRequest(environ(case)).form.getlist("model")
    return found[0] if len(found) == 1 else found or None


def werkzeug_values(case: Case) -> object:
    return WerkzeugRequest(environ(case)).values.get("model")


def werkzeug_json(case: Case) -> object:
    return of_object(WerkzeugRequest(environ(case)).get_json(force=True))


# The standard library and parsers of JSON.


def by_email(case: Case) -> object:
    if not case.type.lower().startswith("multipart/"):
        return None
    message = email.parser.BytesParser().parsebytes(
        b"Content-Type: " + (case.content_type or b"") + b"\r\n\r\n" + case.body
    )
    found = None
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if (name[2] if isinstance(name, tuple) else name) == "model":
            found = part.get_payload(decode=True)
    return found.decode() if isinstance(found, bytes) else found


def by_parse_qs(**options: Any) -> Read:
    def read(case: Case) -> object:
        found = (
            parse_qs(case.body.decode(options.get("encoding", "utf-8")), **options).get("model")
            if case.is_form
            else None
        )
        return found[0] if found and len(found) == 1 else found

    return read


def by_parse_qsl_octets(case: Case) -> object:
    values = [value for name, value in parse_qsl(case.body) if name == b"model"] if case.is_form else []
    return values[-1].decode() if values else None


class Named(pydantic.BaseModel):
    """A model server's request."""

    model_config = pydantic.ConfigDict(extra="ignore")
    model: str | None = None


def by_pairs(case: Case) -> object:
    """Read as what takes the first of two keys."""
    pairs = json.loads(case.body, object_pairs_hook=list)
    return next((value for name, value in pairs if name == "model"), None) if isinstance(pairs, list) else None


# Routers of paths. uvicorn undoes the escapes of a path before Starlette sees it, as WSGI's servers do for Werkzeug.

ROUTE = Route("/model/{model:path}/invoke", endpoint=lambda request: None, methods=["POST"])
RULES = Map([Rule("/model/<path:model>/invoke", endpoint="x")], merge_slashes=True)


def decoded_path(case: Case) -> str:
    return unquote(case.path.partition(b"?")[0].decode("ascii"))


def starlette_path(case: Case) -> object:
    scope = {"type": "http", "method": "POST", "path": decoded_path(case), "headers": []}
    match, found = ROUTE.matches(scope)
    return found["path_params"]["model"] if match is Match.FULL else None


def werkzeug_path(case: Case) -> object:
    return RULES.bind("x").match(decoded_path(case))[1]["model"]


async def aiohttp_path(case: Case) -> object:
    router = UrlDispatcher()
    router.add_route("POST", "/model/{model:.+}/invoke", lambda request: None)  # type: ignore[arg-type, return-value]
    return (await router.resolve(make_mocked_request("POST", case.path.decode("ascii")))).get("model")


PARSERS: dict[str, Callable[[Case], object] | Callable[[Case], Coroutine[Any, Any, object]]] = {
    "starlette form()": starlette_form,
    "starlette form(), the last": starlette_last,
    "starlette json()": starlette_json,
    "fastapi, a JSON body": fastapi_json,
    "aiohttp post()": aiohttp_post,
    "aiohttp json()": aiohttp_json,
    "django POST": django_post,
    "django, json.loads": django_json,
    "werkzeug form": werkzeug_form,
    "werkzeug values": werkzeug_values,
    "werkzeug get_json()": werkzeug_json,
    "email": by_email,
    "parse_qs": by_parse_qs(),
    "parse_qs, Latin-1": by_parse_qs(encoding="latin-1"),
    "parse_qsl of bytes": by_parse_qsl_octets,
    "json.loads": lambda case: of_object(json.loads(case.body)),
    "json.loads, stripped": lambda case: of_object(json.loads(case.body.decode().strip())),
    "json.loads, the first key": by_pairs,
    "orjson": lambda case: of_object(orjson.loads(case.body)),
    "msgspec": lambda case: of_object(msgspec.json.decode(case.body)),
    "starlette, a path": starlette_path,
    "werkzeug, a path": werkzeug_path,
    "aiohttp, a path": aiohttp_path,
    "pydantic": lambda case: Named.model_validate_json(case.body).model,
    "pydantic, jiter": lambda case: of_object(pydantic.TypeAdapter(Any).validate_json(case.body)),
}


async def answer(read: Any, case: Case) -> object:
    """Return what a parser reads; whatever it raises is no model."""
    try:
        found = read(case)
        return said(await found if asyncio.iscoroutine(found) else found)
    except Exception:
        return None


async def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer cases until there are no more."""
    sink.write(json.dumps([*PARSERS]).encode() + b"\n")
    sink.flush()
    while True:
        try:
            method, content_type, path, body = (read_field(source) for _ in range(4))
        except (EOFError, struct.error):
            return
        case = Case(method or b"", content_type, path or b"", body or b"")
        answers = [await answer(read, case) for read in PARSERS.values()]
        sink.write(json.dumps(answers).encode() + b"\n")
        sink.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asyncio.run(serve(sys.stdin.buffer, sys.stdout.buffer))
