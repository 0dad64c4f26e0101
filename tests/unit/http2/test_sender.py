import pytest

from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bbr.http2.sender import BATCH_BYTES, Sender
from bbr.http2.settings import Settings
from bbr.http2.streams import Stream
from bench.harness.h2_frames import DATA, HEADERS, RST_STREAM, parse


@pytest.fixture
def sender() -> Sender:
    return Sender(Settings(), Held())


def stream(stream_id: int = 1, window: int = 100) -> Stream:
    return Stream(stream_id, 65_535, window, None)


def output(sender: Sender) -> list[tuple[int, int, bytes, bool]]:
    return [(each.kind, each.stream_id, each.payload, each.ends) for each in parse(sender.take())]


def test_output_is_taken_once(sender):
    assert sender.take() == b""
    sender.control(b"one")
    sender.control(b"two")
    assert sender.take() == b"onetwo"
    assert sender.take() == b""


def test_answers_are_counted_until_they_are_taken(sender):
    sender.answer(b"x")
    sender.answer(b"y")
    sender.control(b"z")
    assert sender.control_frames == 2
    assert sender.take() == b"xyz"
    assert sender.control_frames == 0


def test_headers(sender):
    one = stream()
    sender.headers(one, b"block", end_stream=False)
    assert not one.local_closed
    sender.headers(one, b"trailers", end_stream=True)
    assert one.local_closed
    assert output(sender) == [(HEADERS, 1, b"block", False), (HEADERS, 1, b"trailers", True)]


def test_data_with_credit(sender):
    one = stream()
    sender.data(one, b"abc", end_stream=False)
    assert not one.local_closed
    assert one.answered
    sender.data(one, b"", end_stream=False)
    sender.data(one, b"", end_stream=True)
    assert one.local_closed
    assert output(sender) == [(DATA, 1, b"abc", False), (DATA, 1, b"", True)]
    assert (one.send_window.available, sender.window.available) == (97, 65_532)


def test_parts_that_fit_leave_as_one_frame(sender):
    one = stream()
    sender.parts(one, [b"ab", b"", b"c"], 3, end_stream=False)
    assert one.answered
    assert not one.local_closed
    assert output(sender) == [(DATA, 1, b"abc", False)]
    assert (one.send_window.available, sender.window.available) == (97, 65_532)


def test_parts_that_do_not_fit_leave_as_data_does(sender):
    one, long = stream(window=4), stream(3, window=50_000)
    sender.parts(one, [b"abc", b"def"], 6, end_stream=False)
    sender.parts(one, [b"g"], 1, end_stream=False)
    assert output(sender) == [(DATA, 1, b"abcd", False)]
    assert one.queued_bytes == 3
    sender.parts(long, [b"x" * 16_384, b"y"], 16_385, end_stream=False)
    assert output(sender) == [(DATA, 3, b"x" * 16_384, False), (DATA, 3, b"y", False)]
    sender.held = True
    sender.parts(long, [b"z"], 1, end_stream=False)
    assert output(sender) == []
    assert long.queued_bytes == 1


def test_parts_may_be_the_last(sender):
    one, long = stream(), stream(3)
    sender.parts(one, [b"ab", b"c"], 3, end_stream=True)
    sender.parts(long, [b"", b""], 0, end_stream=True)
    assert output(sender) == [(DATA, 1, b"abc", True), (DATA, 3, b"", True)]
    assert one.local_closed
    assert long.local_closed


def test_parts_beyond_the_connections_credit_wait(sender):
    one = stream(window=100_000)
    sender.window.available = 2
    sender.parts(one, [b"ab", b"c"], 3, end_stream=False)
    assert output(sender) == [(DATA, 1, b"ab", False)]


def test_data_is_cut_to_the_peers_frame_size(sender):
    sender.max_frame_size = 4
    sender.data(stream(), b"abcdefghi", end_stream=True)
    sender.data(stream(3), b"abcdefgh", end_stream=False)
    assert output(sender) == [
        (DATA, 1, b"abcd", False),
        (DATA, 1, b"efgh", False),
        (DATA, 1, b"i", True),
        (DATA, 3, b"abcd", False),
        (DATA, 3, b"efgh", False),
    ]


def test_data_beyond_the_streams_credit_waits(sender):
    one = stream(window=4)
    sender.data(one, b"abcdef", end_stream=False)
    sender.data(one, b"gh", end_stream=False)
    sender.data(one, b"", end_stream=True)
    assert output(sender) == [(DATA, 1, b"abcd", False)]
    assert one.queued_bytes == 4
    assert sender.flush() == []
    one.send_window.add(3)
    sender.wake(one)
    assert sender.flush() == []
    assert output(sender) == [(DATA, 1, b"ef", False), (DATA, 1, b"g", False)]
    one.send_window.add(1)
    sender.wake(one)
    assert sender.flush() == [one]
    assert output(sender) == [(DATA, 1, b"h", True)]
    assert one.local_closed
    assert one.queued_bytes == 0


def test_data_beyond_the_connections_credit_waits(sender):
    sender.window.available = 2
    one = stream()
    sender.data(one, b"abc", end_stream=True)
    assert output(sender) == [(DATA, 1, b"ab", False)]
    assert not one.local_closed
    assert sender.flush() == []
    sender.window.add(9)
    assert sender.flush() == [one]
    assert output(sender) == [(DATA, 1, b"c", True)]


@pytest.mark.parametrize("window", [0, -5])
def test_no_credit_at_all(sender, window):
    one = stream(window=window)
    sender.data(one, b"abc", end_stream=False)
    assert output(sender) == []
    assert not one.answered
    assert len(sender._waiting) == 0
    sender.wake(one)
    assert len(sender._waiting) == 0


def test_a_stream_that_loses_its_credit_leaves_the_round(sender):
    sender.window.available = 0
    one, two = stream(1), stream(3)
    sender.data(one, b"one", end_stream=False)
    sender.data(two, b"two", end_stream=False)
    one.send_window.add(-200)
    sender.window.add(100)
    assert sender.flush() == [two]
    assert output(sender) == [(DATA, 3, b"two", False)]
    one.send_window.add(200)
    sender.wake(one)
    assert sender.flush() == [one]


def test_a_stream_on_which_nothing_waits_is_not_woken(sender):
    sender.wake(stream())
    assert len(sender._waiting) == 0


def test_streams_take_turns(sender):
    sender.window.available = 0
    sender.max_frame_size = 2
    one, two = stream(1), stream(3)
    sender.data(one, b"abcde", end_stream=False)
    sender.data(two, b"vwx", end_stream=True)
    sender.window.add(100)
    assert sender.flush() == [two, one]
    assert [(each[1], each[2]) for each in output(sender)] == [(1, b"ab"), (3, b"vw"), (1, b"cd"), (3, b"x"), (1, b"e")]


def test_trailers_wait_for_data(sender):
    one = stream(window=1)
    sender.data(one, b"ab", end_stream=False)
    sender.headers(one, b"trailers", end_stream=True)
    assert output(sender) == [(DATA, 1, b"a", False)]
    one.send_window.add(1)
    sender.wake(one)
    assert sender.flush() == [one]
    assert one.local_closed
    assert output(sender) == [(DATA, 1, b"b", False), (HEADERS, 1, b"trailers", True)]


def test_while_it_is_held_no_data_leaves(sender):
    one = stream()
    sender.held = True
    sender.data(one, b"abc", end_stream=False)
    sender.control(b"")
    assert sender.flush() == []
    assert output(sender) == []
    sender.held = False
    assert sender.flush() == [one]
    assert output(sender) == [(DATA, 1, b"abc", False)]


def test_what_is_forgotten_does_not_leave(sender):
    one = stream(window=0)
    sender.window.available = 1
    sender.data(one, b"abc", end_stream=False)
    one.send_window.add(1)
    sender.wake(one)
    sender.headers(one, b"trailers", end_stream=True)
    sender.forget(one)
    sender.reset(1, ErrorCode.CANCEL)
    assert sender.flush() == []
    assert output(sender) == [(RST_STREAM, 1, b"\x00\x00\x00\x08", False)]
    assert (one.queued_bytes, one.trailers, len(one.queue)) == (0, None, 0)


def test_what_waited_leaves_in_batches(sender):
    sender.window.available = 0
    one, two = stream(1, 1 << 21), stream(3, 1 << 21)
    for each in (one, two):
        sender.data(each, bytes(BATCH_BYTES), end_stream=True)
    sender.window.add(1 << 21)
    assert sender.flush() == []
    assert sender.limited
    assert BATCH_BYTES <= len(sender.take()) < BATCH_BYTES + 40_000
    assert sender.flush() == [one, two]
    assert not sender.limited


def test_a_small_rest_does_not_keep_all_of_its_buffer(sender):
    one = stream(window=900)
    sender.data(one, bytes(1000), end_stream=False)
    assert len(one.queue[0].obj) == 100
    other = stream(3, window=0)
    sender.data(other, bytes(1000), end_stream=False)
    for _ in range(9):
        other.send_window.add(100)
        sender.wake(other)
        sender.flush()
        assert len(other.queue[0].obj) <= 2 * len(other.queue[0]) or len(other.queue[0].obj) == 1000
    assert (len(other.queue[0]), len(other.queue[0].obj)) == (100, 100)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_are_spread_over_frames(sender, size):
    sender.max_frame_size = size
    one, last = stream(), stream(3)
    parts = [b"ab", b"cdefg", b"", b"h", b"ijkl"]
    sender.parts(one, parts, 12, end_stream=False)
    sender.parts(last, parts, 12, end_stream=True)
    whole = b"".join(parts)
    pieces = [whole[start : start + size] for start in range(0, 12, size)]
    assert output(sender) == [(DATA, 1, piece, False) for piece in pieces] + [
        (DATA, 3, piece, piece is pieces[-1]) for piece in pieces
    ]
    assert (one.local_closed, last.local_closed) == (False, True)
    assert (one.send_window.available, last.send_window.available, sender.window.available) == (88, 88, 65_511)
