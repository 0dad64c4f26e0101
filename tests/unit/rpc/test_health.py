import pytest

from bbr.rpc import health

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
    ("request_", "liveness"),
    [(b"", False), (b"\x0a\x08liveness", True), (b"\x0a\x09readiness", False), (b"\x0a\xff", False)],
    ids=["no service", "liveness", "another service", "not protobuf"],
)
def test_liveness_is_a_service_of_its_own(request_, liveness):
    assert health.asks_for_liveness(request_) is liveness


@pytest.mark.parametrize(
    ("serving", "status"), [(True, b"\x08\x01"), (False, b"\x08\x02")], ids=["serving", "stopping"]
)
def test_list_holds_the_one_service(serving, status):
    entry = b"\x0a" + bytes([len(NAME)]) + NAME + b"\x12\x02" + status
    assert health.list_services(serving=serving) == b"\x0a" + bytes([len(entry)]) + entry
