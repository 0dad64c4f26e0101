"""Field blocks of several frames, and what a frame is; all cases of all frames are in tests/conformance."""

import pytest

from bbr.http2.budgets import Budgets
from bbr.http2.control import Control
from bbr.http2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived
from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder
from bbr.http2.held import Held
from bbr.http2.receiver import FieldBlock, Receiver
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.stream_table import StreamTable
from bench.harness.h2_frames import END_HEADERS, END_STREAM, POST_BLOCK, TRAILER_BLOCK


@pytest.fixture
def receiver() -> Receiver:
    settings = Settings(max_continuations=3)
    held = Held()
    sender = Sender(settings, held)
    table = StreamTable(settings, sender, held)
    decoder = FieldDecoder(4096, 8192, 128)
    budgets = Budgets(0.0)
    return Receiver(settings, table, sender, budgets, decoder, Control(settings, table, sender, budgets, decoder), held)


def test_a_request_its_body_and_its_trailers(receiver):
    begun = receiver.headers(END_HEADERS, 1, POST_BLOCK)
    assert isinstance(begun, RequestReceived)
    assert (begun.stream_id, begun.end_stream) == (1, False)
    assert receiver.data(0, 1, b"octets") == DataReceived(1, b"octets", False)
    ended = receiver.headers(END_HEADERS | END_STREAM, 1, TRAILER_BLOCK)
    assert isinstance(ended, TrailersReceived)


def test_what_is_no_event(receiver):
    receiver.headers(END_HEADERS, 1, POST_BLOCK)
    assert receiver.window_update(0, b"\x00\x00\x00\x01") is None
    assert receiver.window_update(1, b"\x00\x00\x00\x01") is None
    assert receiver.priority(7, bytes(5)) is None


def test_a_reset_is_its_peers(receiver):
    receiver.headers(END_HEADERS, 1, POST_BLOCK)
    assert receiver.rst_stream(1, b"\x00\x00\x00\x08") == StreamReset(1, 8, "")
    assert receiver.rst_stream(1, b"\x00\x00\x00\x08") is None


def test_a_field_block_of_several_frames(receiver):
    assert receiver.headers(END_STREAM, 1, POST_BLOCK[:3]) is None
    assert receiver.block is not None
    assert receiver.block.size == 3
    assert receiver.continuation(0, 1, POST_BLOCK[3:9]) is None
    assert receiver.block.size == 9
    begun = receiver.continuation(END_HEADERS, 1, POST_BLOCK[9:])
    assert isinstance(begun, RequestReceived)
    assert begun.end_stream
    assert begun.section.get(b":method") == b"POST"
    assert receiver.block is None


@pytest.mark.parametrize("stream_id", [1, 3])
def test_a_continuation_of_nothing(receiver, stream_id):
    if stream_id == 3:
        receiver.headers(0, 1, POST_BLOCK)
    with pytest.raises(ConnectionFault, match="continuation"):
        receiver.continuation(END_HEADERS, stream_id, b"")


@pytest.mark.parametrize("fragment", [b"", bytes(16_384)])
def test_a_field_block_ends_soon(receiver, fragment):
    receiver.headers(0, 1, b"")
    for _ in range(0 if fragment else 3):
        receiver.continuation(0, 1, fragment)
    with pytest.raises(ConnectionFault, match="continuation-flood"):
        receiver.continuation(0, 1, fragment + b"x")


def test_a_block_in_progress():
    block = FieldBlock(3, b"abc", end_stream=True, depends_on_itself=False)
    block.add(b"de")
    assert (block.stream_id, block.fragments, block.size) == (3, [b"abc", b"de"], 5)
    assert (block.end_stream, block.depends_on_itself) == (True, False)


def test_a_fault_that_is_one_too_many_leaves_its_stream_to_the_connections_end(receiver):
    receiver.headers(END_HEADERS, 1, POST_BLOCK)
    receiver._budgets.faults.tokens = 0.5
    with pytest.raises(ConnectionFault, match="faults"):
        receiver.window_update(1, bytes(4))
    assert list(receiver._streams.open) == [1]


def test_a_cancel_that_is_one_too_many_does_so_too(receiver):
    for stream_id in range(1, 2003, 2):
        receiver.headers(END_HEADERS, stream_id, POST_BLOCK)
        if stream_id < 2001:
            receiver.rst_stream(stream_id, bytes(4))
    with pytest.raises(ConnectionFault, match="rapid-reset"):
        receiver.rst_stream(2001, bytes(4))
    assert list(receiver._streams.open) == [2001]
