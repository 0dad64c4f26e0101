"""The table, walked through with frames."""

import itertools

import pytest

from bbr.http2.events import ConnectionFailed, StreamReset
from bbr.http2.frames import FrameType
from bbr.http2.states import RULES, State
from bench.harness.h2_frames import POST_BLOCK, TRAILER_BLOCK, Peer, data, headers, rst_stream, window_update

STATES = [value for name, value in vars(State).items() if name.isupper()]
# Each on stream 5. HEADERS on an open stream are trailers.
FRAMES = {
    FrameType.DATA: data(5, b"12345678"),
    FrameType.HEADERS: headers(5, TRAILER_BLOCK, end=True),
    FrameType.RST_STREAM: rst_stream(5),
    FrameType.WINDOW_UPDATE: window_update(5, 1),
}
OPENS = headers(5, POST_BLOCK)
WAYS = {
    State.IDLE: (),
    State.OPEN: (headers(1, POST_BLOCK), headers(3, POST_BLOCK), OPENS),
    State.HALF_CLOSED: (headers(1, POST_BLOCK), headers(3, POST_BLOCK), headers(5, POST_BLOCK, end=True)),
    State.RESET: (headers(1, POST_BLOCK), headers(3, POST_BLOCK), OPENS, window_update(5, 0)),
    State.CLOSED: (headers(1, POST_BLOCK), headers(3, POST_BLOCK), OPENS, rst_stream(5)),
    State.SKIPPED: (headers(7, POST_BLOCK),),
}


def test_every_frame_has_a_rule_in_every_state():
    assert set(RULES) == set(itertools.product(FRAMES, STATES))
    assert set(WAYS) == set(STATES)


@pytest.mark.parametrize("kind", FRAMES, ids="frame type {}".format)
@pytest.mark.parametrize("state", STATES)
def test_the_table_is_what_happens(state, kind):
    peer = Peer()
    peer.send(*WAYS[state])
    assert peer.connection._table.state(5) == state
    budget = peer.connection._budgets.control
    peer.events.clear()
    before = budget.tokens
    sent = OPENS if (state, kind) == (State.IDLE, FrameType.HEADERS) else FRAMES[kind]
    peer.send(sent)
    rule = RULES[kind, state]
    failed = peer.found(ConnectionFailed)
    resets = [each for each in peer.found(StreamReset) if each.reason]
    if rule.fault is None:
        assert failed == resets == []
        spent = before - budget.tokens
        if state != State.IDLE:  # a request earns tokens
            assert spent == (0.25 if kind == FrameType.WINDOW_UPDATE else rule.tokens)
    elif rule.ends_connection:
        assert failed == [ConnectionFailed(rule.fault.code, rule.fault.reason)]
    else:
        assert failed == []
        assert resets == [StreamReset(5, rule.fault.code, rule.fault.reason)]
