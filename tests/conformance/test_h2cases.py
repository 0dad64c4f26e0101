"""Every case of our list of HTTP/2 and gRPC cases has a test that can be found: grep for `"D5 ` or `test_d5_`."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECTIONS = {
    "A": range(1, 9),  # preface and SETTINGS
    "B": range(1, 8),  # frame format
    "C": range(1, 11),  # streams
    "D": range(1, 17),  # frame by frame
    "E": range(1, 11),  # flow control
    "F": range(1, 12),  # HPACK
    "G": range(1, 8),  # HTTP
    "H": range(1, 11),  # gRPC
    "I": range(21),  # abuse
    "J": range(1, 9),  # transport and life cycle
    "K": range(1, 7),  # Envoy's guards
    "L": range(1, 7),  # properties and checks from outside
}
# Which files hold a section's cases. A case that is found elsewhere is in a file that nobody would look in.
HTTP2 = tuple(
    f"conformance/test_{name}.py"
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
    "H": ("conformance/test_grpc.py", "conformance/test_grpc_clients.py"),
    "I": ("conformance/test_abuse.py", "conformance/test_life_cycle.py"),
    "J": ("conformance/test_life_cycle.py", "property/test_http2_chunking.py"),
    "K": ("conformance/test_envoy_guards.py", "conformance/test_envoy_close.py"),
    "L": (
        "conformance/test_outside_tools.py",
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


def ids(source: str) -> set[str]:
    """Return the ids that begin a string, or are in a test's name."""
    return {*re.findall(r"f?\"([A-L]\d+) ", source)} | {
        each.upper() for each in re.findall(r"def test_([a-l]\d+)_", source)
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_every_case_is_tested_or_is_tested_with_the_transport(section):
    found = set().union(*(ids((TESTS / name).read_text("utf-8")) for name in FILES[section]))
    want = {f"{section}{number}" for number in SECTIONS[section]}
    assert want - found == {each for each in NOT_HERE if each[0] == section}


def test_the_files_of_the_others_exist():
    assert [name for name in NOT_HERE.values() if not (TESTS / name).is_file()] == []


def test_ids_are_found():
    source = 'Case("B3 exactly", x)\n"E10"\ndef test_f2_eos():\ndef test_e1a():\nf"D5 {x}"\n"MIT 7 "'
    assert ids(source) == {"B3", "F2", "D5"}
