"""The Go routers' cases (tests/conformance/go/test_routers.py) over both transports, with the table of a store."""

from collections.abc import Iterator

import grpc
import pytest

from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.models.routing import Rules, UnknownModel
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.sources import configmap
from bbr.sources.objects import SourceObject
from bbr.sources.table import Table
from bench.harness.background import Background
from bench.harness.grpc_client import PROCESS
from bench.harness.in_process_router import Router
from bench.harness.messages import parse
from tests.conformance.go.test_routers import CASES, H1_BODY, Case, as_they_do, in_order, unary, words
from tests.support.transports import transport

DATA = {"baseModel": "qwen", "adapters": "- sql-lora-sheddable\n- foo\n- 1\n"}


def fixture() -> Table:
    """Return a table that one ConfigMap feeds, the hermetic tests' own."""
    origin = configmap.origin("default", "qwen", None)
    table = Table(["kubernetes"])
    table.replace("kubernetes", [SourceObject("default/qwen", 1, lambda: configmap.parse(DATA, origin))])
    table.apply_now()
    return table


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


def answers(background: Background, sent: list[bytes], policy: Policy) -> list[ProcessingResponse]:
    router = Router(background, fixture().registry, policy, transport.name, transport.tls)
    target = f"127.0.0.1:{router.port}"
    options = [("grpc.max_receive_message_length", -1)]
    if transport.tls is None:
        channel = grpc.insecure_channel(target, options)
    else:
        options.append(("grpc.ssl_target_name_override", "localhost"))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(transport.tls.chain_pem), options)
    found = []
    try:
        with channel:
            for reply in channel.stream_stream(PROCESS)(iter(sent)):
                found.append(parse(reply))
    except grpc.RpcError as error:  # a script that has ended before its request
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
    finally:
        router.stop()
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(background: Background, case: Case) -> None:
    found = answers(background, case.sent, Policy(Replies(), assume_body_mode=case.mode))
    assert [words(answer) for answer in found] == case.answers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case_as_it_stands(background: Background, case: Case) -> None:
    found = answers(background, case.sent, as_they_do(case.mode))
    assert [in_order(answer) for answer in found] == case.theirs


# U6, and the last of U2, as they stand in the Go routers: --unknown-model=empty.
UNKNOWN = [
    ("unknown", "bar", ""),
    ("base model", "qwen", "qwen"),
    ("adapter", "foo", "qwen"),
    ("adapter of digits", "1", "qwen"),
]


@pytest.mark.parametrize(("_id", "model", "base_model"), UNKNOWN, ids=[each[0] for each in UNKNOWN])
def test_base_model_header(background: Background, _id: str, model: str, base_model: str) -> None:
    octets = H1_BODY.replace(b"qwen", model.encode())
    policy = Policy(Replies(), assume_body_mode=BodyMode.BUFFERED, rules=Rules(UnknownModel.EMPTY))
    expected = f"request_body clear X-Gateway-Base-Model-Name={base_model} X-Gateway-Model-Name={model}"
    assert [words(answer) for answer in answers(background, unary(octets), policy)] == [expected]
