"""Every test of the transports runs over both, in plaintext and over TLS."""

import pytest

from tests.support import transports


@pytest.fixture(params=[f"{name}{tls}" for name in transports.TRANSPORTS for tls in ("", " over TLS")], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, tls = request.param.partition(" ")
    monkeypatch.setattr(transports.transport, "name", name)
    monkeypatch.setattr(transports.transport, "tls", transports.CREDENTIALS if tls else None)
