import signal
import socket
import subprocess
import sys

import pytest

from bench.harness import processes


@pytest.mark.parametrize("transport", ["uv", "grpcio"])
def test_a_port_that_someone_else_has_costs_another_try(monkeypatch, transport):
    free_ports = processes.free_ports
    with socket.create_server(("127.0.0.1", 0)) as other:
        tries = [(other.getsockname()[1], *free_ports(1)), free_ports(2)]
        monkeypatch.setattr(processes, "free_ports", lambda _: tries.pop(0))
        with processes.serving(f"--transport={transport}") as process:
            assert process.port != other.getsockname()[1]
    assert not tries


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.mark.parametrize(
    ("program", "status"), [("print(flush=True); input()", -signal.SIGTERM), (STUBBORN, -signal.SIGKILL)]
)
def test_a_process_ends_with_the_block(program, status):
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with processes.ending(process, 0.1 if status == -signal.SIGKILL else processes.DEADLINE_SECONDS):
            assert process.stdout.readline()
        assert process.wait(processes.DEADLINE_SECONDS) == status
