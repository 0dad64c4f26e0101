"""Ports of the loopback interface: free ones, and one that refuses."""

import contextlib
import random
import socket
from collections.abc import Iterator
from typing import Final

# Below Linux's range for outgoing connections and for port 0 (32768 and up). So nobody gets one of these by chance
# between the moment when it was found free and the moment when a program that was told of it listens on it.
_RANGE: Final = range(20_000, 32_000)

# At which every connection is refused: tcpmux (RFC 1078), which nobody runs, and which no program gets by chance.
REFUSING_PORT: Final = 1


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listened on a moment ago.

    Whoever can should listen on port 0 instead; this is for programs that must be told their port.
    """
    candidates = iter(random.SystemRandom().sample(_RANGE, len(_RANGE)))
    with contextlib.ExitStack() as held:
        return [_free(candidates, held) for _ in range(count)]


def _free(candidates: Iterator[int], held: contextlib.ExitStack) -> int:
    for port in candidates:
        found = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def free_port() -> int:
    """Return one port that nothing listened on a moment ago."""
    return free_ports(1)[0]
