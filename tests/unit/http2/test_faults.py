import re

import pytest

from bbr.http2 import faults
from bbr.http2.faults import ConnectionFault, Fault
from bbr.http2.frames import ErrorCode

ALL = {name: value for name, value in vars(faults).items() if isinstance(value, Fault)}


def test_a_fault_says_what_goes_into_the_goaway():
    broken = ConnectionFault(faults.EVEN_STREAM)
    assert (broken.fault.code, broken.fault.reason, str(broken)) == (1, "stream-id", "stream-id")


@pytest.mark.parametrize("fault", ALL.values(), ids=ALL)
def test_each_has_a_stable_name_and_a_section(fault):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", fault.reason)
    assert re.fullmatch(r"[3-9](\.\d+)*|10(\.\d+)+", fault.section)


@pytest.mark.parametrize("fault", ALL.values(), ids=ALL)
def test_what_costs_too_much_is_enhance_your_calm_and_nothing_else_is(fault):
    costs = fault.section.startswith("10.5") and fault.code != ErrorCode.CANCEL and "timeout" not in fault.reason
    assert (fault.code == ErrorCode.ENHANCE_YOUR_CALM) == (costs and fault is not faults.CONNECTION_STALLED)


def test_no_two_are_the_same():
    said = [(fault.code, fault.reason, fault.section) for fault in ALL.values()]
    assert len(set(said)) == len(said)


def test_a_malformed_request_is_a_protocol_error():
    fault = faults.malformed("field-name")
    assert (fault.code, fault.reason, fault.section) == (ErrorCode.PROTOCOL_ERROR, "field-name", "8.1.1")
