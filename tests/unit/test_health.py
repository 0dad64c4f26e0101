import pytest

from bbr import health

NAME = b"envoy.service.ext_proc.v3.ExternalProcessor"


def test_names():
    assert health.SERVICE == "grpc.health.v1.Health"
    assert health.EXT_PROC_SERVICE.encode() == NAME


# The octets are written by hand from grpc/health/v1/health.proto: status is field 1, SERVING is 1, NOT_SERVING is 2.
@pytest.mark.parametrize(
    ("serving", "status"), [(True, b"\x08\x01"), (False, b"\x08\x02")], ids=["serving", "stopping"]
)
def test_check(serving, status):
    assert health.check(serving=serving) == status


@pytest.mark.parametrize(
    ("serving", "status"), [(True, b"\x08\x01"), (False, b"\x08\x02")], ids=["serving", "stopping"]
)
def test_list_holds_the_one_service(serving, status):
    entry = b"\x0a" + bytes([len(NAME)]) + NAME + b"\x12\x02" + status
    assert health.list_services(serving=serving) == b"\x0a" + bytes([len(entry)]) + entry
