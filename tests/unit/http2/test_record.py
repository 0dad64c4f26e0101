import pytest

from bbr.http2.events import ConnectionFailed, StreamReset
from bbr.http2.frames import ErrorCode


def test_equal_ones_say_the_same():
    assert StreamReset(1, ErrorCode.CANCEL, "a") == StreamReset(1, ErrorCode.CANCEL, "a")
    assert StreamReset(1, ErrorCode.CANCEL, "a") != StreamReset(1, ErrorCode.CANCEL, "b")
    assert ConnectionFailed(ErrorCode.INTERNAL_ERROR, "a") != StreamReset(1, ErrorCode.CANCEL, "a")
    assert ConnectionFailed(ErrorCode.INTERNAL_ERROR, "a") != (2, "a")
    with pytest.raises(TypeError):
        hash(ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a"))


def test_they_can_be_read_in_a_failed_test():
    code = ErrorCode.PROTOCOL_ERROR
    assert repr(ConnectionFailed(code, "a")) == f"ConnectionFailed({code!r}, 'a')"
