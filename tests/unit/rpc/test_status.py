import grpc
import pytest

from bbr.rpc.status import OK, Status, StatusCode


@pytest.mark.parametrize("code", StatusCode, ids=lambda code: code.name)
def test_code_is_grpcs_own(code):
    assert grpc.StatusCode[code.name].value[0] == code


def test_a_status_needs_no_message():
    assert Status(StatusCode.CANCELLED) == (StatusCode.CANCELLED, "")


def test_ok():
    assert OK == (StatusCode.OK, "")
