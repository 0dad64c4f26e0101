"""Which files of tests run in the same worker of pytest-xdist: those that share what they start, a session's fixture.

A local stack takes four seconds of processor time to start. All other files go to whichever worker is free.
"""

from typing import Final

from xdist.scheduler import LoadFileScheduling

# A file -> the name of those that go with it.
TOGETHER: Final = {
    "tests/integration/test_anthropic_client.py": "clients of the local stack",
    "tests/integration/test_openai_client.py": "clients of the local stack",
}


class Together(LoadFileScheduling):
    """As `--dist loadfile`, but for the files of TOGETHER."""

    def _split_scope(self, nodeid: str) -> str:
        """Return what the test is scheduled as a part of."""
        file: str = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)
