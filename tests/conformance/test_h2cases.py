import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = (
    "test_preface_and_frames.py",
    "test_streams.py",
    "test_each_frame.py",
    "test_flow_control.py",
    "test_hpack_blocks.py",
    "test_http_semantics.py",
    "test_abuse.py",
)
# The cases of RFC 9113, RFC 7541 and of known attacks, by section.
SECTIONS = {
    "A": range(1, 9),  # preface and SETTINGS
    "B": range(1, 8),  # frame format
    "C": range(1, 11),  # streams
    "D": range(1, 17),  # frame by frame
    "E": range(1, 11),  # flow control
    "F": range(1, 12),  # HPACK
    "G": range(1, 8),  # HTTP
    "I": range(21),  # abuse
}
NOT_HERE = {
    "D16": "whether a GOAWAY leaves before the close is a matter of the socket: unit/transports/test_uv_connection.py",
    "I10": "slow senders are the transport's timeouts: unit/transports/test_uv_connection.py",
    "I19": "connections without a preface are the transport's limit: unit/transports/test_uv_connection.py",
}


def ids(source: str) -> set[str]:
    """Return the ids that begin a string, or are in a test's name."""
    return {*re.findall(r"f?\"([A-I]\d+) ", source)} | {
        each.upper() for each in re.findall(r"def test_([a-i]\d+)_", source)
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_every_case_is_tested_or_has_a_reason_not_to_be(section):
    found = set().union(*(ids((HERE / name).read_text("utf-8")) for name in FILES))
    want = {f"{section}{number}" for number in SECTIONS[section]}
    assert want - found == {each for each in NOT_HERE if each[0] == section}
