from bbr.http2.faults import ConnectionFault
from bbr.http2.frames import ErrorCode


def test_a_fault_says_what_goes_into_the_goaway():
    fault = ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream-id")
    assert (fault.code, fault.reason, str(fault)) == (1, "stream-id", "stream-id")
