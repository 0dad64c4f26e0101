import pytest

from bbr.http2.settings import Settings


def test_what_the_peer_is_told():
    limits = Settings(header_table_size=64, max_concurrent_streams=7, stream_window_bytes=70_000)
    told = {int(key): value for key, value in limits.wire()}
    assert told == {1: 64, 3: 7, 4: 70_000, 6: 8192}


@pytest.mark.parametrize("name", ["stream_window_bytes", "connection_window_bytes"])
@pytest.mark.parametrize("size", [65_534, 2**31])
def test_windows_that_no_peer_could_be_told(name, size):
    with pytest.raises(ValueError, match=name):
        Settings(**{name: size})


@pytest.mark.parametrize("size", [65_535, 2**31 - 1])
def test_windows_at_their_limits(size):
    assert Settings(stream_window_bytes=size, connection_window_bytes=size).stream_window_bytes == size
