"""ConfigMaps that come, change and go: the table is that of the Go routers, but for what differences.py lists."""

import pytest

from tests.conformance.go import histories, replay
from tests.conformance.go.differences import TABLE_DIFFERENCES
from tests.conformance.go.histories import HISTORIES, TARGETS
from tests.conformance.go.replay import Target

CASES = [(target, name) for target in TARGETS for name in HISTORIES]


@pytest.fixture(scope="module")
def ours() -> dict[str, dict[str, str]]:
    return histories.ours()


def test_what_is_recorded_is_of_these() -> None:
    assert {name: list(found) for name, found in replay.tables().items()} == {
        target.name: list(HISTORIES) for target in TARGETS
    }


@pytest.mark.parametrize(("target", "name"), CASES, ids=[f"{target.name}: {name}" for target, name in CASES])
def test_the_table_is_theirs_or_listed(ours: dict[str, dict[str, str]], target: Target, name: str) -> None:
    theirs = replay.tables()[target.name][name]
    listed = [each for each in TABLE_DIFFERENCES if name in each.names]
    assert len(listed) == (ours[name] != theirs)


def test_what_is_listed_is_there() -> None:
    assert {name for each in TABLE_DIFFERENCES for name in each.names} <= HISTORIES.keys()


def test_ours_knows_what_the_last_states_say(ours: dict[str, dict[str, str]]) -> None:
    assert ours["deleted"] == {"base-h": "", "h1": ""}
    assert ours["another base model"] == {"base-d": "", "new-d": "new-d", "d1": "new-d"}
    assert ours["two of one adapter"] == {"shared-n": "base-n"}
    assert ours["two of one adapter, the label of the later goes"] == {"shared-p": "base-p", "base-p": "base-p"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_go_router_itself_has_what_is_recorded(target: Target) -> None:
    if not target.program.built:
        pytest.skip(f"{target.program.module} is not built: make go-parity")
    assert histories.theirs(target) == replay.tables()[target.name]
