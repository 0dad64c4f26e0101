"""Configurations of the payload processor: it and ours start with the same ones, but for those that are listed."""

import pytest

from bench.harness import go_router
from tests.conformance.go import configurations, replay
from tests.conformance.go.configurations import CONFIGURATIONS
from tests.conformance.go.differences import START_DIFFERENCES


def test_what_is_recorded_is_of_these() -> None:
    assert list(replay.started()) == list(CONFIGURATIONS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_starts_where_theirs_does_or_is_listed(name: str) -> None:
    theirs, ours = replay.started()[name], configurations.ours(CONFIGURATIONS[name])
    listed = [each for each in START_DIFFERENCES if name in each.names]
    assert len(listed) == (ours != theirs)
    assert [each.ours for each in listed] == [ours] * len(listed)


def test_what_is_listed_is_there() -> None:
    assert {name for each in START_DIFFERENCES for name in each.names} <= CONFIGURATIONS.keys()


# A process each: a few at a time, so that a busy machine gets through them in time.
AT_ONCE = 12
NAMES = list(CONFIGURATIONS)
SOME = [tuple(NAMES[start : start + AT_ONCE]) for start in range(0, len(NAMES), AT_ONCE)]


@pytest.mark.parametrize("names", SOME, ids=[f"from {names[0]}" for names in SOME])
def test_the_payload_processor_itself_does_what_is_recorded(names: tuple[str, ...]) -> None:
    if not go_router.IPP.built:
        pytest.skip(f"{go_router.IPP.module} is not built: make go-parity")
    recorded = replay.started()
    assert configurations.theirs(names) == {name: recorded[name] for name in names}
