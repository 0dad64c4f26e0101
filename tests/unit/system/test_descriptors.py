import resource

import pytest

from bbr.system import descriptors
from bbr.system.descriptors import connections_allowed

INFINITE = resource.RLIM_INFINITY
RESERVED = 640

LIMITS = [
    pytest.param((20_000, 20_000), 10_000, 10_000, None, id="enough"),
    pytest.param((1024, 20_000), 384, 384, None, id="just enough"),
    pytest.param((1024, 20_000), 385, 385, (20_000, 20_000), id="raised to the hard limit"),
    pytest.param((1024, 4096), 10_000, 4096 - RESERVED, (4096, 4096), id="raised, and still too low"),
    pytest.param((1024, INFINITE), 10_000, 10_000, (10_640, INFINITE), id="raised where there is no hard limit"),
    pytest.param((INFINITE, INFINITE), 10_000, 10_000, None, id="no limit"),
    pytest.param((64, 64), 10_000, 1, (64, 64), id="a limit that leaves nothing"),
]


@pytest.mark.parametrize(("now", "wanted", "allowed", "raised"), LIMITS)
def test_limit_is_raised_if_it_must_be(monkeypatch, now, wanted, allowed, raised):
    calls = []
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _which: now)
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _which, limits: calls.append(limits))
    assert connections_allowed(wanted) == allowed
    assert calls == ([] if raised is None else [raised])


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_system_that_does_not_let_the_limit_be_raised(monkeypatch, error):
    def refuse(_which, _limits):
        raise error

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _which: (1024, INFINITE))
    monkeypatch.setattr(descriptors.resource, "setrlimit", refuse)
    assert connections_allowed(10_000) == 1024 - RESERVED
