"""Free ports of the loopback interface."""

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listened on a moment ago.

    Whoever can should listen on port 0 instead; this is for programs that must be told their port.
    """
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """Return one port that nothing listened on a moment ago."""
    return free_ports(1)[0]
