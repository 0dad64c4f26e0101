"""Other ext_proc servers beside ours in a benchmark's rounds: --peer HOST:PORT --peer-pid PID [--peer-name NAME].

The three may be repeated, in the same order, and --peer-processors with them. A peer takes part in each case that it
answers rightly (the model's header set, the body handed back where the mode asks for that). Where it does not, the
benchmark says so and goes on without it. So a router that serves one body mode for each process is given twice, under
one name. `--peer tls:HOST:PORT` is a server over TLS, whose certificate is not verified.
"""

import argparse
import os
from dataclasses import dataclass

from bench.harness import machine


@dataclass(frozen=True)
class Peer:
    """An ext_proc server of somebody else's, on a loopback address.

    Attributes:
        name: of the variant.
        port: where it listens.
        pid: its process, whose processor time and memory are counted; what it starts is not.
        processors: that it may use: 1 is the servers' own, 2 the load's too.
        tls: it serves TLS, by a certificate that is not verified.
    """

    name: str
    port: int
    pid: int
    processors: int = 1
    tls: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark's command take peers."""
    parser.add_argument("--peer", action="append", default=[], metavar="[tls:]HOST:PORT", help="another server")
    parser.add_argument("--peer-pid", action="append", default=[], type=int, metavar="PID", help="its process")
    parser.add_argument("--peer-name", action="append", default=[], metavar="NAME", help="what to call it (peer)")
    help_ = "that it may use (1; 2: the load's too)"
    parser.add_argument("--peer-processors", action="append", default=[], type=int, choices=(1, 2), help=help_)


def peers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[Peer]:
    """Return the peers that were given, pinned to the processors that they may use.

    Raises:
        SystemExit: one of them can't be; says which, and why.
    """
    if len(given.peer) != len(given.peer_pid) or len(given.peer_name) not in (0, len(given.peer)):
        parser.error("each --peer needs a --peer-pid and, if any has one, a --peer-name")
    if len(given.peer_processors) not in (0, len(given.peer)):
        parser.error("--peer-processors is given for each --peer or for none")
    found = []
    names = given.peer_name or ["peer"] * len(given.peer)
    processors = given.peer_processors or [1] * len(given.peer)
    for address, pid, name, count in zip(given.peer, given.peer_pid, names, processors, strict=True):
        host, _, port = address.removeprefix("tls:").rpartition(":")
        if host not in ("127.0.0.1", "localhost") or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            parser.error(f"--peer {address!r} is not [tls:]127.0.0.1:PORT: traffic goes to loopback addresses only")
        if not os.path.isdir(f"/proc/{pid}"):
            parser.error(f"--peer-pid {pid}: there is no such process")
        machine.pin(pid, *(machine.SERVER_CPU, machine.LOAD_CPU)[:count])
        found.append(Peer(name, int(port), pid, count, address.startswith("tls:")))
    return found
