"""Every test of the transports runs over both, in plaintext and over TLS."""

import pytest

from tests.support import rig


@pytest.fixture(params=[f"{name}{tls}" for name in rig.TRANSPORTS for tls in ("", " over TLS")], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, tls = request.param.partition(" ")
    monkeypatch.setattr(rig.transport, "name", name)
    monkeypatch.setattr(rig.transport, "tls", rig.CREDENTIALS if tls else None)
