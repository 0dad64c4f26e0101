import hpack
import pytest

from bbr.http2.fields import FieldSection, entry
from bbr.rpc import calls
from bbr.rpc.messages import COMPRESSED
from bbr.rpc.status import OK, Status, StatusCode


def section(**fields: str) -> FieldSection:
    pairs = {":method": "POST", "content-type": "application/grpc"} | {
        name.replace("_", "-").replace("method", ":method"): value for name, value in fields.items()
    }
    return FieldSection(
        tuple(entry(name.encode(), value.encode()) for name, value in pairs.items() if value), "", None, False
    )


def decoded(block: bytes | None) -> dict[str, str]:
    assert block is not None
    return dict(hpack.Decoder().decode(block))


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
def test_grpc_calls(content_type: str) -> None:
    assert calls.http_refusal(section(content_type=content_type)) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
def test_other_methods_are_405_h5(method: str) -> None:
    assert decoded(calls.http_refusal(section(method=method))) == {":status": "405", "allow": "POST"}


@pytest.mark.parametrize("content_type", ["", "application/json", "application/grpcx", "application/grpc-web"])
def test_other_content_types_are_415_h5(content_type: str) -> None:
    assert decoded(calls.http_refusal(section(content_type=content_type)))[":status"] == "415"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1n", 1e-9),
        (b"20u", 2e-5),
        (b"300m", 0.3),
        (b"4S", 4.0),
        (b"5M", 300.0),
        (b"99999999H", 99999999 * 3600.0),
        (b"0S", 0.0),
    ],
)
def test_timeouts_h6(value: bytes, seconds: float) -> None:
    assert calls.timeout_seconds(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"123456789S", b"-1S", b"+1S", b"1s", b"1.5S", b" 1S", b"1SS"])
def test_malformed_timeouts_h6(value: bytes) -> None:
    assert calls.timeout_seconds(value) is None


def test_headers() -> None:
    assert decoded(calls.HEADERS) == {":status": "200", "content-type": "application/grpc"}


def test_trailers_h7() -> None:
    assert decoded(calls.trailers(OK, alone=False)) == {"grpc-status": "0"}
    status = Status(StatusCode.UNIMPLEMENTED, "50% of é\n")
    assert decoded(calls.trailers(status, alone=True)) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "12",
        "grpc-message": "50%25 of %C3%A9%0A",
    }


def test_compressed_messages_are_told_what_is_accepted_h4() -> None:
    assert decoded(calls.trailers(COMPRESSED, alone=True))["grpc-accept-encoding"] == "identity"
