"""What a Kubernetes API server answers: pages of lists and events of watches, as far as they are read.

Short answers are decoded at once. Long ones are decoded by another process, which leaves out what is not read of the
objects: JSON of megabytes would hold up requests for as many milliseconds.
"""

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec

from bbr.sources.kube_api import KubernetesError, KubeStatus
from bbr.sources.scopes import SCOPE_LABEL
from bbr.system.worker_process import WorkerProcess

# A longer answer goes to the other process. So much takes 0.3 ms at the most.
LONG_BYTES: Final = 65_536

BOOKMARK: Final = "BOOKMARK"
_CHANGES: Final = ("ADDED", "MODIFIED", "DELETED")

Result = TypeVar("Result")


class Labels(msgspec.Struct, omit_defaults=True):
    """What is read of an object's labels."""

    scope: str | None = msgspec.field(default=None, name=SCOPE_LABEL)


class Metadata(msgspec.Struct, rename="camel"):
    """What is read of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime.datetime | None = None
    deletion_timestamp: datetime.datetime | None = None
    labels: Labels | None = None

    @property
    def key(self) -> str:
        """What people call the object."""
        return f"{self.namespace}/{self.name}"


class Object(Protocol):
    """A Kubernetes object."""

    metadata: Metadata

    def reduced(self) -> Self:
        """Return only what is looked at of it."""


T = TypeVar("T", bound=Object)


class PageMetadata(msgspec.Struct, rename="camel"):
    """What is read of a page's metadata."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(NamedTuple, Generic[T]):
    """A page of a list."""

    metadata: PageMetadata
    objects: list[T]


class Event(NamedTuple, Generic[T]):
    """An event of a watch.

    Attributes:
        type: ADDED, MODIFIED, DELETED or BOOKMARK.
        metadata: the object's.
        found: the object; None if it has gone or is going, and of a bookmark.
    """

    type: str
    metadata: Metadata
    found: T | None


class _Page(msgspec.Struct):
    metadata: PageMetadata
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _AnyObject(msgspec.Struct):
    metadata: Metadata


class _Failure(msgspec.Struct, tag="failure"):
    """What the other process says instead of an answer."""

    message: str
    code: int


class Answers(Generic[T]):
    """Reads the answers about one kind of objects.

    Args:
        kind: the objects' type, as msgspec decodes it; whatever it does not have is not read.
        worker: the other process.
    """

    def __init__(self, kind: type[T], worker: WorkerProcess) -> None:
        self._kind = kind
        self._worker = worker

    async def page(self, pieces: Sequence[bytes]) -> Page[T]:
        """Return a page of a list.

        Raises:
            KubernetesError: it can't be read.
        """
        if sum(map(len, pieces)) <= LONG_BYTES:
            return _read(partial(_page, self._kind), b"".join(pieces))
        metadata, *objects = await self._read_in_worker(partial(page_frames, self._kind), pieces)
        found = [msgspec.msgpack.decode(each, type=self._kind) for each in objects]
        return Page(msgspec.msgpack.decode(metadata, type=PageMetadata), found)

    async def event(self, pieces: Sequence[bytes]) -> Event[T]:
        """Return an event of a watch.

        Raises:
            KubernetesError: it is an error, or can't be read.
        """
        if sum(map(len, pieces)) <= LONG_BYTES:
            return _read(partial(_event, self._kind), b"".join(pieces))
        kind, metadata, *found = await self._read_in_worker(partial(event_frames, self._kind), pieces)
        return Event(
            msgspec.msgpack.decode(kind, type=str),
            msgspec.msgpack.decode(metadata, type=Metadata),
            msgspec.msgpack.decode(found[0], type=self._kind) if found else None,
        )

    async def _read_in_worker(self, job: Callable[[bytes], Iterable[bytes]], pieces: Sequence[bytes]) -> list[bytes]:
        frames: list[bytes] = []
        await self._worker.run(job, pieces, frames.append)
        failure = msgspec.msgpack.decode(frames[0], type=_Failure | None)
        if failure:
            raise KubernetesError(failure.message, failure.code)
        return frames[1:]


def page_frames(kind: type[T], data: bytes) -> Iterator[bytes]:
    """Give a page in frames: a failure or nil, the metadata, and each object. A job (`bbr.system.worker`)."""
    return _frames(lambda: _flat_page(_read(partial(_page, kind), data)))


def event_frames(kind: type[T], data: bytes) -> Iterator[bytes]:
    """Give an event in frames: a failure or nil, its type, the metadata, and the object if it is there. A job."""
    return _frames(lambda: _flat_event(_read(partial(_event, kind), data)))


def _flat_page(page: Page[T]) -> list[Any]:
    return [page.metadata, *(each.reduced() for each in page.objects)]


def _flat_event(event: Event[T]) -> list[Any]:
    return [event.type, event.metadata, *([] if event.found is None else [event.found.reduced()])]


def _frames(find: Callable[[], list[Any]]) -> Iterator[bytes]:
    try:
        found = [None, *find()]
    except KubernetesError as error:
        found = [_Failure(str(error), error.status)]
    return map(msgspec.msgpack.encode, found)


def _read(read: Callable[[bytes], Result], data: bytes) -> Result:
    try:
        return read(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KubernetesError(f"what the API server sent can't be read: {error}") from None


def _page(kind: type[T], data: bytes) -> Page[T]:
    found = msgspec.json.decode(data, type=_Page)
    return Page(found.metadata, list(map(msgspec.json.Decoder(kind).decode, found.items)))


def _event(kind: type[T], data: bytes) -> Event[T]:
    event = msgspec.json.decode(data, type=_Event)
    if event.type == "ERROR":
        raise msgspec.json.decode(event.object, type=KubeStatus).error()
    if event.type not in (*_CHANGES, BOOKMARK):
        raise KubernetesError(f"an event of unknown type: {event.type[:40]}")
    metadata = msgspec.json.decode(event.object, type=_AnyObject).metadata
    there = event.type in ("ADDED", "MODIFIED") and not metadata.deletion_timestamp
    return Event(event.type, metadata, msgspec.json.decode(event.object, type=kind) if there else None)
