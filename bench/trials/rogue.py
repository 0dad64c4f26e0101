"""What a router holds for peers that make it hold as much as it lets them, and what they cost it. `make rogue`

For each peer of bench.harness.rogue a router of its own, with --max-buffered-bytes=64MiB. While the peer does what it
does, the health port is asked again and again, and another gateway sends small requests. A row is OVER if the resident
set went above --max-buffered-bytes and 64 MiB, if the peer cost more processor time than its ceiling, or if one health
check or one request of the other gateway failed. Of a peer that hardly draws on --max-buffered-bytes, 64 MiB are all.
"""

import argparse
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import grpc

from bbr.exchange.policy import BodyMode
from bench.harness import machine, messages, rogue
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import Bbr, serving

MAX_BUFFERED_BYTES: Final = 64 << 20
# Beside it: the interpreter and its modules (42 MiB), what ports have of their own, and what allocators can't use.
SPARE_BYTES: Final = 64 << 20
# A check waits behind a turn of each connection that has something to say.
CHECK_SECONDS: Final = 15.0
# What a router may use that has read all that has come, in half a second; and how long it is waited for.
_IDLE_SECONDS: Final = 0.03
_PATIENCE_SECONDS: Final = 60.0
# Several times what a core of 2026 takes, compiled. Interpreted, tiny_data takes 8 to 13 s of a slow one.
CPU_SECONDS: Final = {
    rogue.first_messages: 5.0,
    rogue.shut_windows: 8.0,
    rogue.never_reading: 5.0,
    rogue.open_calls: 10.0,
    rogue.long_header_sections: 15.0,
    rogue.fresh_fields: 12.0,
    rogue.half_frames: 5.0,
    rogue.whole_messages: 5.0,
    rogue.large_messages: 5.0,
    rogue.idle_connections: 15.0,
    rogue.idle_health_connections: 3.0,
    rogue.long_contexts: 3.0,
    rogue.tiny_data: 8.0,
    rogue.tiny_messages: 15.0,
    rogue.waiting_messages: 15.0,
    rogue.many_fields: 15.0,
    rogue.refused_streams: 15.0,
    rogue.routed_and_stuck: 8.0,
    rogue.zstd_windows: 15.0,
    rogue.fresh_models: 15.0,
    rogue.unread_pages: 8.0,
    rogue.tls_hellos: 5.0,
    rogue.tls_idle_connections: 15.0,
    rogue.tls_never_reading: 8.0,
}
_AS_LOCALHOST: Final = (("grpc.ssl_target_name_override", "localhost"),)
TLS: Final = frozenset((rogue.tls_hellos, rogue.tls_idle_connections, rogue.tls_never_reading))


# Without it the router decodes neither attributes nor metadata.
ASKER: Final = "--asker=attribute:connection.uri_san_peer_certificate"

# Little of what they make a router hold is counted: most of it is what a port has of its own.
UNCOUNTED: Final = frozenset((rogue.unread_pages,))


def bound(peer: rogue.Peer) -> int:
    """Return the most that may be resident under a peer."""
    return SPARE_BYTES if peer in UNCOUNTED else MAX_BUFFERED_BYTES + SPARE_BYTES


class Found(NamedTuple):
    """What came of one peer.

    Attributes:
        peak_bytes: the most that was resident.
        cpu_seconds: what the router used.
        checks: health checks that were answered.
        failed: those that were not.
        routed: small requests of another gateway that were.
        lost: those that were not.
        why: what became of the last of these.
    """

    peak_bytes: int
    cpu_seconds: float
    checks: int
    failed: int
    routed: int
    lost: int
    why: str = ""

    def wrong(self, peer: rogue.Peer) -> list[str]:
        """Return what is over its bound."""
        found = []
        if self.peak_bytes > bound(peer):
            found.append("memory")
        if self.cpu_seconds > CPU_SECONDS[peer]:
            found.append("processor time")
        if self.failed or not self.checks:
            found.append("health checks")
        if self.lost or not self.routed:
            found.append("requests")
        return found


class Others:
    """What goes on for others meanwhile: health checks, each on a connection of its own, and small requests on one.

    Args:
        router: whom to ask.
        tls: whether the ext_proc port speaks TLS.
    """

    def __init__(self, router: Bbr, *, tls: bool) -> None:
        self.answered = self.failed = self.routed = self.lost = 0
        self.why = ""
        self._router = router
        self._tls = tls
        self._stop = threading.Event()

    @contextmanager
    def going_on(self) -> Iterator["Others"]:
        """Ask until the end of the block."""
        threads = [threading.Thread(target=each) for each in (self._check, self._request)]
        for each in threads:
            each.start()
        try:
            yield self
        finally:
            self._stop.set()
            for each in threads:
                each.join()

    def _check(self) -> None:
        while not self._stop.wait(0.1):
            with grpc.insecure_channel(f"127.0.0.1:{self._router.health_port}") as channel:
                try:
                    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=CHECK_SECONDS)
                    self.answered += 1
                except grpc.RpcError:
                    self.failed += 1

    def _request(self) -> None:
        head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
        body = messages.request_body(b'{"model": "m", "prompt": "hello"}', end_of_stream=True)
        with self._channel() as channel:
            call = channel.stream_stream(PROCESS)
            while not self._stop.wait(0.02):
                try:
                    answers = [*call(iter((head, body)), timeout=CHECK_SECONDS)]
                except grpc.RpcError as error:
                    self.lost += 1
                    self.why = f"{error.code().name}: {error.details()}"
                    continue
                if len(answers) == 2 and b"X-Gateway-Model-Name" in answers[0]:
                    self.routed += 1
                else:
                    self.lost += 1
                    self.why = f"{len(answers)} answers, at first {answers[:1]!r}"

    def _channel(self) -> grpc.Channel:
        address = ("127.0.0.1", self._router.port)
        target = "{}:{}".format(*address)
        if not self._tls:
            return grpc.insecure_channel(target)
        root = ssl.get_server_certificate(address).encode()
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(root), _AS_LOCALHOST)


def _wait_until_done(pid: int) -> None:
    """Wait until a router has read what has come."""
    until = time.monotonic() + _PATIENCE_SECONDS
    used, before = _IDLE_SECONDS, machine.cpu_seconds(pid)
    while used >= _IDLE_SECONDS and time.monotonic() < until:
        time.sleep(0.5)
        now = machine.cpu_seconds(pid)
        used, before = now - before, now


def tried(peer: rogue.Peer) -> Found:
    """Let a peer do what it does to a router."""
    tls = "true" if peer in TLS else "false"
    flags = ("--transport=uv", f"--max-buffered-bytes={MAX_BUFFERED_BYTES}", f"--secure-serving={tls}")
    if peer is rogue.long_contexts:
        flags += (ASKER,)
    with serving(*flags, admin=peer is rogue.unread_pages) as router:
        before = machine.cpu_seconds(router.pid)
        with Others(router, tls=peer in TLS).going_on() as others:
            ports = {rogue.idle_health_connections: router.health_port, rogue.unread_pages: router.admin_port}
            connections = peer(ports.get(peer, router.port))
            _wait_until_done(router.pid)
        cost = machine.cpu_seconds(router.pid) - before
        peak = machine.memory_kib(router.pid, "VmHWM") << 10
        rogue.close(connections)
    return Found(peak, cost, others.answered, others.failed, others.routed, others.lost, others.why)


def main() -> int:
    """Try all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=[peer.__name__ for peer in CPU_SECONDS], help="this one alone")
    given = parser.parse_args()
    machine.raise_file_limit()
    over = 0
    print(
        f"{'peer':<26} {'peak MiB':>8} {'bound':>6} {'CPU s':>6} {'ceiling':>8}"
        f" {'checks':>7} {'failed':>7} {'routed':>7} {'lost':>5}"
    )
    for peer, ceiling in CPU_SECONDS.items():
        if given.peer not in (None, peer.__name__):
            continue
        found = tried(peer)
        wrong = found.wrong(peer)
        over += bool(wrong)
        print(
            f"{peer.__name__.replace('_', ' '):<26} {found.peak_bytes >> 20:>8}"
            f" {bound(peer) >> 20:>6} {found.cpu_seconds:>6.1f} {ceiling:>8.0f}"
            f" {found.checks:>7} {found.failed:>7} {found.routed:>7} {found.lost:>5}"
            f"{'  OVER: ' + ', '.join(wrong) if wrong else ''} {found.why}".rstrip(),
            flush=True,
        )
    return over > 0


if __name__ == "__main__":
    raise SystemExit(main())
