from pathlib import Path

import pytest

from tests.support.together import TOGETHER, Together

ROOT = Path(__file__).resolve().parents[1]
ANTHROPIC, OPENAI = sorted(TOGETHER)


def test_the_files_are_there():
    assert [file for file in TOGETHER if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (f"{ANTHROPIC}::test_message[BUFFERED-x::y]", f"{OPENAI}::test_chat", True),
        ("tests/unit/test_text.py::test_a", "tests/unit/test_text.py::TestB::test_b", True),
        (f"{OPENAI}::test_chat", "tests/integration/test_modes.py::test_chat", False),
    ],
)
def test_files_that_share_go_to_one_worker(one, other, together):
    scheduling = Together.__new__(Together)  # its nodes and its log have no part in this
    assert (scheduling._split_scope(one) == scheduling._split_scope(other)) is together
