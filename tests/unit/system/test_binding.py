import errno
import socket

import pytest

from bbr.system import binding


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "another process listens on this port"),
        (errno.EADDRNOTAVAIL, "the address is not one of this machine's"),
        (errno.EACCES, "permission denied"),
        (errno.EMFILE, "too many open files"),
    ],
)
def test_what_the_system_has_said(number, said):
    assert binding.why(OSError(number, "words of the event loop's"), None, 9004) == said


@pytest.mark.parametrize("error", [None, OSError("grpcio says no number"), RuntimeError()])
@pytest.mark.parametrize("address", ["127.0.0.1", None])
def test_a_port_is_tried_if_the_system_has_said_nothing(error, address):
    with socket.create_server(("127.0.0.1" if address else "", 0)) as taken:
        port = taken.getsockname()[1]
        assert binding.why(error, address, port) == "another process listens on this port"
    assert "taken, or the address" in binding.why(error, "127.0.0.1", 0)


@pytest.mark.parametrize("address", ["192.0.2.1", "name.invalid"])
def test_an_address_of_another_machine(address, monkeypatch):
    def look_up(*_arguments, **_flags):
        if address == "name.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert binding.why(None, address, 9004) == "the address is not one of this machine's"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_tried_as_well():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
            assert "another process" in binding.why(None, "::1", taken.getsockname()[1])
    except OSError:
        pytest.skip("no IPv6 on loopback")
