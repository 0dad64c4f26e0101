"""The sources that settings name, and the table that they feed."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bbr.config.options import SYSTEM_AUTHORITIES
from bbr.config.settings import Settings
from bbr.models.entries import Kind
from bbr.models.steps import Steps, finish
from bbr.sources.objects import SourceError
from bbr.sources.table import DISCOVERED, FILE, FIRST_SECONDS, KUBERNETES, Table
from bbr.system.garbage import SET_ASIDE_FROM, Growth
from bbr.system.supervisor import Body, Supervised, Supervisor, stop_all
from bbr.system.worker_process import WorkerProcess

if TYPE_CHECKING:
    from bbr.sources.discovery import Discovery
    from bbr.sources.file import FileSource
    from bbr.sources.kubernetes import KubernetesSource
    from bbr.sources.reflector import Reflector
    from bbr.sources.routes import Mismatches

_NO_POOLS: Final[Mapping[str, tuple[str, ...]]] = {}

# Names counted in one step.
_STEP_NAMES: Final = 2_000


class Sources:
    """A model table and what keeps it up to date.

    Attributes:
        table: the table; without any source every model is its own base model.
        kubernetes: what follows the cluster, if it is followed.
        discovery: what asks the model servers, if they are asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: list[Supervised] = []
        self._file: FileSource | None = None
        self.kubernetes: KubernetesSource | None = None
        self.discovery: Discovery | None = None
        names = {
            FILE: settings.models,
            KUBERNETES: settings.kubernetes,
            DISCOVERED: settings.discover_adapters,
        }
        # Two: what an API server says must not wait for documents, each of which may take seconds.
        self._worker, self._parser = WorkerProcess(), WorkerProcess()
        self.table = Table(
            (name for name, wanted in names.items() if wanted),
            worker=self._parser,
            first_seconds=min(settings.sync_timeout / 2 or FIRST_SECONDS, FIRST_SECONDS),
        )
        # Loaded only where they are needed: they take a tenth of the time that a router without a table starts in.
        if settings.models:
            from bbr.sources import file

            self._file = file.FileSource(settings.models, self.table, max_model_bytes=settings.max_model_length)
        if settings.kubernetes:
            from bbr.sources import kubernetes
            from bbr.sources.kube_api import KubeApi

            self.kubernetes = kubernetes.KubernetesSource(
                self.table,
                partial(KubeApi, settings.kubeconfig),
                self._worker,
                namespace=settings.namespace,
                max_model_bytes=settings.max_model_length,
                discover_routes=settings.discover_routes,
            )
        if settings.discover_adapters:
            self.discovery = self._discovery()

    def _discovery(self) -> "Discovery":
        from bbr.sources import discovery, model_servers, server_tls
        from bbr.sources.kube_api import KubeApi

        settings = self._settings
        tls = None
        if (authorities := settings.discover_ca) is not None:
            file = None if authorities == SYSTEM_AUTHORITIES else authorities
            tls = server_tls.ServerTls(file, settings.discover_server_name or "")
        patience = settings.sync_timeout / 2 or discovery.FIRST_SECONDS
        return discovery.Discovery(
            self.table,
            partial(KubeApi, settings.kubeconfig),
            self._worker,
            model_servers.ModelServers(settings.discover_token_file, tls),
            namespace=settings.namespace,
            max_model_bytes=settings.max_model_length,
            interval=settings.discover_interval,
            first_seconds=min(patience, discovery.FIRST_SECONDS),
        )

    def load(self) -> None:
        """Read the files once, so that a router with a wrong file does not start, and check the kubeconfig.

        Raises:
            SourceError: a file can't be used; the message names the flag, the file, the line and the rule.
        """
        self._check_cluster()
        self.read()
        for (_, path), why in self.table.broken.items():
            raise SourceError(f"--models: {path}: {why}")

    def read(self) -> None:
        """Read the files, once; what is wrong with any of them is in `Table.broken`.

        Raises:
            SourceError: a directory can't be read.
        """
        if self._file is None:
            return
        with Growth() as growth:
            try:
                self._file.load()
            except SourceError as error:
                raise SourceError(f"--models: {self._settings.models}: {error}") from None
            self.table.apply_now()
            growth.end(SET_ASIDE_FROM)  # few names too: nothing else is made before a router serves

    def read_all(self) -> None:
        """Read the files and the cluster, once; for use without an event loop.

        Raises:
            SourceError: a directory can't be read, or the cluster can't within --sync-timeout.
        """
        self._check_cluster()
        self.read()
        if self.kubernetes:
            asyncio.run(self._sync())

    async def _sync(self) -> None:
        self.start()
        try:
            await self.wait_synced()
        finally:
            await self.stop()

    def _check_cluster(self) -> None:
        if self.kubernetes is None:
            return
        from bbr.sources.kube_api import KubeApi

        try:
            KubeApi(self._settings.kubeconfig)
        except SourceError as error:
            raise SourceError(f"--kubernetes: {error}") from None

    def start(self, supervisor: Supervisor | None = None) -> None:
        """Follow the sources from now on; for a running event loop."""
        supervisor = supervisor or Supervisor()
        bodies: dict[str, Body] = {}
        if self._file:
            bodies["model files"] = self._file.run
        if self.kubernetes:
            bodies |= self.kubernetes.bodies()
        if self.discovery:
            bodies |= self.discovery.bodies(supervisor)
        if bodies:
            assert self.table.long_documents is not None  # noqa: S101 (the table was given another process)
            bodies |= {"model table": self.table.run, "long documents": self.table.long_documents.run}
        self._tasks = [supervisor.start(name, body) for name, body in bodies.items()]

    def failing(self) -> dict[str, str]:
        """Return why each source can't be followed just now; "" if it is."""
        found = {"model files": self._file.failing} if self._file else {}
        found |= {each.what: each.failing for each in self.reflectors}
        if self.discovery:
            found[DISCOVERED] = self.discovery.failing
        return found

    @property
    def reflectors(self) -> "list[Reflector[Any, Any]]":
        """What follows collections of the cluster, those of a pool's pods aside."""
        found: list[Reflector[Any, Any]] = []
        for each in (self.kubernetes, self.discovery):
            found += each.reflectors if each else ()
        return found

    def ages(self) -> dict[str, float]:
        """Return how many seconds ago each source was last seen; what is known stays in use, however old it is.

        The age of the model table is the time that a change of a source has waited to be put to use.
        """
        found = {"model files": self._file.age_seconds} if self._file else {}
        found |= {each.what: each.age_seconds for each in self.reflectors}
        if self.discovery:
            found[DISCOVERED] = self.discovery.age_seconds
        return found | {"model table": self.table.lag_seconds} if found else found

    async def wait_synced(self) -> None:
        """Return once the table holds what all sources see.

        Raises:
            SourceError: --sync-timeout is over.
        """
        seconds = self._settings.sync_timeout
        try:
            async with asyncio.timeout(seconds or None):
                await self.table.wait_synced()
        except TimeoutError:
            failing = self.kubernetes.failing if self.kubernetes else {}
            why = "; ".join(f"{what}: {error}" for what, error in failing.items()) or "no answer so far"
            raise SourceError(f"--sync-timeout: the ConfigMaps were not listed within {seconds:g} s: {why}") from None

    async def stop(self) -> None:
        """Follow them no longer; the table stays as it is."""
        await stop_all(self._tasks)
        self._tasks.clear()
        self._worker.close()
        self._parser.close()

    @property
    def mismatches(self) -> "Mismatches | None":
        """What does not fit between table and HTTPRoutes; None if nothing was compared."""
        routes = self.kubernetes.routes if self.kubernetes else None
        return routes.mismatches if routes else None

    @property
    def pools(self) -> Mapping[str, tuple[str, ...]]:
        """The backends to which HTTPRoutes send each base model, with --discover-routes; see RouteCheck."""
        routes = self.kubernetes.routes if self.kubernetes else None
        return routes.pools if routes else _NO_POOLS

    def reload(self) -> None:
        """Read the files anew, whether they seem to have changed or not."""
        if self._file:
            self._file.reload()

    def __str__(self) -> str:
        """Say in a few words what the table holds."""
        return finish(self.describing())

    def describing(self) -> Steps[str]:
        """Say in a few words what the table holds, a step at a time."""
        registry = self.table.registry
        if registry.identity:
            return "no model table: every model is its own base model"
        if not self.table.synced:
            return f"waiting for the model table from {self._where()}"
        counts = dict.fromkeys(Kind, 0)
        entries = (entry for layer in registry.layers() for _, entry in layer.own_items())
        for number, entry in enumerate(entries, 1):
            counts[entry.kind] += 1
            if number % _STEP_NAMES == 0:
                yield
        parts = [_count(counts[Kind.BASE_MODEL], "base model"), _count(counts[Kind.ADAPTER], "adapter")]
        if counts[Kind.ALIAS]:
            parts.append(_count(counts[Kind.ALIAS], "alias", "es"))
        if registry.scopes:
            parts.append(_count(len(registry.scopes), "scope"))
        return f"{', '.join(parts[:-1])} and {parts[-1]} from {self._where()}"

    def _where(self) -> str:
        settings = self._settings
        where = [str(settings.models)] if settings.models else []
        if settings.kubernetes:
            where.append(
                f"the ConfigMaps of {f'namespace {settings.namespace}' if settings.namespace else 'all namespaces'}"
            )
        return " and ".join(where)


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
