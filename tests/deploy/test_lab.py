"""What of the lab needs neither root nor Go: `make lab-test` shows the rest at work."""

import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from deploy.lab import balancer, cluster, containers, controllers, definitions, gateway, names, parts, setting, volumes
from deploy.lab import lab as stand
from deploy.lab.lock import HeldError, Lock, end_holder
from deploy.lab.network import ROOT

DOMAIN = "models.svc.cluster.local"


def question(name, kind=1):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def service(name, address):
    return {"metadata": {"name": name, "namespace": "models"}, "spec": {"clusterIP": address}}


def test_names_are_those_of_services_and_of_a_headless_one_s_ready_endpoints():
    labels = {"kubernetes.io/service-name": "headless"}
    endpoints = [
        {"addresses": ["10.100.1.2"], "conditions": {"ready": True}},
        {"addresses": ["10.100.1.3"], "conditions": {"ready": False}},
    ]
    slices = [{"metadata": {"namespace": "models", "labels": labels}, "endpoints": endpoints}]
    table = names.table([service("a", "10.96.0.7"), service("headless", "None")], slices)
    assert table == {f"a.{DOMAIN}": ["10.96.0.7"], f"headless.{DOMAIN}": ["10.100.1.2"]}
    found = names.answer(question(f"A.{DOMAIN}"), table)
    assert found.endswith(bytes([10, 96, 0, 7]))
    assert found[:2] == b"\0\7"
    assert struct.unpack_from(">H", found, 6) == (1,)
    assert struct.unpack_from(">H", names.answer(question(f"A.{DOMAIN}", kind=28), table), 6) == (0,)
    assert names.answer(question("b.example"), table)[3] & 15 == 3
    for cut in range(len(question(f"a.{DOMAIN}"))):
        assert names.answer(question(f"a.{DOMAIN}")[:cut], table) is None


def test_a_container_s_command_and_variables_are_those_of_its_pod():
    spec = {
        "image": "registry/lab/bbr:1",
        "args": ["--namespace=$(NAMESPACE)", "$(NOBODY)"],
        "resources": {"limits": {"cpu": "1"}},
        "env": [
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {"name": "A", "value": "b"},
        ],
    }
    found = containers.environment(spec, {"metadata.namespace": "models"}, {"X": "y"}, "pod-1")
    assert found | {"NAMESPACE": "models", "CORES": "1", "A": "b", "X": "y", "HOSTNAME": "pod-1"} == found
    assert int(found["MEMORY"]) > 1 << 20
    entry = containers.program({"lab/bbr": ["python", "-m", "bbr"]}, spec["image"])
    assert containers.arguments(entry, spec, found) == ["python", "-m", "bbr", "--namespace=models", "$(NOBODY)"]
    with pytest.raises(containers.ImageError, match="ErrImagePull: other"):
        containers.program({"lab/bbr": ["python"]}, "other")


def test_a_label_that_a_pod_does_not_have_is_empty_for_the_downward_api_and_another_path_an_error():
    fields = {"metadata.labels['a']": "b"}
    assert containers.downward(fields, "metadata.labels['a']") == "b"
    assert containers.downward(fields, "metadata.labels['c']") == ""
    with pytest.raises(KeyError):
        containers.downward(fields, "metadata.nme")


def test_a_service_of_type_load_balancer_gets_an_address_of_its_own_once():
    plain, balanced = service("a", "10.96.0.7"), service("b", "10.96.1.8")
    balanced["spec"]["type"] = "LoadBalancer"
    ((path, status),) = balancer.due([plain, balanced])
    assert path == "/api/v1/namespaces/models/services/b/status"
    assert status == {"status": {"loadBalancer": {"ingress": [{"ip": "10.97.1.8", "ipMode": "VIP"}]}}}
    assert balancer.due([balanced | status]) == []


def test_conditions_are_named_by_what_they_are_about():
    accepted = [{"type": "Accepted", "status": "True", "reason": "Accepted"}]
    status = {
        "conditions": [{"type": "Programmed", "status": "False", "reason": "Pending"}],
        "listeners": [{"name": "http", "conditions": accepted}],
        "parents": [{"parentRef": {"name": "gateway"}, "conditions": accepted}],
        "ancestors": [{"ancestorRef": {"name": "other"}, "conditions": accepted}],
    }
    assert controllers.conditions({"status": status}) == {
        "Programmed": "False Pending",
        "http/Accepted": "True Accepted",
        "gateway/Accepted": "True Accepted",
        "other/Accepted": "True Accepted",
    }
    assert controllers.conditions({}) == {}


@pytest.mark.parametrize("kind", stand.CONTROLLERS)
def test_a_gateway_is_found_by_its_provider_s_name_and_its_image_comes_before_the_core_s(monkeypatch, kind):
    monkeypatch.setenv("BBR_LAB_GATEWAY", kind.provider)
    chosen = stand.controller()
    assert isinstance(chosen, kind)
    assert stand.wanted(chosen) == (*parts.CORE, *kind.programs, *stand.ASKED.values())
    for image, part in stand.ASKED.items():
        assert containers.program(stand.images(chosen), f"docker.io/{image}v1") == [str(part.binary)]
    for image in chosen.images():
        assert containers.program(stand.images(chosen), f"{image}v1") == chosen.images()[image]


def test_an_unknown_gateway_is_told_with_those_that_there_are(monkeypatch):
    monkeypatch.setenv("BBR_LAB_GATEWAY", "nginx")
    with pytest.raises(
        cluster.LabError, match="GATEWAY=nginx is none of the lab's gateways, which are: envoy-gateway, "
    ):
        stand.controller()


def test_a_controller_s_chart_is_made_as_a_release_makes_it(tmp_path):
    (source := tmp_path / "module" / "chart").mkdir(parents=True)
    (source / "Chart.yaml").write_text("name: chart\nversion: v0.0.0-latest\n")
    (source / "values.tmpl.yaml").write_text("image: ${Image}\n")
    there = type("There", (), {"folder": tmp_path / "lab"})()
    made = controllers.chart(there, source, "v1.9.1", {"${Image}": "lab/x:1"})
    assert (made / "values.yaml").read_text() == "image: lab/x:1\n"
    assert "version: v1.9.1" in (made / "Chart.yaml").read_text()
    assert "v0.0.0-latest" in (source / "Chart.yaml").read_text()


def test_a_volume_changes_in_one_step(tmp_path):
    volumes.publish(tmp_path, {"a": b"1", "folder/b": b"2"})
    first = (tmp_path / "..data").resolve()
    volumes.publish(tmp_path, {"a": b"1", "folder/b": b"2"})
    assert (tmp_path / "..data").resolve() == first
    volumes.publish(tmp_path, {"a": b"3"})
    assert (tmp_path / "a").read_bytes() == b"3"
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith("..")) == ["a"]
    assert not first.exists()


def test_a_lock_is_one_process_s_until_it_ends(tmp_path):
    path = tmp_path / "lab.lock"
    code = "import sys,time; from pathlib import Path; from deploy.lab.lock import Lock\n"
    code += "with Lock(Path(sys.argv[1])): print('taken', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "taken\n"
        with pytest.raises(HeldError) as held, Lock(path):
            pass
        assert held.value.pid == holder.pid
        assert end_holder(path, seconds=30)
        assert holder.wait(30) == -signal.SIGTERM
    finally:
        holder.kill()
        holder.stdout.close()
    with Lock(path), pytest.raises(HeldError), Lock(path):
        pass


def test_kubernetes_own_libraries_are_taken_by_their_versions(tmp_path):
    (source := tmp_path / "source").mkdir()
    (source / "go.sum").write_text("sums\n")
    (source / "go.mod").write_text(
        "module k8s.io/kubernetes\n\nrequire (\n\tk8s.io/api v0.0.0\n\tk8s.io/kube-openapi v0.0.0-2026 // indirect\n"
        "\tk8s.io/mount-utils v0.0.0 // indirect\n)\n\nreplace k8s.io/api => ./staging/src/k8s.io/api\n"
    )
    (folder := tmp_path / "module").mkdir()
    parts._write_kubernetes_module(folder, source, parts.API_SERVER)
    text = (folder / "go.mod").read_text()
    libraries = "v0" + parts.API_SERVER.version.removeprefix("v1")
    assert f"\tk8s.io/api {libraries}\n" in text
    assert f"\tk8s.io/mount-utils {libraries} // indirect\n" in text
    assert "k8s.io/kube-openapi v0.0.0-2026 // indirect" in text
    assert f"replace k8s.io/api => k8s.io/api {libraries}\n" in text
    assert text.endswith(f"require k8s.io/kubernetes {parts.API_SERVER.version}\n")
    assert (folder / "go.sum").read_text() == "sums\n"


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_missing_go_is_said_with_what_it_has_to_build(nothing_built):
    with pytest.raises(parts.PartError, match=r"Go 1\.26 or later is not installed here.*etcd, kube-apiserver"):
        parts.check(parts.CORE)


@pytest.mark.parametrize(("told", "why"), [("go1.21.3", "here is go1.21.3"), ("", "here is one that does not run")])
def test_a_go_that_is_too_old_is_said(nothing_built, told, why):
    (go := nothing_built / "go").write_text(f"#!/bin/sh\necho {told}\n")
    go.chmod(0o755)
    with pytest.raises(parts.PartError, match=why):
        parts.check([parts.ETCD])


def test_what_is_built_needs_no_go(nothing_built):
    parts.ETCD.binary.parent.mkdir(parents=True)
    parts.ETCD.binary.touch()
    parts.check([parts.ETCD])
    parts.build([parts.ETCD], print)


def test_another_user_than_root_is_told(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(cluster.LabError, match="needs root"):
        cluster.check()
    assert stand.core([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("The lab's tests are skipped. The lab needs root")


def test_a_missing_program_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(cluster.LabError, match=r"the program ip \(Debian's package iproute2\)"):
        cluster.check_system()


def test_missing_rights_of_root_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in cluster._PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\necho $0: not permitted >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(cluster.LabError, match=r"the right to make namespaces.*unshare: not permitted"):
        cluster.check_system()


def test_the_simulator_takes_vllm_s_place_without_the_options_about_its_gpu():
    env, _, *words = containers.program(stand.images(), "vllm/vllm-openai:v0.11.1")
    options = ["--model=google/gemma-2b-it", "--dtype=half", "--port=8000", "--gpu-memory-utilization=0.85"]
    told = subprocess.run([env, "PROGRAM=echo", *words, *options], check=True, capture_output=True, text=True).stdout
    assert told == "--model=google/gemma-2b-it --port=8000 --mode=random\n"


def test_the_last_crd_of_a_name_is_installed_and_awaited(monkeypatch, tmp_path):
    """Also out of a template of a chart, whose first and last line are Helm's."""

    def crd(version):
        spec = {"group": "g", "names": {"plural": "things"}, "versions": [{"name": version, "served": True}]}
        return {"kind": "CustomResourceDefinition", "metadata": {"name": "things.g"}, "spec": spec}

    class There:
        applied = ""

        def apply(self, text):
            self.applied = text

        def kubectl(self, *words):
            return {"api-resources": "things.g", "get": '{"resources": [{"name": "things"}]}'}.get(words[0], "")

        def wait(self, what, there):
            assert there(), what

    for name, version in (("old", "v1"), ("new", "v2")):
        text = f"{{{{- if .Values.crds }}}}\n{json.dumps(crd(version))}\n{{{{- end }}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    monkeypatch.setattr(definitions.schemas, "DIRECTORY", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    definitions.install(there := There(), [tmp_path / "old.yaml", tmp_path / "new.yaml"])
    assert json.loads(there.applied) == crd("v2")


def test_a_call_is_repeated_if_the_api_server_was_too_slow_for_it_and_not_if_it_was_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster.network, "inside", list)
    there, calls = cluster.Cluster({}, print), tmp_path / "calls"
    calls.touch()
    once = 'echo call >>"$1"; test $(wc -l <"$1") -gt 1 || { echo "$2" >&2; exit 1; }; echo answer'
    script = "sh", "-c", once, "sh", str(calls)
    assert there.call(*script, "Get https://10.100.0.1:6443: net/http: TLS handshake timeout") == "answer\n"
    calls.write_text("")
    with pytest.raises(cluster.LabError, match="connection refused"):
        there.call(*script, "dial tcp 10.100.0.1:6443: connect: connection refused")
    assert calls.read_text() == "call\n"


def test_a_replaced_pod_is_waited_for(monkeypatch):
    def deployment(**status):
        return {"metadata": {"generation": 2}, "status": status}

    new, old = {"metadata": {}}, {"metadata": {"deletionTimestamp": "2026-11-30T04:00:00Z"}}
    states = [
        [deployment(observedGeneration=1, replicas=2, updatedReplicas=2)],  # the controller has not seen the change
        [deployment(observedGeneration=2, replicas=3, updatedReplicas=2)],  # an old one is still to be deleted
        [deployment(observedGeneration=2, replicas=2, updatedReplicas=2)],
        [old, new],
        [deployment(observedGeneration=2, replicas=2, updatedReplicas=2)],
        [new],
    ]
    there = cluster.Cluster({}, print)
    monkeypatch.setattr(there, "get", lambda *words: {"items": states.pop(0)})
    monkeypatch.setattr(cluster, "_LOOK_SECONDS", 0.0)
    there.until_drained(setting.NAMESPACE)
    assert states == []


def test_the_gateway_has_a_route_and_a_picker_for_each_model():
    config = gateway.configuration(setting.NAMESPACE, setting.pickers())
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    pools = {
        each["match"]["headers"][0]["string_match"]["exact"]: each["name"] for each in routes[: len(setting.MODELS)]
    }
    assert pools == {base: f"{name}-epp" for base, (name, _) in setting.MODELS.items()}
    assert {"phi-epp", "qwen-epp", "bbr"} < {each["name"] for each in config["static_resources"]["clusters"]}
