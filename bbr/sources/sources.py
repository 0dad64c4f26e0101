"""The sources that settings name, and the table that they feed."""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from bbr.config.settings import Settings
from bbr.models.registry import Kind
from bbr.sources.table import FILE, KUBERNETES, SourceError, Table

if TYPE_CHECKING:
    from bbr.sources.file import FileSource
    from bbr.sources.kubernetes import KubernetesSource
    from bbr.sources.routes import Mismatches

log = logging.getLogger(__name__)


class Sources:
    """A model table and what keeps it up to date.

    Attributes:
        table: the table; without any source every model is its own base model.
        kubernetes: what follows the cluster, if it is followed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._file: FileSource | None = None
        self.kubernetes: KubernetesSource | None = None
        names = {FILE: settings.models, KUBERNETES: settings.kubernetes}
        self.table = Table(name for name, wanted in names.items() if wanted)
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
                namespace=settings.namespace,
                max_model_bytes=settings.max_model_length,
                discover_routes=settings.discover_routes,
            )

    def load(self) -> None:
        """Read the files, once, so that a router with a wrong file does not start; and what tells of the API server.

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
        try:
            self._file.load()
        except SourceError as error:
            raise SourceError(f"--models: {self._settings.models}: {error}") from None
        self.table.apply_now()

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

    def start(self) -> None:
        """Follow the sources from now on; for a running event loop."""
        followed = [each for each in (self._file, self.kubernetes) if each]
        if followed:
            self._follow(asyncio.create_task(self.table.run()))
        for each in followed:
            self._follow(asyncio.create_task(each.run()))

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
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    @property
    def mismatches(self) -> "Mismatches | None":
        """What does not fit between table and HTTPRoutes; None if nothing was compared."""
        routes = self.kubernetes.routes if self.kubernetes else None
        return routes.mismatches if routes else None

    def reload(self) -> None:
        """Read the files anew, whether they seem to have changed or not."""
        if self._file:
            self._file.reload()

    def __str__(self) -> str:
        """Say in a few words what the table holds."""
        registry = self.table.registry
        if registry.identity:
            return "no model table: every model is its own base model"
        if not self.table.synced:
            return f"the model table is awaited from {self._where()}"
        counts = dict.fromkeys(Kind, 0)
        for _, entry in registry.items():
            counts[entry.kind] += 1
        parts = [_count(counts[Kind.BASE_MODEL], "base model"), _count(counts[Kind.ADAPTER], "adapter")]
        if counts[Kind.ALIAS]:
            parts.append(_count(counts[Kind.ALIAS], "alias", "es"))
        return f"{', '.join(parts[:-1])} and {parts[-1]} from {self._where()}"

    def _where(self) -> str:
        settings = self._settings
        where = [str(settings.models)] if settings.models else []
        if settings.kubernetes:
            where.append(
                f"the ConfigMaps of {f'namespace {settings.namespace}' if settings.namespace else 'all namespaces'}"
            )
        return " and ".join(where)

    def _follow(self, task: asyncio.Task[None]) -> None:
        task.add_done_callback(_report)
        self._tasks.append(task)


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def _report(task: asyncio.Task[None]) -> None:
    """Tell of a task that ended of itself: an error of ours. The table stays as it is; requests are still routed."""
    if not task.cancelled():
        log.critical("the model table is followed no longer; restart the router", exc_info=task.exception())
