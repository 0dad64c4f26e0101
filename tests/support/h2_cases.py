"""A table's row for what a peer sends, and what has to come of it."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bbr.http2.events import ConnectionFailed, RequestReceived, StreamReset
from bbr.http2.settings import Settings
from bench.harness.h2_frames import (
    ACK,
    GOAWAY,
    PING,
    PING_FRAME,
    POST_BLOCK,
    RST_STREAM,
    Peer,
    headers,
    rst_stream,
)

CHUNKS = (1, 9, None)


class Case(NamedTuple):
    """What is sent after the preface, and its end.

    Attributes:
        id: of tests/conformance/http2/CASES.md, then words.
        sent: frames.
        goaway: code of the connection error; None if there is none.
        resets: stream id and code of each RST_STREAM that comes back.
    """

    id: str
    sent: tuple[bytes, ...]
    goaway: int | None = None
    resets: tuple[tuple[int, int], ...] = ()
    limits: Settings | None = None
    preface: bool = True


def rows(cases: list[Case]) -> list[Any]:
    """Return parameters `case, chunk`: each case with each size of read."""
    return [
        pytest.param(case, chunk, id=f"{case.id}, reads of {chunk or 'any size'}")
        for case, chunk in itertools.product(cases, CHUNKS)
    ]


def play(case: Case, chunk: int | None) -> Peer:
    """Send a case's frames and hold what comes back against the case."""
    peer = Peer(case.limits, chunk=chunk, preface=case.preface)
    peer.send(*case.sent)
    assert [(each.stream_id, each.code) for each in peer.of(RST_STREAM)] == list(case.resets)
    reasons = [each for each in peer.found(StreamReset) if isinstance(each, StreamReset) and each.reason]
    if case.goaway is None:
        assert [(each.stream_id, each.code) for each in reasons] == list(case.resets)
        assert_alive(peer)
    else:
        assert_failed(peer, case.goaway)
    return peer


def assert_failed(peer: Peer, code: int) -> None:
    """One GOAWAY, at the end; every stream is gone; nothing is heard any more."""
    assert [each.code for each in peer.of(GOAWAY)] == [code]
    assert peer.frames[-1].kind == GOAWAY
    assert peer.connection.closed
    assert peer.connection.streams == {}
    failed = peer.events[-1]
    assert isinstance(failed, ConnectionFailed)
    assert failed.code == code
    assert peer.frames[-1].payload[8:].decode("ascii") == failed.reason
    opened = {each.stream_id for each in peer.events if isinstance(each, RequestReceived)}
    assert peer.frames[-1].last_id >= max(opened, default=0)
    before = len(peer.events)
    assert peer.send(PING_FRAME, headers(2**31 - 1, POST_BLOCK)) == []
    assert len(peer.events) == before


def assert_alive(peer: Peer) -> None:
    """The connection answers, decodes, and owes no credit."""
    assert peer.of(GOAWAY) == []
    assert not peer.connection.closed
    back = peer.send(PING_FRAME)
    assert [(each.kind, each.flags, each.payload) for each in back] == [(PING, ACK, b"pingping")]
    assert_conserved(peer)
    next_id = next(unused_ids(peer))
    before = peer.found(RequestReceived)
    peer.send(headers(next_id, POST_BLOCK))
    request = peer.found(RequestReceived)[len(before) :]
    assert [each.stream_id for each in request if isinstance(each, RequestReceived)] == [next_id]
    peer.send(rst_stream(next_id))


def assert_conserved(peer: Peer) -> None:
    """All credit that the peer used is given back, or is waiting to be."""
    window = peer.connection._receiver._window
    assert window.available == peer.credit
    assert window.available + window.unsent == window.size


def unused_ids(peer: Peer) -> Iterator[int]:
    """Give ids above all that were used."""
    return itertools.count(max(peer.connection._table.highest_id, 1) + 2 | 1, 2)


__all__ = ["CHUNKS", "Case", "assert_alive", "assert_conserved", "assert_failed", "play", "rows"]
