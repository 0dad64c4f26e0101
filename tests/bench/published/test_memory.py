import contextlib
import os

from bench.harness.figures import Target
from bench.harness.peer import Peer
from tests.support.late import late

memory = late("bench.published.memory")
abuse = late("bench.trials.abuse")


def test_sides_take_turns_and_the_limit_is_uvs():
    order = []

    def measure(side):
        order.append(side.name)
        return {"grpcio": 20.0, "uv": 5.0, "Go": 70.0}[side.name]

    table = memory.Table([memory.Side("grpcio"), memory.Side("uv"), memory.Side("Go", contextlib.nullcontext)], 2)
    table.add("a case", "KiB", measure, {"what": "idle connection", "tls": 0}, Target(4))
    assert order == ["grpcio", "uv", "Go"] * 2
    grpcio, uv, peer = table.rows
    assert (uv.ratio, uv.verdicts[0][1]) == (0.25, False)
    assert (grpcio.verdicts, peer.verdicts, peer.ratio) == ([], [], None)
    assert {row.facts["what"] for row in table.rows} == {"idle connection"}


def test_attacks_have_their_ceiling():
    table = memory.Table([], 1)
    table.add_attacks(["I11 PING"])
    (row,) = table.rows
    assert row.facts == {"what": "abuse", "attack": "I11 PING"}
    assert 0 < row.median < abuse.MEMORY_BYTES / 1024
    assert [met for _, met in row.verdicts] == [True]


def test_quick_attacks_exist():
    assert set(memory.QUICK_ATTACKS) <= abuse.ATTACKS.keys()


def test_another_router_is_started_anew_for_each_figure():
    running = []

    @contextlib.contextmanager
    def start():
        running.append("started")
        yield Peer("Go", 1, os.getpid())
        running.append("ended")

    side = memory.Side("Go", start)
    for _ in range(2):
        with side.server("--flags=are ours") as server:
            assert server.port == 1
            assert running[-1] == "started"
    assert running == ["started", "ended"] * 2
