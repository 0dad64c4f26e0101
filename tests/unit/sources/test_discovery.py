import asyncio
import contextlib
import itertools
import json
import logging
import sys

import pytest

from bbr.sources import served
from bbr.sources.discovery import Discovery
from bbr.sources.kube_api import KubeApi
from bbr.sources.kubernetes import KUBERNETES, KubernetesSource
from bbr.sources.model_servers import ServerError
from bbr.sources.reflector import Pace
from bbr.sources.servers import KEEP_SECONDS
from bbr.sources.settling import Contest
from bbr.sources.table import DISCOVERED, Table
from bbr.system.supervisor import Supervisor
from bbr.system.worker_process import WorkerError, WorkerProcess
from bench.harness.fake_kubernetes import HTTP_ROUTES, OLD_POOLS, PODS, POOLS, FakeKubernetes, Fault
from tests.support.clock import Clock
from tests.support.loops import in_loop
from tests.support.model_tables import base_model_of
from tests.support.stack import until

PACE = Pace(first_delay_seconds=0.001, longest_delay_seconds=0.005, short_watch_seconds=0.0)
GROUP = "inference.networking.k8s.io"


class Pretended:
    """Model servers by their addresses: what each lists, or why it gives no answer.

    Attributes:
        answers: by host: base model and adapters, octets, or a ServerError.
        held: hosts whose answers are held back until the event.
        asked: the hosts that were asked, in order.
    """

    def __init__(self):
        self.answers = {}
        self.held = {}
        self.asked = []
        self.at_once = self.most = 0

    async def models(self, host, port):
        self.asked.append(host)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if host in self.held:
                await self.held[host].wait()
            await asyncio.sleep(0)
            found = self.answers.get(host, ServerError("no answer: Connection refused", "unreachable"))
            if isinstance(found, Exception):
                raise found
            if isinstance(found, bytes):
                return [found]
            base, *adapters = found
            models = [{"id": base}, *({"id": name, "parent": base} for name in adapters)]
            return [json.dumps({"data": models}).encode()]
        finally:
            self.at_once -= 1


class Cluster(FakeKubernetes):
    """A cluster with pools, each of which serves a base model of its name."""

    def pool(self, name, *hosts, base=None, declared=True, created="2026-01-01T00:00:00Z"):
        base = base or name
        spec = {"selector": {"matchLabels": {name: "true"}}, "targetPorts": [{"number": 8000}]}
        self.put(name, path=POOLS, created=created, spec=spec)
        self.route(name, base)
        if declared:
            self.put(base, data={"baseModel": base})
        for host in hosts:
            self.pod(name, host)

    def route(self, name, *bases, group=GROUP):
        headers = [{"headers": [{"name": "X-Gateway-Base-Model-Name", "value": base}]} for base in bases]
        backends = [{"group": group, "kind": "InferencePool", "name": name}]
        self.put(name, path=HTTP_ROUTES, spec={"rules": [{"matches": headers, "backendRefs": backends}]})

    def pod(self, pool, host, *, ready=True):
        conditions = [{"type": "Ready", "status": str(ready)}]
        self.put(f"pod-{host}", path=PODS, labels=[pool], status={"podIP": host, "conditions": conditions})

    def no_pod(self, host):
        self.delete(f"pod-{host}", path=PODS)


@contextlib.asynccontextmanager
async def discovering(tmp_path, cluster, servers, *, clock=None, **options):
    """Follow a cluster, and give the table and the Discovery. Servers are asked as fast as they answer."""
    config = cluster.kubeconfig(tmp_path)
    worker = WorkerProcess()
    table = Table([KUBERNETES, DISCOVERED], worker=worker)
    options = {"interval": 0.01, "pace": PACE, "first_seconds": 1000.0, "jitter": lambda: 0.0} | options
    if clock:
        options["clock"] = clock

    def connect():
        return KubeApi(config)

    source = KubernetesSource(table, connect, worker, pace=PACE)
    found = Discovery(table, connect, worker, servers, **options)
    supervisor = Supervisor()
    bodies = {**source.bodies(), **found.bodies(supervisor), "table": table.run, "aside": table.long_documents.run}
    tasks = [supervisor.start(name, body) for name, body in bodies.items()]
    try:
        yield table, found
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            await task.stop()
        worker.close()
    assert {name: each.restarts for name, each in supervisor.failures.items() if each.restarts} == {}


def adapters(table):
    return {name: entry.base_model for name, entry in table.registry.items() if str(entry.kind) == "adapter"}


@in_loop
async def test_a_loaded_adapter_is_routed_and_an_unloaded_one_is_not(tmp_path):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "sql-lora")}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        async with discovering(tmp_path, cluster, servers) as (table, found):
            await table.wait_synced()
            assert adapters(table) == {"sql-lora": "qwen"}
            assert str(table.registry.find("sql-lora").origin) == "the servers of InferencePool default/qwen"
            servers.answers["10.0.0.1"] = ("qwen", "sql-lora", "new-lora")
            await until(lambda: adapters(table) == {"sql-lora": "qwen", "new-lora": "qwen"})
            assert (found.adapters, found.followed, found.servers()) == (2, 1, {"answering": 1, "failing": 0})
            servers.answers["10.0.0.1"] = ("qwen",)
            await until(lambda: adapters(table) == {})
            assert (found.failing, found.refused()) == ("", {"contested": 0, "unusable": 0, "too-many": 0})
            assert found.polls["ok"] >= 3


@in_loop
async def test_the_old_api_and_a_cluster_without_the_new_one(tmp_path):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "sql-lora")}
    async with Cluster() as cluster:
        cluster.unknown.add(POOLS)
        spec = {"selector": {"qwen": "true"}, "targetPortNumber": 8000}
        cluster.put("qwen", path=OLD_POOLS, spec=spec)
        cluster.route("qwen", "qwen", group="inference.networking.x-k8s.io")
        cluster.put("qwen", data={"baseModel": "qwen"})
        cluster.pod("qwen", "10.0.0.1")
        async with discovering(tmp_path, cluster, servers) as (table, found):
            await table.wait_synced()
            assert adapters(table) == {"sql-lora": "qwen"}
            assert found.failing == ""
            assert not any(each.failing for each in found.reflectors)


@in_loop
async def test_pods_come_and_go(tmp_path):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "a"), "10.0.0.2": ("qwen", "b"), "10.0.0.3": ("qwen", "c")}
    clock = Clock()
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        async with discovering(tmp_path, cluster, servers, clock=clock) as (table, _):
            await table.wait_synced()
            cluster.pod("qwen", "10.0.0.2")
            cluster.pod("qwen", "10.0.0.3", ready=False)
            await until(lambda: adapters(table) == {"a": "qwen", "b": "qwen"})
            cluster.no_pod("10.0.0.1")
            cluster.pod("qwen", "10.0.0.3")
            await until(lambda: adapters(table) == {"a": "qwen", "b": "qwen", "c": "qwen"})
            clock.now += KEEP_SECONDS + 1
            servers.answers["10.0.0.4"] = ("qwen", "d")
            cluster.pod("qwen", "10.0.0.4")
            await until(lambda: adapters(table) == {"b": "qwen", "c": "qwen", "d": "qwen"})


@in_loop
async def test_a_dead_server_changes_nothing_of_the_others(tmp_path, caplog):
    servers = Pretended()
    servers.answers = {"10.0.0.2": ("qwen", "a"), "10.0.1.1": ("phi", "b")}
    hold = asyncio.Event()
    servers.held = {"10.0.0.1": hold}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1", "10.0.0.2")
        cluster.pool("phi", "10.0.1.1")
        async with discovering(tmp_path, cluster, servers, first_seconds=0.0) as (table, found):
            await until(lambda: adapters(table) == {"a": "qwen", "b": "phi"})
            assert found.polls["unreachable"] == 0
            hold.set()
            await until(lambda: found.failing)
            assert found.failing == (
                "default/qwen: 10.0.0.1:8000: no answer: Connection refused; what it said last counts for a while"
            )
            assert found.servers() == {"answering": 2, "failing": 1}
            assert adapters(table) == {"a": "qwen", "b": "phi"}
            servers.answers["10.0.0.1"] = ("qwen", "c")
            await until(lambda: adapters(table) == {"a": "qwen", "b": "phi", "c": "qwen"})
            await until(lambda: not found.failing)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (line,) = lines
    assert line.startswith(
        "adapters of model servers: default/qwen: 10.0.0.1:8000: no answer: Connection refused; what"
    )


LIES = [
    pytest.param(("phi", "b"), id="lists another pool's base model"),
    pytest.param(b"{}", id="lists nothing"),
    pytest.param(b"\x1f\x8b\x08", id="gzip"),
    pytest.param(("qwen", "phi", "gpt", "sql-lora", "team-x", "b*"), id="names that are declared"),
    pytest.param(("qwen", "b"), id="another pool's adapter"),
    pytest.param(ServerError("its answer is longer than 1 MiB", "too-long"), id="huge"),
    pytest.param(json.dumps({"data": [{"id": str(each)} for each in range(5000)]}).encode(), id="thousands"),
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_server_changes_nothing_of_the_others(tmp_path, lie):
    @in_loop
    async def test():
        servers = Pretended()
        servers.answers = {"10.0.0.1": ("qwen", "a"), "10.0.0.2": ("qwen", "a"), "10.0.1.1": ("phi", "b")}
        async with Cluster() as cluster:
            cluster.pool("qwen", "10.0.0.1", "10.0.0.2")
            cluster.pool("phi", "10.0.1.1")
            declared = {"adapters": "[sql-lora, team-*]", "aliases": "{gpt: phi, x: a}"}
            cluster.put("phi", data={"baseModel": "phi", **declared})
            async with discovering(tmp_path, cluster, servers) as (table, found):
                await until(lambda: {"a", "b"} <= adapters(table).keys() and table.synced)
                before = {name: entry[:2] for name, entry in table.registry.items()}
                assert base_model_of(table.registry, "x") == "qwen"
                servers.answers["10.0.0.2"] = lie
                await until(lambda: found.failing or table.conflicts)
                asked = len(servers.asked)
                await until(lambda: len(servers.asked) > asked + 10)
                assert {name: entry[:2] for name, entry in table.registry.items()} == before
                assert base_model_of(table.registry, "team-x") == "phi"

    test()


@in_loop
async def test_two_pools_that_claim_one_name_leave_it_to_nobody(tmp_path):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "a"), "10.0.1.1": ("phi", "a", "b")}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        cluster.pool("phi", "10.0.1.1")
        async with discovering(tmp_path, cluster, servers) as (table, found):
            await table.wait_synced()
            assert adapters(table) == {"b": "phi"}
            assert found.refused() == {"contested": 1, "unusable": 0, "too-many": 0}
            assert found.failing == (
                "the adapter a is claimed for several base models (phi, qwen): nobody gets it until an object "
                "declares it"
            )
            cluster.put("qwen", data={"baseModel": "qwen", "adapters": "[a]"})
            await until(lambda: adapters(table) == {"a": "qwen", "b": "phi"})


@in_loop
async def test_an_undeclared_base_model_has_no_adapters(tmp_path):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "a")}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1", declared=False)
        async with discovering(tmp_path, cluster, servers) as (table, _):
            await table.wait_synced()
            assert adapters(table) == {}
            (conflict,) = table.conflicts
            assert str(conflict) == (
                "a can't be an adapter of qwen (the servers of InferencePool default/qwen): no object declares the "
                "base model qwen"
            )


@in_loop
async def test_routes_and_pools_change(tmp_path):
    servers = Pretended()
    both = [{"id": "qwen"}, {"id": "next"}, {"id": "a", "parent": "qwen"}, {"id": "b", "parent": "next"}]
    servers.answers = {"10.0.0.1": json.dumps({"data": both}).encode(), "10.0.0.2": ("qwen", "c")}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        cluster.put("next", data={"baseModel": "next"})
        async with discovering(tmp_path, cluster, servers) as (table, found):
            await table.wait_synced()
            assert adapters(table) == {"a": "qwen"}
            cluster.route("qwen", "qwen", "next")
            await until(lambda: adapters(table) == {"a": "qwen", "b": "next"})
            seen = []
            # A selector of its own: until the pods there are known, what was known stays.
            cluster.pod("other", "10.0.0.2")
            spec = {"selector": {"matchLabels": {"other": "true"}}, "targetPorts": [{"number": 8000}]}
            cluster.put("qwen", path=POOLS, spec=spec)
            await until(lambda: seen.append(adapters(table)) or adapters(table) == {"c": "qwen"})
            assert {} not in seen
            cluster.delete("qwen", path=HTTP_ROUTES)
            await until(lambda: adapters(table) == {})
            assert found.followed == 0


@in_loop
async def test_few_servers_of_a_pool_are_asked_at_once(tmp_path):
    servers = Pretended()
    hosts = [f"10.0.0.{number}" for number in range(1, 21)]
    hold = asyncio.Event()
    servers.answers = {host: ("qwen", f"lora-{host}") for host in hosts}
    servers.held = dict.fromkeys(hosts, hold)
    async with Cluster() as cluster:
        cluster.pool("qwen", *hosts)
        async with discovering(tmp_path, cluster, servers, interval=60.0) as (table, _):
            await until(lambda: servers.at_once == 4)
            hold.set()
            await table.wait_synced()
            assert len(adapters(table)) == 20
            assert sorted(servers.asked) == sorted(hosts)  # each once in an interval
            assert servers.most == 4


@in_loop
async def test_the_first_answers_are_awaited_for_a_while_only(tmp_path):
    servers = Pretended()
    servers.held = {"10.0.0.1": asyncio.Event()}
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        async with discovering(tmp_path, cluster, servers, first_seconds=0.2) as (table, _):
            await table.wait_synced()
            assert adapters(table) == {}


@in_loop
async def test_pods_that_can_not_be_seen_are_told(tmp_path):
    servers = Pretended()
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        cluster.faults.extend(itertools.repeat(Fault(403, applies=lambda request: request.path == PODS), 10_000))
        async with discovering(tmp_path, cluster, servers, first_seconds=0.0) as (table, found):
            await table.wait_synced()
            await until(lambda: found.failing)
            assert found.failing == "default/qwen: its pods can't be followed (403: as the test wants it)"
            assert servers.asked == []
            cluster.faults.clear()
            servers.answers = {"10.0.0.1": ("qwen", "a")}
            await until(lambda: adapters(table) == {"a": "qwen"})


@in_loop
async def test_looks_in_one_namespace_if_it_is_told_to(tmp_path):
    async with Cluster() as cluster:
        cluster.pool("qwen")
        async with discovering(tmp_path, cluster, Pretended(), namespace="other") as (_, found):
            await until(lambda: all(each.listed for each in found.reflectors))
            asked = {(request.path, request.namespace) for request in cluster.requests}
            assert {(POOLS, "other"), (OLD_POOLS, "other"), (HTTP_ROUTES, "other")} <= asked
            assert not any(path == PODS for path, _ in asked)


@in_loop
async def test_many_troubles_are_told_in_short(tmp_path, caplog):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", *(f"*{each}" for each in range(50)))}
    hosts = [f"10.0.0.{number}" for number in range(1, 20)]
    async with Cluster() as cluster:
        cluster.pool("qwen", *hosts)
        async with discovering(tmp_path, cluster, servers, interval=0.001) as (_, found):
            await until(lambda: found.servers()["failing"] == 18)
            await until(lambda: found.failing.endswith("more"))
            assert len(found.failing) < 1000
            assert found.refused()["unusable"] == 10
            assert found.age_seconds < sys.maxsize
            found.contests = tuple(Contest(f"a{number}", None, ("qwen", "phi")) for number in range(2_000))
            assert found.failing.endswith("; and at least 997 more")  # not all are looked at each time
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) <= 60


@in_loop
async def test_answers_that_cannot_be_read_just_now_are_asked_for_again(tmp_path, monkeypatch):
    servers = Pretended()
    servers.answers = {"10.0.0.1": ("qwen", "a")}
    read = served.read
    failures = [WorkerError("no process")] * 3

    async def broken(pieces, worker):
        if failures:
            raise failures.pop()
        return await read(pieces, worker)

    monkeypatch.setattr(served, "read", broken)
    async with Cluster() as cluster:
        cluster.pool("qwen", "10.0.0.1")
        async with discovering(tmp_path, cluster, servers, first_seconds=0.0) as (table, found):
            await until(lambda: adapters(table) == {"a": "qwen"})
            assert found.polls["internal"] == 3


@in_loop
async def test_a_pool_that_lists_too_many_is_told(tmp_path):
    servers = Pretended()
    for number in range(2):
        servers.answers[f"10.0.0.{number}"] = ("qwen", *(f"{number}-{name}" for name in range(600)))
    async with Cluster() as cluster:
        cluster.pool("qwen", *servers.answers)
        async with discovering(tmp_path, cluster, servers, interval=60.0) as (table, found):
            await table.wait_synced()
            assert len(adapters(table)) == 1000
            assert found.failing == "default/qwen: its servers list 200 adapters more than a pool may have"
            assert found.refused()["too-many"] == 200
