"""Ours with --compat beside the Go routers (corpus.py): the same answers, but for what differences.py lists.

The Go routers' answers are those of recorded.json. Where they are built, they are asked as well, and must answer so.
"""

from collections.abc import Iterator

import pytest

from tests.conformance.go import differences, replay
from tests.conformance.go.corpus import conversations
from tests.conformance.go.replay import TARGETS, Answers, Target

CASES = [(target, each.name) for target in TARGETS for each in target.asked]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Answers]:
    return replay.recorded()


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Answers]]:
    """Give what ours has answered, by target."""
    found = {}
    for target in TARGETS:
        with replay.ours(target) as router:
            found[target.name] = replay.ask(router.port, target.asked)
    return found


def test_the_corpus_is_of_some_300_conversations() -> None:
    names = [each.name for each in conversations()]
    assert len(names) == len(set(names)) >= 300


def test_what_is_recorded_is_of_this_corpus_and_these_programs(recorded: dict[str, Answers]) -> None:
    assert {name: list(found) for name, found in recorded.items()} == {
        target.name: [each.name for each in target.asked] for target in TARGETS
    }
    assert replay.programs() == {
        "gie --streaming": "sigs.k8s.io/gateway-api-inference-extension@v1.5.0",
        "gie": "sigs.k8s.io/gateway-api-inference-extension@v1.5.0",
        "ipp": "github.com/llm-d/llm-d-inference-payload-processor@v0.1.0",
    }


@pytest.mark.parametrize(("target", "name"), CASES, ids=[f"{target.name}: {name}" for target, name in CASES])
def test_the_answer_is_theirs_or_listed(
    recorded: dict[str, Answers], answers: dict[str, Answers], target: Target, name: str
) -> None:
    theirs, ours = recorded[target.name][name], answers[target.name][name]
    listed = differences.covering(target.name, name)
    if not listed:
        assert ours == theirs
        return
    assert ours != theirs, "it is listed as a difference, and is none any more"
    (difference,) = listed
    of_theirs, of_ours = difference.outcomes
    assert differences.outcome(theirs) in of_theirs
    assert differences.outcome(ours) in of_ours


@pytest.mark.parametrize("difference", differences.DIFFERENCES, ids=lambda difference: difference.what)
def test_each_pattern_of_a_difference_is_of_a_conversation(
    recorded: dict[str, Answers], difference: differences.Difference
) -> None:
    for pattern in difference.names:
        alone = differences.Difference("", "", "", "", (set(), set()), (pattern,), difference.targets)
        found = [target for target, names in recorded.items() if any(alone.covers(target, name) for name in names)]
        assert found, pattern


def test_each_outcome_of_a_difference_is_one(recorded: dict[str, Answers], answers: dict[str, Answers]) -> None:
    for difference in differences.DIFFERENCES:
        for expected, found in zip(difference.outcomes, (recorded, answers), strict=True):
            seen = {
                differences.outcome(lines)
                for target, names in found.items()
                for name, lines in names.items()
                if difference.covers(target, name)
            }
            assert seen == expected, difference.what


@pytest.mark.grpcio
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_other_transport_answers_alike(answers: dict[str, Answers], target: Target) -> None:
    with replay.ours(target, "grpcio") as router:
        assert replay.ask(router.port, target.asked) == answers[target.name]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_go_router_itself_answers_as_recorded(recorded: dict[str, Answers], target: Target) -> None:
    if not target.program.built:
        pytest.skip(f"{target.program.module} is not built: make go-parity")
    with replay.theirs(target) as (port, _):
        assert replay.ask(port, target.asked) == recorded[target.name]
