from bbr.http2.streams import Stream


def test_a_new_stream_is_open_on_both_sides():
    stream = Stream(3, 70_000, 100, 12)
    assert (stream.id, stream.expected_bytes) == (3, 12)
    assert (stream.receive_window.size, stream.receive_window.available) == (70_000, 70_000)
    assert stream.send_window.available == 100
    assert {stream.remote_closed, stream.local_closed, stream.answered, stream.queue_ends} == {False}
    assert (stream.queue, stream.queued_bytes, stream.withheld_bytes, stream.trailers) == (None, 0, 0, None)
