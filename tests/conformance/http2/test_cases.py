"""Every case of CASES.md has a test that can be found: grep for `"D5 ` or `test_d5_`."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("CASES.md").read_text("utf-8")

# Which files hold a section's cases. A case that is found elsewhere is in a file that nobody would look in.
HTTP2 = tuple(
    f"conformance/http2/test_{name}.py"
    for name in (
        "preface_and_frames",
        "streams",
        "each_frame",
        "flow_control",
        "hpack_blocks",
        "http_semantics",
        "life_cycle",
    )
)
FILES = {
    **dict.fromkeys("ABCDEFG", HTTP2),
    "H": ("conformance/grpc/test_calls.py", "conformance/grpc/test_clients.py"),
    "I": ("conformance/http2/test_abuse.py", "conformance/http2/test_life_cycle.py"),
    "J": ("conformance/http2/test_life_cycle.py", "property/test_http2_chunking.py"),
    "K": ("conformance/http2/test_envoy_guards.py", "conformance/http2/test_envoy_close.py"),
    "L": (
        "conformance/http2/test_outside_tools.py",
        "property/test_http2_differential.py",
        "property/test_http2_windows.py",
        "fuzz/test_corpus.py",
        "test_mutants.py",
    ),
}
# Cases of the transport that are tested with it, and where.
NOT_HERE = {
    "I10": "unit/transports/test_uv_connection.py",
    "I19": "unit/transports/test_uv_connection.py",
    "J4": "unit/test_server.py",
    "J6": "unit/transports/test_uv.py",
}


def listed(text: str) -> dict[str, str]:
    """Return the rows of the tables by the ids that they begin with; each id once."""
    rows = re.findall(r"^\| ([A-L]\d+) \| (.+)$", text, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


CASES = listed(TABLE)


def ids(source: str) -> set[str]:
    """Return the ids that begin a string, or are in a test's name."""
    return {*re.findall(r"f?\"([A-L]\d+) ", source)} | {
        each.upper() for each in re.findall(r"def test_([a-l]\d+)_", source)
    }


@pytest.mark.parametrize("section", FILES)
def test_every_case_is_tested_or_is_tested_with_the_transport(section):
    found = set().union(*(ids((TESTS / name).read_text("utf-8")) for name in FILES[section]))
    want = {each for each in CASES if each[0] == section}
    assert want - found == {each for each in NOT_HERE if each[0] == section}
    assert {each for each in found if each[0] == section} <= want, "a test names a case that is not listed"


def test_each_section_of_the_table_has_files():
    assert re.findall(r"^## ([A-Z])\. ", TABLE, re.MULTILINE) == [*FILES]
    assert {each[0] for each in CASES} == FILES.keys()


@pytest.mark.parametrize("section", FILES)
def test_the_cases_of_a_section_are_numbered_in_order(section):
    numbers = [int(each[1:]) for each in CASES if each[0] == section]
    assert numbers[0] in (0, 1)
    assert all(after == before + 1 for before, after in pairwise(numbers))


def test_the_files_of_the_others_exist():
    assert [name for name in NOT_HERE.values() if not (TESTS / name).is_file()] == []


def test_ids_are_found():
    source = 'Case("B3 exactly", x)\n"E10"\ndef test_f2_eos():\ndef test_e1a():\nf"D5 {x}"\n"MIT 7 "'
    assert ids(source) == {"B3", "F2", "D5"}


def test_rows_are_read_by_their_ids():
    assert listed("| id | peer |\n| --- | --- |\n| A1 | connects |\n| A12 | x | y |\n") == {
        "A1": "connects |",
        "A12": "x | y |",
    }
