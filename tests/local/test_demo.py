import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from bench.harness.ports import REFUSING_PORT
from deploy.local import demo, outage, tour
from deploy.local.gateway import TEMPLATE
from deploy.local.part import ROOT, Part, http_probe
from deploy.local.stack import Stack, StackOptions
from deploy.local.topology import free_ports
from deploy.local.traffic import Reply
from tests.support.stack import clean_environment, until
from tests.support.tools import needs_envoy

ALL_WENT_RIGHT = f"{len(tour.plan())} of {len(tour.plan())} requests went right."
COMMAND = [sys.executable, "-m", "deploy.local.demo", "--free-ports"]


def test_port_in_use_tells_the_way_out(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(demo, "DEFAULT_PORTS", {**free_ports(), "gateway": taken})
        assert demo.main(["--once", "--log-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"port {taken} (for gateway)" in said
    assert "make demo FREE_PORTS=1" in said


def test_the_directory_of_logs_is_gone_if_nothing_was_started(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(demo, "DEFAULT_PORTS", {**free_ports(), "gateway": other.getsockname()[1]})
        assert demo.main(["--once"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ready_after_a_while_is_told(tmp_path, capsys):
    stack = Stack(StackOptions(log_dir=tmp_path, ready_seconds=30.0))
    for name in ("router", "gateway", "epp-qwen"):
        stack.parts[name] = Part(name, [], http_probe(REFUSING_PORT, "/"), tmp_path / name)
    stack.parts["gateway"].is_ready = True
    asyncio.run(demo.tell_what_is_awaited(stack, 0))
    said = "Waiting for router, epp-qwen. On a busy machine this can take a minute; after 30 s it fails.\n"
    assert capsys.readouterr().out == said
    for part in stack.parts.values():
        part.is_ready = True
    asyncio.run(demo.tell_what_is_awaited(stack, 0))
    assert capsys.readouterr().out == ""


def test_missing_envoy_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ENVOY", raising=False)
    monkeypatch.setitem(sys.modules, "envoy", None)
    assert demo.main(["--once", "--free-ports", "--log-dir", str(tmp_path)]) == 1
    assert "make setup" in capsys.readouterr().err


def test_plan_has_every_kind_once():
    kinds = [request.kind for request in tour.plan()]
    assert len(kinds) == len(set(kinds))
    assert all(len(kind) <= 29 for kind in kinds)


def test_visit_without_a_reply_is_wrong():
    visit = tour.Visit(tour.plan()[0], None, {}, ["no reply: refused"])
    assert "WRONG\n      no reply: refused" in tour.table([visit])


def test_no_line_of_the_table_is_longer_than_100_columns():
    reply = Reply(status=404, headers={}, body=b"", first_seconds=9.9999, last_seconds=99.9999)
    long = {"route": "qwen-pool", "details": "ext_proc_error_gRPC_error_14{upstream connect error}"}
    lines = [long, {"route": "no-model", "details": "bbr:model-not-found"}]
    visits = [tour.Visit(request, reply, line, ["x"]) for request in tour.plan() for line in lines]
    text = tour.table([*visits, tour.Visit(tour.plan()[0], None, {}, ["no reply"])])
    assert max(map(len, text.splitlines())) <= 100
    assert "gateway, ext_proc_error_..." in text
    assert "router, bbr:model-not-found" in text


def test_what_is_not_judged_is_neither_right_nor_wrong():
    text = tour.table([tour.Visit(tour.plan()[0], None, {}, [], judged=False)])
    assert text.splitlines()[1].split()[-3:] == ["listens", "-", "-"]
    assert {request.kind for request in tour.sample()} < {request.kind for request in tour.plan()}


class TestWithEnvoy:
    pytestmark = needs_envoy

    def test_once(self, tmp_path):
        command = [*COMMAND, "--once", "--log-dir", str(tmp_path)]
        result = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert ALL_WENT_RIGHT in result.stdout
        assert "WRONG" not in result.stdout
        assert result.stderr == ""

    def test_wrong_request_fails_it(self, tmp_path, capsys):
        models = tmp_path / "models.yaml"
        text = (TEMPLATE.parent / "models.yaml").read_text()
        models.write_text(text.replace("travel-lora", "another-lora"))
        options = StackOptions(log_dir=tmp_path, ports=free_ports(), models=models, event_seconds=tour.EVENT_SECONDS)
        assert asyncio.run(demo.run(options, once=True)) == 1
        said = capsys.readouterr().out
        # The adapter's own request, and the list of models.
        assert f"{len(tour.plan()) - 2} of {len(tour.plan())} requests went right." in said
        assert "WRONG\n      status is 404, not 200" in said

    def test_stays_up_until_a_signal(self, tmp_path):
        # Behind a proxy, which cannot reach this machine's loopback.
        environment = clean_environment() | {"http_proxy": f"http://127.0.0.1:{REFUSING_PORT}", "no_proxy": ""}
        command = [*COMMAND, "--log-dir", str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if "Ctrl-C stops everything." in line:
                        break
                (status_url,) = re.findall(r"The router's status page: (http://127\.0\.0\.1:\d+/)\n", "".join(lines))
                with urllib.request.urlopen(status_url, timeout=90) as answer:  # noqa: S310 (loopback)
                    assert "travel-lora" in answer.read().decode()
                process.send_signal(signal.SIGINT)
                rest, _ = process.communicate(timeout=90)
            finally:
                process.kill()
        assert process.returncode == 0
        assert rest.endswith("Stopped.\n")
        assert ALL_WENT_RIGHT in "".join(lines)
        assert any(line.startswith("  curl --noproxy '*' -i http://127.0.0.1:") for line in lines)

    @pytest.mark.parametrize(
        ("part", "mode"), [("router", []), ("gateway", ["--buffered"])], ids=["router", "gateway, buffered"]
    )
    def test_it_stays_up_when_a_part_is_killed_and_shows_what_the_gateway_answers(self, tmp_path, part, mode):
        command = [*COMMAND, "--log-dir", str(tmp_path), *mode]
        environment = clean_environment()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                said = until_line(process, "Ctrl-C stops everything.")
                assert ALL_WENT_RIGHT in said
                (router,) = re.findall(r"^  kill (\d+)    # the router", said, re.MULTILINE)
                number = int(router) if part == "router" else envoy_of(process.pid)
                os.kill(number, signal.SIGKILL)
                told = until_line(process, "The rest stays up. Ctrl-C stops everything.")
                assert f"{part} ended early with signal SIGKILL. What the gateway answers now:" in told
                answer = r"500  no-model" if part == "router" else r"-  -         nobody listens"
                assert len(re.findall(answer, told)) == len(tour.sample())
                process.send_signal(signal.SIGTERM)
                rest, _ = process.communicate(timeout=90)
            finally:
                process.kill()
        assert process.returncode == 0
        assert rest.endswith("Stopped.\n")

    def test_a_part_that_was_killed_starts_again_if_the_user_wants_it(self, tmp_path, capsys):
        async def run():
            async with Stack(StackOptions(log_dir=tmp_path, ports=free_ports())) as stack:
                again = asyncio.Event()
                watching = asyncio.create_task(outage.watch(stack, again))
                router = stack.parts["router"]
                gone, first = router.exited, router.pid
                os.kill(first, signal.SIGKILL)
                await gone
                await until(lambda: "stays up" in said())
                again.set()
                await until(lambda: "router is up again" in said())
                (visit, *_) = await tour.run(stack, tour.sample())
                watching.cancel()
                await asyncio.wait({watching})
                return first, router.pid, visit

        heard = []

        def said():
            heard.append(capsys.readouterr().out)
            return "".join(heard)

        first, second, visit = asyncio.run(run())
        assert first != second
        assert visit.faults == []


def until_line(process, end):
    """Return what a process says up to a line that ends so."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip("\n").endswith(end):
            break
    return "".join(lines)


def envoy_of(parent):
    """Return the process id of the Envoy that a demo has started."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"--disable-hot-restart" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("no Envoy")
