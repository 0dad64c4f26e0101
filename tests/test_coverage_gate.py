import pytest

from tests.coverage_gate import WHOLE, File, failures, measured

FULL = [File(name, 100, 100) for name in WHOLE]
CASES = {
    "all is run": ([File("bbr/server.py", 100, 100)], []),
    "the rest at its gates": ([File("bbr/cli.py", 100, 80), File("bbr/server.py", 100, 100)], []),
    "an empty file": ([File("bbr/__init__.py", 0, 0)], []),
    "http2 below 100": (
        [File("bbr/http2/frames.py", 100_000, 99_999)],
        ["bbr/http2/frames.py is covered to 99.99%: 100% is required."],
    ),
    "a file of the rest below 80": (
        [File("bbr/cli.py", 100, 79), File("bbr/server.py", 1000, 1000)],
        ["bbr/cli.py is covered to 79%: 80% is required."],
    ),
    "the rest below 90": (
        [File("bbr/cli.py", 100, 85), File("bbr/server.py", 100, 94)],
        ["The other files are covered to 89.50% together: 90% is required."],
    ),
}


@pytest.mark.parametrize(("files", "sentences"), CASES.values(), ids=CASES)
def test_gates(files, sentences):
    assert list(failures(FULL + files)) == sentences


@pytest.mark.parametrize("file", FULL, ids=lambda file: file.name)
def test_the_core_is_whole(file):
    others = [other for other in FULL if other is not file]
    assert list(failures([*others, file._replace(run=99)])) == [f"{file.name} is covered to 99%: 100% is required."]
    assert list(failures(others)) == [f"{file.name} was not measured: 100% is required."]


def test_branches_count_as_lines_do():
    summary = {"num_statements": 10, "covered_lines": 9, "num_branches": 4, "covered_branches": 2}
    assert measured({"files": {"bbr/cli.py": {"summary": summary}}}) == [File("bbr/cli.py", 14, 11)]
