"""Every test of the transports runs over both."""

import pytest

from tests.support import rig


@pytest.fixture(params=list(rig.TRANSPORTS), autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.transport, "name", request.param)
