"""GET /v1/models of model servers. Nothing that they answer is trusted.

Each question uses its own connection. The client follows no redirect and uses no proxy. It looks only at
the status, the Content-Encoding and the body of the answer. It limits the time, the bytes and the pieces of an answer.
An ordinary HTTP client would accept anything, and chunks of one byte would keep the event loop busy for seconds.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Final, Protocol

import h11

from bbr.sources.server_tls import AuthorityError, ServerTls, why_not
from bbr.sources.servers import Address
from bbr.system import files
from bbr.system.watch import in_thread

PATH: Final = "/v1/models"

# Of an answer's body. A thousand models of vLLM's are 500 KiB.
MAX_ANSWER_BYTES: Final = 1 << 20
_MAX_HEAD_BYTES: Final = 16 << 10

# Of an answer: what the system hands over at once, and what h11 makes of it (a head, a chunk). Long answers come in a
# thousand.
MAX_PIECES: Final = 4_000
_READ_BYTES: Final = 64 << 10

# Taken in one turn of the event loop, 0.3 ms.
_STEP_PIECES: Final = 20

# For all of it: connection, head and body.
ANSWER_SECONDS: Final = 5.0

MAX_TOKEN_BYTES: Final = 16 << 10

# What a question may end with, for metrics.
RESULTS: Final = ("ok", "unreachable", "timeout", "status", "too-long", "unusable", "internal")


class ServerError(Exception):
    """There is no answer, or it can't be used; the message says why.

    Attributes:
        result: one of RESULTS.
    """

    def __init__(self, message: str, result: str) -> None:
        super().__init__(message)
        self.result = result


class Asking(Protocol):
    """What asks model servers."""

    async def models(self, host: str, port: int) -> list[bytes]:
        """Return what a server answers to GET /v1/models, in pieces.

        Raises:
            ServerError: there is no answer, or none that may be read.
        """


class ModelServers:
    """Asks model servers.

    Args:
        token_file: holds a bearer token for them; read for each question, since tokens rotate.
        tls: how they are asked over HTTPS; None for plaintext.
        answer_seconds: how long an answer may take.
    """

    def __init__(
        self,
        token_file: Path | None = None,
        tls: ServerTls | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._token_file = token_file
        self._tls = tls
        self._answer_seconds = answer_seconds

    async def models(self, host: str, port: int) -> list[bytes]:
        """See Asking."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                token = await self._token()
                reader, writer = await self._connect(host, port)
                try:
                    return await _Answer(reader).read_to(_question(host, port, token), writer)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise ServerError(f"no answer within {self._answer_seconds:g} s", "timeout") from None
        except AuthorityError as error:
            raise ServerError(str(error), "internal") from None
        except ssl.SSLError as error:
            raise ServerError(f"no answer: {why_not(error)}", "unreachable") from None
        except OSError as error:
            raise ServerError(f"no answer: {files.reason(error)}", "unreachable") from None
        except h11.RemoteProtocolError:
            raise ServerError(f"its answer to GET {PATH} is not HTTP", "unusable") from None

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._tls is None:
            return await asyncio.open_connection(host, port, limit=_READ_BYTES)
        context, name = await self._tls.context(), self._tls.name_of(host)
        return await asyncio.open_connection(host, port, limit=_READ_BYTES, ssl=context, server_hostname=name)

    async def _token(self) -> str:
        path = self._token_file
        if path is None:
            return ""
        try:
            token = (await in_thread(lambda: files.read(path, MAX_TOKEN_BYTES))).decode("ascii").strip()
        except (files.FileError, UnicodeDecodeError) as error:
            why = "it is not ASCII" if isinstance(error, UnicodeDecodeError) else str(error)
            raise ServerError(f"--discover-token-file: {path}: {why}", "internal") from None
        if not token or not token.isprintable():
            raise ServerError(f"--discover-token-file: {path}: it holds no token", "internal")
        return token


def _question(host: str, port: int, token: str) -> h11.Request:
    accept = [("Accept", "application/json"), ("Accept-Encoding", "identity")]
    headers = [("Host", str(Address(host, port))), *accept, ("User-Agent", "bbr")]
    if token:
        headers.append(("Authorization", f"Bearer {token}"))
    return h11.Request(method="GET", target=PATH, headers=[*headers, ("Connection", "close")])


class _Answer:
    """Reads one answer."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._pieces = 0

    async def read_to(self, question: h11.Request, writer: asyncio.StreamWriter) -> list[bytes]:
        """Ask, and return the answer's body in pieces."""
        writer.write((self._connection.send(question) or b"") + (self._connection.send(h11.EndOfMessage()) or b""))
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                _check(event)
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > MAX_ANSWER_BYTES:
                    raise ServerError(f"its answer is longer than {files.size_of(MAX_ANSWER_BYTES)}", "too-long")
                parts.append(bytes(event.data))
            elif not isinstance(event, h11.InformationalResponse):
                return parts

    async def _next(self) -> object:
        while True:
            event = self._connection.next_event()
            self._pieces += 1
            if self._pieces > MAX_PIECES:
                raise ServerError(f"its answer comes in more than {MAX_PIECES} pieces", "too-long")
            if event is not h11.NEED_DATA:
                if self._pieces % _STEP_PIECES == 0:
                    await asyncio.sleep(0)
                return event
            self._connection.receive_data(await self._reader.read(_READ_BYTES))


def _check(response: h11.Response) -> None:
    if response.status_code != 200:
        raise ServerError(f"it answers {response.status_code} to GET {PATH}", "status")
    for name, value in response.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            raise ServerError("its answer is encoded, which was not asked for", "unusable")
