"""Over HTTP/2 an answer in mid-upload arrives whole; then the gateway stops the upload (RFC 9113 section 8.1).

Clients on httpx lose such an answer (encode/httpcore#775), and no setting of Envoy's changes what it sends.
"""

import json
import uuid
from collections.abc import Callable

import pytest

from tests.integration.conftest import Setup
from tests.support.h2_client import H2Client
from tests.support.tools import needs_envoy

pytestmark = needs_envoy

MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED"]
NO_ERROR = 0
ANNOUNCED_BYTES = 65 << 20


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.grpcio
def test_refusal_in_mid_upload(gateways: Callable[..., Setup], mode: str) -> None:
    setup = gateways(mode)
    path = f"/v1/completions?{uuid.uuid4()}"
    headers = [("content-type", "application/json"), ("content-length", str(ANNOUNCED_BYTES))]
    with H2Client(setup.port) as client:
        stream = client.start("POST", path, headers)
        client.send(stream, bytes(20_000))
        response = client.wait(stream)
        assert (response.status, response.ended) == (413, True)
        assert json.loads(response.body)["error"]["code"] == "body_too_large"
        assert client.wait_reset(stream) == NO_ERROR
        again = client.request("POST", path, headers[:1], b'{"model": "sql-lora"}')
    assert again.status == 200
    assert setup.gateway.logged(path)["details"] == "bbr:body-too-large"
