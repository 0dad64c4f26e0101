"""Other ext_proc servers beside ours in a benchmark's rounds: --peer HOST:PORT --peer-pid PID [--peer-name NAME].

The three may be repeated, in the same order. A peer takes part in each case that it answers rightly (the model's
header set, the body handed back where the mode asks for that); where it does not, the benchmark says so and goes on
without it. So a router that serves one body mode for each process is given twice, under one name.
"""

import argparse
import os
from dataclasses import dataclass

from bench.harness import machine


@dataclass(frozen=True)
class Peer:
    """An ext_proc server of somebody else's, in plaintext on a loopback address.

    Attributes:
        name: of the variant.
        port: where it listens.
        pid: its process, whose processor time and memory are counted; what it starts is not.
    """

    name: str
    port: int
    pid: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark's command take peers."""
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT", help="another server, in plaintext")
    parser.add_argument("--peer-pid", action="append", default=[], type=int, metavar="PID", help="its process")
    parser.add_argument("--peer-name", action="append", default=[], metavar="NAME", help="what to call it (peer)")


def peers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[Peer]:
    """Return the peers that were given, each pinned to the servers' processor; ends the program if one can't be."""
    if len(given.peer) != len(given.peer_pid) or len(given.peer_name) not in (0, len(given.peer)):
        parser.error("each --peer needs a --peer-pid and, if any has one, a --peer-name")
    found = []
    names = given.peer_name or ["peer"] * len(given.peer)
    for address, pid, name in zip(given.peer, given.peer_pid, names, strict=True):
        host, _, port = address.rpartition(":")
        if host not in ("127.0.0.1", "localhost") or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            parser.error(f"--peer {address!r} is not 127.0.0.1:PORT: traffic goes to loopback addresses only")
        if not os.path.isdir(f"/proc/{pid}"):
            parser.error(f"--peer-pid {pid}: there is no such process")
        machine.pin(pid, machine.SERVER_CPU)
        found.append(Peer(name, int(port), pid))
    return found
