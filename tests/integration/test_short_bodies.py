"""Through a real Envoy: short bodies that parsers take long for, all at once, keep nobody else waiting."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from bbr.exchange.verdict import Outcome
from bench.harness import http1
from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

JSON = ("content-type", "application/json")
SMALL = json.dumps({"model": "sql-lora", "messages": []}).encode()
PATH = "/v1/completions"
CONNECTIONS, STREAMS = 4, 16
ROUNDS = 4


def filled(begin: bytes, unit: bytes, end: bytes) -> bytes:
    return begin + unit * (((256 << 10) - len(begin + end)) // len(unit)) + end


SHAPES = {
    "refused at the end": (filled(b'{"\\u0061":1,"x":[', b"{},", b'{}],"model":""}'), "model-empty"),
    "two models": (filled(b'{"\\u006dodel":"","x":[', b"[[[[]]]],", b'0],"model":"a"}'), "model-duplicate"),
    "no JSON": (filled(b'{"model":"sql-lora","x":{', b'"":[],', b'"":0}'), "invalid-json"),
    "routed": (filled(b'{"x":[', b"{},", b'{}],"model":"sql-lora"}'), ""),
}


class Others:
    """Another client's small requests, one after another."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.ends: list[float] = []
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self.statuses[http1.request(self._port, "POST", PATH, [JSON], SMALL).status] += 1
            self.ends.append(time.perf_counter())

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("shape", SHAPES)
def test_others_are_served_meanwhile(gateways: Callable[..., Setup], mode: str, shape: str) -> None:
    serve_others(gateways(mode), *SHAPES[shape])


@pytest.mark.grpcio
def test_others_are_served_by_either_transport(gateways: Callable[..., Setup]) -> None:
    serve_others(gateways("FULL_DUPLEX_STREAMED"), *SHAPES["two models"])


def serve_others(setup: Setup, body: bytes, reason: str) -> None:
    """Send many of a body at once, and small requests beside.

    Compiled, a round is over so soon that few small requests end in it. A router that lets nobody in until it has read
    all bodies answers one in a round, if any.
    """
    served = 0
    for _ in range(ROUNDS):
        served += served_beside(setup, body, reason)
        if served > ROUNDS:
            break
    assert served > ROUNDS


def served_beside(setup: Setup, body: bytes, reason: str) -> int:
    """Send many of a body at once; return how many small requests end while these are read."""
    with ExitStack() as stack:
        clients = [stack.enter_context(H2Client(setup.port)) for _ in range(CONNECTIONS)]
        streams = [(client, client.start("POST", PATH, [JSON])) for client in clients for _ in range(STREAMS)]
        for client, stream in streams:
            client.send(stream, body[:-1])
        others = stack.enter_context(Others(setup.port))
        while len(others.ends) < 5:
            time.sleep(0.001)
        begun = time.perf_counter()
        for client, stream in streams:
            client.send(stream, body[-1:], end_stream=True)
        statuses = Counter(client.wait(stream).status for client, stream in streams)
        ended = time.perf_counter()
    assert statuses == {400 if reason else 200: CONNECTIONS * STREAMS}
    assert set(others.statuses) == {200}
    verdicts = Counter((each.outcome, each.reason) for each in setup.router.verdicts())
    assert verdicts[Outcome.REFUSED if reason else Outcome.ROUTED, reason] >= CONNECTIONS * STREAMS
    return sum(begun < end < ended for end in others.ends)
