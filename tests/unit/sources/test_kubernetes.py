import asyncio
import contextlib
import logging

import msgspec
import pytest

from bbr.models.steps import finish
from bbr.sources import kubernetes
from bbr.sources import table as table_module
from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import KUBERNETES, ConfigMap, ConfigMaps, KubernetesSource
from bbr.sources.reflector import Pace
from bbr.sources.routes import Mismatches
from bbr.sources.scopes import SCOPE_LABEL
from bbr.sources.table import Table
from bbr.system.worker_process import WorkerProcess
from bench.harness.fake_kubernetes import BBR, HTTP_ROUTES, IPP, FakeKubernetes, Fault, Watch
from tests.support.loops import in_loop
from tests.support.model_tables import base_model_of
from tests.support.stack import until

PACE = Pace(first_delay_seconds=0.001, longest_delay_seconds=0.005, short_watch_seconds=0.0)


def config_map(name="a", *, uid="1", version="1", base="qwen", adapters="", labels=None, **data):
    metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": version}
    if labels is not None:
        metadata["labels"] = labels
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    data = {"baseModel": base, "adapters": adapters, **data}
    return msgspec.convert({"metadata": metadata, "data": data}, ConfigMap)


class Hand:
    """Gives objects to a view as a reflector does."""

    def __init__(self, view):
        self._view = view

    def replace(self, found):
        self._view.begin()
        finish(self._view.replace({each.metadata.key: self._view.read(each) for each in found}))

    def put(self, found):
        self._view.put(found.metadata.key, self._view.read(found))

    def remove(self, found):
        self._view.remove(found.metadata.key)


class Views:
    """Two views of a cluster, and a table that is up to date when it is looked at."""

    def __init__(self):
        self._table = Table([KUBERNETES])
        self.maps = ConfigMaps(self._table, 2)
        self.one, self.two = map(Hand, self.maps.views)

    @property
    def table(self):
        self._table.apply_now()
        return self._table

    @property
    def unpublished(self):
        """What the table has been told and has not looked at yet."""
        return self._table._waiting

    @property
    def bases(self):
        return sorted(self.table.registry.base_models)


@pytest.fixture
def views():
    return Views()


@pytest.fixture
def listed(views):
    views.one.replace([])
    views.two.replace([])
    return views


def test_nothing_is_published_before_each_view_has_been_listed(views):
    views.one.replace([config_map("a")])
    views.one.put(config_map("b", base="phi"))
    assert (views.bases, views.table.synced) == ([], False)
    views.two.replace([config_map("c", base="gemma")])
    assert (views.bases, views.table.synced) == (["gemma", "phi", "qwen"], True)


def test_an_object_is_there_while_some_view_has_it(listed):
    for view in (listed.one, listed.two):
        view.put(config_map("a"))
    listed.one.remove(config_map("a"))
    assert listed.bases == ["qwen"]
    listed.two.remove(config_map("a"))
    assert listed.bases == []
    listed.two.remove(config_map("a"))
    assert listed.bases == []


@pytest.mark.parametrize("order", [1, -1])
def test_the_newest_state_of_all_views_counts(listed, order):
    states = [(listed.one, config_map(version="99")), (listed.two, config_map(version="100", base="phi"))]
    for view, state in states[::order]:
        view.put(state)
    assert listed.bases == ["phi"]


def test_a_list_replaces_what_its_view_had(listed):
    listed.one.put(config_map("a"))
    listed.one.put(config_map("b", base="phi"))
    listed.two.put(config_map("c", base="gemma"))
    listed.one.replace([config_map("b", base="llama", version="2")])
    assert listed.bases == ["gemma", "llama"]


def test_a_change_of_what_is_not_the_tables_changes_nothing(listed):
    listed.one.put(config_map(version="1"))
    assert listed.bases == ["qwen"]
    for version in ("2", "3"):
        listed.one.put(config_map(version=version, note=version))
        listed.one.replace([config_map(version=version)])
    assert listed.unpublished == {}


def test_all_keys_that_the_router_knows_count(listed):
    listed.one.put(config_map(adapters="- sql", aliases="gpt: sql", allow="sql: [team-a]"))
    registry = listed.table.registry
    assert registry.grants == {"sql": {frozenset({"team-a"})}}
    assert registry.find("gpt").base_model == "qwen"


def test_a_label_names_the_scope(listed):
    scope = {SCOPE_LABEL: "a", "other": "x"}
    listed.one.put(config_map(labels=scope, hosts="- a.example"))
    assert listed.bases == []
    assert listed.table.registry.within("a").base_models == ("qwen",)
    assert listed.table.registry.hosts.by_host == {"a.example": "a"}
    listed.one.put(config_map(version="2", labels={**scope, "other": "y"}, hosts="- a.example"))
    assert listed.unpublished == {}
    listed.one.put(config_map(version="3", labels={SCOPE_LABEL: "b"}, hosts="- a.example"))
    assert [*listed.table.registry.scopes] == ["b"]
    listed.one.put(config_map(version="4", labels={}))
    assert (listed.bases, [*listed.table.registry.scopes]) == (["qwen"], [])


def test_a_scope_that_is_none_is_no_way_out_of_scopes(listed):
    """An object whose label says nothing usable is refused, and not shown to everyone."""
    listed.one.put(config_map(labels={SCOPE_LABEL: ""}))
    assert listed.bases == []
    assert list(listed.table.broken) == [(KUBERNETES, "ns/a")]


def test_a_bad_one_keeps_its_last_good_content_and_hurts_no_other(listed):
    listed.one.put(config_map("a", adapters="- x"))
    assert listed.bases == ["qwen"]
    listed.one.put(config_map("a", version="2", adapters="["))
    listed.one.put(config_map("b", base="phi"))
    listed.one.put(config_map("c", base=""))
    assert listed.bases == ["phi", "qwen"]
    assert base_model_of(listed.table.registry, "x") == "qwen"
    assert listed.table.broken == {
        (
            KUBERNETES,
            "ns/a",
        ): "data.adapters: line 2: not YAML: while parsing a flow node, did not find expected node content",
        (KUBERNETES, "ns/c"): "data.baseModel is blank",
    }


def test_one_that_was_made_anew_inherits_nothing(listed):
    listed.one.put(config_map("a"))
    assert listed.bases == ["qwen"]
    listed.one.replace([config_map("a", uid="2", version="5", adapters="[")])
    assert listed.bases == []


def test_all_together_may_have_so_many_bytes(listed, monkeypatch):
    one = listed.maps.views[0].read(config_map("a", base="a", adapters="- " + "x" * 100)).size
    monkeypatch.setattr(kubernetes, "MAX_BYTES", 2 * one)
    listed.one.put(config_map("a", base="a", adapters="- " + "x" * 100))
    listed.two.put(config_map("b", base="b", adapters="- " + "x" * 100))
    assert (listed.bases, listed.maps.held_bytes) == (["a", "b"], 2 * one)
    # The next one has no room. One that was there keeps its last good content, and one may shrink.
    listed.one.put(config_map("c", base="c"))
    listed.one.put(config_map("a", base="a2", adapters="- " + "x" * 101))
    assert listed.bases == ["a", "b"]
    assert {key for _, key in listed.table.broken} == {"ns/a", "ns/c"}
    assert all("all ConfigMaps together may have" in why for why in listed.table.broken.values())
    assert listed.maps.held_bytes == one
    listed.one.put(config_map("a", base="a3", adapters="- " + "x" * 98))
    assert (listed.bases, listed.maps.held_bytes) == (["a3", "b"], 2 * one - 1)
    # What goes makes room for what is read again.
    listed.two.remove(config_map("b"))
    listed.one.replace([config_map("c", base="c"), config_map("d", base="d")])
    assert (listed.bases, dict(listed.table.broken)) == (["c", "d"], {})
    listed.one.replace([])
    assert (listed.bases, listed.maps.held_bytes) == ([], 0)


def test_a_namespace_leaves_room_for_bytes_to_others(listed, monkeypatch):
    one = listed.maps.views[0].read(config_map("a", base="a")).size
    monkeypatch.setattr(kubernetes, "MAX_NAMESPACE_BYTES", 2 * one)
    for name in "abc":
        listed.one.put(config_map(name, base=name))
    other = config_map("d", base="d")
    other.metadata.namespace = "honest"
    listed.two.put(other)
    assert listed.bases == ["a", "b", "d"]
    why = "the ConfigMaps of a namespace may have 0 MiB together, and with this one they have more"
    assert dict(listed.table.broken) == {(KUBERNETES, "ns/c"): why}
    listed.one.replace([config_map("c", base="c")])
    assert (listed.bases, dict(listed.table.broken)) == (["c", "d"], {})
    listed.one.replace([])
    listed.two.replace([])
    assert (listed.maps.held_bytes, [view.held_of for view in listed.maps.views]) == (0, [{}, {}])


def test_one_without_data_is_a_bad_one(listed):
    listed.one.put(msgspec.convert({"metadata": {"name": "a", "namespace": "ns"}}, ConfigMap))
    assert listed.table.broken == {(KUBERNETES, "ns/a"): "data.baseModel is missing"}


@contextlib.asynccontextmanager
async def following(tmp_path, monkeypatch, server, **options):
    monkeypatch.setattr(table_module, "COALESCE_SECONDS", 0.0)
    table = Table([KUBERNETES])
    path = server.kubeconfig(tmp_path)
    worker = WorkerProcess()
    source = KubernetesSource(table, lambda: KubeApi(path), worker, pace=PACE, jitter=lambda: 0.0, **options)
    tasks = [asyncio.create_task(run()) for run in (table.run, *source.bodies().values())]
    try:
        yield table, source
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        worker.close()


def bases(table):
    return sorted(table.registry.base_models)


def data(base, adapters=""):
    return {"data": {"baseModel": base, "adapters": adapters}}


@in_loop
async def test_follows_both_labels(tmp_path, monkeypatch):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen", "- x"))
        server.put("b", labels=[IPP], **data("phi"))
        server.put("c", labels=[BBR, IPP], **data("gemma"))
        server.put("d", labels=[], **data("llama"))
        async with following(tmp_path, monkeypatch, server) as (table, source):
            await table.wait_synced()
            assert bases(table) == ["gemma", "phi", "qwen"]
            await until(lambda: len(server.watches) == 2)
            server.put("a", labels=[IPP], **data("qwen2", "- x"))
            server.put("c", labels=[IPP], **data("gemma"))
            server.put("d", **data("llama"))
            server.delete("b")
            await until(lambda: bases(table) == ["gemma", "llama", "qwen2"])
            assert base_model_of(table.registry, "x") == "qwen2"
            server.put("c", labels=[], **data("gemma"))
            await until(lambda: bases(table) == ["llama", "qwen2"])
            assert source.failing == {}


@in_loop
async def test_a_cluster_s_objects_tell_who_may_use_what_and_in_which_scope(tmp_path, monkeypatch):
    """What the server's JSON holds, in short answers and in those that another process reads."""
    more = {"data": {"other": "x" * 100_000, **data("gemma", "- x")["data"], "allow": "gemma: [b]"}}
    async with FakeKubernetes() as server:
        hosts = {"data": {"hosts": "- a.example", "allow": "phi: [a]", **data("phi", "- x")["data"]}}
        server.put("a", scope="team-a", **hosts)
        server.put("b", **more)
        async with following(tmp_path, monkeypatch, server) as (table, _):
            await table.wait_synced()
            registry = table.registry
            assert bases(table) == ["gemma"]
            assert registry.grants == {"gemma": {frozenset("b")}}
            assert registry.within("team-a").grants == {"gemma": {frozenset("b")}, "phi": {frozenset("a")}}
            assert registry.hosts.by_host == {"a.example": "team-a"}
            await until(lambda: len(server.watches) == 2)
            server.put("a", scope="team-b", **hosts)
            await until(lambda: [*table.registry.scopes] == ["team-b"])
            server.put("a", scope=None, **data("phi"))
            await until(lambda: bases(table) == ["gemma", "phi"])


@in_loop
async def test_a_bad_one_is_reported_once_with_its_name_and_the_reason(tmp_path, monkeypatch, caplog):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.put("bad", namespace="models", **data(" "))
        async with following(tmp_path, monkeypatch, server) as (table, _):
            await until(lambda: len(server.watches) == 2)
            server.put("bad", namespace="models", note="as bad as before", **data(""))
            server.put("a", **data("phi"))
            await until(lambda: bases(table) == ["phi"])
    (line,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert line == "kubernetes models/bad: data.baseModel is blank; its last good content, if it had any, stays in use"


@in_loop
async def test_looks_in_one_namespace_if_it_is_told_to(tmp_path, monkeypatch):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.put("a", namespace="other", **data("phi"))
        async with following(tmp_path, monkeypatch, server, namespace="other", discover_routes=True) as (table, _):
            await table.wait_synced()
            assert bases(table) == ["phi"]
            await until(lambda: len(server.watches) == 3)
            assert {request.namespace for request in server.requests} == {"other"}


@in_loop
async def test_waits_for_both_lists_and_says_what_fails(tmp_path, monkeypatch):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.faults.extend(
            Fault(403, applies=lambda request: IPP in request.parameters["labelSelector"]) for _ in range(100)
        )
        async with following(tmp_path, monkeypatch, server) as (table, source):
            await until(lambda: server.watches and source.failing)
            assert source.failing == {f"ConfigMaps with {IPP}": "403: as the test wants it"}
            assert (bases(table), table.synced) == ([], False)
            server.faults.clear()
            await table.wait_synced()
            await until(lambda: not source.failing)
            assert bases(table) == ["qwen"]


@in_loop
async def test_reports_routes_that_do_not_fit_the_table(tmp_path, monkeypatch, caplog):
    header = "X-Gateway-Base-Model-Name"
    monkeypatch.setattr("bbr.sources.routes.RouteCheck.__init__.__kwdefaults__", {"settle_seconds": 0.0})

    def rules(*values):
        return {"spec": {"rules": [{"matches": [{"headers": [{"name": header, "value": each}]}]} for each in values]}}

    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.put("r", path=HTTP_ROUTES, **rules("qwen", "phi"))
        async with following(tmp_path, monkeypatch, server, discover_routes=True) as (_, source):
            await until(lambda: source.routes.mismatches and source.routes.mismatches.unknown)
            server.put("b", **data("phi"))
            await until(lambda: source.routes.mismatches == Mismatches())
            server.delete("r", path=HTTP_ROUTES)
            await until(lambda: source.routes.mismatches == Mismatches(("qwen", "phi")))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 3


@in_loop
async def test_routes_that_can_not_be_seen_hold_nothing_up(tmp_path, monkeypatch):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.faults.extend(Fault(404, applies=lambda request: request.path == HTTP_ROUTES) for _ in range(1000))
        async with following(tmp_path, monkeypatch, server, discover_routes=True) as (table, source):
            await table.wait_synced()
            assert bases(table) == ["qwen"]
            await until(lambda: source.failing == {"HTTPRoutes": "404: as the test wants it"})
            assert source.routes.mismatches is None


@in_loop
async def test_a_server_that_goes_away_for_a_while_shrinks_nothing(tmp_path, monkeypatch):
    async with FakeKubernetes() as server:
        server.put("a", **data("qwen"))
        server.put("b", labels=[IPP], **data("phi"))
        async with following(tmp_path, monkeypatch, server) as (table, source):
            await until(lambda: len(server.watches) == 2 and bases(table) == ["phi", "qwen"])
            await server.stop()
            await until(lambda: len(source.failing) == 2)
            assert bases(table) == ["phi", "qwen"]
            server.delete("b")
            await server.start()
            await until(lambda: bases(table) == ["qwen"])
            server.each_watch(Watch.abandon)
            server.put("c", **data("gemma"))
            await until(lambda: bases(table) == ["gemma", "qwen"])
