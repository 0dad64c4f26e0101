"""Requests to a Kubernetes API server. Needs `body-based-router[kubernetes]`.

This is the only file that imports lightkube and httpx2.

lightkube finds the server and speaks for us to it: in-cluster or kubeconfig, tokens that rotate, certificates. Requests
are made here and not by its client: its watch begins anew by itself without a pause, knows no bookmarks, and takes more
than a newline for the end of a line, so that U+0085 in an object breaks it.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import msgspec
import yaml

from bbr.models.steps import finish
from bbr.pieces import add_piece
from bbr.sources.objects import SourceError
from bbr.system import files
from bbr.yaml_tree import YamlError, tree

if TYPE_CHECKING:
    import httpx2
    from lightkube.config.kubeconfig import SingleConfig

# An object has 1.5 MiB at most (etcd's limit), of which JSON may make six times as much: an event of a watch, and the
# page of a list that holds one object.
MAX_LINE_BYTES: Final = 16 << 20
MAX_ANSWER_BYTES: Final = 16 << 20

# An answer that is an error: a sentence, or a proxy's page.
_MAX_ERROR_BYTES: Final = 64 << 10

# A kubeconfig, and each file that it names: certificates, keys, a token.
MAX_KUBECONFIG_BYTES: Final = 1 << 20

# Pieces (chunks) of an answer that are taken in one turn of the event loop: a millisecond's.
_STEP_PIECES: Final = 50

# Ends of lines that are looked at in one turn, 0.2 ms.
_STEP_LINES: Final = 1_000

_CONNECT_SECONDS: Final = 10.0
_MAX_REASON: Final = 300  # characters of an error's text that are shown

# What the system holds of an answer for the event loop, which reads all of that in one turn: 1 ms's. The system takes
# twice as much.
_RECEIVE_BYTES: Final = 128 << 10

# A server that is gone without a word is noticed after a minute, and not at the end of a watch.
_SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


# It would log a line for each request.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class KubernetesError(Exception):
    """A request failed; the message says how.

    Attributes:
        status: the HTTP status, or the code of a Status object; 0 if there was no answer.
        retry_after: how many seconds the server wants to be left alone.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class TooLongError(KubernetesError):
    """The answer is longer than MAX_ANSWER_BYTES: something shorter has to be asked for."""


class KubeStatus(msgspec.Struct):
    """An object of kind Status: what the server answers with instead of what was asked for."""

    message: str = ""
    code: int = 0

    def error(self) -> KubernetesError:
        """Return what it says as an error."""
        return KubernetesError(f"{self.code or 'an error'}: {_short(self.message) or 'no reason given'}", self.code)


class Api(Protocol):
    """One connection's worth of requests to an API server; an async context manager that closes it."""

    async def __aenter__(self) -> Self:
        """Open."""

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""

    async def get(self, path: str, parameters: Mapping[str, str]) -> list[bytes]:
        """Return the body of the answer, in pieces.

        Raises:
            TooLongError: the answer is too long.
            KubernetesError: it is an error, or there is none.
        """

    def lines(
        self, path: str, parameters: Mapping[str, str]
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[list[bytes]]]:
        """Give the lines of an answer as they come, each in pieces; entered once the answer has begun.

        Raises:
            KubernetesError: the answer is an error, there is none, or it ends within a line.
        """


class KubeApi:
    """The API server that the kubeconfig or the pod names. Each instance reads the credentials anew.

    Args:
        kubeconfig: a file; None takes what there is: the service account of a pod, KUBECONFIG, ~/.kube/config.

    Raises:
        SourceError: lightkube is not installed, or neither a kubeconfig nor a service account can be used.
    """

    def __init__(self, kubeconfig: Path | None = None) -> None:
        config = _config(kubeconfig)
        try:
            self._client = _client(config)
        except Exception as error:  # whatever a certificate's or a key's reader raises
            raise SourceError(_unusable(error)) from None
        self.server = config.cluster.server

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        await self._client.aclose()

    async def get(self, path: str, parameters: Mapping[str, str]) -> list[bytes]:
        """See Api."""
        async with self._answer(path, parameters) as response:
            return await _body(response, MAX_ANSWER_BYTES)

    async def post(self, path: str, document: bytes) -> bytes:
        """Send a document, and return the body of the answer.

        Raises:
            KubernetesError: the answer is an error, or there is none.
        """
        async with self._answer(path, {}, document) as response:
            return b"".join(await _body(response, MAX_ANSWER_BYTES))

    @contextlib.asynccontextmanager
    async def lines(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """See Api."""
        async with self._answer(path, parameters) as response:
            yield split_lines(_pieces(response))

    @contextlib.asynccontextmanager
    async def _answer(
        self, path: str, parameters: Mapping[str, str], document: bytes | None = None
    ) -> "AsyncIterator[httpx2.Response]":
        import httpx2
        from lightkube.core.exceptions import ConfigError

        try:
            method = "GET" if document is None else "POST"
            headers = {} if document is None else {"content-type": "application/json"}
            request = self._client.stream(method, path, params=dict(parameters), content=document, headers=headers)
            async with request as response:
                if response.status_code not in (200, 201):
                    raise _refusal(response, await _body(response, _MAX_ERROR_BYTES))
                yield response
        except (httpx2.HTTPError, httpx2.StreamError, ConfigError, OSError) as error:
            # ConfigError: a token's file is gone, or a command that gives credentials failed.
            raise KubernetesError(_short(f"{type(error).__name__}: {error}")) from None


async def _pieces(response: "httpx2.Response") -> AsyncIterator[bytes]:
    """Give an answer's body as it comes; of many small chunks that come together, only some in a turn of the loop.

    Raises:
        KubernetesError: it is encoded, which was not asked for: to decode it could take long.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise KubernetesError("the answer is encoded, which was not asked for", response.status_code)
    number = 0
    async for chunk in response.aiter_raw():
        yield chunk
        number += 1
        if number % _STEP_PIECES == 0:
            await asyncio.sleep(0)


async def _body(response: "httpx2.Response", max_bytes: int) -> list[bytes]:
    parts: list[bytes] = []
    size = 0
    async for chunk in _pieces(response):
        size += len(chunk)
        if size > max_bytes:
            raise TooLongError(f"the answer is longer than {files.size_of(max_bytes)}", response.status_code)
        add_piece(parts, chunk)
    return parts


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Give the lines of a text that comes in pieces, as pieces, without their newlines; empty ones are left out.

    Raises:
        KubernetesError: the text ends within a line, or a line is longer than MAX_LINE_BYTES.
    """
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for number, end in enumerate(ends, 1):
            if end:
                add_piece(parts, end)
            if parts:
                yield parts
            parts, size = [], 0
            if number % _STEP_LINES == 0:  # nobody else pauses if all are empty
                await asyncio.sleep(0)
        if rest:
            add_piece(parts, rest)
            size += len(rest)
        if size > MAX_LINE_BYTES:
            raise KubernetesError(f"a line of the answer is longer than {files.size_of(MAX_LINE_BYTES)}")
    if parts:
        raise KubernetesError("the answer ended within a line")


def _config(kubeconfig: Path | None) -> "SingleConfig":
    try:
        from lightkube.config.kubeconfig import KubeConfig
        from lightkube.core.exceptions import ConfigError
    except ImportError:
        raise SourceError("lightkube is not installed: pip install 'body-based-router[kubernetes]'") from None
    try:
        try:
            known = None if kubeconfig else KubeConfig.from_service_account()
        except ConfigError:
            known = None
        found = (known or KubeConfig.from_dict(*_kubeconfig(kubeconfig))).get()
        assert found is not None  # noqa: S101 (get returns None only if it is told to)
        _check_files(found)
    except (ConfigError, _KubeconfigError) as error:
        if kubeconfig:
            raise SourceError(_short(str(error))) from None
        raise SourceError(
            "no API server is known: this is not a pod with a service account, and neither KUBECONFIG nor "
            f"~/.kube/config can be used: {_short(str(error))}"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:  # lightkube looks for nothing but what should be there
        raise SourceError(
            f"{kubeconfig or 'the kubeconfig'}: is not a kubeconfig: it must be a mapping with lists of "
            f"clusters, contexts and users, and current-context ({_short(f'{type(error).__name__}: {error}')})"
        ) from None
    except Exception as error:  # a file of any content
        raise SourceError(_unusable(error)) from None
    return found


class _KubeconfigError(Exception):
    """The kubeconfig, or a file that it names, can't be read; the message names it."""


def _kubeconfig(path: Path | None) -> tuple[dict[str, Any], Path]:
    """Return what a kubeconfig holds, and where it is."""
    where = (path or Path(os.environ.get("KUBECONFIG") or "~/.kube/config")).expanduser()
    try:
        text = files.read(where, MAX_KUBECONFIG_BYTES).decode()
        finish(tree(text))  # for its limits
    except UnicodeDecodeError as error:
        raise _KubeconfigError(f"{where}: not UTF-8 at byte {error.start}") from None
    except (files.FileError, YamlError) as error:
        raise _KubeconfigError(f"{where}: {error}") from None
    return yaml.load(text, Loader=_loader()), where  # noqa: S506


def _loader() -> Any:
    """Return a safe loader to which a number or a date is the text that it is written as.

    No field of a kubeconfig is a number, and a token may look like one. PyYAML takes a time that grows with the square
    of the length for a number to the base of 60 (1:20:30).
    """
    safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("_TextLoader", (safe,), {})
    for kind in ("int", "float", "timestamp"):
        loader.add_constructor(f"tag:yaml.org,2002:{kind}", safe.construct_yaml_str)
    return loader


def _check_files(config: "SingleConfig") -> None:
    """Check the files that a kubeconfig names: whoever reads them later waits for ever at a FIFO."""
    user = config.user
    relative = [config.cluster.certificate_auth, *((user.client_cert, user.client_key) if user else ())]
    named = [config.abs_file(name) for name in relative if name]
    if user and user.token_file:
        named.append(user.token_file)
    for path in map(Path, named):
        try:
            files.check(path, MAX_KUBECONFIG_BYTES)
        except files.FileError as error:
            raise _KubeconfigError(f"{path}: {error}") from None


def _client(config: "SingleConfig") -> "httpx2.AsyncClient":
    import httpx2
    from lightkube.config.client_adapter import user_auth, verify_cluster
    from lightkube.config.models import User

    user = config.user or User()
    # Reading all authorities that there are takes 20 ms, for nothing if there is no TLS.
    tls = config.cluster.server.startswith("https:")
    verify = verify_cluster(config.cluster, user, config.abs_file) if tls else False
    return httpx2.AsyncClient(
        base_url=config.cluster.server,
        auth=user_auth(user),
        verify=verify,
        transport=httpx2.AsyncHTTPTransport(verify=verify, socket_options=_SOCKET_OPTIONS),
        # How long an answer may take is the caller's affair.
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
        # Compressing costs both sides more than it saves within a cluster.
        headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "bbr"},
    )


def _refusal(response: "httpx2.Response", body: list[bytes]) -> KubernetesError:
    try:
        said = msgspec.json.decode(b"".join(body), type=KubeStatus).message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # a proxy's page, say
        said = ""
    after = response.headers.get("retry-after", "")
    return KubernetesError(
        f"{response.status_code}: {_short(said) or response.reason_phrase or 'no reason given'}",
        response.status_code,
        float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0,
    )


def _unusable(error: Exception) -> str:
    # Not the text of a YAML error: it shows the line, and with it perhaps a token.
    if isinstance(error, yaml.YAMLError):
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        return f"the kubeconfig is not YAML: line {mark.line + 1 if mark else 1}"
    return f"the credentials for the API server can't be used: {_short(f'{type(error).__name__}: {error}')}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "..."
