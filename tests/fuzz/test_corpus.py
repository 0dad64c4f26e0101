"""What fuzzing starts from and has found, replayed."""

import importlib
from pathlib import Path

import pytest

from tests.corpus.nasty_bodies import TWIN
from tests.fuzz.run import CORPUS, TARGETS

INPUTS = sorted(CORPUS.glob("*/*"))
# These confuse the parser of the process that they are tried in: tests/corpus/twins.py does it.
TWINS = [path for path in INPUTS if TWIN in path.read_bytes()]
OTHERS = [path for path in INPUTS if path not in TWINS]


def test_l3_every_target_has_inputs() -> None:
    assert {path.parent.name for path in OTHERS} == set(TARGETS)


@pytest.mark.parametrize("path", OTHERS, ids=[f"{path.parent.name}/{path.name}" for path in OTHERS])
def test_l3_replay(path: Path) -> None:
    replay(path)


def replay(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.{path.parent.name}").check(path.read_bytes())
