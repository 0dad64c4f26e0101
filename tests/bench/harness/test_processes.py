import socket

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
