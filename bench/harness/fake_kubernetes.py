"""A scripted Kubernetes API server over real HTTP on loopback: lists, watches, bookmarks, and all that goes wrong.

It keeps objects and their history as the real one does: every change has a version, a watch tells what came after its
own, an object that no longer matches a selector is DELETED for it, and versions can be forgotten. What is to fail is
told by the test, request by request.
"""

import asyncio
import contextlib
import copy
import json
import socket
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CONFIG_MAPS = "/api/v1/configmaps"
HTTP_ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
POOLS = "/apis/inference.networking.k8s.io/v1/inferencepools"
OLD_POOLS = "/apis/inference.networking.x-k8s.io/v1alpha2/inferencepools"
PODS = "/api/v1/pods"

BBR = "inference.networking.k8s.io/bbr-managed"
SCOPE = "inference.networking.k8s.io/bbr-scope"
IPP = "inference.llm-d.ai/ipp-managed"

Object = dict[str, Any]


@dataclass
class Request:
    """A request that came: its path without namespace, its namespace, its parameters and header fields."""

    path: str
    namespace: str
    parameters: dict[str, str]
    headers: dict[str, str]

    @property
    def watch(self) -> bool:
        return self.parameters.get("watch") == "true"

    def selects(self, each: Object | None) -> bool:
        """Tell whether an object's state is one that the request asks for."""
        if each is None or (self.namespace and each["metadata"]["namespace"] != self.namespace):
            return False
        selector = self.parameters.get("labelSelector")
        if not selector:
            return True
        wanted = dict(term.split("=") for term in selector.split(","))
        return wanted.items() <= each["metadata"]["labels"].items()


@dataclass
class Fault:
    """How the next request that `applies` fails.

    Attributes:
        status: the HTTP status; 0 closes the connection without an answer.
        body: of the answer; None for a Status object.
        headers: further header fields.
        until: the answer is held back until this event.
        cut: of a list, send only this share of the body before the connection is cut; of a watch, end it at once.
    """

    status: int = 0
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    until: asyncio.Event | None = None
    cut: float | None = None
    applies: Callable[[Request], bool] = lambda request: True


@dataclass
class _Change:
    path: str
    version: int
    before: Object | None
    after: Object | None


class Watch:
    """A watch that a client has open."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.ended = asyncio.Event()
        self._writer = writer

    def send_change(self, change: _Change) -> None:
        """Send an event, if the change is one for this watch."""
        was, is_ = self.request.selects(change.before), self.request.selects(change.after)
        if change.path != self.request.path or not (was or is_):
            return
        kind = "DELETED" if not is_ else "MODIFIED" if was else "ADDED"
        state = copy.deepcopy(change.after if is_ else change.before)
        state["metadata"]["resourceVersion"] = str(change.version)
        self.send(kind, state)

    def send(self, kind: str, state: Object) -> None:
        """Send an event."""
        self.write(json.dumps({"type": kind, "object": state}, ensure_ascii=False).encode() + b"\n")

    def write(self, octets: bytes) -> None:
        """Send octets as one chunk."""
        if not self.ended.is_set():
            self._writer.write(b"%x\r\n%s\r\n" % (len(octets), octets))

    def close(self) -> None:
        """End the answer, as a server does after timeoutSeconds."""
        if not self.ended.is_set():
            self._writer.write(b"0\r\n\r\n")
            self.ended.set()

    def cut(self) -> None:
        """Cut the connection in the middle of a line."""
        if not self.ended.is_set():
            self.write(b'{"type":"MODIFIED","object":{"metad')
            self.abandon()

    def abandon(self) -> None:
        """Cut the connection."""
        self.ended.set()
        self._writer.close()


class FakeKubernetes:
    """The server; `async with` starts and stops it.

    Attributes:
        requests: all that came.
        faults: what goes wrong next; each is used up by the first request that it applies to.
        watches: those that are open.
        tokens: bearer token -> its user, and whether that one may get /metrics.
        gone_as_event: whether a forgotten version is told by an event, and not by the HTTP status.
        documents: path -> what is answered to a GET of it, as API discovery needs.
        unknown: collections that the server does not have: CRDs that are not installed.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.faults: deque[Fault] = deque()
        self.watches: list[Watch] = []
        self.gone_as_event = False
        self.documents: dict[str, Object] = {}
        self.unknown: set[str] = set()
        self.tokens: dict[str, tuple[str, bool]] = {}
        self.version = 1
        self.port = 0
        self._objects: dict[str, dict[tuple[str, str], Object]] = {
            path: {} for path in (CONFIG_MAPS, HTTP_ROUTES, POOLS, OLD_POOLS, PODS)
        }
        self._changes: list[_Change] = []
        self._forgotten = 0
        self._uids = 0
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FakeKubernetes":
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, the second time on the port of the first: nobody else gets that in between."""
        if not self.port:
            kept = socket.socket()  # bound as long as this server exists, and never listened on: it takes no connection
            weakref.finalize(self, kept.close)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            kept.bind(("127.0.0.1", 0))
            self.port = kept.getsockname()[1]
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=self._tls, reuse_port=True
        )

    async def stop(self) -> None:
        """Listen no longer, and cut all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for watch in self.watches:
            watch.abandon()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def kubeconfig(self, directory: Path) -> Path:
        """Write a kubeconfig for this server."""
        path = directory / "kubeconfig"
        name = {"name": "fake"}
        config = {
            "current-context": "fake",
            "clusters": [{**name, "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{**name, "user": {"token": "secret"}}],
            "contexts": [{**name, "context": {"cluster": "fake", "user": "fake"}}],
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    # Objects.

    def put(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: Iterable[str] = (BBR,),
        scope: str | None = None,
        path: str = CONFIG_MAPS,
        deleting: bool = False,
        created: str = "2026-01-01T00:00:00Z",
        **content: Any,
    ) -> Object:
        """Create an object, or write a new state of it; `content` is what stands beside its metadata."""
        before = self._objects[path].get((namespace, name))
        metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict.fromkeys(labels, "true")}
        if scope is not None:
            metadata["labels"][SCOPE] = scope
        metadata["managedFields"] = [{"manager": "kubectl"}]
        if before:
            metadata |= {name: before["metadata"][name] for name in ("uid", "creationTimestamp")}
        else:
            self._uids += 1
            metadata |= {"uid": f"uid-{self._uids}", "creationTimestamp": created}
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        after = {"metadata": metadata, **content}
        self._change(path, before, after)
        self._objects[path][namespace, name] = after
        return after

    def delete(self, name: str, *, namespace: str = "default", path: str = CONFIG_MAPS) -> None:
        """Delete an object."""
        self._change(path, self._objects[path].pop((namespace, name)), None)

    def objects(self, path: str = CONFIG_MAPS) -> list[Object]:
        """Return all that there are."""
        return list(self._objects[path].values())

    def _change(self, path: str, before: Object | None, after: Object | None) -> None:
        self.version += 1
        if after is not None:
            after["metadata"]["resourceVersion"] = str(self.version)
        change = _Change(path, self.version, before, after)
        self._changes.append(change)
        for watch in self.watches:
            watch.send_change(change)

    # What happens to watches.

    def bookmark(self) -> None:
        """Tell all watches the present version."""
        for watch in self.watches:
            watch.send("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def forget(self) -> None:
        """Forget all that has been: a watch can only begin at the present version, a list's next page is gone."""
        self._changes.clear()
        self._pages.clear()
        self._forgotten = self.version

    def each_watch(self, do: Callable[[Watch], None]) -> None:
        """Do something to each watch."""
        for watch in list(self.watches):
            do(watch)

    @staticmethod
    def gone(watch: Watch) -> None:
        """Tell a watch by an event that its version is forgotten, and end it."""
        watch.send("ERROR", _status(410, "too old resource version: 1 (2)"))
        watch.close()

    # HTTP.

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(_request(await reader.readuntil(b"\r\n\r\n")), reader, writer):
                    await writer.drain()
        except asyncio.CancelledError:  # by `stop`
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer; return whether the connection can be used again."""
        self.requests.append(request)
        fault = next((fault for fault in self.faults if fault.applies(request)), None)
        if fault:
            self.faults.remove(fault)
            if fault.until:
                await fault.until.wait()
            elif fault.cut is None:
                if fault.status:
                    body = json.dumps(_status(fault.status, "as the test wants it")).encode()
                    self._write(writer, fault.status, body if fault.body is None else fault.body, fault.headers)
                return bool(fault.status)
        if request.path in self.unknown:
            self._write(writer, 404, b"404 page not found\n")
            return True
        if request.path.endswith("reviews"):
            document = json.loads(await reader.readexactly(int(request.headers["content-length"])))
            self._write(writer, 201, json.dumps(self._review(document)).encode())
            return True
        if request.watch:
            return await self._watch(request, reader, writer, cut=fault is not None and fault.cut is not None)
        collection, _, name = request.path.rpartition("/")
        if collection in self._objects:
            found = self._objects[collection].get((request.namespace, name))
            status = 200 if found else 404
            self._write(writer, status, json.dumps(found or _status(status, f"{name} not found")).encode())
            return True
        page = self.documents.get(request.path) or self._page(request)
        if page is None:
            self._write(writer, 410, json.dumps(_status(410, "The provided continue parameter is too old")).encode())
            return True
        body = json.dumps(page, ensure_ascii=False).encode()
        cut = fault and fault.cut
        self._write(writer, 200, body, {}, None if cut is None else int(len(body) * cut))
        return cut is None

    def _review(self, document: Object) -> Object:
        """Answer a TokenReview or a SubjectAccessReview."""
        spec = document["spec"]
        if document["kind"] == "TokenReview":
            user, _ = self.tokens.get(spec["token"], ("", False))
            return {**document, "status": {"authenticated": bool(user), "user": {"username": user, "groups": ["g"]}}}
        assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        assert spec["groups"] == ["g"]
        return {**document, "status": {"allowed": (spec["user"], True) in self.tokens.values()}}

    def _write(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        sent: int | None = None,
    ) -> None:
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + body[:sent])

    def _page(self, request: Request) -> Object | None:
        token = request.parameters.get("continue")
        if token:
            if token not in self._pages:
                return None
            version, rest = self._pages[token]
        else:
            version, rest = self.version, list(filter(request.selects, self._objects[request.path].values()))
        limit = int(request.parameters.get("limit", len(rest) or 1))
        page, rest = rest[:limit], rest[limit:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = f"{version}-{len(rest)}-{len(self.requests)}"
            self._pages[metadata["continue"]] = (version, rest)
        return {"kind": "List", "metadata": metadata, "items": page}

    async def _watch(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool
    ) -> bool:
        since = int(request.parameters["resourceVersion"])
        gone = since < self._forgotten
        if gone and not self.gone_as_event:
            self._write(writer, 410, json.dumps(_status(410, "too old resource version")).encode())
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        watch = Watch(request, writer)
        if gone:
            self.gone(watch)
            return True
        if cut:
            watch.close()
            return True
        for change in self._changes:
            if change.version > since:
                watch.send_change(change)
        self.watches.append(watch)
        # Whichever comes first: the watch's end, or that of the connection.
        ends = [asyncio.create_task(watch.ended.wait()), asyncio.create_task(reader.read(1))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.watches.remove(watch)
            for end in ends:
                end.cancel()
            await asyncio.wait(ends)
        return watch.ended.is_set() and not writer.is_closing()


def _status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _request(head: bytes) -> Request:
    line, *fields = head.decode().rstrip("\r\n").split("\r\n")
    target = urlsplit(line.split(" ")[1])
    path, namespace = target.path, ""
    before, found, after = path.partition("/namespaces/")
    if found:
        namespace, _, plural = after.partition("/")
        path = f"{before}/{plural}"
    headers = dict(each.lower().split(": ", 1) for each in fields)
    return Request(path, namespace, dict(parse_qsl(target.query)), headers)
