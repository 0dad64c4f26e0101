import json
import urllib.error
import urllib.request

import pytest

from bbr.models.entries import BaseModel
from bench.harness import go_router, workload
from bench.harness.background import Background
from bench.harness.in_process_router import Router
from bench.harness.model_tables import merged
from bench.harness.peer import Peer


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("base", "right"), [(workload.MODEL, True), ("another", False)])
def test_it_runs_once_both_headers_are_its_models(streaming, base, right):
    table, _ = merged([BaseModel(base, () if right else (workload.MODEL,))])
    with Background() as background:
        router = Router(background, table)
        try:
            assert go_router.answers(router.port, streaming=streaming) is right
        finally:
            router.stop()


def test_the_api_server_tells_what_a_controller_asks_for():
    with go_router.api_server() as kube_config:
        (cluster,) = json.loads(kube_config.read_text())["clusters"]

        def get(path):
            with urllib.request.urlopen(cluster["cluster"]["server"] + path, timeout=90) as reply:  # noqa: S310
                return json.load(reply)

        assert get("/api")["versions"] == ["v1"]
        assert get("/apis")["groups"] == []
        assert [each["name"] for each in get("/api/v1")["resources"]] == ["configmaps"]
        listed = get("/api/v1/configmaps")
        assert listed["kind"] == "ConfigMapList"
        assert listed["metadata"]["resourceVersion"]
        (table,) = listed["items"]
        assert table["data"] == {"baseModel": workload.MODEL}
        assert get(f"/api/v1/namespaces/default/configmaps/{table['metadata']['name']}") == table


def test_how_it_is_started():
    found = go_router.flags([1, 2, 3], streaming=True, verbosity=3)
    assert found[:4] == ["--grpc-port=1", "--grpc-health-port=2", "--metrics-port=3", "--streaming=true"]
    assert {"--secure-serving=false", "--tracing=false", "--v=3"} <= set(found)


def test_the_payload_processor_streams_only():
    found = go_router.flags([1, 2, 3], streaming=True, verbosity=0, program=go_router.IPP)
    assert not [word for word in found if "streaming" in word]
    assert {"--grpc-port=1", "--metrics-endpoint-auth=false"} <= set(found)


def test_each_program_and_version_has_a_place_of_its_own():
    programs = (go_router.GIE, go_router.IPP, go_router.GIE._replace(version=go_router.IPP.version))
    assert len({program.binary for program in programs}) == 3


@pytest.mark.parametrize("cache", ["XDG_CACHE_HOME", "HOME"])
def test_a_program_is_taken_from_the_cache_of_the_machine_too(monkeypatch, tmp_path, cache):
    monkeypatch.setattr(go_router, "ROOT", tmp_path / "checkout")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(cache, str(tmp_path))
    shared = tmp_path / (".cache" if cache == "HOME" else "") / "bbr-lab/bin/ipp-v0.1.0"
    assert go_router.IPP.binary == go_router.IPP.own
    shared.parent.mkdir(parents=True)
    shared.touch()
    assert (go_router.IPP.built, go_router.IPP.binary) == (True, shared)
    go_router.IPP.own.parent.mkdir(parents=True)
    go_router.IPP.own.touch()
    assert go_router.IPP.binary == go_router.IPP.own


def test_a_program_that_ends_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setattr(go_router, "ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = go_router.IPP
    assert not program.built
    program.binary.parent.mkdir(parents=True)
    program.binary.write_text("#!/bin/sh\nexit 3\n", "utf-8")
    program.binary.chmod(0o755)
    assert program.built
    with (
        pytest.raises(go_router.GoRouterError, match="ended with status 3"),
        go_router.started(program, tmp_path, lambda port: False),
    ):
        pass


def test_peers_are_given_as_arguments():
    plain, secure = Peer("Go", 1, 2), Peer("Go", 3, 4, processors=2, tls=True)
    assert go_router.arguments([plain, secure]) == [
        *("--peer=127.0.0.1:1", "--peer-pid=2", "--peer-name=Go", "--peer-processors=1"),
        *("--peer=tls:127.0.0.1:3", "--peer-pid=4", "--peer-name=Go", "--peer-processors=2"),
    ]


def test_without_go_or_a_build_it_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(go_router, "ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert go_router.main(["--", "true"]) == 1
    assert "is not built: python -m bench.harness.go_router build" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert go_router.main(["build"]) == 1
    assert "built by Go, which is not installed here" in capsys.readouterr().err
