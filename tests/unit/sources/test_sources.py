import asyncio
import os
import threading
from pathlib import Path

import pytest

from bbr.config.options import authorities
from bbr.config.settings import Settings
from bbr.sources import file, server_tls
from bbr.sources.objects import SourceError
from bbr.sources.sources import Sources
from bbr.sources.table import DISCOVERED
from bbr.system.supervisor import Supervisor
from bench.harness.fake_kubernetes import BBR, IPP, FakeKubernetes, Fault
from tests.support.loops import in_loop
from tests.support.model_tables import base_model_of
from tests.support.stack import until


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def models(tmp_path):
    return write(tmp_path / "models.yaml", "models: [{name: qwen, adapters: [x, y]}, {name: phi}]")


def loaded(path, **settings):
    sources = Sources(Settings(models=path, **settings))
    sources.load()
    return sources


@in_loop
async def test_without_a_source_nothing_is_followed():
    sources = loaded(None)
    assert sources.table.registry.identity
    assert str(sources) == "no model table: every model is its own base model"
    sources.start()
    sources.reload()
    await sources.stop()


def test_says_what_the_table_holds(models):
    assert str(loaded(models)) == f"2 base models and 2 adapters from {models}"


def test_says_that_there_are_aliases(models):
    write(models, "models: [{name: qwen}]\naliases: {gpt-4: qwen}")
    assert str(loaded(models)) == f"1 base model, 0 adapters and 1 alias from {models}"


def test_read_leaves_what_is_wrong_in_the_table(models):
    write(models, "models:\n- nam: x\n")
    sources = Sources(Settings(models=models))
    sources.read()
    assert list(sources.table.broken) == [("file", str(models))]


def test_a_wrong_file_does_not_load(models):
    write(models, "models:\n- nam: x\n")
    with pytest.raises(SourceError) as caught:
        loaded(models)
    assert str(caught.value).startswith(f"--models: {models}: line 2: ")


def test_a_wrong_file_of_a_directory_does_not_load(models):
    other = write(models.parent / "other.yaml", "models: x")
    with pytest.raises(SourceError) as caught:
        loaded(models.parent)
    assert str(caught.value) == f"--models: {other}: line 1: models must be a list"


@pytest.mark.parametrize("inside", [False, True], ids=["as --models", "in the directory"])
def test_a_fifo_does_not_load(tmp_path, inside):
    path = tmp_path / "fifo.yaml"
    os.mkfifo(path)
    with pytest.raises(SourceError) as caught:
        loaded(tmp_path if inside else path)
    assert str(caught.value) == f"--models: {path}: is a FIFO (a named pipe), not a regular file"


def test_a_directory_that_can_not_be_read_does_not_load(models, monkeypatch):
    monkeypatch.setattr(file, "MAX_FILES", 0)
    with pytest.raises(SourceError) as caught:
        loaded(models.parent)
    assert str(caught.value) == f"--models: {models.parent}: the directory has 1 files; at most 0 are read"


def test_names_are_bounded_as_those_of_requests_are(models):
    with pytest.raises(SourceError, match="at most 3 are allowed"):
        loaded(models, max_model_length=3)


@in_loop
async def test_reload_is_followed_until_stop(models):
    sources = loaded(models)
    sources.start()
    write(models, "models: [{name: gemma}]")
    sources.reload()
    await until(lambda: sources.table.registry.base_models == ("gemma",))
    await sources.stop()
    write(models, "models: [{name: llama}]")
    sources.reload()
    await asyncio.sleep(0)
    assert sources.table.registry.base_models == ("gemma",)


@in_loop
async def test_files_are_followed_again_after_a_moment_without_threads_or_memory(models, monkeypatch, caplog):
    real, failures = threading.Thread.start, [MemoryError(), RuntimeError("can't start new thread")]

    def start(thread):
        if failures and thread.name == "reading files":
            raise failures.pop()
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    supervisor = Supervisor()
    sources = loaded(models)
    sources.start(supervisor)
    assert set(supervisor.failures) == {"model files", "model table", "long documents"}
    write(models, "models: [{name: gemma}]")
    sources.reload()
    await until(lambda: sources.table.registry.base_models == ("gemma",))
    assert supervisor.failures["model files"].restarts == 2
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, MemoryError]
    assert sources.ages()["model files"] < 10
    await sources.stop()


@in_loop
async def test_every_task_of_the_sources_is_started_again(tmp_path, models, monkeypatch):
    """Whatever ends one of them: the table holds in the end what files and cluster have."""
    async with FakeKubernetes() as server:
        server.put("a", data={"baseModel": "gemma"})
        sources = loaded(
            models, kubernetes=True, kubeconfig=server.kubeconfig(tmp_path), discover_routes=True, sync_timeout=0
        )
        supervisor, failed = Supervisor(), set()
        start = supervisor.start

        def start_failing(name, body):
            async def fail_once():
                if name not in failed:
                    failed.add(name)
                    raise MemoryError
                await body()

            return start(name, fail_once)

        monkeypatch.setattr(supervisor, "start", start_failing)
        sources.start(supervisor)
        await sources.wait_synced()
        assert sorted(sources.table.registry.base_models) == ["gemma", "phi", "qwen"]
        names = {"model files", "model table", "HTTPRoutes", f"ConfigMaps with {BBR}", f"ConfigMaps with {IPP}"}
        names |= {"comparison with HTTPRoutes", "table for HTTPRoutes", "long documents"}
        assert failed == set(supervisor.failures) == names
        await until(lambda: all(task.restarts for task in supervisor.failures.values()))
        await sources.stop()


@in_loop
async def test_ages_tell_what_is_not_followed(tmp_path, models, monkeypatch):
    async with FakeKubernetes() as server:
        path = server.kubeconfig(tmp_path)
        sources = loaded(models, kubernetes=True, kubeconfig=path, sync_timeout=0)
        assert set(sources.ages()) == {"model files", "model table", f"ConfigMaps with {BBR}", f"ConfigMaps with {IPP}"}
        sources.start()
        await sources.wait_synced()
        assert all(age > 0 for age in config_maps(sources.ages()))
        assert set(sources.failing().values()) == {""}
        await until(lambda: sources.ages()["model table"] == 0)
    await until(lambda: all("connect" in why.lower() for why in config_maps(sources.failing())))
    before = max(config_maps(sources.ages()))
    await until(lambda: min(config_maps(sources.ages())) > before)
    assert sources.failing()["model files"] == ""
    await sources.stop()
    assert loaded(None).ages() == loaded(None).failing() == {}


def config_maps(found):
    """Return what is told of the ConfigMaps."""
    return [value for what, value in found.items() if what.startswith("ConfigMaps")]


@in_loop
async def test_follows_files_and_the_cluster_together(models, tmp_path):
    async with FakeKubernetes() as server:
        server.put("a", data={"baseModel": "gemma"})
        sources = loaded(models, kubernetes=True, kubeconfig=server.kubeconfig(tmp_path))
        where = f"{models} and the ConfigMaps of all namespaces"
        assert str(sources) == f"waiting for the model table from {where}"
        sources.start()
        await sources.wait_synced()
        assert str(sources) == f"3 base models and 2 adapters from {where}"
        await sources.stop()
        assert base_model_of(sources.table.registry, "gemma") == "gemma"


@in_loop
async def test_what_an_api_server_says_waits_for_no_document(tmp_path):
    """A document may take seconds, and who changes one all the time must not hold up everybody else's changes."""
    async with FakeKubernetes() as cluster:
        cluster.put("a", data={"baseModel": "phi"})
        sources = loaded(None, kubernetes=True, kubeconfig=cluster.kubeconfig(tmp_path))
        sources.start()
        await sources.wait_synced()
        async with sources.table.long_documents._worker._turn:  # a document is at work
            cluster.put("b", data={"baseModel": "qwen", "other": "x" * 100_000})  # a long event
            await until(lambda: base_model_of(sources.table.registry, "qwen") == "qwen")
        await sources.stop()


@in_loop
async def test_follows_one_namespace_and_its_routes(tmp_path):
    async with FakeKubernetes() as server:
        server.put("a", data={"baseModel": "gemma"})
        path = server.kubeconfig(tmp_path)
        sources = loaded(None, kubernetes=True, kubeconfig=path, namespace="ours", discover_routes=True)
        sources.start()
        await sources.wait_synced()
        assert str(sources) == "0 base models and 0 adapters from the ConfigMaps of namespace ours"
        await until(lambda: len({request.path for request in server.requests}) == 2)
        await sources.stop()
        assert {request.namespace for request in server.requests} == {"ours"}


@in_loop
async def test_a_cluster_that_can_not_be_listed_is_not_awaited_for_ever(tmp_path):
    async with FakeKubernetes() as server:
        server.faults.extend(Fault(403) for _ in range(10_000))
        sources = loaded(None, kubernetes=True, kubeconfig=server.kubeconfig(tmp_path), sync_timeout=0.3)
        sources.start()
        await until(lambda: all("403" in why for why in config_maps(sources.failing())))
        with pytest.raises(SourceError) as caught:
            await sources.wait_synced()
        await sources.stop()
        assert str(caught.value) == (
            "--sync-timeout: the ConfigMaps were not listed within 0.3 s: "
            f"ConfigMaps with {BBR}: 403: as the test wants it; ConfigMaps with {IPP}: 403: as the test wants it"
        )


@in_loop
async def test_a_cluster_that_says_nothing_is_not_awaited_for_ever(tmp_path):
    never = asyncio.Event()
    async with FakeKubernetes() as server:
        server.faults.extend(Fault(until=never) for _ in range(2))
        sources = loaded(None, kubernetes=True, kubeconfig=server.kubeconfig(tmp_path), sync_timeout=0.1)
        sources.start()
        with pytest.raises(SourceError, match=r"within 0.1 s: no answer so far$"):
            await sources.wait_synced()
        await sources.stop()


def test_a_cluster_that_nothing_tells_of_does_not_load(tmp_path):
    with pytest.raises(SourceError, match=r"--kubernetes: /.*/none: No such file or directory"):
        loaded(None, kubernetes=True, kubeconfig=tmp_path / "none")


@in_loop
async def test_model_servers_are_asked_if_they_are_wanted(tmp_path):
    async with FakeKubernetes() as server:
        server.put("a", data={"baseModel": "qwen"})
        path = server.kubeconfig(tmp_path)
        sources = loaded(None, kubernetes=True, kubeconfig=path, discover_adapters=True, sync_timeout=0)
        assert DISCOVERED in sources.failing()
        supervisor = Supervisor()
        sources.start(supervisor)
        try:
            await sources.wait_synced()
            assert sources.table.registry.base_models == ("qwen",)
            assert sources.failing()[DISCOVERED] == ""
            assert sources.ages()[DISCOVERED] >= 0
            assert [each.what for each in sources.reflectors][-3:] == [
                "InferencePools",
                "InferencePools (v1alpha2)",
                "HTTPRoutes of InferencePools",
            ]
        finally:
            await sources.stop()


@pytest.mark.parametrize(("text", "file"), [("system", None), ("/etc/ca.crt", Path("/etc/ca.crt"))])
def test_whose_authorities_verify_model_servers(tmp_path, monkeypatch, text, file):
    made = []
    monkeypatch.setattr(server_tls, "ServerTls", lambda *given: made.append(given))

    @in_loop
    async def test():
        async with FakeKubernetes() as server:
            path = server.kubeconfig(tmp_path)
            flags = {"discover_adapters": True, "discover_ca": authorities(text), "discover_server_name": "vllm"}
            loaded(None, kubernetes=True, kubeconfig=path, **flags)

    test()
    assert made == [(file, "vllm")]
