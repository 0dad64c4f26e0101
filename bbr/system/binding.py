"""Says why a port could not be opened."""

import errno
import os
import socket
from typing import Final

_UNKNOWN: Final = "the port is taken, or the address is not this machine's"
_SENTENCES: Final = {
    errno.EADDRINUSE: "another process listens on this port",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}


def why(error: BaseException | None, address: str | None, port: int) -> str:
    """Return why listening has failed, as the end of a sentence.

    Args:
        error: what the system has said. grpcio passes none of it on; then the port is tried once more.
        address: an IP address or a name; None for every interface.
        port: the TCP port.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        number = _tried(address, port)
    if number is None:
        return _UNKNOWN
    return _SENTENCES.get(number) or os.strerror(number).lower()


def _tried(address: str | None, port: int) -> int | None:
    """Bind the port for a moment; return the number of the error, or None if there is none."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(place)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno
    return None
