import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from deploy.local import demo, tour
from deploy.local.gateway import TEMPLATE
from deploy.local.part import ROOT
from deploy.local.stack import StackOptions
from deploy.local.topology import free_ports
from tests.support.stack import clean_environment
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
    assert "--free-ports" in said


def test_missing_envoy_is_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ENVOY", raising=False)
    monkeypatch.setitem(sys.modules, "envoy", None)
    assert demo.main(["--once", "--free-ports", "--log-dir", str(tmp_path)]) == 1
    assert "make setup" in capsys.readouterr().err


def test_plan_has_every_kind_once():
    kinds = [request.kind for request in tour.plan()]
    assert len(kinds) == len(set(kinds))
    assert all(len(kind) <= 32 for kind in kinds)


def test_visit_without_a_reply_is_wrong():
    visit = tour.Visit(tour.plan()[0], None, {}, ["no reply: refused"])
    assert "WRONG\n      no reply: refused" in tour.table([visit])


class TestWithEnvoy:
    pytestmark = needs_envoy

    def test_once(self, tmp_path):
        command = [*COMMAND, "--once", "--log-dir", str(tmp_path)]
        result = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
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

    @pytest.mark.parametrize(
        ("number", "mode"), [(signal.SIGINT, []), (signal.SIGTERM, ["--buffered"])], ids=["SIGINT", "SIGTERM, buffered"]
    )
    def test_stays_up_until_a_signal(self, tmp_path, number, mode):
        command = [*COMMAND, "--log-dir", str(tmp_path), *mode]
        with subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
            try:
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if "Ctrl-C stops everything." in line:
                        break
                (status_url,) = re.findall(r"The router's status page: (http://127\.0\.0\.1:\d+/)\n", "".join(lines))
                with urllib.request.urlopen(status_url, timeout=30) as answer:  # noqa: S310 (loopback)
                    assert "travel-lora" in answer.read().decode()
                process.send_signal(number)
                rest, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 0
        assert rest.endswith("Stopped.\n")
        assert ALL_WENT_RIGHT in "".join(lines)
        assert any(line.startswith("  curl -i http://127.0.0.1:") for line in lines)
