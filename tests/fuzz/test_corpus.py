"""What fuzzing starts from and has found, replayed."""

import importlib
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, TARGETS

INPUTS = sorted(CORPUS.glob("*/*"))


def test_l3_every_target_has_inputs() -> None:
    assert {path.parent.name for path in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}/{path.name}" for path in INPUTS])
def test_l3_replay(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.{path.parent.name}").check(path.read_bytes())
