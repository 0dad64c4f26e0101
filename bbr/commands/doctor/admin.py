"""The answers of Envoy's admin interface, asked for over HTTP or read from files."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from bbr.text import brief, quoted

# A gateway of a thousand routes has a dump of a few MB; this is no gateway's.
MAX_BYTES: Final = 256 << 20

TIMEOUT_SECONDS: Final = 30.0

_PIECE_BYTES: Final = 1 << 20

# What is asked for -> the path. Files have the name and .json; only the first must be there.
PATHS: Final = {
    "config_dump": "/config_dump?include_eds",
    "clusters": "/clusters?format=json",
    "stats": "/stats?format=json",
    "server_info": "/server_info",
}


class AdminError(Exception):
    """The answers can't be had; the message names the URL or the file, and why."""


@dataclass(frozen=True)
class Answers:
    """What Envoy says of itself, as JSON; None where it was not saved."""

    config_dump: Any
    clusters: Any = None
    stats: Any = None
    server_info: Any = None


def fetch(url: str, *, timeout: float = TIMEOUT_SECONDS, max_bytes: int = MAX_BYTES) -> Answers:
    """Ask the admin interface at `url`, as in http://127.0.0.1:19000.

    Args:
        timeout: how long all of one answer may take, in seconds.
        max_bytes: how long one answer may be.

    Raises:
        AdminError: it can't be reached, or does not answer as Envoy does.
    """
    base = url.rstrip("/")
    try:
        parts = urllib.parse.urlsplit(base)
        usable = parts.scheme in ("http", "https") and parts.netloc and base.isascii() and parts.port != 0
    except ValueError:  # a bracket without its other, or a port that is none
        usable = False
    if not usable:
        # What stands before an @ may be a password.
        raise AdminError(f"--envoy-admin: {quoted(url.rpartition('@')[2])} is not a URL such as http://127.0.0.1:19000")
    if parts.username or parts.password:
        raise AdminError("--envoy-admin: the URL must not hold a password, since others could see it")
    return Answers(**{name: _ask(base + path, timeout, max_bytes) for name, path in PATHS.items()})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer: Envoy sends none, and another server's would lead anywhere."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


def _ask(url: str, timeout: float, max_bytes: int) -> Any:
    deadline = time.monotonic() + timeout
    data = bytearray()
    try:
        # No proxy: an admin interface is on a loopback address, or a port that is forwarded there.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
        with opener.open(url, timeout=timeout) as reply:
            while piece := reply.read1(_PIECE_BYTES):
                data += piece
                if len(data) > max_bytes:
                    raise AdminError(f"{url}: the answer is longer than {max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
    except urllib.error.HTTPError as error:
        with error:
            raise AdminError(
                f"{url}: the answer is {error.code} {brief(error.reason)}; is this Envoy's admin port?"
            ) from None
    except TimeoutError:
        raise AdminError(f"{url}: no complete answer within {timeout:g} s") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise AdminError(f"{url}: no complete answer within {timeout:g} s") from None
        raise AdminError(f"{url}: {_why(error.reason)}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AdminError(f"{url}: {_why(error)}") from None
    return _parsed(url, bytes(data), is_dump="/config_dump" in url)


def _why(reason: object) -> str:
    words = (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__
    return brief(words)  # it may quote what the server has said


def load(path: Path, *, max_bytes: int = MAX_BYTES) -> Answers:
    """Read saved answers: a file with that of /config_dump, or a directory with config_dump.json and perhaps others.

    Raises:
        AdminError: a file can't be read, or is no answer of Envoy's.
    """
    if not path.is_dir():
        return Answers(_read(path, max_bytes, is_dump=True))
    found = {"config_dump": _read(path / "config_dump.json", max_bytes, is_dump=True)}
    for name in PATHS:
        file = path / f"{name}.json"
        if name not in found and file.exists():
            found[name] = _read(file, max_bytes, is_dump=False)
    return Answers(**found)


def _read(file: Path, max_bytes: int, *, is_dump: bool) -> Any:
    try:
        with file.open("rb") as opened:
            data = opened.read(max_bytes + 1)
    except OSError as error:
        raise AdminError(f"{file}: {error.strerror}") from None
    if len(data) > max_bytes:
        raise AdminError(f"{file}: it is longer than {max_bytes} bytes")
    return _parsed(str(file), data, is_dump=is_dump)


def _parsed(where: str, data: bytes, *, is_dump: bool) -> Any:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AdminError(f"{where}: this is not JSON such as Envoy's admin interface returns: {error}") from None
    if not isinstance(found, dict):
        raise AdminError(f"{where}: this is not a JSON object such as Envoy's admin interface returns")
    if is_dump and not isinstance(found.get("configs"), list):
        raise AdminError(f"{where}: this is not an answer of /config_dump: it has no list `configs`")
    return found
