import pytest

from bbr.http2.frames import ErrorCode
from bbr.http2.held import Held
from bbr.http2.sender import Sender
from bbr.http2.settings import Settings
from bbr.http2.states import State
from bbr.http2.stream_table import StreamTable
from bbr.http2.streams import Stream
from bench.harness.h2_frames import DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, parse

LIMITS = Settings(max_concurrent_streams=2, stream_window_bytes=65_535, wide_streams=0, max_queued_bytes=1000)


@pytest.fixture
def table() -> StreamTable:
    return StreamTable(LIMITS, Sender(LIMITS, Held()), Held())


def opened(table: StreamTable, stream_id: int, *, window: int = 65_535) -> Stream:
    table.note(stream_id)
    table._sender.initial_window = window
    return table.begin(stream_id, None)


def output(table: StreamTable) -> list[tuple[int, int]]:
    return [(each.kind, each.stream_id) for each in parse(table._sender.take())]


def test_the_states_of_a_stream(table):
    assert table.state(1) == table.state(2) == table.state(0) == State.IDLE
    stream = opened(table, 1)
    assert table.state(1) == State.OPEN
    stream.remote_closed = True
    assert table.state(1) == State.HALF_CLOSED
    table.remove(stream)
    assert table.state(1) == State.CLOSED
    table.note(3)
    table.reset(3, ErrorCode.CANCEL)
    assert (table.state(3), table.state(1)) == (State.RESET, State.CLOSED)
    opened(table, 9)
    assert table.state(5) == table.state(7) == table.state(1) == State.SKIPPED
    assert table.state(4) == State.IDLE


def test_resets_are_remembered_for_twice_as_many_as_can_be_open(table):
    for stream_id in range(1, 11, 2):
        table.note(stream_id)
        table.reset(stream_id, ErrorCode.CANCEL)
    assert [table.state(stream_id) for stream_id in range(1, 11, 2)] == [State.CLOSED] + [State.RESET] * 4
    assert output(table) == [(RST_STREAM, stream_id) for stream_id in range(1, 11, 2)]


def test_a_stream_that_is_done_on_both_sides_is_gone_without_a_word(table):
    stream = opened(table, 1)
    table.close_if_done(stream)
    assert table.open == {1: stream}
    stream.local_closed = stream.remote_closed = True
    table.close_if_done(stream)
    assert table.open == {}
    assert output(table) == []


def test_an_answer_before_its_requests_end_is_settled_later(table):
    late, reset, early = opened(table, 1), opened(table, 3), opened(table, 5)
    for each in (late, reset, early):
        each.local_closed = True
        table.close_if_done(each)
    late.remote_closed = True
    table.reset(3, ErrorCode.CANCEL)
    assert set(table.open) == {1, 5}
    table.settle()
    assert table.open == {}
    assert table.unsettled == []
    assert output(table) == [(RST_STREAM, 3), (RST_STREAM, 5)]
    table.settle()
    assert output(table) == []


def test_credit_goes_back_by_half_windows(table):
    stream = opened(table, 1)
    stream.receive_window.take(65_535)
    table.release(stream, 30_000)
    assert output(table) == []
    table.release(stream, 30_000)
    assert output(table) == [(WINDOW_UPDATE, 1)]


@pytest.mark.parametrize("why", ["paused", "its answer is stuck"])
def test_credit_is_withheld(table, why):
    stream = opened(table, 1, window=0)
    stream.receive_window.take(65_535)
    if why == "paused":
        stream.paused = True
    else:
        table._sender.data(stream, bytes(2000), end_stream=False)
    table.release(stream, 60_000)
    assert (stream.withheld_bytes, output(table)) == (60_000, [])
    stream.paused = False
    stream.send_window.add(2000)
    table._sender.wake(stream)
    table.flush()
    table.give_withheld(stream)
    assert stream.withheld_bytes == 0
    assert (WINDOW_UPDATE, 1) in output(table)


def test_withheld_credit_is_of_no_use_after_the_requests_end(table):
    stream = opened(table, 1)
    stream.receive_window.take(65_535)
    stream.withheld_bytes, stream.remote_closed = 60_000, True
    table.give_withheld(stream)
    assert (stream.withheld_bytes, output(table)) == (0, [])


def test_what_has_left_closes_its_stream(table):
    stream = opened(table, 1, window=0)
    stream.remote_closed = True
    table._sender.data(stream, b"abc", end_stream=False)
    table._sender.headers(stream, b"trailers", end_stream=True)
    stream.send_window.add(9)
    table._sender.wake(stream)
    table.flush()
    assert table.open == {}
    assert output(table) == [(DATA, 1), (HEADERS, 1)]


class TestWide:
    """A stream that has nearly used up its window gets a wider one, as long as few have one."""

    LIMITS = Settings(stream_window_bytes=65_535, wide_window_bytes=200_000, wide_streams=2)

    @pytest.fixture
    def table(self) -> StreamTable:
        return StreamTable(self.LIMITS, Sender(self.LIMITS, Held()), Held())

    def uses_up(self, table: StreamTable, stream: Stream) -> list[int]:
        """Return what is announced once the stream's window is used up and let go of."""
        size = stream.receive_window.available
        assert stream.receive_window.take(size)
        table.release(stream, size)
        return [int.from_bytes(each.payload, "big") for each in parse(table._sender.take())]

    def test_what_fits_into_the_window_costs_no_frame(self, table):
        stream = opened(table, 1)
        assert stream.receive_window.take(49_150)
        table.release(stream, 49_150)
        assert output(table) == []

    def test_a_few_are_widened_once(self, table):
        first, second, third = (opened(table, number) for number in (1, 3, 5))
        assert self.uses_up(table, first) == [200_000]
        assert self.uses_up(table, first) == [200_000]  # not widened again
        assert self.uses_up(table, second) == [200_000]
        assert self.uses_up(table, third) == [65_535]

    def test_one_that_is_over_makes_room(self, table):
        first, second, third = (opened(table, number) for number in (1, 3, 5))
        self.uses_up(table, first)
        self.uses_up(table, second)
        table.remove(first)
        assert self.uses_up(table, third) == [200_000]
        assert self.uses_up(table, opened(table, 7)) == [65_535]
