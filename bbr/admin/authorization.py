"""Who may read the admin port: a client with a bearer token that the cluster accepts and allows.

The Go routers protect /metrics in this way. Here the check covers everything on the admin port except health, because
the rest would reveal the same facts. The API server checks the token (TokenReview), and then whether its user may get
the path (SubjectAccessReview). Both results are remembered for a minute. The router's own service account needs the
right `create` on both resources.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Protocol

import msgspec

from bbr.admin.http import Answer, Page, Request, text
from bbr.sources.kube_api import KubernetesError
from bbr.sources.objects import SourceError
from bbr.system.watch import in_thread

log = logging.getLogger(__name__)

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 (a path)
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

_REVIEW_SECONDS: Final = 10.0
_KEPT_SECONDS: Final = 60.0
_MAX_KEPT: Final = 100
_MAX_TOKEN_CHARACTERS: Final = 16_384
_CHALLENGE: Final = (("www-authenticate", "Bearer"),)


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] = msgspec.field(default_factory=list)
    extra: dict[str, list[str]] = msgspec.field(default_factory=dict)


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)


class _TokenReview(msgspec.Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _AccessStatus(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus = msgspec.field(default_factory=_AccessStatus)


class Poster(Protocol):
    """What asks an API server."""

    async def post(self, path: str, document: bytes) -> bytes:
        """Return the body of the answer.

        Raises:
            KubernetesError: the answer is an error, or there is none.
        """


class Connection(Poster, Protocol):
    """A connection to an API server, which is open."""

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""


class Queue:
    """Lets one at a time go on. Addresses take turns, and of one address those who came first go first."""

    def __init__(self) -> None:
        self._taken = False
        self._last = ""  # the address that has or had the turn
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by addresses; none is empty

    @contextlib.asynccontextmanager
    async def turn(self, network: str) -> AsyncIterator[None]:
        """Wait for the turn of an address, and have it until the end of the block."""
        if self._taken:
            await self._wait(network)
        self._taken, self._last = True, network
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, network: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given the turn in the same moment
                self._pass_on()
            elif turn in self._waiting.get(network, ()):
                self._waiting[network].remove(turn)
                if not self._waiting[network]:
                    del self._waiting[network]
            raise

    def _pass_on(self) -> None:
        """Give the turn to the next; it stays taken until nobody waits."""
        while self._waiting:
            network = next((each for each in self._waiting if each != self._last), self._last)
            several = self._waiting.pop(network)
            turn = several.popleft()
            if several:
                self._waiting[network] = several  # behind the other addresses
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


class Guard:
    """Lets requests through to a page if the cluster allows it.

    Args:
        connect: reads the credentials for the API server, and opens a connection to it. Called in a thread: to read
            certificates takes 25 ms. The connection serves all reviews of a minute, one after the other.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock
        # Digest of token and path -> status, until when. Apart, so that guessed tokens push out none that may.
        self._allowed: dict[bytes, tuple[int, float]] = {}
        self._refused: dict[bytes, tuple[int, float]] = {}
        # One review at a time: whoever guesses tokens by hundreds loads the API server no more than that. A token that
        # was allowed before waits for no more than one of them: a scraper must not wait for a slow API server to look
        # through all guesses. After a start nobody is known, so that addresses take turns.
        self._turn = asyncio.Lock()
        self._strangers = Queue()
        self._connection: Connection | None = None
        self._opening: asyncio.Future[Connection] | None = None
        self._connected_at = 0.0

    def guarded(self, page: Page) -> Page:
        """Return a page that is shown to those alone who may see it."""

        async def guarded(request: Request) -> Answer:
            refused = await self._refusal(request)
            return await page(request) if refused is None else refused

        return guarded

    async def _refusal(self, request: Request) -> Answer | None:
        scheme, _, token = request.header("authorization").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_CHARACTERS:
            return Answer((b"A bearer token is needed.\n",), status=401, headers=_CHALLENGE)
        status = await self._status(token, request.path, request.network)
        if status == 200:
            return None
        if status == 401:
            return Answer((b"The cluster does not know this token.\n",), status=401, headers=_CHALLENGE)
        if status == 403:
            return text(f"The cluster does not allow this token to get {request.path}.", 403)
        return text("The API server can't be asked about this token; the router's log says why.", 503)

    async def _status(self, token: str, path: str, network: str) -> int:
        key = hashlib.sha256(f"{path}\0{token}".encode("utf-8", "surrogateescape")).digest()
        if status := self._known(key):
            return status
        try:
            first = contextlib.nullcontext() if key in self._allowed else self._strangers.turn(network)
            async with asyncio.timeout(_REVIEW_SECONDS), first, self._turn:
                # Somebody may have asked the same while this waited.
                status = self._known(key) or await self._review_connected(token, path)
        except (KubernetesError, SourceError, msgspec.MsgspecError, TimeoutError) as error:
            why = str(error) or f"no answer in {_REVIEW_SECONDS:g} s"
            log.warning("a token for %s could not be reviewed: %s", path, why)
            return 503
        kept = self._allowed if status == 200 else self._refused
        kept.pop(key, None)
        if len(kept) >= _MAX_KEPT:
            del kept[next(iter(kept))]
        kept[key] = (status, self._clock() + _KEPT_SECONDS)
        return status

    def _known(self, key: bytes) -> int:
        """Return the status that is remembered; 0 if none is."""
        now = self._clock()
        for kept in (self._allowed, self._refused):
            status, until = kept.get(key, (0, 0.0))
            if now < until:
                return status
        return 0

    async def follow(self) -> None:
        """Close connections that nobody needs any more, until cancelled; then close the last."""
        try:
            while True:
                await asyncio.sleep(_KEPT_SECONDS)
                async with self._turn:
                    await self._close_old()
        finally:
            await self._close()

    async def _review_connected(self, token: str, path: str) -> int:
        await self._close_old()
        if self._connection is None:
            self._connection = await self._opened()
        try:
            return await _review(self._connection, token, path)
        except BaseException:  # another one may work
            await self._close()
            raise

    async def _opened(self) -> Connection:
        """Open a connection. A review that gives up leaves it to the next: no second thread waits for the same file."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(in_thread(self._connect))
            self._connected_at = self._clock()
        try:
            found = await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise
        self._opening = None
        return found

    async def _close_old(self) -> None:
        if self._clock() - self._connected_at >= _KEPT_SECONDS:  # credentials may have changed
            await self._close()

    async def _close(self) -> None:
        """Close the connection, and one for which nobody has waited to the end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(None, None, None)
        if self._opening is not None and self._opening.done():
            opening, self._opening = self._opening, None
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().__aexit__(None, None, None)


async def _review(api: Poster, token: str, path: str) -> int:
    """Ask about a token, and return the status of the answer to who has it."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    found = msgspec.json.decode(await api.post(TOKEN_REVIEWS, msgspec.json.encode(review)), type=_TokenReview)
    if not found.status.authenticated:
        return 401
    user = found.status.user
    spec = {
        "user": user.username,
        "uid": user.uid,
        "groups": user.groups,
        "extra": user.extra,
        "nonResourceAttributes": {"path": path, "verb": "get"},
    }
    access = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = await api.post(ACCESS_REVIEWS, msgspec.json.encode(access))
    return 200 if msgspec.json.decode(answer, type=_AccessReview).status.allowed else 403
