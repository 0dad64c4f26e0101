import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support.together import TOGETHER, Numbered, Together

ROOT = Path(__file__).resolve().parents[1]
ANTHROPIC, OPENAI = (f"tests/integration/test_{name}_client.py" for name in ("anthropic", "openai"))


def test_the_files_are_there():
    assert [file for file in TOGETHER if not (ROOT / file).exists()] == []


def test_who_imports_the_vendors_clients_is_one_of_them():
    importing = re.compile(r'late\("(openai|anthropic|boto3)"\)|import test_(openai|anthropic)_client')
    found = {
        str(file.relative_to(ROOT)) for file in ROOT.glob("tests/*/test_*.py") if importing.search(file.read_text())
    }
    assert found == TOGETHER.keys()


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


class Worker:
    """Keeps what it is told to run."""

    def __init__(self, name):
        self.gateway = SimpleNamespace(id=name)
        self.given = []
        self.shutting_down = False

    def send_runtest_some(self, numbers):
        self.given += numbers

    def shutdown(self):
        self.shutting_down = True


def scheduled(kind, tests, ends_early):
    """Return what each of three workers runs, who finish their tests in an order that is always the same."""
    config = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False), getvalue=lambda _: ["popen"] * 3)
    scheduling = kind(config)
    workers = [Worker(name) for name in "abc"]
    for worker in workers:
        scheduling.add_node(worker)
    for worker in workers:
        scheduling.add_node_collection(worker, list(tests))
    scheduling.schedule()
    done = dict.fromkeys(workers, 0)
    chance = random.Random(1)
    while left := [worker for worker in workers if done[worker] < len(worker.given)]:
        worker = chance.choice(left)
        if worker is workers[0] and done[worker] == ends_early:
            workers.remove(worker)
            assert scheduling.remove_node(worker) == tests[worker.given[ends_early]]
            continue
        scheduling.mark_test_complete(worker, worker.given[done[worker]])
        done[worker] += 1
    assert scheduling.tests_finished
    return [worker.given for worker in done]


@pytest.mark.parametrize("ends_early", [None, 30])
def test_it_hands_out_what_xdist_would(ends_early):
    tests = [f"tests/test_{file}.py::test[{case}]" for file in range(40) for case in range(file % 7 * 9 + 1)]
    found = scheduled(Together, tests, ends_early)
    assert found == scheduled(LoadFileScheduling, tests, ends_early)
    assert {number for given in found for number in given} == set(range(len(tests)))


def test_a_text_is_where_it_stands_first():
    texts = ["a", "b", "a", "c"]
    assert [Numbered(texts).index(each) for each in texts] == [texts.index(each) for each in texts]
    assert Numbered(texts) == texts
