"""The model table from the labelled ConfigMaps of a Kubernetes cluster, as the Go body-based routers have it.

An object is the router's if it has one of two labels. A selector can't say "or" over two labels, so each has a watch of
its own, and what both see is put together here.
"""

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Self

import msgspec

from bbr.models.steps import Steps
from bbr.reading.name import LONGEST_MODEL_BYTES
from bbr.sources import configmap
from bbr.sources.answers import Metadata
from bbr.sources.documents import source_object
from bbr.sources.kube_api import Api
from bbr.sources.objects import SourceObject, refusing
from bbr.sources.reflector import Pace, Reflector
from bbr.sources.routes import HTTPRoute, RouteCheck, Wanted
from bbr.sources.table import KUBERNETES, Table
from bbr.system.supervisor import Body
from bbr.system.worker_process import WorkerProcess

# What is kept of all ConfigMaps together, OBJECT_BYTES of each among it. Whoever may write them could fill the memory.
MAX_BYTES: Final = 128 << 20
OBJECT_BYTES: Final = 2 << 10
# Of those of one namespace, so that whoever may write there leaves room to others.
MAX_NAMESPACE_BYTES: Final = MAX_BYTES // 2

# Objects published in one step, 0.2 ms.
_STEP_OBJECTS: Final = 50


class Data(msgspec.Struct, rename={"base_model": configmap.BASE_MODEL}, omit_defaults=True):
    """What is read of a ConfigMap's data: other keys are somebody else's, and may be megabytes."""

    base_model: str | None = None
    adapters: str | None = None
    aliases: str | None = None
    allow: str | None = None
    hosts: str | None = None


class ConfigMap(msgspec.Struct):
    """What is read of a ConfigMap."""

    metadata: Metadata
    data: Data | None = None

    def reduced(self) -> Self:
        """Return itself: nothing else is read of it."""
        return self


class State(NamedTuple):
    """What is kept of a ConfigMap.

    Attributes:
        version: of two states of one object the greater is the newer.
        uid: another object of the same name has another one.
        published: what the table gets.
        size: of what is kept, in bytes.
    """

    version: int
    uid: str
    published: SourceObject
    size: int = 0


class ConfigMaps:
    """Publishes what several views of the cluster's ConfigMaps hold together.

    A ConfigMap is there if some view has it, in the newest state that any has. Until each view has been listed nothing
    is published, so that the table's first snapshot is whole.

    Args:
        table: published to as source `kubernetes`.
        max_model_bytes: a longer name is an error of its ConfigMap.
        views: their number.

    Attributes:
        views: those.
    """

    def __init__(self, table: Table, views: int, max_model_bytes: int = LONGEST_MODEL_BYTES) -> None:
        self.views = [View(self) for _ in range(views)]
        self._table = table
        self._max_model_bytes = max_model_bytes
        self._uids: dict[str, str] = {}  # of what is published

    @property
    def held_bytes(self) -> int:
        """What the views keep of ConfigMaps, as they count it."""
        return sum(view.held_bytes for view in self.views)

    def lacking(self, key: str, octets: int) -> str:
        """Return why there is no room for so many more bytes of a ConfigMap; "" if there is."""
        if self.held_bytes + octets > MAX_BYTES:
            return f"all ConfigMaps together may have {MAX_BYTES >> 20} MiB, and with this one they have more"
        namespace = _namespace(key)
        if sum(view.held_of[namespace] for view in self.views) + octets > MAX_NAMESPACE_BYTES:
            most = MAX_NAMESPACE_BYTES >> 20
            return f"the ConfigMaps of a namespace may have {most} MiB together, and with this one they have more"
        return ""

    @property
    def listed(self) -> bool:
        """Whether each view has been listed."""
        return all(view.objects is not None for view in self.views)

    def publish_all(self) -> None:
        """Publish everything."""
        keys = {key for view in self.views for key in view.objects or ()}
        found = {key: self._newest(key) for key in keys}
        self._table.replace(KUBERNETES, [seen.published for seen in found.values() if seen])
        self._uids = {key: seen.uid for key, seen in found.items() if seen}

    def publish(self, key: str) -> None:
        """Publish one ConfigMap that some view has seen change."""
        if not self.listed:
            return
        seen = self._newest(key)
        before = self._uids.pop(key, None)
        if before is not None and (seen is None or seen.uid != before):
            # Another object of the same name must not inherit the last good content.
            self._table.remove(KUBERNETES, key)
        if seen is not None:
            self._uids[key] = seen.uid
            self._table.put(KUBERNETES, seen.published)

    def read(self, found: ConfigMap) -> State:
        """Return what is kept of a state of a ConfigMap."""
        metadata, data = found.metadata, msgspec.msgpack.encode(found.data or Data())
        # Not the resourceVersion: most labels, and all annotations, are none of the table's.
        scope = metadata.labels.scope if metadata.labels else None
        labelled = f"{metadata.uid}\n{'' if scope is None else f'{scope} '}\n"
        digest = hashlib.blake2b(labelled.encode() + data, digest_size=16).digest()
        origin = configmap.origin(metadata.namespace, metadata.name, metadata.creation_timestamp)
        parse = partial(configmap.parse_bytes, origin, self._max_model_bytes, scope)
        version = metadata.resource_version
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 20 else 0
        published = source_object(metadata.key, digest, origin, parse, data)
        return State(number, metadata.uid, published, OBJECT_BYTES + len(data))

    def _newest(self, key: str) -> State | None:
        states = (view.objects[key] for view in self.views if view.objects and key in view.objects)
        return max(states, key=lambda seen: seen.version, default=None)


class View:
    """What the watch of one label sees; a reflector's sink.

    Attributes:
        objects: by namespace/name; None before the first list.
        held_bytes: of what was read since the last list began, and is there.
        held_of: the same by namespace.
    """

    def __init__(self, owner: ConfigMaps) -> None:
        self.objects: dict[str, State] | None = None
        self._owner = owner
        self.held_bytes = 0
        self.held_of = Counter[str]()
        self._sizes: dict[str, int] = {}  # of what was read since the last list began, and is there

    def begin(self) -> None:
        """Count anew: a list begins. What is kept of the one before goes when that one is complete."""
        self.held_bytes = 0
        self.held_of.clear()
        self._sizes.clear()

    def read(self, found: ConfigMap) -> State:
        """Return what is kept of a ConfigMap: if all together would be too much, nothing but that."""
        state, key = self._owner.read(found), found.metadata.key
        self._forget(key)
        if why := self._owner.lacking(key, state.size):
            each = state.published
            return state._replace(published=SourceObject(each.key, ("no room", each.version), refusing(why)), size=0)
        self._hold(key, state.size)
        self._sizes[key] = state.size
        return state

    def _forget(self, key: str) -> None:
        self._hold(key, -self._sizes.pop(key, 0))

    def _hold(self, key: str, octets: int) -> None:
        """Count so many more bytes of a ConfigMap, or fewer."""
        namespace = _namespace(key)
        self.held_bytes += octets
        self.held_of[namespace] += octets
        if not self.held_of[namespace]:
            del self.held_of[namespace]

    def replace(self, kept: dict[str, State]) -> Steps[None]:
        """Take all objects that there are."""
        first = not self._owner.listed
        before, self.objects = self.objects or {}, kept
        if not first:
            gone = (key for key in before if key not in kept)
            for number, key in enumerate(itertools.chain([*kept], gone), 1):
                self._owner.publish(key)
                if number % _STEP_OBJECTS == 0:
                    yield
        elif self._owner.listed:
            self._owner.publish_all()

    def put(self, key: str, kept: State) -> None:
        """Take an object that is new or has changed."""
        assert self.objects is not None  # noqa: S101 (a watch begins after a list)
        self.objects[key] = kept
        self._owner.publish(key)

    def remove(self, key: str) -> None:
        """Let an object go."""
        assert self.objects is not None  # noqa: S101 (a watch begins after a list)
        self.objects.pop(key, None)
        self._forget(key)
        self._owner.publish(key)


def _namespace(key: str) -> str:
    return key.partition("/")[0]


class KubernetesSource:
    """Follows the cluster.

    Args:
        table: published to as source `kubernetes`.
        connect: makes a connection to the API server.
        worker: reads what is long of the server's answers.
        namespace: where to look; None for all namespaces.
        max_model_bytes: a longer name is an error of its ConfigMap: no request could ever name it.
        discover_routes: compare the table with the cluster's HTTPRoutes.
        pace: see Pace.
        jitter: a number from 0 to 1, at random.

    Attributes:
        reflectors: those of the ConfigMaps, by label, and that of the HTTPRoutes, if they are wanted.
        routes: the comparison, if it is wanted.
    """

    def __init__(
        self,
        table: Table,
        connect: Callable[[], Api],
        worker: WorkerProcess,
        *,
        namespace: str | None = None,
        max_model_bytes: int = LONGEST_MODEL_BYTES,
        discover_routes: bool = False,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        within = f"namespaces/{namespace}/" if namespace else ""
        config_maps = ConfigMaps(table, len(configmap.LABELS), max_model_bytes)
        self.reflectors: list[Reflector[ConfigMap, State] | Reflector[HTTPRoute, frozenset[Wanted]]] = [
            Reflector(
                f"ConfigMaps with {label}",
                f"/api/v1/{within}configmaps",
                f"{label}={configmap.LABEL_VALUE}",
                ConfigMap,
                view,
                connect,
                worker,
                pace=pace,
                begin=view.begin,
                jitter=jitter,
            )
            for label, view in zip(configmap.LABELS, config_maps.views, strict=True)
        ]
        self.routes = RouteCheck(table) if discover_routes else None
        if self.routes:
            path = f"/apis/gateway.networking.k8s.io/v1/{within}httproutes"
            self.reflectors.append(
                Reflector("HTTPRoutes", path, "", HTTPRoute, self.routes, connect, worker, pace=pace, jitter=jitter)
            )

    @property
    def failing(self) -> dict[str, str]:
        """What can't be followed just now, and why."""
        return {each.what: each.failing for each in self.reflectors if each.failing}

    def bodies(self) -> dict[str, Body]:
        """Return what follows the cluster: coroutines that never end, by their names."""
        bodies: dict[str, Body] = {each.what: each.run for each in self.reflectors}
        if self.routes:
            bodies |= {"comparison with HTTPRoutes": self.routes.run, "table for HTTPRoutes": self.routes.follow_table}
        return bodies
