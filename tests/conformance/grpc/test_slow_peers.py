"""No per-stream state outlives its deadline: peers that are alive, as their PINGs say, and never get done."""

from typing import NamedTuple

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bench.harness import messages
from bench.harness.grpc_client import framed
from bench.harness.h2_frames import (
    CONTINUATION,
    INITIAL_WINDOW_SIZE,
    PING_FRAME,
    block,
    cut,
    data,
    frame,
    headers,
    window_update,
)
from bench.harness.raw_client import HEAD, TABLE, WHOLE
from bench.harness.rpc_client import RpcPeer, fields

# A body's patience and then, if its refusal is not read either, an answer's: a minute each, and a step to notice it.
DEADLINE_SECONDS = 135
STEP_SECONDS = 5

CALL = headers(1, block(fields()))
HALF_BLOCK = headers(1, block(fields())[:9], flags=0)
HALF_BODY = messages.request_body(b'{"model": "sql')
LONG_BODY = messages.request_body(b'{"model": "sql-lora", "prompt": "%s"}' % (b"x" * 50_000), end_of_stream=True)


class Slow(NamedTuple):
    """What a peer sends at first, and then again and again; and whether its connection must end with it."""

    first: bytes
    then: bytes = PING_FRAME
    ends: bool = False


PEERS = {
    "headers alone": Slow(CALL),
    "half of a message's prefix": Slow(CALL + data(1, b"\x00\x00")),
    "half of a message": Slow(CALL + data(1, framed(HEAD)[:20])),
    "a message octet by octet": Slow(CALL + data(1, framed(LONG_BODY)[:6]), data(1, b"x") + PING_FRAME),
    "no body": Slow(CALL + data(1, framed(HEAD))),
    "half of a body": Slow(CALL + data(1, framed(HEAD) + framed(HALF_BODY))),
    "half of a body, and empty frames": Slow(CALL + data(1, framed(HEAD) + framed(HALF_BODY)), data(1) + PING_FRAME),
    "an answer that is not taken": Slow(CALL + data(1, framed(HEAD) + framed(WHOLE), end=True)),
    "a long answer that is taken octet by octet": Slow(
        CALL + b"".join(data(1, each) for each in cut(framed(HEAD) + framed(LONG_BODY), 16_384)) + data(1, end=True),
        window_update(1, 1) + PING_FRAME,
    ),
    "half of a field block": Slow(HALF_BLOCK, b"", ends=True),
    "half of a frame, octet by octet": Slow(CALL + data(1, bytes(200))[:20], b"x", ends=True),
    "a field block, octet by octet": Slow(HALF_BLOCK + frame(CONTINUATION, 0, 1, bytes(200))[:9], b"x", ends=True),
}


@pytest.mark.parametrize("window", [0, 65_535], ids="window={}".format)
@pytest.mark.parametrize("slow", PEERS.values(), ids=PEERS)
def test_nothing_is_held_for_a_peer_that_never_gets_done(slow, window):
    over = []
    peer = RpcPeer(
        own=((INITIAL_WINDOW_SIZE, window),),
        new_handler=lambda: Exchange(Policy(Replies()), TABLE, ended=over.append),
    )
    peer.send(slow.first)
    assert peer.handlers or slow.ends
    for _ in range(0, DEADLINE_SECONDS, STEP_SECONDS):
        peer.expire(STEP_SECONDS)
        if not peer.connection.closed:
            peer.send(slow.then)
    assert peer.connection.calls == {}
    assert peer.connection.idle
    assert over == peer.handlers
    assert peer.failed == []
    assert peer.connection.closed or not slow.ends
